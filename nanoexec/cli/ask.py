"""Asking the hub over its control socket. Blocking and without NNG: a command line has one question and starts cold."""

import grp
import socket
import types
from pathlib import Path
from typing import Self

from nanoexec.config import Paths
from nanoexec.errors import ExitCode, NanoexecError, ProtocolError, RefusedError, UnavailableError, UsageError
from nanoexec.wire import control, stream


class HubSaidNoError(NanoexecError):
    """The hub's own words, with the exit code that it gave them."""

    def __init__(self, failed: control.Failed) -> None:
        super().__init__(failed.reason)
        self.exit_code = ExitCode(failed.exit_code) if failed.exit_code in set(ExitCode) else ExitCode.UNABLE


class HubConnection:
    """One request and its replies; a context manager."""

    def __init__(self, paths: Paths) -> None:
        """Raises `RefusedError` for a user who may not ask, `UnavailableError` when no hub answers."""
        self._path = paths.control_socket
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(str(self._path))
        except PermissionError:
            self._socket.close()
            raise RefusedError(
                f"you may not use the hub's control socket: root and {_operators(self._path)} may"
            ) from None
        except OSError as error:
            self._socket.close()
            raise UnavailableError(
                f"no hub answers at {self._path} ({error.strerror or error}): does `nanoexec hub serve` run here?"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, request: control.Request) -> None:
        """Ask. Raises `UsageError` for what no hub would read, `UnavailableError`."""
        try:
            self._socket.sendall(_checked(request))
        except OSError as error:
            raise UnavailableError(f"the hub hung up: {error.strerror or error}") from None

    def receive(self, within: float | None = None) -> control.Reply | None:
        """The next reply, or None when none came within so many seconds.

        Raises `UnavailableError` when the hub goes away, `HubSaidNoError` when it says so, `ProtocolError`.
        """
        self._socket.settimeout(within)
        try:
            header = self._read(stream.HEADER, patient=within is None)
        except TimeoutError:
            return None
        self._socket.settimeout(None)
        reply = control.decode_reply(self._read(stream.length(header)))
        if isinstance(reply, control.Failed):
            raise HubSaidNoError(reply)
        return reply

    def fileno(self) -> int:
        return self._socket.fileno()

    def _read(self, size: int, *, patient: bool = True) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                part = self._socket.recv(size - len(data))
            except TimeoutError:
                if data or patient:
                    continue
                raise
            except OSError as error:
                raise UnavailableError(f"the hub hung up: {error.strerror or error}") from None
            if not part:
                raise UnavailableError("the hub hung up: it was stopped, or restarted")
            data += part
        return bytes(data)


def _checked(request: control.Request) -> bytes:
    """The message, once it is known to be readable: what an operator wrote has come in unchecked."""
    try:
        message = stream.encode(request)
        control.decode_request(message[stream.HEADER :])
    except UnicodeEncodeError as error:  # bytes in an argument that are no text, as Python keeps them
        raise UsageError(f"{error.object[:80]!r} is not UTF-8") from None
    except ProtocolError as error:
        raise UsageError(f"this cannot be asked of the hub: {error}") from None
    return message


def _operators(path: Path) -> str:
    """Who may open the socket besides root, by the socket's own word; what hub.toml says may be newer."""
    try:
        group = path.stat().st_gid
        return f"the group {grp.getgrgid(group).gr_name}" if group else "nobody else, unless hub.toml names operators,"
    except KeyError:
        return f"the group {group}"
    except OSError:  # in a directory that is closed to others, too
        return "the group that hub.toml names as operators"


def ask(paths: Paths, request: control.Request) -> control.Reply:
    """One request, one reply. Raises as `HubConnection`."""
    with HubConnection(paths) as hub:
        hub.send(request)
        reply = hub.receive()
    if reply is None:
        raise ProtocolError("the hub did not answer")
    return reply
