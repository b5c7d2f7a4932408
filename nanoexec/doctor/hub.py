"""The hub's stages: its configuration and identity, its database, then the hub itself as it says it is."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Final, TypeVar

from nanoexec.config import HubConfig, Paths, parse_hub
from nanoexec.doctor import finding, local, unit
from nanoexec.doctor.finding import HUB, Finding
from nanoexec.doctor.identity import hidden, identity
from nanoexec.errors import NanoexecError, ProtocolError, StoreError
from nanoexec.files import read_bytes
from nanoexec.keys.credentials import HUB_CERTIFICATE, HUB_KEY, load_ca, load_hub
from nanoexec.model import Credentials
from nanoexec.wire import control

WITHIN: Final = 3.0  # seconds for a port of this machine to answer
_LIVE: Final = ("ports", "beacon", "nodes", "clocks", "refused", "join")
_R = TypeVar("_R")


def examine(paths: Paths) -> Iterator[Finding]:
    """Every stage of a hub. Raises nothing."""
    config: HubConfig | None = None
    try:
        config = parse_hub(read_bytes(paths.hub_config, "the hub's configuration"), paths.hub_config)
        yield HUB.ok("config", f"{paths.hub_config}: can be read")
    except NanoexecError as error:
        yield HUB.fail("config", str(error))
    key, certificate, _ = identity(
        HUB,
        paths.hub_state / HUB_KEY,
        paths.hub_state / HUB_CERTIFICATE,
        config.name if config else None,
        time.time(),
        load=lambda: _load(paths),
    )
    yield from (key, certificate, _store(paths))
    yield from _live(paths, config)


def _load(paths: Paths) -> Credentials:
    """The hub's own, after its authority, without which no machine can join."""
    load_ca(paths.hub_state)
    return load_hub(paths.hub_state)


def _store(paths: Paths) -> Finding:
    file = paths.hub_store
    if closed := hidden(HUB, "store", file):
        return closed
    try:
        from nanoexec.store.faults import faults  # SQLAlchemy, which a node need not have
        from nanoexec.store.opening import OURS, connect
    except ImportError as error:
        return HUB.fail("store", f"{error.name} is not installed here: pip install 'nanoexec[hub]'")
    try:
        if not file.exists():
            return HUB.warn("store", f"{file}: not there yet; `nanoexec hub serve` makes it when it first starts")
        with faults(file), closing(connect(file)) as database:
            (found,) = database.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
    except StoreError as error:
        return HUB.fail("store", str(error))
    except OSError as error:
        return HUB.fail("store", f"{file}: cannot be seen: {error.strerror}")
    return finding.store(file, str(found), OURS.head)


def _live(paths: Paths, config: HubConfig | None) -> Iterator[Finding]:
    """What the running hub says of itself."""
    try:
        status = _ask(paths, control.AskStatus(), control.Status)
        now = time.time()
        roster = _ask(paths, control.ListNodes(), control.NodeList)
    except NanoexecError as error:
        yield _silence(paths, error)
        yield from HUB.skip("the stage hub", *_LIVE)
        return
    if status.problem:
        yield HUB.fail("hub", f"it answers, and says: {status.problem}")
    else:
        yield HUB.ok("hub", f"{status.hub} serves, version {status.version}; {status.open_deliveries} deliveries open")
    host = config.here if config else "127.0.0.1"
    yield _ports("ports", host, status.publish_port, status.report_port)
    yield finding.beacon(status.heard, status.alarm, now, started=status.started, late=_late(config))
    yield finding.presence(roster.nodes)
    yield finding.clocks(roster.nodes)
    yield finding.refusals(status.counters)
    yield (
        _ports("join", host, status.join_port)
        if status.join_port
        else HUB.ok("join", "closed: no token is outstanding")
    )


def _late(config: HubConfig | None) -> float | None:
    """How long ago the beacon may have come back, in seconds; None without the configuration."""
    from nanoexec.hub.echo import DEAF_AFTER  # it can make certificates, for which a node's doctor should not pay

    return DEAF_AFTER * config.beacon_interval if config else None


def _ask(paths: Paths, request: control.Request, wanted: type[_R]) -> _R:
    reply = control.decode_reply(local.ask(paths.control_socket, request))
    if isinstance(reply, control.Failed):
        raise ProtocolError(f"the hub will not say how it is: {reply.reason}")
    if not isinstance(reply, wanted):
        raise ProtocolError(f"{paths.control_socket}: it answers with {type(reply).__name__}")
    return reply


def _silence(paths: Paths, error: NanoexecError) -> Finding:
    """Why the hub does not say how it is."""
    if isinstance(error, local.NotAllowedError):
        return HUB.hidden("hub", paths.control_socket)
    if isinstance(error, local.NotThereError):
        advice = unit.masked(paths, "nanoexec-hub.service") or "`systemctl start nanoexec-hub`, or `nanoexec hub serve`"
        return HUB.fail("hub", f"{error}: no hub runs; {advice}")
    return HUB.fail("hub", str(error))


def _ports(stage: str, host: str, *ports: int) -> Finding:
    """Whether somebody takes connections there; that it is the hub, the hub has said."""
    for port in ports:
        try:
            socket.create_connection((host, port), timeout=WITHIN).close()
        except OSError as error:
            return HUB.fail(stage, f"{host} port {port}: the hub says it listens there, and {error.strerror or error}")
    return HUB.ok(stage, f"{' and '.join(map(str, ports))} on {host} take connections")
