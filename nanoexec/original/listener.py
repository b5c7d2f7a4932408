"""The listener of the original's wire: runs what comes for this host.

One thread waits for three things: a frame, a signal, the end of the command that runs. Commands run one after another,
as they did under ``system()``, but frames are taken in meanwhile, so that a burst is not lost behind a slow command.

A process that has opened an NNG socket must not use it after a fork. Commands start through `subprocess` without
``preexec_fn``: it forks and executes in C, and no NNG code runs in between.
"""

import os
import pwd
import selectors
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, TextIO

from nanoexec import launch
from nanoexec.config import Paths
from nanoexec.errors import NanoexecError, ProtocolError, UsageError
from nanoexec.model import EVERY_NODE
from nanoexec.original.frame import check_address, parse_frame, shown
from nanoexec.wakeup import Wakeup

MAX_WAITING: Final = 256  # orders behind the one that runs; with MAX_FRAME it bounds the memory to 16 MiB
REDIAL_MS: Final = 100  # the original's sender holds its port this long: who redials more slowly never hears it
_RECEIVE_LIMIT: Final = 1 << 20  # bytes, nanomsg's own: NNG hangs up on a longer frame, a shorter one gets a line
_RECEIVE_BUFFER: Final = 1024  # frames

Resolve = Callable[[str], Sequence[str] | None]  # the argv that runs an action; None: this node knows no such action


def listen(
    url: str,
    *,
    hostname: str,
    resolve: Resolve,
    out: TextIO,
    user: str | None = None,
    allow_exec: bool = False,
    verbose: bool = False,
) -> None:
    """Run what the publisher at ``url`` orders, until SIGTERM or SIGINT; the command that runs may then end.

    What the node knows by name, according to ``resolve``, runs as that action. Anything else is a shell command and
    refused without ``allow_exec``. Lines go to ``out``; what commands print goes to this process's own output. ``user``
    is become first (`become`). Needs the main thread, for the signals. Raises `UsageError`.
    """
    check_address(url)
    if not hostname or ":" in hostname:
        raise UsageError(f"the host name {hostname!r} must not be empty or contain a colon")
    import pynng

    if user:  # after the import, whose files may be closed to that user, and before NNG's threads and the socket
        become(user)
    orders = Orders(hostname=hostname, resolve=resolve, out=out, allow_exec=allow_exec, verbose=verbose)
    with _signals() as bell, selectors.DefaultSelector() as selector:
        selector.register(bell, selectors.EVENT_READ)
        with pynng.Sub0(
            topics=[hostname, EVERY_NODE],
            recv_max_size=_RECEIVE_LIMIT,
            recv_buffer_size=_RECEIVE_BUFFER,
            reconnect_time_min=REDIAL_MS,
            reconnect_time_max=REDIAL_MS,
        ) as socket:
            socket.tcp_keepalive = True  # a publisher that lost its power does not say so
            orders.say(f"Filtering on hostname: {hostname}")
            orders.say(
                f"WARNING: this wire is neither encrypted nor authenticated: whoever can reach or imitate {url} "
                "gives orders here; use the nanoexec agent instead"
            )
            socket.dial(url, block=False)
            selector.register(socket.recv_fd, selectors.EVENT_READ)
            while not bell.take():
                orders.advance(selector)
                selector.select()
                with suppress(pynng.TryAgain):
                    orders.take(socket.recv(block=False))
            selector.unregister(socket.recv_fd)
        orders.stop()
        while orders.running and not bell.take():
            selector.select()
            orders.advance(selector)
        orders.abandon()


def action_command(name: str, paths: Paths) -> list[str]:
    """The argv that runs a named action of this node, with the same journal and lock as for every other cause."""
    config = ["--config", str(paths.config)] if paths.config else []
    return [*launch.command("nanoexec.run"), "--root", str(paths.root), *config, name]


def become(user: str) -> None:
    """Give up root for ``user``, for good: groups, gid, uid, working directory and the variables that name a person.

    Does nothing when the process already is that user. Raises `UsageError`.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise UsageError(f"--user {user}: there is no such user on this machine") from None
    if os.getresuid() == (account.pw_uid,) * 3:
        return
    try:
        os.initgroups(account.pw_name, account.pw_gid)
        os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    except PermissionError:
        raise UsageError(f"--user {user}: only root can become another user") from None
    os.environ.update(HOME=account.pw_dir, USER=account.pw_name, LOGNAME=account.pw_name)
    os.chdir("/")


class Orders:
    """The orders of one listener: what waits, in the sequence in which it came, and what runs."""

    def __init__(self, *, hostname: str, resolve: Resolve, out: TextIO, allow_exec: bool, verbose: bool) -> None:
        self._mine = {hostname, EVERY_NODE}
        self._resolve, self._allow_exec, self._out, self._verbose = resolve, allow_exec, out, verbose
        self._waiting: deque[str] = deque()
        self._command = ""
        self._pidfd = -1
        self.running: subprocess.Popen[bytes] | None = None

    def say(self, line: str) -> None:
        self._out.write(f"{line}\n")
        self._out.flush()

    def take(self, frame: bytes) -> None:
        """Queue the command of a frame for this host; one line says what is wrong with a frame that is refused."""
        try:
            host, command = parse_frame(frame)
        except ProtocolError as error:
            self.say(str(error))
            return
        if host not in self._mine:
            return
        if self._verbose:
            self.say(f"frame {shown(frame)}")
        if len(self._waiting) >= MAX_WAITING:
            self.say(f"{shown(command)} dropped: {MAX_WAITING} orders are waiting already")
            return
        self._waiting.append(command)

    def advance(self, selector: selectors.BaseSelector) -> None:
        """Collect the command that has ended and start the next that can be; never waits."""
        if self.running and self.running.poll() is not None:
            selector.unregister(self._pidfd)
            self._ended(self.running.returncode)
        while not self.running and self._waiting:
            self._start(self._waiting.popleft(), selector)

    def stop(self) -> None:
        """Start nothing more, and say what that means for each order."""
        for command in self._waiting:
            self.say(f"stopping: {shown(command)} was still waiting and is not run")
        self._waiting.clear()
        if self.running:
            self.say(f"stopping: {self._what()} is still running; a second signal leaves it to itself and ends at once")

    def abandon(self) -> None:
        """Leave what still runs to itself, and say so."""
        if self.running:
            self.say(f"{self._what()} goes on by itself")
            os.close(self._pidfd)

    def _start(self, command: str, selector: selectors.BaseSelector) -> None:
        try:
            argv = self._resolve(command)
        except NanoexecError as error:
            self.say(f"{shown(command)} not run: {error}")
            return
        if argv is None:
            if not self._allow_exec:
                self.say(f"{shown(command)} refused: this node has no action of that name, and shell commands are off")
                return
            argv = ["/bin/sh", "-c", "--", command]
        try:
            # A session of its own: Ctrl-C at the listener's terminal is not meant for the command.
            self.running = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as error:
            self.say(f"{shown(command)} not run: cannot start {argv[0]}: {error.strerror}")
            return
        self._command = command
        self._pidfd = os.pidfd_open(self.running.pid)
        selector.register(self._pidfd, selectors.EVENT_READ)

    def _ended(self, status: int) -> None:
        self.running = None
        os.close(self._pidfd)
        if status or self._verbose:
            how = f"exit status {status}" if status >= 0 else f"killed by signal {-status}"
            self.say(f"{shown(self._command)} ended: {how}")

    def _what(self) -> str:
        return f"{shown(self._command)} (pid {self.running.pid if self.running else '-'})"


@contextmanager
def _signals() -> Iterator[Wakeup]:
    """Hears SIGTERM and SIGINT; what was set before is put back at the end.

    SIGCHLD is reset: where a parent left it ignored, the kernel would throw the exit statuses away.
    """
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        with Wakeup() as wakeup:
            yield wakeup
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
