"""Taking crontab lines over, arming them, and giving them back: each as a plan made from the crontabs as they are.

`nanoexec.crontab.plan` carries a plan out. Nothing here writes, or executes an action.
"""

import re
from collections.abc import Collection, Mapping, Sequence

from nanoexec.actions import Catalog
from nanoexec.config import Paths
from nanoexec.crontab import adoption, records
from nanoexec.crontab.adoption import adopted
from nanoexec.crontab.lines import Line
from nanoexec.crontab.places import MACHINE, OWN_FILE, Crontab
from nanoexec.crontab.plan import Draft, Plan
from nanoexec.crontab.prefix import Prefix
from nanoexec.crontab.records import Adoption, Pairing
from nanoexec.crontab.scan import Judge, crontabs, shown, unjournaled
from nanoexec.errors import UsageError


def plan_adopt(
    paths: Paths,
    catalog: Catalog,
    *,
    run: str,
    now: float,
    actions: Collection[str] = (),
    lines: Collection[tuple[str, int, str]] = (),
    everything: bool = False,
    shadow: bool = False,
) -> Plan:
    """Take over the lines of some actions, of all with ``everything``, and those named as (file, number, action).

    ``run`` is where nanoexec-run is, ``now`` seconds since the epoch. A line that is named is taken over whoever's it
    is and whatever it runs; others only if that is safe. What is adopted already stays as it is. Raises `RefusedError`
    for an unknown action, `UsageError` for a named line that cannot be adopted, `ConfigError` for unreadable records.
    """
    draft = Draft(now)
    for action in (*actions, *(action for _, _, action in lines)):
        catalog.find(action)
    root = "" if paths.root == MACHINE else str(paths.root)
    named = {(file, number): action for file, number, action in lines}
    judge = Judge(paths, catalog)
    known, lineless = records.load(paths), set(actions)
    for crontab in _foreign(paths):
        fresh: dict[int, Prefix] = {}
        for line in crontab.lines:
            if action := named.pop((crontab.file, line.number), ""):
                fresh[line.number] = _named(paths, crontab, line, Prefix(action, run, root, shadow))
            elif (found := judge.verdict(crontab, line)).action and (everything or found.action in actions):
                lineless.discard(found.action)
                prefix = Prefix(found.action, run, root, shadow)
                if reason := _obstacle(line, prefix, found.reason):
                    draft.refuse(crontab.file, line.number, found.action, reason)
                else:
                    fresh[line.number] = prefix
        _adopt(draft, crontab, fresh, known)
    for file, number in named:
        raise UsageError(f"{file}:{number}: no such line in a crontab of this machine: see nanoexec cron scan")
    for action in sorted(lineless - {action for _, _, action in lines}):
        draft.refuse("", 0, action, f"no crontab line runs it: nanoexec cron schedule {action} gives it one")
    return draft.plan()


def plan_restore(paths: Paths, *, now: float, actions: Collection[str] = (), everything: bool = False) -> Plan:
    """Give back the lines of some actions, or all: the original bytes, and whatever somebody has changed since.

    Raises `ConfigError` for unreadable records.
    """
    draft = Draft(now)
    known, here = records.load(paths), _foreign(paths)
    for crontab in here:
        paired = records.pair(crontab.lines, _of(crontab, known))
        changed: dict[int, bytes] = {}
        back: list[Adoption] = []
        for pairing in paired.lines:
            if everything or pairing.action in actions:
                changed[pairing.line.number] = adoption.restore(pairing.line)
                back += [pairing.record] if pairing.record else []
                draft.notes += _remark(crontab, pairing)
        damaged = {line.number: _action_in(line) for line in paired.damaged}
        for number, action in damaged.items():
            if everything or action in actions:
                draft.refuse(crontab.file, number, action, _damage(action, paired.lost))
        lost = [r for r in paired.lost if (everything or r.action in actions) and r.action not in damaged.values()]
        draft.notes += [_gone(crontab.file, record, crontab.lines) for record in lost]
        draft.forgotten += lost
        kept = [record for record in _of(crontab, known) if record not in (*back, *lost)]
        draft.edit(crontab, changed, "restore", kept)
    files = {crontab.file for crontab in here}
    without = [r for r in known if r.file not in files and (everything or r.action in actions)]
    draft.notes += [f"{r.file}: the file is gone, and with it the line of {r.action}" for r in without]
    draft.forgotten += without
    return draft.plan()


def plan_arm(paths: Paths, *, now: float, actions: Collection[str] = (), everything: bool = False) -> Plan:
    """Let nanoexec run the lines of some actions, or all, that were adopted in the shadow. Raises `ConfigError`."""
    draft = Draft(now)
    known = records.load(paths)
    for crontab in _foreign(paths):
        changed: dict[int, bytes] = {}
        for line in crontab.lines:
            before = adopted(line)
            if before is None or not before.shadow or not (everything or before.action in actions):
                continue
            try:
                changed[line.number] = adoption.arm(line)
            except UsageError as error:
                draft.refuse(crontab.file, line.number, before.action, str(error))
        draft.edit(crontab, changed, "arm", _of(crontab, known))
    return draft.plan()


def _foreign(paths: Paths) -> list[Crontab]:
    own = str(paths.root / OWN_FILE)
    return [crontab for crontab in crontabs(paths) if crontab.file != own]


def _named(paths: Paths, crontab: Crontab, line: Line, prefix: Prefix) -> Prefix:
    """What a line that somebody named gets. Raises `UsageError` if it cannot."""
    ignored = f"cron ignores this file: {crontab.ignored}" if crontab.ignored else ""
    reason = ignored or _obstacle(line, prefix, unjournaled(paths, line.user or crontab.owner))
    if reason:
        raise UsageError(f"{crontab.file}:{line.number}: cannot be adopted by {prefix.action}: {reason}")
    return prefix


def _obstacle(line: Line, wanted: Prefix, reason: str) -> str:
    """Why a line cannot be adopted with this prefix, besides ``reason``; empty if it can, or is."""
    before = adopted(line)
    if before is None:
        if adoption.tampered(line):
            return "it calls nanoexec-run in words of its own: mend it by hand first"
        return reason or adoption.obstacle(line, wanted)
    if before.prefix == wanted:
        return ""
    if before.action == wanted.action and before.shadow and not wanted.shadow:
        return f"already adopted, in the shadow: nanoexec cron arm {before.action}"
    return f"already adopted otherwise, by {before.action} with {before.prefix.run}: restore it first"


def _adopt(draft: Draft, crontab: Crontab, fresh: Mapping[int, Prefix], known: Sequence[Adoption]) -> None:
    """Add the adoption of some lines of a crontab to the draft."""
    changed, gained = {}, []
    backup = records.backup_name(crontab.file, crontab.data, draft.now)
    for line in crontab.lines:
        prefix = fresh.get(line.number)
        if prefix and not adopted(line):
            changed[line.number] = adoption.adopt(
                line, prefix.action, prefix.run, root=prefix.root, shadow=prefix.shadow
            )
            gained.append(Adoption(crontab.file, prefix.action, line.raw, draft.now, backup, crontab.owner))
    # A record whose line stands there as it was before is settled by the new one.
    paired = records.pair(crontab.lines, _of(crontab, known))
    kept = [pairing.record for pairing in paired.lines if pairing.record]
    settled = {(record.action, record.original) for record in gained}
    kept += [record for record in paired.lost if (record.action, record.original) not in settled]
    draft.edit(crontab, changed, "adopt", [*kept, *gained])


def _remark(crontab: Crontab, pairing: Pairing) -> list[str]:
    where = f"{crontab.file}:{pairing.line.number}"
    if pairing.record is None:
        return [f"{where}: nothing is on record of its adoption: what stands behind the prefix is kept"]
    return [f"{where}: edited since {pairing.action} took it over: the edit is kept"] if pairing.edited else []


def _damage(action: str, lost: Sequence[Adoption]) -> str:
    record = next((record for record in lost if record.action == action), None)
    was = f"; it was: {shown(record.original)}" if record else ""
    return f"what nanoexec put before the command was changed by hand: left alone, mend it{was}"


def _gone(file: str, record: Adoption, lines: Sequence[Line]) -> str:
    if any(line.raw == record.original for line in lines):
        return f"{file}: the original line of {record.action} stands there already"
    return f"{file}: the adopted line of {record.action} is gone: nothing to restore"


def _action_in(line: Line) -> str:
    match = re.search(rb"--scheduled[ =]+([a-z][a-z0-9._-]*)", line.raw)
    return match[1].decode() if match else ""


def _of(crontab: Crontab, known: Sequence[Adoption]) -> list[Adoption]:
    return [record for record in known if record.file == crontab.file]
