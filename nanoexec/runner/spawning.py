"""A command becomes a process: in a session of its own, without our descriptors, with the signals of a new login.

There are two ways. posix_spawn(3) does not copy this process, nor run Python in the copy: it takes a command of our own
user, in a runner nearly every one. It knows nothing of directory and umask: they are this process's own for a moment,
for it has one thread. And glibc's leaves the signals 32 and 33, which are its own, ignored; nothing minds that.

`subprocess` takes all others. It can become another user, and an adopted line of a crontab finds everything exactly as
under cron. It is imported only then: with it comes `threading`, whose work after every fork costs a child of the runner
0.4 ms, where fork and exit without it cost 0.6.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from nanoexec.errors import RefusedError
from nanoexec.runner.command import Command

_UMASK: Final = 0o022
_ABOVE: Final = 2  # standard error: what is above it is not for the command


class NotStartedError(RefusedError):
    """The kernel would not start the program."""


def spawn(command: Command, output: int, errors: int) -> int:
    """Start ``command`` with these descriptors as its standard output and error; its pid, for the caller to reap.

    Raises `NotStartedError`.
    """
    try:
        if command.account and command.account.uid == os.geteuid():
            return _spawn_as_we_are(command, output, errors)
        return _spawn_as_another(command, output, errors)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise NotStartedError(f"cannot start {command.program}: {said or error}") from None


def _spawn_as_we_are(command: Command, output: int, errors: int) -> int:
    """The same user keeps our groups: initgroups needs root."""
    files: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, errors, 2),
        *((os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _left_open()),
    ]
    ignored = (signal.SIGPIPE, signal.SIGXFSZ)  # by Python
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    umask = os.umask(_UMASK)
    try:
        os.chdir(command.cwd or ".")
        return os.posix_spawn(
            command.program, command.argv, command.environment, file_actions=files, setsid=True, setsigdef=ignored
        )
    finally:
        os.umask(umask)
        os.fchdir(here)
        os.close(here)


def _left_open() -> list[int]:
    """What whoever started us left open. Our own descriptors are closed on exec."""
    listed = map(int, os.listdir("/proc/self/fd"))  # noqa: PTH208 - a Path for each doubles the cost
    return [descriptor for descriptor in listed if descriptor > _ABOVE and _is_inherited(descriptor)]


def _is_inherited(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:  # that of the list itself, closed by now
        return False


def _spawn_as_another(command: Command, output: int, errors: int) -> int:
    """Another user's process gets that user's groups."""
    import subprocess  # noqa: PLC0415 - see above

    account = command.account
    try:
        with _dispositions(command):
            process = subprocess.Popen(
                command.argv,
                executable=command.program,
                stdin=subprocess.DEVNULL if account else None,
                stdout=output,
                stderr=errors,
                cwd=command.cwd,
                env=command.environment,
                umask=_UMASK if account else -1,
                restore_signals=command.sigpipe,
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=os.getgrouplist(account.name, account.gid) if account else None,
            )
    except subprocess.SubprocessError as error:
        raise ValueError(str(error)) from None
    process.returncode = 0  # the caller waits for it
    return process.pid


@contextmanager
def _dispositions(command: Command) -> Iterator[None]:
    """Python ignores SIGXFSZ as well as SIGPIPE, and gives a child both back or neither."""
    before = None if command.sigpipe else signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGXFSZ, before)
