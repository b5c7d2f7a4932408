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

from nanoexec.wire import control
from tests.chaos import crowd
from tests.chaos.account import Account
from tests.chaos.companion import Companion
from tests.chaos.crowd import Crowd, Member
from tests.chaos.figures import Figures
from tests.chaos.operators import ask, revoke, status, wait_connected
from tests.chaos.pulse import Pulse
from tests.chaos.watched import Watched, unsent
from tests.support.fleet import Fleet, wait_until

LONG: Final = os.environ.get("NANOEXEC_CHAOS") == "long"
SEED: Final = int(os.environ.get("NANOEXEC_CHAOS_SEED", "0")) or SystemRandom().randrange(1, 10**9)
GOOD: Final = 10
ALL_GOOD: Final = f"node[000-{GOOD - 1:03}]"
ROUNDS: Final = 30 if LONG else 10
SLACK: Final = 1.0 if LONG else 3.0  # times: in the short form others use the machine, too, now more and now less
SPARE: Final = 20  # descriptors that come and go whoever is there
LARGE: Final = {"text": "x" * 20_000}  # arguments
CLOGGED: Final = 100_000  # bytes sent that nobody takes: to whoever reads hardly any are under way
WHILE: Final = 1.5  # seconds of looking at a hub at rest: what it does of itself it does every second
RESTLESS: Final = 0.1  # processors more than before it all began: then it does not rest
pytestmark = pytest.mark.timeout(900 if LONG else 240)


class Kind(NamedTuple):
    """What one kind of neighbours may cost.

    ``many`` is the COUNT of `storms_neighbours`, and ``at_once`` is how many connections may be open at one moment:
    sixteen of garbage and fifty of the revoked, and as many more as have hung up before a busy hub has seen it.
    ``ratio`` is how much longer a trigger may take within ``seconds``, which they have in the long form, and
    ``at_first`` in the first of these. ``each`` is how many seconds of CPU a dial may cost the hub; who only holds on
    to a connection costs nothing. ``left`` are descriptors that may stay.
    """

    many: int
    at_once: int
    ratio: float = 3.0
    at_first: float = 3.0
    seconds: float = 5.0
    each: float = 0.0
    left: int = 0


KINDS: Final = {
    "deaf": Kind(many=1000 if LONG else 400, at_once=4),
    "silent": Kind(many=50, at_once=50),
    "garbage": Kind(many=10_000 if LONG else 500, at_once=1000 if LONG else 300, each=0.001),
    # The hub bars an address once it has refused it thirty times, and half a minute later bars it again. NNG 1.11 can
    # miss the end of a connection whose peer hangs up right after its last word of the handshake, and then keeps the
    # descriptor until it has too many of them.
    "revoked": Kind(many=50, at_once=2 * 50, at_first=12.0, seconds=60.0, each=0.015, left=50),
}


class Neighbours:
    """A process of `storms_neighbours`; a context manager. ``attempts`` is how many it made, once it has left."""

    def __init__(self, fleet: Fleet, kind: str, members: tuple[Member, ...], count: int) -> None:
        file = fleet.directory / f"{kind}.json"
        file.write_bytes(msgspec.json.encode(crowd.plan(fleet, members)))
        self.attempts = 0
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
            self.attempts = int(out.split()[-1])

    def finish(self) -> None:
        """Wait until they have done all that they had to do."""
        assert self._process.hear() == "done\n"


class Scene(NamedTuple):
    fleet: Fleet
    account: Account
    hub: Watched
    figures: Figures
    rest: float  # processors that the hub keeps busy when nobody is there but those who look after it


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
                    time.sleep(WHILE)
                    scene = Scene(fleet, account, hub, figures, rest=hub.share)
                    first = statistics.median(trips(account))
                    for kind in KINDS:
                        bear(scene, kind, tuple(members[name] for name in bad.get(kind, ())))
                    afterwards = statistics.median(trips(account))
                    figures.fact("after all of them", f"ratio {afterwards / first:.1f}")
                account.settle(60.0)
                account.judge(agents.starts(), figures)
                assert len(agents.ups()) == GOOD
                assert agents.breaks() == []
                assert afterwards <= 3 * SLACK * first
            pulse.judge(figures)
    finally:
        figures.record(record_property)


def bear(scene: Scene, name: str, members: tuple[Member, ...]) -> None:
    """Have neighbours of one kind for a while, and see what they cost."""
    fleet, account, hub, figures, rest = scene
    kind = KINDS[name]
    hub.begin()
    quiet = statistics.median(trips(account))
    a_trip = hub.spent / ROUNDS
    hub.begin()
    if name == "deaf":
        burden(fleet)
    began = time.perf_counter()
    with Neighbours(fleet, name, members, kind.many) as neighbours:
        if name == "deaf":
            fill(account)
        took = trips(account, kind.seconds if LONG else 0.0)
        if name in ("deaf", "garbage"):
            neighbours.finish()
        peak, spent, said = hub.peak, hub.spent, str(hub)
        seconds = time.perf_counter() - began
        if not kind.each:
            settles(scene, f"while {name} neighbours are there", kind.at_once)
            held = statistics.median(trips(account))
            assert held <= kind.ratio * SLACK * quiet, name
            assert name != "deaf" or clogged(fleet) == kind.at_once, "they read, or were not sent enough"
    without = a_trip * len(took) + (rest + RESTLESS) * seconds
    settles(scene, f"after {name} neighbours", kind.left)
    at_first, meanwhile = statistics.median(took[:ROUNDS]), statistics.median(took)
    figures.count(name, neighbours.attempts)
    figures.fact(
        name, f"ratio {meanwhile / quiet:.1f} of {1000 * quiet:.0f} ms, at first {at_first / quiet:.1f}; hub {said}"
    )
    figures.fact(f"  {name}, CPU", f"{spent:.1f} s, at most {without:.1f} without them")
    figures.fact(f"  {name}, afterwards", f"{hub.now - hub.first:+} descriptors")
    assert at_first <= kind.at_first * SLACK * quiet, name
    assert meanwhile <= kind.ratio * SLACK * quiet or not LONG, name
    assert peak <= hub.first + kind.at_once + kind.left + SPARE, name
    assert not kind.each or spent <= without + kind.each * neighbours.attempts, name
    assert status(fleet.root).connected >= GOOD, name


def trips(account: Account, at_least: float = 0.0) -> list[float]:
    """What round trips to all the good ones take, for so many seconds at least."""
    took: list[float] = []
    end = time.perf_counter() + at_least
    while len(took) < ROUNDS or time.perf_counter() < end:
        took.append(account.round_trip(ALL_GOOD))
    return took


def burden(fleet: Fleet) -> None:
    """Have so much to answer those who will be deaf that no connection holds it, and that expires soon."""
    for _ in range(10):
        wanted = control.Wanted(target="deaf[0-1]", action="true", lifetime=30.0, arguments=LARGE)
        assert isinstance(ask(fleet.root, control.Submit(wanted=wanted)), control.Accepted)


def fill(account: Account) -> None:
    """Publish more than the queue of a reader that does not read."""
    for _ in range(300):
        account.submit(ALL_GOOD, **LARGE)


def clogged(fleet: Fleet) -> int:
    """How many of the hub's connections hold more than anybody can be slow to read."""
    ports = {fleet.keys["publish_port"], fleet.keys["report_port"]}
    return sum(1 for port, unread in unsent() if port in ports and unread > CLOGGED)


def settles(scene: Scene, when: str, more: int) -> None:
    """Nothing stays open but so many, and nothing goes on using the processor."""
    hub = scene.hub

    def quiet() -> bool:
        hub.begin()
        time.sleep(WHILE)
        return hub.share < scene.rest + RESTLESS and hub.now <= hub.first + more + SPARE

    wait_until(quiet, f"the hub rests {when}", 60.0, 0.5)
