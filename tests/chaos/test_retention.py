"""Campaign 5, its disks: of months of history a hub and a node keep what they are to keep, in no more room."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from nanoexec.model import DeliveryState, Outcome, Output
from nanoexec.runner.journal import Journal
from nanoexec.runner.process import this_process
from nanoexec.store import Store
from tests.chaos.figures import Figures
from tests.chaos.overload_history import DAY, Look
from tests.integration.store import records
from tests.support.runner import a_run

KEPT: Final = 5  # days
ROOM: Final = 1.3  # times what was needed when for the first time something was old: one page in four may be free
NODES: Final = [f"web{number}" for number in range(5)]


def test_a_hubs_database_grows_no_further_once_its_retention_is_reached(
    tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    days, a_day = 30, 40
    figures = Figures(f"soak: {days} days of a hub's history, of which {KEPT} are kept")
    path, sizes = tmp_path / "hub.db", []
    with contextlib.closing(Store.open(path)) as store:
        for day in range(days):
            live(store, day, a_day)
            store.purge((day - KEPT) * DAY)
            while store.shrink_some():
                pass
            sizes.append(Look(path).pages()[0])
        kept = Look(path).rows()
    figures.fact("pages after each fifth day", " ".join(map(str, sizes[::5])))
    figures.fact("rows kept", ", ".join(f"{table} {count}" for table, count in kept.items()))
    figures.record(record_property)
    of_a_day = {"triggers": a_day, "deliveries": a_day * len(NODES), "runs": a_day * (2 * len(NODES) - 1)}
    assert kept == {table: (KEPT + 1) * count for table, count in of_a_day.items()}
    assert max(sizes) <= ROOM * sizes[2 * KEPT]


def live(store: Store, day: int, a_day: int) -> None:
    """A day in which each node runs what was triggered, and as much again by itself; the last is always away."""
    at = day * DAY
    *here, away = NODES
    triggers = [f"{day:02}z{number:03}z" for number in range(a_day)]
    changes: list[Any] = [records.issued(text, *NODES, at=at) for text in triggers]
    for text in triggers:
        ended = [records.moved(text, node, DeliveryState.FINISHED, at=at) for node in here]
        ran = [records.triggered(text, node, at=at) for node in here]
        alone = [records.local(f"{text}alone", node, at=at) for node in NODES]
        changes += [*ended, records.moved(text, away, DeliveryState.EXPIRED, at=at), *ran, *alone]
    store.commit(changes)


def test_a_nodes_journal_grows_no_further_once_its_retention_is_reached(
    tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    """A trigger is kept for sixty days longer: until then a hub whose clock was wrong might offer it again."""
    apart, a_day = 60, 10
    days = 3 * (apart + KEPT)
    figures = Figures(f"soak: {days} days of a node's journal, of which {KEPT} are kept, and triggers {apart} longer")
    path, sizes = tmp_path / "journal.db", []
    with Journal.open(path) as journal:
        journal._connection.execute("PRAGMA synchronous = OFF")  # nobody would miss it
        for day in range(days):
            for number in range(a_day):
                run(journal, day * DAY + number, expires=day * DAY + 3600)
                run(journal, day * DAY + number)
            journal.prune((day - KEPT) * DAY, day * DAY)
            sizes.append(Look(path).pages()[0])
        kept = Look(path).rows("runs")["runs"]
    figures.fact("pages after each thirtieth day", " ".join(map(str, sizes[::30])))
    figures.fact("runs kept", f"{kept} of {2 * days * a_day}")
    figures.record(record_property)
    assert kept <= (2 * (KEPT + 1) + apart + 1) * a_day
    assert max(sizes) <= ROOM * sizes[apart + 2 * KEPT]


def run(journal: Journal, at: float, expires: float = 0.0) -> None:
    """One run, from its admission to its end."""
    begun = a_run(requested=at)
    assert journal.admit(begun, this_process().ticks, expires) is None
    journal.start(begun.id, at)
    output = Output(head=b"a line of output, as most tools print it\n" * 4, size=164)
    journal.finish(replace(begun, started=at, ended=at + 1, duration=1.0, outcome=Outcome.SUCCEEDED, output=output))
