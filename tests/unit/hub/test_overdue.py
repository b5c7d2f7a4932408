"""Which nodes are overdue, and why: every row of the table, to the second."""

from typing import Any

import msgspec
import pytest

from nanoexec.hub.overdue import SLACK, is_offered, lapses, scheduled
from nanoexec.model import ActionOffer, Cause, Node, Outcome
from nanoexec.record import HistoryEntry, Lapse, Standing, Why
from tests.unit.hub.made import id_of, key_of

HOUR = 3600.0
NOW = 1_000_000.0


def node(name: str = "web1", interval: float | None = HOUR, **more: Any) -> Node:
    """A node that is here and offers slaughter."""
    offer = ActionOffer(name="slaughter", interval=interval)
    known = {"joined": 0.0, "connected": True, "seen": NOW, "skew": 0.0, "actions": (offer,)}
    return Node(name=name, key=key_of(name), **(known | more))


def entry(ago: float, outcome: Outcome = Outcome.SUCCEEDED, **more: Any) -> HistoryEntry:
    """A scheduled run that started so long ago, took no time and was reported at once."""
    at = NOW - ago
    known: dict[str, Any] = {"cause": Cause.SCHEDULE, "by": "root", "at": at, "started": at, "duration": 0.0}
    return HistoryEntry(
        **({"id": id_of("r"), "node": "web1", "action": "slaughter", "outcome": outcome} | known | more)
    )


def succeeded(ago: float, **more: Any) -> Standing:
    success = entry(ago, **more)
    return Standing(succeeded=success, latest=success)


def lapse_of(one: Node, standing: Standing | None = None, now: float = NOW) -> Lapse | None:
    found = lapses("slaughter", [one], {one.name: standing} if standing else {}, now)
    assert len(found) <= 1
    return found[0] if found else None


def why(one: Node, standing: Standing | None = None) -> tuple[Why, float | None, str]:
    lapse = lapse_of(one, standing)
    assert lapse
    return lapse.why, lapse.since, lapse.detail


@pytest.mark.parametrize(
    ("more", "allowed"),
    [
        ({}, HOUR),
        ({"cause": Cause.TRIGGER}, 2 * HOUR),
        ({"cause": Cause.LOCAL}, 2 * HOUR),
        ({"duration": 600.0}, HOUR + 600),
    ],
)
def test_a_success_lasts_as_long_as_the_slots_after_it_may_be_skipped(more: dict[str, Any], allowed: float) -> None:
    assert lapse_of(node(), succeeded(allowed + SLACK, **more)) is None
    assert lapse_of(node(), succeeded(allowed + SLACK + 1, **more))


def test_a_node_that_never_succeeded_has_one_interval_from_when_it_joined() -> None:
    assert lapse_of(node(joined=NOW - HOUR - SLACK)) is None
    lapse = lapse_of(node(joined=NOW - HOUR - SLACK - 1))
    assert lapse == Lapse(node="web1", action="slaughter", why=Why.SILENT, interval=HOUR)


@pytest.mark.parametrize("skew", [-3 * HOUR, 3 * HOUR])
def test_a_start_is_read_by_the_hubs_clock(skew: float) -> None:
    success = succeeded(HOUR, started=NOW - HOUR + skew, at=NOW)
    assert lapse_of(node(skew=skew), success, NOW + SLACK) is None
    lapse = lapse_of(node(skew=skew), success, NOW + SLACK + 1)
    assert lapse
    assert lapse.succeeded == NOW - HOUR


def test_a_clock_that_was_wrong_cannot_make_a_success_last_for_ever() -> None:
    lapse = lapse_of(node(), succeeded(2 * HOUR, started=NOW + 1e9))
    assert lapse
    assert lapse.succeeded == NOW - 2 * HOUR


def test_a_run_that_was_reported_late_counts_from_its_start() -> None:
    assert lapse_of(node(), succeeded(0.0, started=NOW - 2 * HOUR))


def test_a_node_that_has_been_away_for_an_interval_is_offline_whatever_it_said_before() -> None:
    failing = Standing(failing=entry(90 * HOUR, Outcome.FAILED), latest=entry(90 * HOUR, Outcome.FAILED))
    away = node(connected=False, seen=NOW - HOUR - 1)
    assert why(away, failing) == (Why.OFFLINE, NOW - HOUR - 1, "")
    assert why(node(connected=False, seen=None, joined=5.0)) == (Why.OFFLINE, 5.0, "")


def test_a_node_that_has_just_left_is_offline_only_if_nothing_was_wrong_before() -> None:
    away = node(connected=False, seen=NOW - 60)
    failing = Standing(failing=entry(9 * HOUR, Outcome.FAILED), latest=entry(HOUR, Outcome.FAILED))
    assert why(away, succeeded(9 * HOUR)) == (Why.OFFLINE, NOW - 60, "")
    assert why(away, failing)[0] is Why.FAILING


def test_failing_is_said_with_its_beginning_and_how_it_began() -> None:
    first = entry(9 * HOUR, Outcome.TIMED_OUT, at=NOW, reason="after 30m")
    standing = Standing(succeeded=entry(10 * HOUR), failing=first, latest=entry(HOUR, Outcome.SKIPPED, reason="busy"))
    assert why(node(), standing) == (Why.FAILING, NOW - 9 * HOUR, "after 30m")


@pytest.mark.parametrize(("outcome", "said"), [(Outcome.REFUSED, Why.REFUSED), (Outcome.SKIPPED, Why.SKIPPED)])
def test_what_the_node_would_not_do_is_said_in_its_own_words(outcome: Outcome, said: Why) -> None:
    latest = entry(60, outcome, started=None, duration=None, reason="no such program")
    assert why(node(), Standing(succeeded=entry(9 * HOUR), latest=latest)) == (said, NOW - 60, "no such program")


def test_a_node_without_a_schedule_is_judged_by_the_longest_of_the_others() -> None:
    nodes = [node("a", 60.0), node("b", HOUR), node("c", None), node("d", None)]
    late, fine = succeeded(2 * HOUR + SLACK + 1, cause=Cause.TRIGGER), succeeded(2 * HOUR, cause=Cause.TRIGGER)
    recent = succeeded(0)
    found = lapses("slaughter", nodes, {"a": recent, "b": recent, "c": late, "d": fine}, NOW)
    assert [(lapse.node, lapse.why, lapse.interval) for lapse in found] == [("c", Why.UNSCHEDULED, HOUR)]


def test_where_nobody_has_a_schedule_each_node_that_offers_it_is_a_lapse() -> None:
    found = lapses("slaughter", [node("b", None), node("a", None)], {"a": succeeded(5)}, NOW)
    assert [(lapse.node, lapse.why, lapse.succeeded) for lapse in found] == [
        ("a", Why.UNSCHEDULED, NOW - 5),
        ("b", Why.UNSCHEDULED, None),
    ]


def test_a_node_that_no_longer_offers_what_it_did_is_not_forgotten() -> None:
    gone = msgspec.structs.replace(node("b"), actions=())
    found = lapses("slaughter", [node("a"), gone], {"a": succeeded(0), "b": succeeded(9 * HOUR)}, NOW)
    assert [(lapse.node, lapse.why, lapse.detail) for lapse in found] == [
        ("b", Why.UNSCHEDULED, "the node does not offer it any more")
    ]


def test_a_node_that_has_nothing_to_do_with_it_and_a_revoked_one_owe_nothing() -> None:
    strange = msgspec.structs.replace(node("a"), actions=())
    revoked = node("b", revoked=1.0)
    assert lapses("slaughter", [strange, revoked], {"b": succeeded(9 * HOUR)}, NOW) == []
    assert scheduled([strange, revoked]) == ()
    assert not is_offered("slaughter", [strange, revoked])


def test_the_actions_that_are_watched_are_those_with_a_schedule_anywhere() -> None:
    other = node("b", actions=(ActionOffer("uptime"), ActionOffer("puppet", interval=60.0)))
    nodes = [node("a"), other, node("c", None)]
    assert scheduled(nodes) == ("puppet", "slaughter")
    assert is_offered("uptime", nodes)


def test_lapses_come_in_the_order_of_the_nodes_names() -> None:
    found = lapses("slaughter", [node("c"), node("a"), node("b")], {}, NOW)
    assert [lapse.node for lapse in found] == ["a", "b", "c"]
