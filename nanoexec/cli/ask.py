"""Asking the hub over its control socket. Blocking and without NNG: a command line has one question and starts cold."""

import grp
import socket
import time
import types
from pathlib import Path
from typing import Final, Self

from nanoexec.config import Paths
from nanoexec.errors import ExitCode, NanoexecError, ProtocolError, RefusedError, UnavailableError, UsageError
from nanoexec.wire import control, stream

FROM_MEMORY: Final = 10.0  # seconds for an answer that the hub has at hand
FROM_DISK: Final = 30.0  # seconds for one that it must read or write first, behind what others have asked
_TRY_EVERY: Final = 0.05  # seconds


class HubSaidNoError(NanoexecError):
    """The hub's own words, with the exit code that it gave them."""

    def __init__(self, failed: control.Failed) -> None:
        super().__init__(failed.reason)
        self.exit_code = ExitCode(failed.exit_code) if failed.exit_code in set(ExitCode) else ExitCode.UNABLE


class HubConnection:
    """One request and its replies; a context manager. With ``within``, all of that takes so many seconds at most."""

    def __init__(self, paths: Paths, within: float | None = None) -> None:
        """Raises `RefusedError` for a user who may not ask, `UnavailableError` when no hub answers."""
        self._path = paths.control_socket
        self._within = within
        self._end = None if within is None else time.monotonic() + within
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect()
        except UnavailableError:
            self._socket.close()
            raise
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

    def _connect(self) -> None:
        while True:
            self._socket.settimeout(self._left())
            try:
                self._socket.connect(str(self._path))
            except BlockingIOError:  # connect(2): so many wait that no more may, and a timeout does not cover that
                time.sleep(_TRY_EVERY)
            else:
                return

    def _left(self) -> float | None:
        """Seconds until the end, None without one. Raises `UnavailableError`."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise self._late()
        return left

    def _late(self) -> UnavailableError:
        return UnavailableError(
            f"no answer from the hub within {self._within:g} s: it is stuck or stopped: `nanoexec doctor` looks"
        )

    def send(self, request: control.Request) -> None:
        """Ask. Raises `UsageError` for what no hub would read, `UnavailableError`."""
        message = _checked(request)
        self._socket.settimeout(self._left())
        try:
            self._socket.sendall(message)
        except TimeoutError:
            raise self._late() from None
        except OSError as error:
            raise UnavailableError(f"the hub hung up: {error.strerror or error}") from None

    def receive(self, within: float | None = None) -> control.Reply | None:
        """The next reply, or None when none came within so many seconds.

        Raises `UnavailableError` when the hub goes away, `HubSaidNoError` when it says so, `ProtocolError`.
        """
        try:
            header = self._read(stream.HEADER, within)
        except TimeoutError:
            return None
        reply = control.decode_reply(self._read(stream.length(header)))
        if isinstance(reply, control.Failed):
            raise HubSaidNoError(reply)
        return reply

    def fileno(self) -> int:
        return self._socket.fileno()

    def _read(self, size: int, within: float | None = None) -> bytes:
        """So many bytes. Raises `TimeoutError` when not even one came within so many seconds."""
        data = bytearray()
        while len(data) < size:
            self._socket.settimeout(self._left() if within is None else within)
            try:
                part = self._socket.recv(size - len(data))
            except TimeoutError:
                if within is None:
                    raise self._late() from None
                if not data:
                    raise
                continue
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


def ask(paths: Paths, request: control.Question, within: float | None = None) -> control.Reply:
    """One request, one reply, within so many seconds; its `patience` if None. Raises as `HubConnection`."""
    with HubConnection(paths, patience(type(request)) if within is None else within) as hub:
        hub.send(request)
        reply = hub.receive()
    if reply is None:
        raise ProtocolError("the hub did not answer")
    return reply


def patience(question: type[control.Question]) -> float:
    """How many seconds the answer may take, however busy the hub is. What waits for runs is no single question."""
    at_hand = question in (control.AskStatus, control.ListNodes, control.Prepare)
    return FROM_MEMORY if at_hand else FROM_DISK
