"""``/etc/cron.d/nanoexec``: schedules of actions that never had a line. The file is ours; python-crontab writes it.

Each job is an adopted line whose original is the action's own command, so that it runs without nanoexec too.
"""

import shlex
from collections.abc import Iterable
from typing import Final

from nanoexec.actions import Manifest
from nanoexec.config import Paths
from nanoexec.crontab import adoption
from nanoexec.crontab.adoption import adopted
from nanoexec.crontab.editing import inside
from nanoexec.crontab.lines import Kind, Line, parse
from nanoexec.crontab.locking import locked
from nanoexec.crontab.places import MACHINE, OWN_FILE
from nanoexec.crontab.scan import crontabs, unjournaled
from nanoexec.errors import ConfigError, UsageError
from nanoexec.files import read_regular, sync_directory, write_atomically
from nanoexec.model import ActionName, Value
from nanoexec.schedule import Schedule, every, splay

HEADER: Final = (
    '# Written by "nanoexec cron schedule": change it with that, or with "nanoexec cron unschedule".',
    "# A line runs the command at its end, unless a run since the slot before has made it unnecessary.",
)
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Entry(Value, frozen=True):
    """A job of the file. ``command`` is what the shell runs, ``expression`` five fields or a nickname."""

    action: ActionName
    expression: str
    user: str
    command: str


def spread(action: str, node: str, period: int) -> str:
    """An expression that fires each ``period`` seconds, at an offset that is this node's and action's own.

    Raises `UsageError` for a period that no expression has.
    """
    return every(period, splay(node, action, period))


def schedule(paths: Paths, manifest: Manifest, expression: str, *, run: str) -> str:
    """Give an action a line, in the place of the one it may have here; the expression as it was written.

    ``run`` is where nanoexec-run is. Raises `UsageError` for an expression that cannot be read, never fires, or is not
    the same to every cron, for an action that has an adopted line, and for one whose runs could not be journaled;
    `ConfigError` when the file cannot be written or has lines that are not ours. What another user has written like an
    adopted line is none: anybody could keep an action from its schedule.
    """
    wanted = Entry(manifest.name, " ".join(expression.split()), manifest.user, _command(manifest))
    _judge(wanted.expression)
    if reason := unjournaled(paths, wanted.user):
        raise UsageError(f"{wanted.action} cannot have a schedule: {reason}")
    own = str(paths.root / OWN_FILE)
    for crontab in crontabs(paths):
        for line in crontab.lines:
            known = adopted(line) if crontab.file != own else None
            if known and known.action == manifest.name and not unjournaled(paths, line.user or crontab.owner):
                raise UsageError(f"{manifest.name} has an adopted line, {crontab.file}:{line.number}: change that one")
    with locked(paths):
        others = [entry for entry in entries(paths) if entry.action != manifest.name]
        data = _render((*others, wanted), paths, run)
        _replace(paths, data)
    return next(line.schedule for line in parse(data, system=True) if _action(line) == manifest.name)


def unschedule(paths: Paths, action: str) -> bool:
    """Take an action's line out, and the file away with the last one. False if it has none. Raises `ConfigError`."""
    with locked(paths):
        file, before = paths.root / OWN_FILE, entries(paths)
        after = [entry for entry in before if entry.action != action]
        if len(after) == len(before):
            return False
        if after:
            _replace(paths, _render(after, paths, _run_in(paths)))
            return True
        try:
            file.unlink()
            sync_directory(file.parent)
        except OSError as error:
            raise ConfigError(f"{file}: cannot be removed: {error.strerror}") from None
        return True


def entries(paths: Paths) -> tuple[Entry, ...]:
    """The jobs of the file, none if there is no file. Raises `ConfigError` when it holds anything that is not ours."""
    file = paths.root / OWN_FILE
    found = []
    for line in _lines(paths):
        known = adopted(line)
        if known and not known.shadow and line.job and line.job.input is None and line.job.flags is None:
            command = line.raw[known.original.start : known.original.end].decode(errors="replace")
            found.append(Entry(known.action, line.schedule, line.user, command.replace("\\%", "%")))
        elif not _ours(line):
            raise ConfigError(f"{file}:{line.number}: not a line of nanoexec's: move it to a file of its own")
    return tuple(found)


def _ours(line: Line) -> bool:
    """Whether a line that is not an adopted job is one that `_render` writes."""
    if line.kind is Kind.SETTING:
        return line.environment == {"PATH": PATH}
    return line.kind is Kind.BLANK or line.raw.decode(errors="replace").rstrip("\n") in HEADER


def _judge(expression: str) -> None:
    """Raise `UsageError` for what is not worth a line."""
    parsed = Schedule.parse(expression)
    if parsed.random:
        raise UsageError(f"schedule {expression!r}: Debian's cron does not know ~: use --every to spread over nodes")
    if not parsed.reboot and parsed.next(0.0, lambda _: 0) is None:
        raise UsageError(f"schedule {expression!r}: there is no such day, it would never fire")


def _command(manifest: Manifest) -> str:
    """The action's command for a shell, as a triggered run would start it."""
    words = [*(f"{name}={value}" for name, value in sorted(manifest.env.items())), *manifest.command]
    command = shlex.join(["env", *words] if manifest.env else words)
    if any(not character.isprintable() for character in command):
        raise UsageError(f"the command of {manifest.name} has characters that cannot stand in a crontab")
    return f"cd {shlex.quote(manifest.cwd)} && {command}"


def _render(jobs: Iterable[Entry], paths: Paths, run: str) -> bytes:
    """The file. Raises `UsageError` when python-crontab would write a schedule that cron reads otherwise."""
    from crontab import CronTab  # noqa: PLC0415 - 12 MB that only those who write a schedule need

    table = CronTab(user=False, tab="\n".join(HEADER))
    table.env["PATH"] = PATH
    jobs = sorted(jobs, key=lambda entry: entry.action)
    for entry in jobs:
        job = table.new(command=entry.command, user=entry.user)
        try:
            job.setall(entry.expression)
        except (ValueError, KeyError) as error:
            raise UsageError(f"schedule {entry.expression!r}: {error}") from None
    lines = parse(table.render().encode(), system=True)
    plain = [line for line in lines if line.job]
    root = "" if paths.root == MACHINE else str(paths.root)
    adopted_lines = {}
    for entry, line in zip(jobs, plain, strict=True):
        _compare(entry, line)
        adopted_lines[line.number] = adoption.adopt(line, entry.action, run, root=root)
    return b"".join(adopted_lines.get(line.number, line.raw) for line in lines)


def _compare(entry: Entry, line: Line) -> None:
    """Raise `UsageError` unless the line says what was asked for. A star means more than all values: with one, cron
    wants day of month and day of week both to match, and treats a change of the clock otherwise.
    """
    asked, written = (text if text.startswith("@") else text.split() for text in (entry.expression, line.schedule))
    both = isinstance(asked, list) and isinstance(written, list)
    if both and [field[0] == "*" for field in asked] != [field[0] == "*" for field in written]:
        raise UsageError(f"schedule {entry.expression!r}: would be written {line.schedule!r}, which is not the same")
    if (line.user, line.command.decode()) != (entry.user, entry.command):
        raise UsageError(f"the command of {entry.action} cannot stand in a crontab: {entry.command}")


def _lines(paths: Paths) -> tuple[Line, ...]:
    file = paths.root / OWN_FILE
    try:
        inside(file, paths.root)
        return parse(read_regular(file), system=True)
    except ConfigError:
        if not file.is_symlink() and not file.exists():
            return ()
        raise
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None


def _run_in(paths: Paths) -> str:
    """Where nanoexec-run is, as the lines that stay have it."""
    return next(known.prefix.run for line in _lines(paths) if (known := adopted(line)))


def _replace(paths: Paths, data: bytes) -> None:
    file = paths.root / OWN_FILE
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from None
    write_atomically(file, data, 0o644)


def _action(line: Line) -> str:
    known = adopted(line)
    return known.action if known else ""
