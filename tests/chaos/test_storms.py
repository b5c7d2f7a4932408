"""Campaign 4: too many at once, and neighbours that misbehave.

NANOEXEC_CHAOS=long        the whole of it: 500 agents, 100 triggers to 100 agents, 10,000 connections of garbage
NANOEXEC_CHAOS_SEED=NUMBER the bytes of the garbage
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import SystemRandom
from typing import Any, Final, Self

import msgspec
import pytest

from benchmarks.processes import cpu_seconds, memory_kib
from tests.chaos import crowd
from tests.chaos.crowd import Crowd, Member, Pulse
from tests.chaos.figures import Figures
from tests.support.fleet import Fleet, wait_until

LONG: Final = os.environ.get("NANOEXEC_CHAOS") == "long"
SEED: Final = int(os.environ.get("NANOEXEC_CHAOS_SEED", "0")) or SystemRandom().randrange(1, 10**9)
PROMISED: Final = 1.0  # seconds within which the hub answers its control socket: printed beside what it took
PATIENCE: Final = 10 * PROMISED  # what is asserted: the machine has other things to do
SPREAD: Final = 0.5  # seconds: of a pause of up to one second, drawn at random, eight of ten lie within 0.8
WITHIN: Final = 300.0 if LONG else 100.0  # seconds until a storm must be over
pytestmark = pytest.mark.timeout(900 if LONG else 240)


def names(count: int) -> list[str]:
    return [f"node{number:03}" for number in range(count)]


def judge(fleet: Fleet, crowd_: Crowd, figures: Figures, triggers: list[str], count: int) -> None:
    """Every delivery is finished, and was started once and no more, by the account of those who started it."""
    wait_until(crowd.all_final(fleet.root, triggers), "every delivery is final", WITHIN, 0.2)
    found = {trigger: crowd.states(fleet.root, trigger) for trigger in triggers}
    starts = crowd_.starts()
    figures.add("triggers", len(triggers))
    figures.add("deliveries", sum(states.total() for states in found.values()))
    figures.add("starts", starts.total())
    figures.add("lost", sum(count - states["finished"] for states in found.values()))
    figures.add("doubled", sum(times - 1 for times in starts.values()))
    assert [dict(states) for states in found.values()] == [{"finished": count}] * len(triggers)
    assert {pair for pair in starts if pair[0] in triggers and starts[pair] != 1} == set()
    assert len([pair for pair in starts if pair[0] in triggers]) == count * len(triggers)


def answered(pulse: Pulse, figures: Figures) -> None:
    figures.fact("control socket", f"worst answer {pulse.worst:.2f} s of {len(pulse.took)} (promised: {PROMISED:.0f})")
    assert pulse.took
    assert pulse.worst < PATIENCE


@contextlib.contextmanager
def figures_of(what: str, record_property: Callable[[str, Any], None]) -> Iterator[Figures]:
    figures = Figures(f"storm: {what}")
    try:
        yield figures
    finally:
        figures.record(record_property)


def test_a_hub_that_is_killed_has_all_its_agents_back_and_has_lost_no_trigger(
    record_property: Callable[[str, Any], None],
) -> None:
    count = 500 if LONG else 100
    with (
        figures_of(f"hub killed with {count} agents connected", record_property) as figures,
        Fleet(beacon_interval=15.0) as fleet,
    ):
        members = crowd.enrol(fleet, names(count))
        with Crowd(fleet, members) as agents, Pulse(fleet.root) as pulse:
            crowd.wait_connected(fleet.root, count, WITHIN)
            before = len(agents.ups())
            triggers = [crowd.submit(fleet.root, "ALL").trigger.id for _ in range(2)]
            figures.count("hub killed")
            began = time.time()
            fleet.hub.kill()
            fleet.start_hub()
            triggers += [crowd.submit(fleet.root, "ALL").trigger.id for _ in range(3)]  # into the storm
            crowd.wait_connected(fleet.root, count, WITHIN)
            figures.fact("all back after", f"{time.time() - began:.1f} s")
            figures.fact("hub's CPU until then", f"{cpu_seconds(crowd.pid_of(fleet)):.1f} s")
            judge(fleet, agents, figures, triggers, count)
            back = [up - began for up in agents.ups()[before:]]
            busiest = max(sum(start <= up < start + 1 for up in back) for start in back)
            figures.fact("descriptors", f"{crowd.descriptors(crowd.pid_of(fleet))} with {2 * count} connections")
            figures.fact("links that came up in the busiest second", f"{busiest} of {len(back)}")
            assert len(back) >= count
            dials = agents.redials(began)
            middle = dials[int(0.9 * count)] - dials[int(0.1 * count)]
            figures.fact("first dials, the middle eight of ten", f"within {middle:.1f} s")
            assert middle > SPREAD  # whoever comes back all at once will do so again
            assert pulse.unanswered <= 1  # the one that was asked when the hub was killed
        answered(pulse, figures)


def test_a_burst_of_triggers_ends_in_a_final_state_on_every_agent(
    record_property: Callable[[str, Any], None],
) -> None:
    count, many = (100, 100) if LONG else (50, 30)
    with (
        figures_of(f"{many} triggers at once to {count} agents", record_property) as figures,
        Fleet(beacon_interval=15.0) as fleet,
    ):
        members = crowd.enrol(fleet, names(count))
        with Crowd(fleet, members) as agents, Pulse(fleet.root) as pulse:
            crowd.wait_connected(fleet.root, count, WITHIN)
            began = time.perf_counter()
            triggers = [crowd.submit(fleet.root, "ALL").trigger.id for _ in range(many)]
            judge(fleet, agents, figures, triggers, count)
            figures.fact("all final after", f"{time.perf_counter() - began:.1f} s")
            assert pulse.unanswered == 0
        answered(pulse, figures)


class Neighbours:
    """A process of `storms_neighbours`; a context manager. ``connections`` is how many it made, once it has left."""

    def __init__(self, fleet: Fleet, kind: str, members: tuple[Member, ...], count: int) -> None:
        file = fleet.directory / f"{kind}.json"
        file.write_bytes(msgspec.json.encode(crowd.plan(fleet, members)))
        self.connections = 0
        self._words = [kind, str(file), str(count), str(SEED)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.storms_neighbours", *self._words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._said() == "at work\n"
        return self

    def __exit__(self, *_: object) -> None:
        out, _ = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, "it has met with what no neighbour should"
        self.connections = int(out.split()[-1])

    def finish(self) -> None:
        """Wait until it has done all that it had to do."""
        assert self._said() == "done\n"

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def test_bad_neighbours_keep_the_service_from_nobody(record_property: Callable[[str, Any], None]) -> None:
    good = 10
    kinds = {"deaf": 1, "silent": 50, "garbage": 10_000 if LONG else 500, "revoked": 50}
    rounds = 30 if LONG else 5
    bad = [*(f"deaf{number}" for number in range(2)), *(f"out{number:02}" for number in range(kinds["revoked"]))]
    with (
        figures_of(f"bad neighbours of {good} agents", record_property) as figures,
        Fleet(beacon_interval=15.0) as fleet,
    ):
        figures.fact("seed", str(SEED))
        members = {member.name: member for member in crowd.enrol(fleet, [*names(good), *bad])}
        for name in bad[2:]:
            fleet.run("nodes", "revoke", name) if name == "out00" else revoke(fleet.root, name)
        with Crowd(fleet, [members[name] for name in names(good)]) as agents, Pulse(fleet.root) as pulse:
            crowd.wait_connected(fleet.root, good, WITHIN)
            hub = Watched(crowd.pid_of(fleet))
            quiet = trips(fleet.root, good, rounds)
            figures.fact("quiet", f"round trip {1000 * quiet:.0f} ms; hub {hub}")
            for kind, number in kinds.items():
                prefix = {"deaf": "deaf", "revoked": "out"}.get(kind, "-")
                who = tuple(member for name, member in members.items() if name.startswith(prefix))
                hub.begin()
                with Neighbours(fleet, kind, who, number) as neighbours:
                    if kind == "deaf":
                        fill(fleet.root, good)
                    meanwhile = trips(fleet.root, good, rounds)
                    hub.look()
                    if kind == "garbage":
                        neighbours.finish()
                figures.count(kind, neighbours.connections)
                figures.fact(kind, f"round trip {1000 * meanwhile:.0f} ms, ratio {meanwhile / quiet:.1f}; hub {hub}")
                assert hub.descriptors <= hub.first + 3 * number + 50, kind
                hub.settles(kind, 50 if kind == "revoked" else 0)
                figures.fact(f"after {kind}", f"{hub.descriptors - hub.first:+} descriptors")
                assert crowd.status(fleet.root).connected >= good, kind
            starts = agents.starts()
            figures.add("starts", starts.total())
            figures.add("doubled", sum(times - 1 for times in starts.values()))
            assert set(starts.values()) == {1}
            assert pulse.unanswered == 0
            assert agents.ups() == agents.ups()[:good]  # none has lost its link
        answered(pulse, figures)


def revoke(root: Path, name: str) -> None:
    reply = crowd.ask(root, crowd.control.Revoke(node=name))
    assert isinstance(reply, crowd.control.Done), reply


def trips(root: Path, good: int, rounds: int) -> float:
    """The median of some round trips to all the good ones."""
    return statistics.median(crowd.round_trip(root, f"node[000-{good - 1:03}]") for _ in range(rounds))


def fill(root: Path, good: int) -> None:
    """Publish more than the queue of a reader that does not read."""
    for _ in range(300):
        crowd.submit(root, f"node[000-{good - 1:03}]", text="x" * 20_000)


class Watched:
    """What the hub has open and uses, since `begin`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.first = crowd.descriptors(pid)
        self.begin()

    def begin(self) -> None:
        self._at, self._spent = time.perf_counter(), cpu_seconds(self._pid)
        self.look()

    def look(self) -> None:
        """Remember how it is now."""
        seconds = max(0.001, time.perf_counter() - self._at)
        self.cpu = (cpu_seconds(self._pid) - self._spent) / seconds
        self.descriptors = crowd.descriptors(self._pid)
        self.memory = memory_kib(self._pid) / 1024

    def settles(self, what: str, cut_off: int) -> None:
        """It is over: nothing of it stays open, and nothing goes on using the processor.

        ``cut_off`` handshakes may have been under way when it ended: NNG 1.11 can miss the end of a connection whose
        peer hangs up right after its last word of the handshake, and then keeps the descriptor until its listener has
        too many of them.
        """

        def quiet() -> bool:
            self.begin()
            time.sleep(0.5)
            self.look()
            return self.cpu < 0.5 and self.descriptors <= self.first + 10 + cut_off

        wait_until(quiet, f"the hub is as before {what}", 60.0, 0.5)

    def __str__(self) -> str:
        return f"{self.descriptors} descriptors, {100 * self.cpu:.0f} % CPU, {self.memory:.0f} MB"
