"""The shell that cron has started for an adopted line: what it was given, and how to tell it what to do next.

Its memory of the beginning is in ``/proc``: arguments and environment as cron passed them, untouched by what the shell
has made of them since. `nanoexec.crontab.prefix` says how the two talk.
"""

import fcntl
import os
import pwd
import time

from nanoexec.errors import UsageError

VOICE = 3  # the descriptor on which the shell listens
_PARENT, _STARTED = 1, 19  # fields of /proc/PID/stat behind the name: proc(5), 4 and 22


class Shell:
    """A shell as cron started it: ``words`` are its arguments, the program first."""

    __slots__ = ("pid", "words")

    def __init__(self, pid: int, words: list[bytes]) -> None:
        self.pid = pid
        self.words = words

    @classmethod
    def calling(cls) -> "Shell":
        """The one that started this process. Raises `UsageError` if it is not a shell with a command."""
        pid = os.getppid()
        words = _content(pid, "cmdline").split(b"\0")[:-1]
        if len(words) != len(("SHELL", "-c", "COMMAND")) or words[1] != b"-c" or not words[0].startswith(b"/"):
            raise UsageError("--scheduled is for the lines that nanoexec cron adopt writes, and only cron starts them")
        return cls(pid, words)

    @property
    def program(self) -> str:
        return os.fsdecode(self.words[0])

    @property
    def command(self) -> bytes:
        """What cron handed to it."""
        return self.words[2]

    def environment(self) -> dict[str, str]:
        """Its variables, without those that it has set, counted up or renamed itself (``SHLVL``, ``_``, ``PWD``)."""
        pairs = (os.fsdecode(pair).partition("=") for pair in _content(self.pid, "environ").split(b"\0"))
        return {name: value for name, equals, value in pairs if name and equals}

    def ignores(self, number: int) -> bool:
        """Whether cron started it with a signal ignored. Python hides that from us: it ignores SIGPIPE itself."""
        for line in _content(self.pid, "status").splitlines():
            if line.startswith(b"SigIgn:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
        return False

    def cron_age(self) -> float:
        """For how many seconds cron has been running: cron starts a child, and that one the shell."""
        cron = int(_stat(int(_stat(self.pid)[_PARENT]))[_PARENT])
        if not cron:
            return 0.0
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(_stat(cron)[_STARTED]) / os.sysconf("SC_CLK_TCK")


class Voice:
    """What the shell hears. Until something is said, it goes on to the original command whatever happens here."""

    __slots__ = ("responsible",)

    def __init__(self) -> None:
        """Raises `UsageError` if nobody listens."""
        try:
            writable = fcntl.fcntl(VOICE, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        except OSError:
            writable = False
        if not writable:
            raise UsageError("--scheduled is for the lines that nanoexec cron adopt writes: descriptor 3 is not open")
        self.responsible = False

    def take_over(self) -> None:
        """From here on the shell does not run the original, even if we are killed."""
        self.responsible = True
        _say(b"exit ")

    def end(self, status: int) -> None:
        """The shell ends as the command did. A negative ``status`` is a signal: it dies of the same one, if it can."""
        if not self.responsible:
            self.take_over()
        _say(b"%d\n" % status if status >= 0 else b"$(kill -%d $$) %d\n" % (-status, 128 - status))


def user() -> str:
    """Whose crontab it is."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _say(words: bytes) -> None:
    try:  # noqa: SIM105 - importing contextlib is a tenth of a skip
        os.write(VOICE, words)
    except OSError:
        pass  # the shell is gone, and with it the only one who would run anything twice


def _stat(pid: int) -> list[bytes]:
    """A program may be named ``a) Z 1 (b``: only the last parenthesis ends the name."""
    return _content(pid, "stat").rpartition(b")")[2].split()


def _content(pid: int, name: str) -> bytes:
    descriptor = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(descriptor, 1 << 17):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)
