"""The parent: accept on the Unix socket, see who calls, fork. Like cron and sshd it does almost nothing else.

It is single-threaded, never opens the journal (a connection must not cross a fork), never reads a byte from a peer, and
never kills a child: a run survives the runner, and a new runner starts beside the runs of the old one.
"""

import errno
import gc
import os
import pwd
import select
import signal
import socket
import struct
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final

from nanoexec.catalog import CatalogCache
from nanoexec.config import AgentConfig, Paths
from nanoexec.errors import NanoexecError, ProtocolError, UnavailableError
from nanoexec.runner import stopping
from nanoexec.runner.log import say
from nanoexec.runner.order import Verify
from nanoexec.runner.service import Service
from nanoexec.wakeup import Wakeup
from nanoexec.wire import stream
from nanoexec.wire.runner import Rejected

MAX_CHILDREN: Final = 256
RESERVE: Final = 32  # more, for what starts nothing: when there is no room for runs, they are to be taken back
RELOAD: Final = frozenset({signal.SIGHUP})
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: struct ucred, unix(7)
_RESPITE: Final = 0.2  # seconds without accepting, when the kernel has no more descriptors or memory to give
_MALFORMED, _BROKEN = 65, 70  # exit statuses of a child: a bad request, a fault of our own (sysexits.h)
_PASSING: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ECONNABORTED}
_MUCH_GARBAGE: Final = 50_000  # objects: a run makes a tenth, and to look for cycles would copy pages of the parent
_HANDLED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

ReadConfig = Callable[[], AgentConfig]  # raises ConfigError


class Server:
    """Serves ``listener`` until SIGTERM; or, if ``idle`` is set, until nothing has happened for the configured time.

    ``config`` holds until a SIGHUP asks for another. Whoever makes a server blocks `RELOAD` before the socket is there:
    so one that comes early waits until it can be obeyed. Raises `UnavailableError` if no descriptor is left.
    """

    def __init__(
        self,
        listener: socket.socket,
        paths: Paths,
        config: AgentConfig,
        read_config: ReadConfig,
        verify: Verify,
        *,
        idle: bool,
    ) -> None:
        self._listener = listener
        self._paths = paths
        self._read_config = read_config
        self._config = config
        self._verify = verify
        self._idle = idle
        self._cache = CatalogCache(paths)
        self._service: Service | None = None
        self._language = os.environ.get("LANG")
        str(paths.journal), str(paths.locks)  # a Path remembers its spelling: no child works it out again
        self._children: set[int] = set()
        self._counts: Counter[str] = Counter()
        self._caught: set[int] = set()
        self._respite_until = 0.0
        self._wakeup = _wakeup()

    def run(self) -> None:
        """Serve. Children are left alone when it returns."""
        with self._wakeup:
            self._catch_signals()
            self._serve()

    def _serve(self) -> None:
        self._listener.setblocking(False)
        self._current()
        gc.collect()
        gc.freeze()  # a collection in a child would write to, and so copy, every page
        gc.set_threshold(_MUCH_GARBAGE)
        self._fork(Service.maintain)
        poller = select.poll()
        poller.register(self._wakeup, select.POLLIN)
        active, accepting = time.monotonic(), False
        while True:
            if accepting != (time.monotonic() >= self._respite_until):
                accepting = not accepting
                poller.register(self._listener, select.POLLIN if accepting else 0)
            ready = [descriptor for descriptor, _ in poller.poll(self._patience(accepting=accepting))]
            if self._wakeup.fileno() in ready and self._obey():
                return
            if self._listener.fileno() in ready:
                self._accept()
            if ready or self._children:
                active = time.monotonic()
            elif self._idle and time.monotonic() - active >= self._config.runner_idle:
                return

    def _patience(self, *, accepting: bool) -> float | None:
        """Milliseconds until something is due without anybody calling, None for never."""
        if not accepting:
            return _RESPITE * 1000
        return self._config.runner_idle * 1000 if self._idle and not self._children else None

    def _catch_signals(self) -> None:
        """Handlers only take note: the loop acts.

        A child inherits them; there a signal does what it would do without. To reset them all would cost every run
        0.2 ms, and hardly ever does a signal come.
        """
        server = os.getpid()

        def note(number: int, _frame: FrameType | None) -> None:
            if os.getpid() == server:
                self._caught.add(number)
            elif number != signal.SIGCHLD:
                _die_of(number)

        for number in _HANDLED:
            signal.signal(number, note)
        stopping.hear()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, RELOAD)

    def _obey(self) -> bool:
        """Act on the signals that came. True: it is time to stop."""
        self._wakeup.take()
        caught, self._caught = self._caught, set()
        if caught & {signal.SIGTERM, signal.SIGINT}:
            return True
        if signal.SIGHUP in caught:
            self._reread()
        self._reap()
        return False

    def _reread(self) -> None:
        try:
            self._config = self._read_config()
        except NanoexecError as error:
            say(f"the configuration stays as it was: {error}")
        else:
            say("configuration read again")

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._children.clear()
                return
            if not pid:
                return
            self._children.discard(pid)
            if os.waitstatus_to_exitcode(status) == _MALFORMED:
                self._count("malformed requests")

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:  # the caller has thought better of it
            return
        except OSError as error:
            self._rest(f"cannot accept: {error.strerror}", error)
            return
        with connection:
            uid = _uid_of(connection)
            if not self._may_call(uid):
                self._count("callers turned away", f"uid {uid} may not use the runner")
            elif len(self._children) >= MAX_CHILDREN + RESERVE:
                self._count("callers told to come back", f"{len(self._children)} runs and requests are going on")
                _tell_busy(connection)
            else:  # what is asked for, only the child will know
                busy = _busy() if len(self._children) >= MAX_CHILDREN else ""
                self._fork(lambda service: service.serve(connection, busy))

    def _may_call(self, uid: int) -> bool:
        """Root, our own user, and the agent's, which may have been made after we started."""
        if uid in (0, os.geteuid()):
            return True
        return uid == _agent_of(self._config)

    def _fork(self, task: Callable[[Service], None]) -> None:
        try:
            service = self._current()
            pid = os.fork()
        except UnavailableError as error:
            self._rest(str(error))
            return
        except OSError as error:
            self._rest(f"cannot fork: {error.strerror}", error)
            return
        if pid:
            self._children.add(pid)
            return
        status = _BROKEN
        try:
            self._become_child()
            task(service)
            status = os.EX_OK
        except ProtocolError as error:
            say(str(error))
            status = _MALFORMED
        except NanoexecError as error:
            say(str(error))
        except OSError as error:
            passing = error.errno in _PASSING  # and the journal does not have the run: whoever asked will ask again
            say(f"cannot serve: {error.strerror}" if passing else _our_fault(error))
        except BaseException as error:  # noqa: BLE001 - nothing may climb out of a child into the parent's loop
            say(_our_fault(error))
        finally:
            os._exit(status)  # at once: see nanoexec.runner.journal

    def _current(self) -> Service:
        """What a child works with. Raises `UnavailableError`: whoever asked will ask again."""
        service, catalog = self._service, self._cache.current()
        if service is None or service.catalog is not catalog or service.config is not self._config:
            self._service = service = Service(
                paths=self._paths, config=self._config, catalog=catalog, verify=self._verify, language=self._language
            )
        return service

    def _become_child(self) -> None:
        """Out of the parent's session, so that no signal to its group ends a run; without its sockets."""
        self._wakeup.close()
        self._listener.close()
        os.setsid()

    def _rest(self, line: str, error: OSError | None = None) -> None:
        """Out of descriptors, memory or processes: say so, and let those who have some give them back."""
        if error and error.errno not in _PASSING:
            raise error
        self._count("respites", line)
        self._respite_until = time.monotonic() + _RESPITE

    def _count(self, what: str, line: str = "") -> None:
        self._counts[what] += 1
        say(f"{line + ': ' if line else ''}{self._counts[what]} {what} so far")


def _wakeup() -> Wakeup:
    try:
        return Wakeup()
    except OSError as error:
        allowed = os.sysconf("SC_OPEN_MAX")
        raise UnavailableError(
            f"cannot start: {error.strerror}: this process may have {allowed} (LimitNOFILE=, ulimit -n)"
        ) from None


def _die_of(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _uid_of(connection: socket.socket) -> int:
    """Who connected, as the kernel knows it (SO_PEERCRED, unix(7))."""
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


def _our_fault(error: BaseException) -> str:
    return f"a fault in nanoexec, please report it: {' | '.join(traceback.format_exception(error))}"


def _agent_of(config: AgentConfig) -> int | None:
    try:
        return pwd.getpwnam(config.user).pw_uid
    except KeyError:
        return None


def _busy() -> str:
    return f"busy: {MAX_CHILDREN} runs are going on"


def _tell_busy(connection: socket.socket) -> None:
    """The buffer of a new connection holds the line: the parent never waits."""
    connection.setblocking(False)
    with suppress(OSError):
        connection.send(stream.encode(Rejected(reason=_busy(), final=False)))
