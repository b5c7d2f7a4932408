"""Campaign 6: more than there should be. The answers stay quick, and forgetting stops nobody.

NANOEXEC_CHAOS=long        a million runs, of which half are forgotten
"""

import contextlib
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from nanoexec.config import Paths
from nanoexec.record import NodeJoined
from nanoexec.store import Store
from nanoexec.wire import control
from tests.chaos import crowd
from tests.chaos.crowd import Crowd, Pulse
from tests.chaos.figures import Figures
from tests.chaos.overload_history import DAY, NODES, Look, fill
from tests.support.fleet import Fleet, fleet_of, wait_until

LONG: Final = os.environ.get("NANOEXEC_CHAOS") == "long"
RUNS: Final = 1_000_000 if LONG else 100_000
KEPT_DAYS: Final = 90
HISTORY_PROMISED: Final = 0.3  # seconds for `nanoexec history`
PATIENCE: Final = 10.0  # how many times longer than promised it may take here: the machine has other things to do
pytestmark = pytest.mark.timeout(900 if LONG else 240)
ROUNDS: Final = 15


def asked(root: Path) -> float:
    """Seconds that the hub takes to answer for its history."""
    began = time.perf_counter()
    reply = crowd.ask(root, control.AskHistory(limit=20))
    assert isinstance(reply, control.History), reply
    return time.perf_counter() - began


def typed(fleet: Fleet) -> float:
    """Seconds that the command line takes, from its start to its end."""
    began = time.perf_counter()
    fleet.run("history")
    return time.perf_counter() - began


def test_a_long_history_slows_nothing_and_is_forgotten_while_the_hub_serves(
    record_property: Callable[[str, Any], None],
) -> None:
    figures = Figures(f"overload: {RUNS:,} runs")
    with contextlib.ExitStack() as last, Fleet(beacon_interval=15.0, history_days=3650) as fleet:
        last.callback(figures.record, record_property)
        root, database = fleet.root, Paths(root=fleet.root).hub_store
        with Crowd(fleet, crowd.enrol(fleet, ["node000"])) as agents:
            crowd.wait_connected(root, 1, 60.0)
            empty = statistics.median(crowd.round_trip(root, "node000") for _ in range(ROUNDS))
            bare = statistics.median(typed(fleet) for _ in range(3))
            fleet.hub.stop()
            now, began = time.time(), time.perf_counter()
            fill(database, RUNS, oldest=now - 2 * KEPT_DAYS * DAY, newest=now - 60)
            figures.fact("filled in", f"{time.perf_counter() - began:.1f} s")
            fleet.start_hub()
            crowd.wait_connected(root, 1, 60.0)
            full = statistics.median(crowd.round_trip(root, "node000") for _ in range(ROUNDS))
            figures.fact("trigger", f"{1000 * full:.0f} ms, {full / empty:.2f} of {1000 * empty:.0f} ms with none")
            history = statistics.median(asked(root) for _ in range(ROUNDS))
            command = statistics.median(typed(fleet) for _ in range(3))
            figures.fact(
                "history",
                f"{1000 * history:.0f} ms; the command {1000 * command:.0f}, {command / bare:.2f} of that with none",
            )
            assert history < PATIENCE * HISTORY_PROMISED

            fleet.hub.stop()
            fleet.keys["history_days"] = KEPT_DAYS
            fleet.configure()
            fleet.start_hub()
            forgets_while_it_serves(fleet, figures, now - KEPT_DAYS * DAY)
            crowd.wait_connected(root, 1, 60.0)
            wait_until(lambda: crowd.status(root).open_deliveries == 0, "every delivery is final", 60.0)
            assert set(agents.starts().values()) == {1}
            assert "cannot write its database" not in fleet.hub.text()


def forgets_while_it_serves(fleet: Fleet, figures: Figures, before: float) -> None:
    root, look = fleet.root, Look(Paths(root=fleet.root).hub_store)
    old, began, histories, wishes = look.older(before), time.perf_counter(), [], []
    assert old > RUNS // 3, "it was forgotten before anybody could look"
    with Pulse(root) as pulse:
        while look.any_older(before):
            took = asked(root)
            if look.any_older(before):  # otherwise it may have waited until all was over
                histories.append(took)
            started = time.perf_counter()
            crowd.submit(root, "node000")
            wishes.append(time.perf_counter() - started)
            assert time.perf_counter() - began < 600, f"{look.older(before)} are still there"
    figures.add("runs forgotten", old)
    figures.fact("forgotten in", f"{time.perf_counter() - began:.1f} s")
    figures.fact("meanwhile", f"worst status {pulse.worst:.2f} s, {len(histories)} histories, {len(wishes)} triggers")
    figures.fact("meanwhile, worst", f"history {max(histories, default=0):.2f} s, trigger {max(wishes):.2f} s on disk")
    pages, free = look.pages()
    figures.fact("pages", f"{pages:,}, of which {free:,} are free")
    wait_until(lambda: look.pages()[1] * 3 < look.pages()[0], "the room is given back", 120.0)
    figures.fact("and a little later", f"{look.pages()[0]:,} pages")
    assert look.pages()[0] < pages
    assert len(histories) >= 3
    assert pulse.unanswered == 0
    assert max(pulse.worst, *histories, *wishes) < PATIENCE


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
    assert sum(parts) == 10 * NODES
    assert max(parts) <= NODES


def test_reports_as_large_as_they_may_be_come_in_from_all_sides_and_hold_nobody_up(
    record_property: Callable[[str, Any], None],
) -> None:
    printed, kept, many = 8 << 20, 512 << 10, 6
    figures = Figures("overload: reports larger than the cap")
    with contextlib.ExitStack() as last:
        last.callback(figures.record, record_property)
        fleet = last.enter_context(fleet_of("web1", "web2", beacon_interval=15.0))
        for node in fleet.nodes.values():
            command = f"command = ['head', '--bytes={printed}', '/dev/zero']"
            node.action("print", f'{command}\non_busy = "wait"\n')
            node.set(output_limit=kept)
            node.stop()
            node.start()
        fleet.wait_connected(*fleet.nodes)
        wait_until(lambda: all("print" in str(node) for node in fleet.nodes_listed()), "they offer it")
        with Pulse(fleet.root) as pulse:
            triggers = [crowd.submit(fleet.root, "ALL", action="print").trigger.id for _ in range(many)]
            wait_until(crowd.all_final(fleet.root, triggers), "every delivery is final", 60.0, 0.2)
        runs = [delivery["run"] for one in triggers for delivery in fleet.shown(one).values()]
        figures.add("triggers", many)
        figures.add("deliveries", len(runs))
        figures.fact("printed and kept", f"{printed >> 20} MB, {kept >> 10} KiB")
        figures.fact("control socket", f"worst answer {pulse.worst:.2f} s")
        assert {run["outcome"] for run in runs} == {"succeeded"}
        assert {run["output"]["size"] for run in runs} == {printed}
        assert pulse.unanswered == 0
