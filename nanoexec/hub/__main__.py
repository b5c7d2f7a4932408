"""``python -m nanoexec.hub [--root DIR] [--config FILE]``: the hub's process, put together.

`nanoexec hub serve` becomes this by exec: the daemon carries nothing of the command line.
"""

import asyncio
import grp
import logging
import signal
import sys
import time
from contextlib import closing

from nanoexec import clock, config, files, logs, systemd
from nanoexec.errors import ConfigError, NanoexecError, UnavailableError
from nanoexec.hub.control import ControlSocket
from nanoexec.hub.echo import Echo, ear
from nanoexec.hub.joining import Joining
from nanoexec.hub.lock import locked
from nanoexec.hub.service import Hub
from nanoexec.keys import ca, certificate, credentials, token
from nanoexec.model import Credentials
from nanoexec.store import Store
from nanoexec.transport.nng import NngHubTransport, NngNodeTransport, serve_join

_log = logging.getLogger("nanoexec.hub")


def main() -> int:
    """Serve until SIGTERM. Returns the exit status."""
    logs.to_stderr()
    try:
        asyncio.run(_serve(config.daemon_paths(sys.argv[1:])))
    except NanoexecError as error:
        _log.critical("%s", error)
        return error.exit_code
    return 0


async def _serve(paths: config.Paths) -> None:
    settings = read_config(paths)
    own = credentials.load_hub(paths.hub_state)
    name = hub_name(settings, own, paths)
    authority = credentials.load_ca(paths.hub_state)
    group = _group(settings.operators, paths)
    with locked(paths.hub_state), closing(Store.open(paths.hub_store)) as store:
        hub = Hub(
            settings,
            name=name,
            store=store,
            transport=NngHubTransport(
                _url(settings.bind, settings.publish_port), _url(settings.bind, settings.report_port), own
            ),
            pin=token.pin_of(authority.certificate),
            now=clock.now,
        )
        hub.listen_to_itself(_echo(hub, authority))
        hub.let_join(
            Joining(
                hub.clerk,
                listen=lambda respond: serve_join(_url(settings.bind, settings.join_port), own, respond),
                sign=lambda request, name, key: ca.sign_request(
                    authority, request, name=name, key_id=key, now=time.time()
                ),
                ca=authority.certificate,
                welcome=lambda: (name, *hub.ports),
                publish=hub.publish,
                now=clock.now,
            )
        )
        await _run(hub, paths, group)


def _echo(hub: Hub, authority: credentials.Authority) -> Echo:
    """What hears the hub as its nodes do."""
    settings = hub.config
    peer, own = ear(authority, hub.name)

    def transport() -> NngNodeTransport:
        publish, report = hub.ports
        return NngNodeTransport(_url(settings.here, publish), _url(settings.here, report), own, hub.name)

    return Echo(peer, transport, interval=settings.beacon_interval, now=clock.now)


async def _run(hub: Hub, paths: config.Paths, group: int | None) -> None:
    """From the first listening socket to the last."""
    control = ControlSocket(hub)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        await hub.start()
        await control.open(paths.control_socket, group)
        watching = asyncio.ensure_future(systemd.keep_watchdog())
        systemd.notify("READY=1")
        _log.info("hub %s serves on ports %d and %d", hub.name, *hub.ports)
        waits = [asyncio.ensure_future(stopping.wait()), asyncio.ensure_future(hub.failed())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        systemd.notify("STOPPING=1")
        for task in (watching, *waits):
            task.cancel()
        if not stopping.is_set():
            raise UnavailableError("the hub has failed from within; what it accepted is on disk")
        _log.info("stopping; what was accepted is on disk")
    finally:
        await control.close()
        await hub.stop()


def read_config(paths: config.Paths) -> config.HubConfig:
    """``hub.toml``. Raises `ConfigError`."""
    if not paths.hub_config.exists():
        raise ConfigError(f"{paths.hub_config}: not there: `nanoexec hub init --name NAME` writes it")
    return config.parse_hub(files.read_bytes(paths.hub_config, "the hub's configuration"), paths.hub_config)


def hub_name(settings: config.HubConfig, own: Credentials, paths: config.Paths) -> str:
    """The name that nodes check: what the certificate says, and nothing else. Raises `ConfigError`."""
    certified = certificate.describe(own.certificate).name
    if settings.name not in (None, certified):
        raise ConfigError(
            f"{paths.hub_config}: name: the hub's certificate is for {certified!r}, not for {settings.name!r}: "
            "leave the key out"
        )
    return certified


def _group(name: str | None, paths: config.Paths) -> int | None:
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(f"{paths.hub_config}: operators: there is no group {name!r}") from None


def _url(host: str, port: int) -> str:
    return f"tls+tcp://{f'[{host}]' if ':' in host else host}:{port}"


if __name__ == "__main__":
    sys.exit(main())
