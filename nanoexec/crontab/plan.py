"""What would change in the crontabs, and carrying it out.

A plan holds the bytes of each crontab before and after. `apply` writes nothing when one of them no longer says what the
plan was made from.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path

from nanoexec.config import Paths
from nanoexec.crontab import records, spool
from nanoexec.crontab.editing import inside, replace
from nanoexec.crontab.locking import locked
from nanoexec.crontab.places import Crontab
from nanoexec.crontab.records import Adoption
from nanoexec.errors import ConfigError
from nanoexec.files import read_regular
from nanoexec.model import Value


class Edit(Value, frozen=True):
    """One crontab, before and after.

    ``owner`` is whose it is (empty for a system crontab), ``lines`` the numbers of the lines that change, ``records``
    what is on record of this file afterwards.
    """

    file: str
    before: bytes
    after: bytes
    lines: tuple[int, ...]
    what: str
    backup: str
    owner: str = ""
    records: tuple[Adoption, ...] = ()


class Refusal(Value, frozen=True):
    """A line that is left alone although it was asked for; ``number`` is 0 and ``file`` empty if there is no line."""

    file: str
    number: int
    action: str
    reason: str


class Plan(Value, frozen=True):
    """What would be done. ``notes`` say what else one should know, ``forgotten`` are records without their line."""

    edits: tuple[Edit, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    forgotten: tuple[Adoption, ...] = ()


class Draft:
    """A plan while it is being made, at ``now`` (seconds since the epoch)."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.edits: list[Edit] = []
        self.refusals: list[Refusal] = []
        self.notes: list[str] = []
        self.forgotten: list[Adoption] = []

    def edit(self, crontab: Crontab, changed: dict[int, bytes], what: str, kept: Sequence[Adoption]) -> None:
        """Change some lines of a crontab, given by number; one that stays as it is does not count."""
        lines = tuple(line.number for line in crontab.lines if changed.get(line.number, line.raw) != line.raw)
        if lines:
            after = b"".join(changed.get(line.number, line.raw) for line in crontab.lines)
            backup = records.backup_name(crontab.file, crontab.data, self.now)
            self.edits.append(Edit(crontab.file, crontab.data, after, lines, what, backup, crontab.owner, tuple(kept)))

    def refuse(self, file: str, number: int, action: str, reason: str) -> None:
        """Leave a line alone, or say that there is none."""
        self.refusals.append(Refusal(file, number, action, reason))

    def plan(self) -> Plan:
        """The plan as it is now."""
        return Plan(tuple(self.edits), tuple(self.refusals), tuple(self.notes), tuple(self.forgotten))


def diff(edit: Edit) -> str:
    """The edit as a unified diff, for reading: what cannot be printed is escaped."""
    before, after = (_readable(data) for data in (edit.before, edit.after))
    return "".join(difflib.unified_diff(before, after, edit.file, f"{edit.file} ({edit.what})"))


def apply(paths: Paths, plan: Plan) -> None:
    """Carry a plan out: for each crontab a backup, the record, then the file itself, each durable before the next.

    Raises `ConfigError` naming the file at fault. Nothing at all is written when another nanoexec is at it, or when one
    of the crontabs has changed since the plan was made. If one cannot be written, those before it stay changed.
    """
    if not plan.edits and not plan.forgotten:
        return
    with locked(paths):
        for edit in plan.edits:
            _check(paths, edit)
        for edit in plan.edits:
            records.back_up(paths, edit.backup, edit.before)
        known = [record for record in records.load(paths) if record not in plan.forgotten]
        for edit in plan.edits:
            here = [r for r in known if r.file == edit.file]
            others = [r for r in known if r.file != edit.file]
            records.save(paths, [*others, *here, *(r for r in edit.records if r not in here)])
            try:
                _write(paths, edit)
            except BaseException:
                records.save(paths, [*others, *here])
                raise
            known = [*others, *edit.records]
        records.save(paths, known)


def _check(paths: Paths, edit: Edit) -> None:
    """Raise `ConfigError` unless a crontab is still as the plan has it."""
    file = Path(edit.file)
    try:
        current = spool.read(paths, file) if edit.owner else read_regular(inside(file, paths.root))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    if current != edit.before:
        raise ConfigError(f"{file}: somebody has edited it meanwhile: nothing was written, try again")


def _write(paths: Paths, edit: Edit) -> None:
    if edit.owner:
        spool.write(paths, Path(edit.file), edit.before, edit.after)
    else:
        replace(Path(edit.file), paths.root, edit.before, edit.after)


def _readable(data: bytes) -> list[str]:
    lines = data.decode(errors="replace").split("\n")
    return [_escaped(line) + "\n" for line in (lines if lines[-1] else lines[:-1])]


def _escaped(line: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in line)
