"""A stage and how it went, and the judgements that need nothing but what was seen. Pure."""

import enum
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Final

from nanoexec.agent.link import LinkState
from nanoexec.duration import format_duration
from nanoexec.fallback import AHEAD
from nanoexec.model import Node, Value
from nanoexec.target import fold

CLOCK_OFF: Final = 60.0  # seconds from which a clock is worth a warning; it is never a reason to refuse
EXPIRES_SOON: Final = 30 * 86400.0  # seconds
DIALS_WITHIN: Final = 60.0  # seconds in which an agent that has lost its hub tries again: LAST_BACKOFF of its service
_SHOWN: Final = 3
# Who may not look at one of these has not seen whether this machine does its work.
_DECISIVE: Final = frozenset({("hub", "hub"), ("node", "key"), ("node", "agent"), ("node", "runner")})


class Level(enum.StrEnum):
    """How a stage went. Only FAIL makes the exit status 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"
    SKIP = "skip"


class Finding(Value, frozen=True):
    """One stage of one side (``hub`` or ``node``). ``detail`` is one line: what was seen and what to do."""

    side: str
    stage: str
    level: Level
    detail: str


class Side(Value, frozen=True):
    """``hub`` or ``node``: makes the findings of that side."""

    name: str

    def ok(self, stage: str, detail: str) -> Finding:
        return Finding(side=self.name, stage=stage, level=Level.OK, detail=detail)

    def warn(self, stage: str, detail: str) -> Finding:
        return Finding(side=self.name, stage=stage, level=Level.WARN, detail=detail)

    def fail(self, stage: str, detail: str) -> Finding:
        return Finding(side=self.name, stage=stage, level=Level.FAIL, detail=detail)

    def skip(self, needs: str, *stages: str) -> list[Finding]:
        """Stages that cannot be looked at for want of another."""
        return [Finding(side=self.name, stage=stage, level=Level.SKIP, detail=f"needs {needs}") for stage in stages]

    def hidden(self, stage: str, what: object) -> Finding:
        """A stage that this user may not look at, which says nothing about the machine."""
        detail = f"{what}: this user may not look at it: run this as root"
        return Finding(side=self.name, stage=stage, level=Level.SKIP, detail=detail)


NODE: Final = Side("node")
HUB: Final = Side("hub")


def unseen(findings: Iterable[Finding]) -> tuple[str, ...]:
    """The sides of which nothing that matters could be looked at, because of who asks."""
    findings = tuple(findings)
    failed = {finding.side for finding in findings if finding.level is Level.FAIL}  # then that is why some were skipped
    skipped = {finding.side for finding in findings if finding.level is Level.SKIP and _is_decisive(finding)}
    return tuple(sorted(skipped - failed))


def _is_decisive(finding: Finding) -> bool:
    return (finding.side, finding.stage) in _DECISIVE


def beacon(heard: float | None, alarm: str, now: float, *, started: float, late: float | None) -> Finding:
    """Whether the hub hears itself; ``heard`` is when its beacon last came back, None if not since it ``started``.

    ``late`` is how long ago that may be (seconds), None if it is not known. The hub raises its ``alarm`` by itself; but
    what keeps it from beaconing may keep it from judging, too.
    """
    last = "it has not been heard since the hub started" if heard is None else "it was last heard"
    last = f"{last} {_ago(started if heard is None else heard, now)}: restart the hub, then see its log"
    if alarm:
        return HUB.fail("beacon", f"{alarm}; {last}")
    if late is not None and now - (started if heard is None else heard) > late:
        return HUB.fail("beacon", f"its own beacon does not come back: {last}")
    if heard is None:
        return HUB.warn("beacon", "has not come back yet: the hub has just started, look again in a minute")
    return HUB.ok("beacon", f"comes back through the network, last {_ago(heard, now)}")


def link(state: LinkState, heard: float | None, *, age: float, silent_after: float, now: float) -> Finding:
    """The agent's link, by what the agent has left. ``heard`` is when it last heard the hub, None if never.

    ``age`` is for how long it has run, ``silent_after`` as in ``agent.toml`` (seconds). An agent that has just started
    has not been listening before, and its clock may have been set since: nothing has lasted longer than it has run.
    """
    lasts = max(0.0, min(now - state.since, age))
    why = f": {state.why}" if state.why else ""
    said = f"{'up' if state.up else 'down'} for {format_duration(lasts)}{why}"
    last = "the hub has not been heard yet" if heard is None else f"the hub was last heard {_ago(heard, now)}"
    quiet = age if heard is None else min(now - heard, age) if heard <= now + AHEAD else 0.0
    if quiet > silent_after:
        limit = f"longer than hub_silent_after ({format_duration(silent_after)}), so hub-silent fallbacks run"
        return NODE.fail("link", f"{said}; {last}, {limit}: `nanoexec doctor` on the hub says whether it can be heard")
    if not state.up and lasts > DIALS_WITHIN:
        advice = "if no stage above has failed, `nanoexec doctor` on the hub looks further"
        return NODE.fail("link", f"{said}; {advice}")
    if not state.up:
        return NODE.warn("link", f"{said}; the agent dials again within a minute")
    if (heard is None or heard < state.since) and quiet > DIALS_WITHIN:
        return NODE.warn("link", f"{said}, and nothing has been heard since; {last}")
    return NODE.ok("link", f"{said}; {last}")


def _ago(then: float, now: float) -> str:
    return f"{max(0.0, now - then):.0f} s ago"


def clock(offset: float) -> Finding:
    """``offset`` is this machine's clock minus the hub's, in seconds."""
    if abs(offset) <= CLOCK_OFF:
        return NODE.ok("clock", f"{offset:+.1f} s from the hub's")
    where = "ahead of" if offset > 0 else "behind"
    return NODE.warn(
        "clock",
        f"{abs(offset):.0f} s {where} the hub's: triggers work, times mislead; set it (`timedatectl timesync-status`)",
    )


def clocks(nodes: Iterable[Node]) -> Finding:
    """The clocks of a roster's nodes, as last heard."""
    off = [node for node in nodes if node.revoked is None and abs(node.skew or 0.0) > CLOCK_OFF]
    if not off:
        return HUB.ok("clocks", f"no node's clock is more than {CLOCK_OFF:.0f} s off")
    named = ", ".join(f"{node.name} {node.skew:+.0f} s" for node in off[:_SHOWN])
    return HUB.warn("clocks", f"off: {named}{_others(off)}: triggers work, times mislead; have them set")


def presence(nodes: Iterable[Node]) -> Finding:
    """Who is here."""
    members = [node for node in nodes if node.revoked is None]
    away = [node.name for node in members if not node.connected]
    here = len(members) - len(away)
    if not members:
        return HUB.ok("nodes", "none is on the roster: `nanoexec hub token`, then `nanoexec agent join` on the machine")
    if not away:
        return HUB.ok("nodes", f"all {here} are connected")
    return HUB.warn("nodes", f"{here} connected, {len(away)} away: {fold(away)}: `nanoexec doctor` there says why")


def refusals(counters: Mapping[str, int]) -> Finding:
    """What the hub has turned away since it started."""
    seen = [
        f"{what.replace('_', ' ')}: {count}" for what, count in sorted(counters.items()) if count and "refused" in what
    ]
    if not seen:
        return HUB.ok("refused", "nobody and nothing since the hub started")
    return HUB.warn(
        "refused", f"{', '.join(seen)}, since the hub started: peers are machines that are not on the roster"
    )


def manifests(offered: Sequence[str], faults: Sequence[str]) -> Finding:
    """What a node can run, and what is wrong with its manifests."""
    if faults:
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        return NODE.fail("manifest", f"{faults[0]}{more}: `nanoexec actions check` shows all")
    if not offered:
        return NODE.warn("manifest", "no action is offered: `nanoexec actions list` says what each needs")
    return NODE.ok("manifest", f"{len(offered)} actions offered: {', '.join(offered)}")


def store(file: PurePath, version: str, known: str) -> Finding:
    """The version of the hub's database against the one that this nanoexec makes; both are numbers of four digits."""
    if version > known:
        return HUB.fail("store", f"{file}: version {version}, and this nanoexec knows {known}: upgrade nanoexec")
    if version < known:
        return HUB.warn("store", f"{file}: version {version}; `nanoexec hub serve` upgrades it to {known} at its start")
    return HUB.ok("store", f"{file}: version {version}")


def certificate(side: Side, name: str, expected: str, not_after: float, now: float) -> Finding:
    """A certificate that holds today: does it name the right machine, and for how long?"""
    until = f"{datetime.fromtimestamp(not_after, UTC):%Y-%m-%d}"
    if name != expected:
        advice = f"set name = {name!r} in agent.toml, or join again" if side == NODE else "leave name out of hub.toml"
        return side.fail("certificate", f"it is for {name}, and this {side.name} is {expected}: {advice}")
    if not_after - now < EXPIRES_SOON:
        return side.warn("certificate", f"for {name}, and it expires on {until}: make a new one before that")
    return side.ok("certificate", f"for {name}, until {until}")


def _others(members: Sequence[object]) -> str:
    return f" and {len(members) - _SHOWN} others" if len(members) > _SHOWN else ""
