"""Which programs a crontab line runs, and which action would take the line over.

A line is taken when it *runs* the action's tool, not when it mentions it, and only if skipping the whole line leaves
out nothing else: what merely prepares (``cd``, ``test``, ``sleep``), shares the tool's pipeline (``| logger``), or
stands in when the tool fails (``|| mail``) may be skipped with it; a backup that somebody put on the same line may not.
In doubt a line is not taken, and the reason is given; a person can still name the line.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import takewhile
from typing import Final, NamedTuple

from nanoexec.actions.manifest import Manifest
from nanoexec.crontab.adoption import adopted
from nanoexec.crontab.lines import Line
from nanoexec.crontab.shell import Simple, simple_commands
from nanoexec.errors import UsageError
from nanoexec.model import Value

# Start another program as themselves: the options that take a value (letters, long names), and the words before it.
_WRAPPERS: Final[dict[str, tuple[str, frozenset[str], int]]] = {
    "chronic": ("", frozenset(), 0),
    "chrt": ("TPD", frozenset(("--sched-runtime", "--sched-period", "--sched-deadline")), 1),
    "command": ("", frozenset(), 0),
    "cronic": ("", frozenset(), 0),
    "eatmydata": ("", frozenset(), 0),
    "env": ("uC", frozenset(("--unset", "--chdir")), 0),
    "exec": ("a", frozenset(), 0),
    "flock": ("wE", frozenset(("--wait", "--timeout", "--conflict-exit-code")), 1),
    "ionice": ("cn", frozenset(("--class", "--classdata")), 0),
    "lckdo": ("W", frozenset(), 1),
    "nice": ("n", frozenset(("--adjustment",)), 0),
    "nohup": ("", frozenset(), 0),
    "run-one": ("", frozenset(), 0),
    "setlock": ("", frozenset(), 1),
    "setsid": ("", frozenset(), 0),
    "stdbuf": ("ioe", frozenset(("--input", "--output", "--error")), 0),
    "systemd-cat": ("tp", frozenset(("--identifier", "--priority", "--stderr-priority")), 0),
    "time": ("fo", frozenset(("--format", "--output")), 0),
    "timeout": ("ks", frozenset(("--kill-after", "--signal")), 1),
}
_ASIDE: Final = {"command": (["-v"], ["-V"]), "env": (["-S"], ["-vS"])}  # called so, they start nothing that is read
_SHELLS: Final = frozenset(("sh", "dash", "ash", "bash", "ksh", "mksh", "zsh"))
_INTERPRETERS: Final = re.compile(r"(?:perl|php|python|ruby)[\d.]*")
# Start another program as somebody else, somewhere else, or as often as they like.
_ELSEWHERE: Final = frozenset((
    "at", "batch", "chroot", "dbus-run-session", "doas", "docker", "find", "ip", "kubectl", "lxc-attach", "machinectl",
    "nsenter", "parallel", "pkexec", "podman", "rsh", "runuser", "setpriv", "ssh", "start-stop-daemon", "su", "sudo",
    "systemd-run", "unshare", "watch", "xargs",
))  # fmt: skip
# Leave nothing undone when they are skipped along with what they prepare or announce.
_HARMLESS: Final = frozenset((
    ".", ":", "[", "[[", "cd", "command", "date", "echo", "exit", "export", "expr", "false", "flock", "grep", "hash",
    "hostname", "id", "logger", "ls", "mkdir", "mountpoint", "pgrep", "pidof", "popd", "printf", "pushd", "pwd", "read",
    "set", "shopt", "sleep", "source", "test", "trap", "true", "type", "ulimit", "umask", "uname", "unset", "wait",
    "which",
))  # fmt: skip
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*\+?=")
_MAX_DEPTH: Final = 4  # of sh -c within sh -c


class Program(Value, frozen=True):
    """A program that a command line runs, with its arguments. ``doubt`` says why it is not run as if cron had started
    it; ``company`` are other programs that do work of their own on the line.
    """

    words: tuple[str, ...]
    doubt: str = ""
    company: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The words with blanks between."""
        return " ".join(self.words)

    @property
    def name(self) -> str:
        """The program without its directory."""
        return self.words[0].rpartition("/")[2]


class Verdict(Value, frozen=True):
    """Which action takes a line over. With a ``reason`` it would, and does not; with neither, it is nobody's."""

    action: str = ""
    reason: str = ""

    @property
    def taken(self) -> bool:
        """Whether the line may be adopted without anybody naming it."""
        return bool(self.action) and not self.reason


def programs(command: bytes | str, shell: str = "/bin/sh", depth: int = 0) -> tuple[Program, ...]:
    """The programs that a command line runs, as cron hands it to ``shell``; ``depth`` counts ``sh -c`` around it.

    Raises `UsageError`, saying what of it is not understood.
    """
    ran = _ran(command.decode(errors="surrogateescape") if isinstance(command, bytes) else command, shell, depth)
    return tuple(
        Program(program.words, program.doubt, (*program.company, *(other.name for other in _company(job, ran))))
        for job in ran
        for program in (*job.programs, *job.inner)
    )


class Claims:
    """What the actions of a node claim of its crontabs. Made once for many lines."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self._claims = [
            (re.compile(manifest.cron.match), manifest, (manifest.command or (manifest.name,))[0].rpartition("/")[2])
            for manifest in manifests
            if manifest.cron and manifest.cron.match
        ]

    def verdict(self, line: Line, *, owner: str = "", any_user: bool = False) -> Verdict:
        """The action that would take ``line`` over, or why none does.

        ``owner`` is whose crontab it is, where the line has no user column. ``any_user``: somebody said that the
        action's user need not be the line's.
        """
        if line.job is None:
            return Verdict()
        if known := adopted(line):
            return Verdict(known.action, "already adopted")
        command = line.command.decode(errors="surrogateescape")
        try:
            ran = _ran(command, line.shell, 0)
        except UsageError as error:
            return self._mention(command, str(error))
        claimed = [
            (manifest, job, program)
            for job in ran
            for program in (*job.programs, *job.inner)
            for manifest in self._claimants(program)
        ]
        if not claimed:
            return self._mention(command, "")
        manifest, job, program = claimed[0]
        others = sorted({other.name for other, _, _ in claimed} - {manifest.name})
        claims = [known for _, _, known in claimed]  # a tool that runs twice on a line is no company for itself
        company = (*program.company, *(other.name for other in _company(job, ran) if other not in claims))
        user = "*" if any_user else line.user or owner
        return Verdict(manifest.name, _objection(manifest, program.doubt, company, others, user))

    def _claimants(self, program: Program) -> Iterator[Manifest]:
        """Whose expression matches the program itself: a match that begins in an argument is a mention.

        In doubt an argument may be the program: what ``sudo`` starts stands somewhere behind it.
        """
        text = program.text
        places = range(len(program.words)) if program.doubt else ()
        for pattern, manifest, _ in self._claims:
            match = pattern.search(text)
            itself = match is not None and match.start() < len(program.words[0])
            if itself or any(pattern.search(" ".join(program.words[place:])) for place in places):
                yield manifest

    def _mention(self, command: str, doubt: str) -> Verdict:
        """What to say of a command that names a tool without running it for certain."""
        for _, manifest, tool in self._claims:
            if tool in command:
                return Verdict(manifest.name, doubt or f"it mentions {tool}, and does not run it")
        return Verdict()


def taken_by(line: Line, manifests: Iterable[Manifest], *, owner: str = "", any_user: bool = False) -> Verdict:
    """`Claims.verdict`, for a single line."""
    return Claims(manifests).verdict(line, owner=owner, any_user=any_user)


def _objection(manifest: Manifest, doubt: str, company: Iterable[str], others: Iterable[str], user: str) -> str:
    if others:
        return f"it also runs what {', '.join(others)} runs"
    if doubt:
        return doubt
    if company:
        return f"it also runs {', '.join(dict.fromkeys(company))}, which would be left out when a slot is skipped"
    if user not in ("*", manifest.user):
        return f"it runs as {user or 'an unknown user'}, and the action as {manifest.user}"
    return ""


class _Ran(NamedTuple):
    """A simple command, the programs that it runs, and those in its command substitutions."""

    simple: Simple
    programs: tuple[Program, ...]
    inner: tuple[Program, ...]


def _ran(text: str, shell: str, depth: int) -> list[_Ran]:
    if depth > _MAX_DEPTH:
        raise UsageError(f"it has commands nested over {_MAX_DEPTH} deep")
    return [
        _Ran(simple, _unwrapped([word.text for word in simple.words], depth), tuple(_substituted(simple, depth)))
        for simple in simple_commands(text, shell)
    ]


def _substituted(simple: Simple, depth: int) -> Iterator[Program]:
    for word in simple.words:
        for script in word.inner:
            for job in _ran(script, "sh", depth + 1):
                for program in (*job.programs, *job.inner):
                    yield Program(program.words, "it runs in a command substitution")


def _company(job: _Ran, ran: list[_Ran]) -> list[Program]:
    """What else does work on the line: nothing that belongs to the pipeline of ``job``, or that is harmless."""
    return [
        program
        for other in ran
        if other is not job and not _belongs(other.simple, job.simple)
        for program in other.programs
        if program.name not in _HARMLESS
    ]


def _belongs(other: Simple, simple: Simple) -> bool:
    """Whether ``other`` is in the pipeline of ``simple``, or only runs when that fails."""
    return other.pipelines[-1] in simple.pipelines or other.rescues in simple.pipelines


def _unwrapped(words: list[str], depth: int) -> tuple[Program, ...]:
    while words := words[len(list(takewhile(_ASSIGNMENT.match, words))) :]:
        name = words[0].rpartition("/")[2]
        if name in _WRAPPERS:
            rest = _behind(words, *_WRAPPERS[name])
            if name == "flock" and rest[:1] in (["-c"], ["--command"]):
                return programs(" ".join(rest[1:2]), "sh", depth + 1)
            if words[1:2] in _ASIDE.get(name, ()):
                break
            words = rest
        elif name in _SHELLS:
            return _of_shell(words, name, depth)
        elif _INTERPRETERS.fullmatch(name) and len(words) > 1 and not words[1].startswith("-"):
            words = words[1:]
        elif name in _ELSEWHERE:
            return (Program(tuple(words), f"{name} starts it"),)
        elif words[0].startswith("/etc/init.d/"):
            return (Program(tuple(words), "it is an init script"),)
        else:
            break
    return (Program(tuple(words)),) if words else ()


def _of_shell(words: list[str], name: str, depth: int) -> tuple[Program, ...]:
    """What ``sh -c 'script'`` or ``sh file`` runs."""
    rest = _behind(words, "oO", frozenset(("--rcfile", "--init-file")), 0)
    options = words[1 : len(words) - len(rest)]
    if not rest:
        return (Program(tuple(words)),)
    if any("c" in word for word in options if word.startswith("-") and not word.startswith("--")):
        return programs(rest[0], name, depth + 1)
    return (Program(tuple(rest)),)


def _behind(words: list[str], letters: str, names: Collection[str], operands: int) -> list[str]:
    """What follows the program's own options and operands."""
    at = 1
    while at < len(words) and words[at].startswith("-"):
        word = words[at]
        at += 1
        if word == "--":
            break
        valued = [place for place, letter in enumerate(word) if letter in letters] if word[1:2] != "-" else []
        if word in names or (valued and valued[0] == len(word) - 1):
            at += 1
    return words[at + operands :]
