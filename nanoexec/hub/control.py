"""The control socket: what the command line may ask of the hub, and who asks, by the kernel's word.

Whoever may open the socket may use it: the file's owner, group and mode are the access list, and the name that goes
into the history comes from the peer's uid.
"""

import asyncio
import logging
import os
import pwd
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from nanoexec.errors import ExitCode, NanoexecError, ProtocolError, UnavailableError
from nanoexec.hub.core import Answered
from nanoexec.model import MAX_REASON
from nanoexec.wire import control, stream

if TYPE_CHECKING:
    from nanoexec.hub.service import Hub

_log = logging.getLogger("nanoexec.hub")
_PEERCRED = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED
READ_WITHIN = 10.0  # seconds for a request to arrive
UNREAD = 4 * stream.MAX_MESSAGE  # bytes of news that may wait for one who watches and does not read


class ControlSocket:
    """Serves ``control.sock`` for one hub."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._server: asyncio.Server | None = None

    async def open(self, path: Path, group: int | None) -> None:
        """Listen: mode 0660, for ``group`` (a gid) besides the owner. Raises `UnavailableError`."""
        try:
            listener = _bind(path, group)
        except OSError as error:
            raise UnavailableError(f"{path}: cannot make the control socket: {error.strerror or error}") from None
        self._server = await asyncio.start_unix_server(self._serve, sock=listener)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        by = caller(writer.get_extra_info("socket"))
        try:
            async with asyncio.timeout(READ_WITHIN):
                request = control.decode_request(await read_message(reader))
            await self._answer(request, by, reader, writer)
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
            self._hub.count("control_aborted")
        except asyncio.CancelledError:  # the hub stops
            return
        except ProtocolError as error:
            self._hub.count("control_frames_refused")
            _log.warning("control socket: %s asks what cannot be read: %s", by, error)
            _tell(writer, _failed(error, ExitCode.UNABLE))
        except NanoexecError as error:
            _tell(writer, _failed(error, error.exit_code))
        finally:
            writer.close()  # asyncio sends what is left; to wait for that is to wait for one who may never read

    async def _answer(
        self, request: control.Request, by: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        hub = self._hub
        if not isinstance(request, control.Question):
            hub.look_around()  # the answer says who is here; whoever leaves right after it is news
        match request:
            case control.Submit(wanted=wanted, watch=watch):
                await self._watched(await hub.submit(wanted, by), by, reader if watch else None, writer)
            case control.Issue(order=order, target=target, watch=watch):
                await self._watched(await hub.issue(order, target, by), by, reader if watch else None, writer)
            case control.Cancel(watch=watch):
                await self._watched(await hub.cancel(request, by), by, reader if watch else None, writer)
            case _:
                _tell(writer, await self._reply(request, by))

    async def _reply(self, request: control.Question, by: str) -> control.Reply:
        """The one answer to everything that is not watched."""
        hub = self._hub
        reply: control.Reply
        match request:
            case control.Prepare(wanted=wanted):
                reply = hub.prepare(wanted, by)
            case control.Prove():
                reply = await hub.prove(request)
            case control.MakeToken():
                reply = await hub.make_token(request, by)
            case control.ListNodes():
                reply = control.NodeList(nodes=hub.nodes())
            case control.Revoke(node=node):
                reply = await hub.revoke(node, by)
            case control.AskHistory():
                reply = await hub.history(request)
            case control.Show(id=id_):
                reply = await hub.show(id_)
            case control.AskOverdue():
                reply = await hub.overdue(request)
            case control.AskStatus():
                reply = hub.status()
        return reply

    async def _watched(
        self,
        decision: Answered[control.Accepted | control.Cancelling],
        by: str,
        reader: asyncio.StreamReader | None,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Tell that a trigger is accepted or taken back, publish that, and go on telling until the asker hangs up."""
        trigger = decision.answer.trigger.id

        def tell(progress: control.Progress) -> None:
            if writer.transport.get_write_buffer_size() > UNREAD:
                _log.warning("control socket: %s watches trigger %s and does not read: hung up", by, trigger)
                writer.transport.abort()
                return
            _tell(writer, progress)

        self._hub.watchers.add(trigger, tell)
        try:
            _tell(writer, decision.answer)
            await self._hub.publish(decision)
            if reader is not None:
                await reader.read(1)  # nothing more is expected: this returns when the other side closes
        finally:
            self._hub.watchers.remove(trigger, tell)


def _bind(path: Path, group: int | None) -> socket.socket:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    previous = os.umask(0o117)
    try:
        listener.bind(str(path))
        if group is not None:
            os.chown(path, -1, group)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(previous)
    return listener


def caller(connection: socket.socket) -> str:
    """The user at the other end, by name where there is one (the audit name)."""
    _, uid, _ = _PEERCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """One framed message. Raises `ProtocolError`, `asyncio.IncompleteReadError`."""
    return await reader.readexactly(stream.length(await reader.readexactly(stream.HEADER)))


def _failed(error: NanoexecError, exit_code: ExitCode) -> control.Failed:
    """An error in as many words as the other side takes."""
    reason = str(error)
    return control.Failed(
        reason=reason if len(reason) <= MAX_REASON else f"{reason[: MAX_REASON - 3]}...", exit_code=exit_code
    )


def _tell(writer: asyncio.StreamWriter, reply: control.Reply) -> None:
    if not writer.is_closing():
        writer.write(stream.encode(reply))
