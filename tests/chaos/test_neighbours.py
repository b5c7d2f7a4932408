"""Campaign 4, its other half: neighbours that misbehave, and keep the service from nobody.

NANOEXEC_CHAOS=long        10,000 connections of garbage, and longer under each kind
NANOEXEC_CHAOS_SEED=NUMBER the bytes of the garbage
"""

import os
import statistics
import time
import types
from collections.abc import Callable
from random import SystemRandom
from typing import Any, Final, NamedTuple, Self

import msgspec
import pytest

from tests.chaos import crowd
from tests.chaos.account import Account
from tests.chaos.companion import Companion
from tests.chaos.crowd import Crowd, Member
from tests.chaos.figures import Figures
from tests.chaos.operators import revoke, status, wait_connected
from tests.chaos.pulse import Pulse
from tests.chaos.watched import Watched
from tests.support.fleet import Fleet, wait_until

LONG: Final = os.environ.get("NANOEXEC_CHAOS") == "long"
SEED: Final = int(os.environ.get("NANOEXEC_CHAOS_SEED", "0")) or SystemRandom().randrange(1, 10**9)
GOOD: Final = 10
ALL_GOOD: Final = f"node[000-{GOOD - 1:03}]"
ROUNDS: Final = 100 if LONG else 10
SLACK: Final = 1.0 if LONG else 3.0  # times: in the short form others use the machine, too, now more and now less
SPARE: Final = 20  # descriptors that come and go whoever is there
RESTING: Final = 0.3  # processors: the hub still answers those who look after it
pytestmark = pytest.mark.timeout(900 if LONG else 240)


class Kind(NamedTuple):
    """What one kind of neighbours may cost.

    ``many`` is for `storms_neighbours`, and ``at_once`` is how many connections may be open at the same moment: sixteen
    of garbage and fifty of the revoked, and as many more as have hung up before a busy hub has seen it. ``ratio`` is
    how much longer a trigger may take. ``each`` is how many seconds of CPU a dial may cost the hub; who only holds on
    to a connection costs nothing. ``left`` are descriptors that may stay.
    """

    many: int
    at_once: int
    ratio: float = 3.0
    each: float = 0.0
    left: int = 0


KINDS: Final = {
    "deaf": Kind(many=1, at_once=4),
    "silent": Kind(many=50, at_once=50),
    "garbage": Kind(many=10_000 if LONG else 500, at_once=200, each=0.003),
    # NNG 1.11 can miss the end of a connection whose peer hangs up right after its last word of the handshake, and then
    # keeps the descriptor until its listener has too many of them.
    "revoked": Kind(many=50, at_once=2 * 50, ratio=12.0, each=0.03, left=50),
}


class Neighbours:
    """A process of `storms_neighbours`; a context manager. ``connections`` is how many it made, once it has left."""

    def __init__(self, fleet: Fleet, kind: str, members: tuple[Member, ...], count: int) -> None:
        file = fleet.directory / f"{kind}.json"
        file.write_bytes(msgspec.json.encode(crowd.plan(fleet, members)))
        self.connections = 0
        self._words = ["tests.chaos.storms_neighbours", kind, str(file), str(count), str(SEED)]

    def __enter__(self) -> Self:
        self._process = Companion(*self._words)
        if self._process.hear() != "at work\n":
            raise AssertionError(f"they have not begun: {self._process.end()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        ended, out = self._process.end()
        if kind is None:
            assert ended == 0, "they have met with what no neighbour should"
            self.connections = int(out.split()[-1])

    def finish(self) -> None:
        """Wait until they have done all that they had to do."""
        assert self._process.hear() == "done\n"


class Scene(NamedTuple):
    fleet: Fleet
    account: Account
    hub: Watched
    figures: Figures


def test_bad_neighbours_keep_the_service_from_nobody(record_property: Callable[[str, Any], None]) -> None:
    figures = Figures(f"storm: bad neighbours of {GOOD} agents", seed=str(SEED))
    good = [f"node{number:03}" for number in range(GOOD)]
    bad = {"deaf": ["deaf0", "deaf1"], "revoked": [f"out{number:02}" for number in range(KINDS["revoked"].many)]}
    try:
        with Fleet(beacon_interval=15.0) as fleet:
            members = {member.name: member for member in crowd.enrol(fleet, [*good, *bad["deaf"], *bad["revoked"]])}
            for name in bad["revoked"]:
                revoke(fleet.root, name)
            account = Account(fleet.root)
            with Crowd(fleet, [members[name] for name in good]) as agents:
                wait_connected(fleet.root, GOOD, 60.0)
                with Pulse(account, good[0]) as pulse, Watched(crowd.pid_of(fleet)) as hub:
                    scene = Scene(fleet, account, hub, figures)
                    for kind in KINDS:
                        bear(scene, kind, tuple(members[name] for name in bad.get(kind, ())))
                account.settle(60.0)
                account.judge(agents.starts(), figures)
                assert len(agents.ups()) == GOOD
                assert agents.breaks() == []
            pulse.judge(figures)
    finally:
        figures.record(record_property)


def bear(scene: Scene, name: str, members: tuple[Member, ...]) -> None:
    """Have neighbours of one kind for a while, and see what they cost."""
    fleet, account, hub, figures = scene
    kind = KINDS[name]
    hub.begin()
    before, usual = trips(account), hub.spent
    hub.begin()
    began = time.perf_counter()
    with Neighbours(fleet, name, members, kind.many) as neighbours:
        if name == "deaf":
            fill(account)
        meanwhile = trips(account)
        if name == "garbage":
            neighbours.finish()
        peak, spent, said = hub.peak, hub.spent, str(hub)
        seconds = time.perf_counter() - began
        if not kind.each:
            settles(hub, f"while {name} neighbours are there", kind.at_once)
    for_them = spent - usual - RESTING * seconds
    settles(hub, f"after {name} neighbours", kind.left)
    quiet = statistics.median(before + trips(account))
    ratio = statistics.median(meanwhile) / quiet
    figures.count(name, neighbours.connections)
    figures.fact(name, f"round trip {1000 * statistics.median(meanwhile):.0f} ms, ratio {ratio:.1f}; hub {said}")
    figures.fact(f"  {name}, CPU", f"{spent:.1f} s, {usual:.1f} without them")
    figures.fact(f"  {name}, afterwards", f"{hub.now - hub.first:+} descriptors")
    assert ratio <= kind.ratio * SLACK, name
    assert peak <= hub.first + kind.at_once + kind.left + SPARE, name
    assert not kind.each or for_them <= kind.each * neighbours.connections, name
    assert status(fleet.root).connected >= GOOD, name


def trips(account: Account) -> list[float]:
    """What some round trips to all the good ones take."""
    return [account.round_trip(ALL_GOOD) for _ in range(ROUNDS)]


def fill(account: Account) -> None:
    """Publish more than the queue of a reader that does not read."""
    for _ in range(300):
        account.submit(ALL_GOOD, text="x" * 20_000)


def settles(hub: Watched, when: str, more: int) -> None:
    """Nothing stays open but so many, and nothing goes on using the processor."""

    def quiet() -> bool:
        hub.begin()
        time.sleep(0.5)
        return hub.share < RESTING and hub.now <= hub.first + more + SPARE

    wait_until(quiet, f"the hub rests {when}", 60.0, 0.5)
