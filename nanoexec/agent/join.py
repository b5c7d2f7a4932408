"""Joining a hub: make a key here, check the hub against the token, get a certificate, write it all down."""

import asyncio
import os
import pwd
from pathlib import Path

from nanoexec import settings
from nanoexec.config import HIGHEST_PORT, Joined, Paths, format_joined
from nanoexec.errors import ConfigError, ProtocolError, RefusedError, UnavailableError, UsageError
from nanoexec.files import demand_writable, write_atomically
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


async def join(paths: Paths, address: str, pasted: str, name: str) -> Joined:
    """Join as ``name``. The key never leaves this machine; the token is used once and kept nowhere.

    Raises `UsageError` for a damaged token, `IdentityError` when the hub is not the token's, `RefusedError` with the
    hub's reason, `UnavailableError` when it cannot be reached, `ConfigError` when the result cannot be written.
    """
    from nanoexec.keys import ca  # noqa: PLC0415 - cryptography, which only joining needs on a node

    host, port = split_address(address)
    ticket = token.decode(pasted)
    user = settings.read_agent(paths).user  # a fault in what is there is said before the token is used up
    for place in (paths.agent_state, paths.joined.parent):
        demand_writable(place)  # as well: joining again makes the hub forget the certificate that is here
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

    joined = Joined(
        hub=host, hub_name=answer.hub, publish_port=answer.publish_port, report_port=answer.report_port, name=name
    )
    _make_for(user, paths.agent_state)
    credentials.write_node(paths.agent_state, Credentials(ca=authority, certificate=answer.certificate, key=key))
    paths.joined.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(paths.joined, format_joined(joined), 0o644)  # last: with it, the node has joined
    return joined


def overridden(paths: Paths, joined: Joined) -> list[str]:
    """What of it ``agent.toml`` says otherwise, a line for each key. Raises `ConfigError`."""
    holds = settings.read_agent(paths)
    return [
        f"{paths.agent_config}: its own {key} = {getattr(holds, key)!r} holds, not {getattr(joined, key)!r}"
        for key in joined.__struct_fields__
        if getattr(holds, key) != getattr(joined, key)
    ]


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


def _make_for(user: str, directory: Path) -> None:
    """The agent's directory, unless it is there. Made by root, it belongs to the agent's account, if that exists.

    Raises `ConfigError`.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o750)
        if os.geteuid() == 0:
            account = pwd.getpwnam(user)
            os.chown(directory, account.pw_uid, account.pw_gid)
    except (FileExistsError, KeyError):
        return
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be made: {error.strerror or error}") from None
