"""Campaign 6: more than there should be. The answers stay quick, and forgetting stops nobody.

NANOEXEC_CHAOS=long        a million runs, of which half are forgotten
"""

import contextlib
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from nanoexec.config import Paths
from nanoexec.record import NodeJoined
from nanoexec.store import Store
from nanoexec.store.purging import PAGES
from nanoexec.wire import control
from tests.chaos import crowd
from tests.chaos.account import Account
from tests.chaos.crowd import Crowd
from tests.chaos.figures import Figures
from tests.chaos.ledgers import starts, teach
from tests.chaos.operators import history, wait_connected
from tests.chaos.overload_history import DAY, NODES, Look, fill
from tests.chaos.pulse import Pulse
from tests.support.fleet import Fleet, fleet_of, wait_until

LONG: Final = os.environ.get("NANOEXEC_CHAOS") == "long"
RUNS: Final = 1_000_000 if LONG else 100_000
KEPT_DAYS: Final = 90
PROMISED: Final = 0.3  # seconds for `nanoexec history`, from its start to its end
SLOWER: Final = 1.5 if LONG else 4.0  # times as long as beside an empty database, at most
ROUNDS: Final = 40 if LONG else 20
pytestmark = pytest.mark.timeout(900 if LONG else 240)


def typed(fleet: Fleet) -> None:
    """What an operator types."""
    fleet.run("history")


def in_turns(full: Callable[[], object], empty: Callable[[], object], rounds: int = ROUNDS) -> tuple[float, float]:
    """The usual seconds of two things, of which each is done when the machine has as much else to do."""
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for one, seconds in zip((full, empty), took, strict=True):
            began = time.perf_counter()
            one()
            seconds.append(time.perf_counter() - began)
    return statistics.median(took[0]), statistics.median(took[1])


def beside(slow: float, quick: float) -> str:
    return f"{1000 * slow:.1f} ms, {slow / quick:.2f} of {1000 * quick:.1f} ms beside an empty database"


def test_a_long_history_slows_nothing_and_is_forgotten_while_the_hub_serves(
    record_property: Callable[[str, Any], None],
) -> None:
    figures = Figures(f"overload: {RUNS:,} runs")
    now = time.time()
    with contextlib.ExitStack() as last:
        last.callback(figures.record, record_property)
        fleet, bare = (last.enter_context(Fleet(beacon_interval=15.0, history_days=3650)) for _ in range(2))
        account, other = Account(fleet.root), Account(bare.root)
        look = Look(Paths(root=fleet.root).hub_store)
        agents, others = (last.enter_context(Crowd(one, crowd.enrol(one, ["node000"]))) for one in (fleet, bare))
        fleet.hub.stop()
        began = time.perf_counter()
        fill(look.path, RUNS, oldest=now - 2 * KEPT_DAYS * DAY, newest=now - 60)
        figures.fact("filled in", f"{time.perf_counter() - began:.1f} s")
        fleet.start_hub()
        for one in (fleet, bare):
            wait_connected(one.root, 1, 60.0)
        answers_as_quickly_as(fleet, bare, account, other, figures)

        fleet.hub.stop()
        old = look.older(now - KEPT_DAYS * DAY)
        assert old > RUNS // 3
        fleet.keys["history_days"] = KEPT_DAYS
        fleet.configure()
        fleet.start_hub()
        forgets_while_it_serves(account, look, figures, now - KEPT_DAYS * DAY, old)
        wait_connected(fleet.root, 1, 60.0)
        for asked in (account, other):
            asked.settle(60.0)
        account.judge(agents.starts(), figures)
        other.judge(others.starts(), figures)
        assert "cannot write its database" not in fleet.hub.text()


def answers_as_quickly_as(full: Fleet, empty: Fleet, account: Account, other: Account, figures: Figures) -> None:
    """One hub has a long history, and the other has none but what happens here."""
    slow, quick = in_turns(lambda: account.round_trip("node000"), lambda: other.round_trip("node000"))
    figures.fact("trigger", beside(slow, quick))
    assert slow <= SLOWER * quick
    narrower: tuple[dict[str, Any], ...] = ({"node": "old001"}, {"action": "true"}, {"since": time.time() - 30 * DAY})
    for narrow in ({}, *narrower):
        question = control.AskHistory(limit=20, **narrow)
        slow, quick = in_turns(partial(history, full.root, question), partial(history, empty.root, question))
        figures.fact(f"history {' '.join(narrow)}".strip(), beside(slow, quick))
        assert slow <= PROMISED
        assert slow <= SLOWER * max(quick, 0.002), narrow
    slow, quick = in_turns(lambda: typed(full), lambda: typed(empty), 5)
    figures.fact("nanoexec history", beside(slow, quick))
    assert slow <= PROMISED or not LONG
    assert slow <= SLOWER * quick


def forgets_while_it_serves(account: Account, look: Look, figures: Figures, before: float, old: int) -> None:
    """A purge begins with the hub, and then the room is given back; whoever asks meanwhile is answered."""
    began = time.perf_counter()
    with Pulse(account, "node000", every=0.01) as pulse:
        wait_until(lambda: not look.any_older(before), "all that is old is forgotten", 600.0)
        meanwhile = {what: len(took) for what, took in pulse.took.items()}
        figures.fact("forgotten in", f"{time.perf_counter() - began:.1f} s, with {meanwhile} answers")
        pages, free = look.pages()
        wait_until(lambda: look.pages()[1] * 3 < look.pages()[0], "the room is given back", 120.0)
        figures.fact("given back after", f"{time.perf_counter() - began:.1f} s")
    figures.add("runs forgotten", old)
    figures.fact("pages", f"{pages:,}, of which {free:,} were free; a little later {look.pages()[0]:,}")
    assert look.pages()[0] < pages
    assert min(meanwhile.values()) >= 10  # in one piece it would have let none but the first wait
    pulse.judge(figures, more=1.0)  # a trigger waits for a part of the purge, and both for the disk


def test_a_part_of_a_purge_is_small_however_many_nodes_a_trigger_was_for(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    with contextlib.closing(Store.open(path)) as store:
        store.commit([NodeJoined(name=f"old{one:03}", key=f"{one:016}", at=0.0) for one in range(NODES)])
        fill(path, 20 * NODES, oldest=0.0, newest=1000.0)
        before, parts = Look(path).deliveries(), []
        while store.purge_some(10_000.0):
            after = Look(path).deliveries()
            parts.append(before - after)
            before = after
        pages, given = [Look(path).pages()[0]], []
        while store.shrink_some():
            pages.append(Look(path).pages()[0])
            given.append(pages[-2] - pages[-1])
    assert sum(parts) == 10 * NODES
    assert max(parts) <= NODES
    assert len(given) > 1
    assert max(given) <= 1.1 * PAGES  # and what SQLite no longer needs to find its way


def test_reports_as_large_as_they_may_be_come_in_from_all_sides_and_hold_nobody_up(
    record_property: Callable[[str, Any], None],
) -> None:
    printed, kept, many = 8 << 20, 512 << 10, 6
    figures = Figures("overload: reports larger than the cap")
    with contextlib.ExitStack() as last:
        last.callback(figures.record, record_property)
        fleet = last.enter_context(fleet_of("web1", "web2", beacon_interval=15.0))
        for node in fleet.nodes.values():
            node.set(output_limit=kept)
            node.runner.stop()
            node.runner.start()
            teach(node)
            teach(node, "print", f"head --bytes={printed} /dev/zero")
        wait_until(lambda: all("print" in str(node) for node in fleet.nodes_listed()), "they offer it")
        account = Account(fleet.root)
        with Pulse(account, "web1") as pulse:
            for _ in range(many):
                account.submit("ALL", action="print")
            account.settle(60.0)
        account.settle(60.0)
        account.judge(starts(fleet.nodes.values()), figures)
        runs = [each.run for trigger in account.asked for each in account.deliveries(trigger) if each.run]
        large = [run.output for run in runs if run.action == "print"]
        figures.fact("printed and kept", f"{printed >> 20} MB, {kept >> 10} KiB")
        assert [output.size for output in large] == [printed] * many * len(fleet.nodes)
        assert [len(output.head) + len(output.tail) for output in large if output.cut != printed - kept] == []
        pulse.judge(figures)
