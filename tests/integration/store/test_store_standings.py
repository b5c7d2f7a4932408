"""How an action stands on each node, as the history has it."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from nanoexec.model import Cause, Outcome
from nanoexec.record import HistoryEntry, NodeJoined, RunReported, Standing
from nanoexec.store import Store
from tests.integration.store.records import identifier, run

Add = Callable[..., str]


@pytest.fixture
def add(store: Store) -> Add:
    """Have a node report a run at ``at``; its change is the next one unless it is given. Its id."""
    store.commit([NodeJoined(name, identifier(name), 1.0) for name in ("web1", "web2", "web3")])
    changes = itertools.count(1)

    def report(outcome: Outcome, at: float, node: str = "web1", action: str = "slaughter", **more: Any) -> str:
        change = next(changes)
        said = run(f"r{change}", action, Cause.SCHEDULE, **{"change": change, "outcome": outcome} | more)
        store.commit([RunReported(node, said, at)])
        return said.id

    return report


def ids(standing: Standing) -> tuple[str | None, ...]:
    """The ids of its three entries."""
    entries = (standing.succeeded, standing.failing, standing.latest)
    return tuple(entry.id if entry else None for entry in entries)


def test_the_last_success_the_first_failure_after_it_and_the_last_run_are_told(store: Store, add: Add) -> None:
    add(Outcome.SUCCEEDED, 10.0)
    add(Outcome.FAILED, 20.0)
    good = add(Outcome.SUCCEEDED, 30.0)
    add(Outcome.SKIPPED, 40.0)
    first = add(Outcome.TIMED_OUT, 50.0)
    add(Outcome.INTERRUPTED, 60.0)
    last = add(Outcome.SKIPPED, 70.0, reason="busy")
    (standing,) = store.standings("slaughter").values()
    assert ids(standing) == (good, first, last)
    assert standing.latest == HistoryEntry(
        id=last,
        node="web1",
        action="slaughter",
        cause=Cause.SCHEDULE,
        by="root",
        at=70.0,
        outcome=Outcome.SKIPPED,
        reason="busy",
        started=99.0,
        duration=0.5,
        status=0,
    )


def test_after_a_success_nothing_is_failing(store: Store, add: Add) -> None:
    add(Outcome.FAILED, 10.0)
    good = add(Outcome.SUCCEEDED, 20.0)
    assert ids(store.standings("slaughter")["web1"]) == (good, None, good)
    skipped = add(Outcome.SKIPPED, 30.0)
    assert ids(store.standings("slaughter")["web1"]) == (good, None, skipped)


def test_without_any_success_it_fails_since_the_first_failure(store: Store, add: Add) -> None:
    first, last = add(Outcome.FAILED, 10.0), add(Outcome.FAILED, 20.0)
    assert ids(store.standings("slaughter")["web1"]) == (None, first, last)


def test_runs_of_one_report_are_told_apart_by_the_journals_count(store: Store, add: Add) -> None:
    last = add(Outcome.FAILED, 10.0, change=9)
    good = add(Outcome.SUCCEEDED, 10.0, change=8)
    add(Outcome.FAILED, 10.0, change=7)
    assert ids(store.standings("slaughter")["web1"]) == (good, last, last)


def test_a_success_with_arguments_is_none_for_it_may_have_done_something_else(store: Store, add: Add) -> None:
    good = add(Outcome.SUCCEEDED, 10.0)
    other = add(Outcome.SUCCEEDED, 20.0, arguments={"noop": "true"})
    assert ids(store.standings("slaughter")["web1"]) == (good, None, other)


def test_nodes_and_actions_are_kept_apart_and_a_node_without_a_run_is_left_out(store: Store, add: Add) -> None:
    one, two = add(Outcome.SUCCEEDED, 10.0), add(Outcome.FAILED, 20.0, node="web2")
    add(Outcome.SUCCEEDED, 30.0, action="puppet")
    standings = store.standings("slaughter")
    assert {node: ids(standing) for node, standing in standings.items()} == {
        "web1": (one, None, one),
        "web2": (None, two, two),
    }


def test_it_is_found_by_an_index_however_long_the_history(store: Store, add: Add) -> None:
    add(Outcome.SUCCEEDED, 10.0)
    add(Outcome.FAILED, 20.0)
    steps: list[str] = []

    @sa.event.listens_for(store._engine, "before_cursor_execute")
    def explain(connection: sa.Connection, _: object, sql: str, parameters: Any, *more: Any) -> None:
        if sql.startswith("SELECT"):
            raw = connection.connection.cursor()
            raw.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
            steps.extend(row[3] for row in raw.fetchall())
            raw.close()

    store.standings("slaughter")
    reads = [step for step in steps if step.startswith(("SCAN", "SEARCH", "USE TEMP"))]
    assert sum("ix_runs_standing" in step for step in reads) == 3
    others = [step for step in reads if "ix_runs_standing" not in step and "pk_runs" not in step]
    assert [step for step in others if not step.startswith("SCAN nodes") and "sqlite_autoindex_runs" not in step] == []
