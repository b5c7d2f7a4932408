"""Joining a hub: make a key here, check the hub against the token, get a certificate, write it all down."""

import asyncio

import msgspec

from nanoexec.agent.identity import read_config
from nanoexec.config import HIGHEST_PORT, AgentConfig, Paths
from nanoexec.errors import ConfigError, ProtocolError, RefusedError, UnavailableError, UsageError
from nanoexec.files import write_atomically
from nanoexec.keys import credentials, token
from nanoexec.model import Credentials
from nanoexec.transport.nng import ask_to_join
from nanoexec.wire import network

JOIN_PORT = 4446
WITHIN = 20.0  # seconds for each of the two questions


def split_address(address: str) -> tuple[str, int]:
    """``HUB``, ``HUB:PORT`` or ``[ADDRESS]:PORT``. Raises `UsageError`."""
    host, colon, port = address.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = address, str(JOIN_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdigit() or not 0 < int(port) <= HIGHEST_PORT:
        raise UsageError(f"{address!r} is not HUB:PORT, such as hub.example.org:{JOIN_PORT}")
    return host, int(port)


async def join(paths: Paths, address: str, pasted: str, name: str) -> AgentConfig:
    """Join as ``name``. The key never leaves this machine; the token is used once and kept nowhere.

    Raises `UsageError` for a damaged token, `IdentityError` when the hub is not the token's, `RefusedError` with the
    hub's reason, `UnavailableError` when it cannot be reached, `ConfigError` when the result cannot be written.
    """
    from nanoexec.keys import ca  # noqa: PLC0415 - cryptography, which only joining needs on a node

    host, port = split_address(address)
    ticket = token.decode(pasted)
    before = _present_config(paths)
    url = f"tls+tcp://{f'[{host}]' if ':' in host else host}:{port}"

    await _try(host, port)
    shown = await _ask(url, network.CaRequest(), None, ticket.hub)
    if not isinstance(shown, network.CaAnswer):
        raise ProtocolError(f"{address} does not answer like a hub that lets machines join")
    authority = token.check_pin(ticket, shown.certificate)

    key = ca.make_node_key()
    request = network.JoinRequest(name=name, secret=ticket.secret, request=ca.make_request(key, name))
    answer = await _ask(url, request, authority, ticket.hub)
    if isinstance(answer, network.Denied):
        raise RefusedError(f"{address} does not let {name} join: {answer.reason}")
    if not isinstance(answer, network.JoinAnswer):
        raise ProtocolError(f"{address} does not answer like a hub that lets machines join")

    joined = msgspec.structs.replace(
        before or AgentConfig(hub=host),
        hub=host,
        hub_name=answer.hub,
        publish_port=answer.publish_port,
        report_port=answer.report_port,
        name=name,
    )
    paths.agent_state.mkdir(parents=True, exist_ok=True)
    credentials.write_node(paths.agent_state, Credentials(ca=authority, certificate=answer.certificate, key=key))
    _write_config(paths, joined)
    return joined


async def _try(host: str, port: int) -> None:
    """Whether anybody listens there: NNG would not say that nobody does, only wait. Raises `UnavailableError`."""
    try:
        async with asyncio.timeout(WITHIN):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        raise UnavailableError(
            f"{host} port {port}: connection refused: machines may join only while a token is outstanding "
            "(`nanoexec hub token` on the hub makes one, and says the port)"
        ) from None
    except TimeoutError:
        raise UnavailableError(f"{host} port {port}: no answer within {WITHIN:.0f} s") from None
    except OSError as error:
        raise UnavailableError(f"{host} port {port}: cannot connect: {error.strerror or error}") from None
    writer.close()


async def _ask(url: str, question: network.Message, ca: str | None, hub_name: str) -> network.JoinReply:
    frame = await ask_to_join(url, network.encode(question), ca=ca, hub_name=hub_name, within=WITHIN)
    return network.decode_join_reply(frame)


def _present_config(paths: Paths) -> AgentConfig | None:
    """The configuration so far; it must be sound before anything is asked, since it will be rewritten."""
    return read_config(paths) if paths.agent_config.exists() else None


def _write_config(paths: Paths, config: AgentConfig) -> None:
    """Set the keys that joining decides; every other line of the file, comments too, stays as it is."""
    wanted: dict[str, str | int] = {
        "hub": config.hub,
        "hub_name": config.hub_name or "",
        "publish_port": config.publish_port,
        "report_port": config.report_port,
        "name": config.name or "",
    }
    try:
        present = paths.agent_config.read_text(encoding="utf-8")
    except FileNotFoundError:
        present = ""
    except OSError as error:
        raise ConfigError(f"{paths.agent_config}: cannot read: {error.strerror}") from None
    paths.agent_config.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(paths.agent_config, set_keys(present, wanted).encode(), 0o644)


def set_keys(text: str, wanted: dict[str, str | int]) -> str:
    """A flat TOML text with these top-level keys set: replaced where they stand, added before the first table."""
    left = dict(wanted)
    lines = text.removesuffix("\n").split("\n") if text else []  # TOML knows no other line break, `splitlines` does
    end = next((number for number, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))
    for number in range(end):
        key = lines[number].partition("=")[0].strip().strip("\"'")
        if key in left and "=" in lines[number]:
            lines[number] = _assignment(key, left.pop(key))
    lines[end:end] = [_assignment(key, value) for key, value in left.items()]
    return "\n".join(lines) + "\n"


def _assignment(key: str, value: str | int) -> str:
    return f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}"
