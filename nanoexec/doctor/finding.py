"""A stage and how it went, and the judgements that need nothing but what was seen. Pure."""

import enum
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Final

from nanoexec.model import Node, Value
from nanoexec.target import fold

CLOCK_OFF: Final = 60.0  # seconds from which a clock is worth a warning; it is never a reason to refuse
EXPIRES_SOON: Final = 30 * 86400.0  # seconds
_SHOWN: Final = 3


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


def beacon(heard: float | None, alarm: str, now: float) -> Finding:
    """Whether the hub hears itself; ``heard`` is when its beacon last came back, None if not yet."""
    if alarm:
        return HUB.fail("beacon", f"{alarm}; it was last heard {_ago(heard, now)}: restart the hub, then see its log")
    if heard is None:
        return HUB.warn("beacon", "has not come back yet: the hub has just started, look again in a minute")
    return HUB.ok("beacon", f"comes back through the network, last {_ago(heard, now)}")


def _ago(then: float | None, now: float) -> str:
    return "never" if then is None else f"{max(0.0, now - then):.0f} s ago"


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
