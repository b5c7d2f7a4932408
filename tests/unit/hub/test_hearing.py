"""What nodes say, and how it moves their deliveries."""

import pytest

from nanoexec.hub.core import OFFERS_AT_ONCE
from nanoexec.model import FINAL, Cause, DeliveryState, Outcome, may_follow
from nanoexec.record import NodeHeard, RunReported
from nanoexec.wire import network
from tests.unit.hub.made import (
    START,
    ack,
    at,
    core_of,
    hello,
    id_of,
    moves,
    remember,
    report,
    run,
    said_hello,
    state_of,
    submit,
)

S = DeliveryState


def offered(welcome: network.Welcome) -> list[str]:
    return [offer.id for offer in welcome.offers]


# Hello


def test_a_returning_node_is_offered_what_it_missed_oldest_first() -> None:
    core = core_of("web1", "web2", here=False)
    for text in ("t2", "t1", "t3"):
        submit(core, text)
    assert offered(hello(core, "web1", 1.0)) == [id_of("t2"), id_of("t1"), id_of("t3")]


def test_offering_marks_a_delivery_as_sent_and_that_is_stored() -> None:
    core = core_of("web1", "web2", here=False)
    submit(core)
    decision = core.ask("web1", said_hello(), at(1))
    assert moves(decision.changes) == {"web1": S.SENT}
    assert state_of(core, "web2") == S.PENDING


def test_what_is_offered_again_is_stored_only_once() -> None:
    core = core_of("web1", here=False)
    submit(core)
    hello(core, "web1", 1.0)
    decision = core.ask("web1", said_hello(2.0), at(2))
    assert isinstance(decision.answer, network.Welcome)
    assert offered(decision.answer) == [id_of("t1")]
    assert decision.changes == ()


@pytest.mark.parametrize("state", [S.ACKNOWLEDGED, S.RUNNING, S.REFUSED, S.EXPIRED])
def test_what_a_node_has_confirmed_is_not_offered_again(state: DeliveryState) -> None:
    core = core_of("web1", "web2")
    submit(core)
    ack(core, "web1", state)
    assert offered(hello(core, "web1", 2.0)) == []
    assert offered(hello(core, "web2", 2.0)) == [id_of("t1")]


def test_what_has_expired_is_not_offered_even_before_the_tick_has_seen_it() -> None:
    core = core_of("web1", here=False)
    submit(core)
    assert offered(hello(core, "web1", 60.0)) == []


def test_a_node_is_offered_nothing_that_is_for_others() -> None:
    core = core_of("web1", "web10", here=False)
    submit(core, target="web10")
    assert offered(hello(core, "web1", 1.0)) == []
    assert offered(hello(core, "web10", 1.0)) == [id_of("t1")]


def test_offers_that_would_not_fit_into_one_answer_come_in_the_next() -> None:
    core = core_of("web1", here=False)
    ids = [f"t{number:02}" for number in range(20)]
    for text in ids:
        submit(core, text, arguments={"a": "x" * 60_000})
    seen: list[str] = []
    for second in range(1, 10):
        welcome = hello(core, "web1", float(second))
        assert sum(len(offer.order.body) for offer in welcome.offers) <= OFFERS_AT_ONCE
        assert network.decode_answer(network.encode(welcome)) == welcome
        for offer in welcome.offers:
            core.ask("web1", network.Ack(trigger=offer.id, state=S.ACKNOWLEDGED), at(second))
        seen += offered(welcome)
        if not welcome.more:
            break
    assert seen == [id_of(text) for text in ids]
    assert second == 3


def test_an_answer_to_hello_says_the_name_the_time_and_the_sequence() -> None:
    core = core_of("web1", "web2")
    submit(core)
    assert hello(core, "web1", 30.0, sequence=1, epoch="e1") == network.Welcome(
        node="web1",
        epoch="e1",
        sequence=1,
        time=START + 30,
        interval=15.0,
        offers=hello(core, "web1", 30.0).offers,
    )


def test_a_heartbeat_without_news_writes_nothing() -> None:
    core = core_of("web1")
    assert core.ask("web1", said_hello(15.0), at(15)).changes == ()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({"version": "2"}, 15.0),
        ({"actions": (network.ActionOffer("uptime"),)}, 15.0),
        ({"time": START + 15 + 6}, 15.0),
        ({}, 301.0),
    ],
    ids=["version", "actions", "clock", "long ago"],
)
def test_a_heartbeat_with_news_is_stored(said: dict[str, object], seconds: float) -> None:
    core = core_of("web1")
    (change,) = core.ask("web1", said_hello(seconds, **said), at(seconds)).changes
    assert isinstance(change, NodeHeard)
    assert change.seen == START + seconds


def test_a_nodes_clock_is_compared_with_the_hubs() -> None:
    core = core_of("web1", here=False)
    hello(core, "web1", 10.0, time=START + 10 - 3600)
    node = core.roster.get("web1")
    assert node is not None
    assert node.skew == -3600.0
    assert node.connected


def test_actions_are_kept_until_a_node_says_otherwise() -> None:
    core = core_of("web1", here=False)
    hello(core, "web1", actions=(network.ActionOffer("uptime"),))
    hello(core, "web1", 15.0)
    node = core.roster.get("web1")
    assert node is not None
    assert node.actions == (network.ActionOffer("uptime"),)


def test_a_node_that_says_goodbye_is_away_at_once() -> None:
    core = core_of("web1")
    decision = core.ask("web1", network.Bye(), at(1))
    assert isinstance(decision.answer, network.Received)
    assert not core.roster.is_connected("web1")


@pytest.mark.parametrize(
    "question",
    [said_hello(), network.Ack(trigger=id_of("t1"), state=S.RUNNING), network.Report(runs=(run(),)), network.Bye()],
    ids=lambda question: type(question).__name__,
)
def test_a_name_that_is_not_on_the_roster_is_heard_in_nothing(question: network.Question) -> None:
    core = core_of("web1", "gone")
    submit(core)
    core.revoke("gone", at(0))
    for name in ("gone", "stranger"):
        decision = core.ask(name, question, at(1))
        assert isinstance(decision.answer, network.Denied)
        assert decision.answer.reason == f"{name} is not on the roster"
        assert decision.changes == ()


# Acks and reports


@pytest.mark.parametrize("before", DeliveryState)
@pytest.mark.parametrize("word", [S.ACKNOWLEDGED, S.RUNNING, S.EXPIRED, S.REFUSED])
def test_an_ack_moves_a_delivery_as_the_table_says(before: DeliveryState, word: DeliveryState) -> None:
    core = core_of("web1", "web2")
    remember(core, "t1", {"web1": before, "web2": S.PENDING})
    decision = ack(core, "web1", word, reason="because")
    assert isinstance(decision.answer, network.Received)
    allowed = may_follow(before, word)
    assert moves(decision.changes) == ({"web1": word} if allowed else {})
    assert state_of(core, "web1") == (word if allowed else before)
    assert state_of(core, "web2") == S.PENDING


@pytest.mark.parametrize("word", [S.PENDING, S.SENT, S.FINISHED, S.CANCELLED, S.LOST])
def test_an_ack_cannot_say_what_is_not_a_nodes_to_say(word: DeliveryState) -> None:
    core = core_of("web1")
    submit(core)
    decision = ack(core, "web1", word)
    assert isinstance(decision.answer, network.Denied)
    assert decision.changes == ()
    assert state_of(core, "web1") == S.SENT


@pytest.mark.parametrize("before", DeliveryState)
@pytest.mark.parametrize(("outcome", "word"), [(Outcome.FAILED, S.FINISHED), (Outcome.REFUSED, S.REFUSED)])
def test_a_report_is_stored_whatever_was_thought_before_and_wins_unless_it_is_a_repeat(
    before: DeliveryState, outcome: Outcome, word: DeliveryState
) -> None:
    core = core_of("web1", "web2")
    remember(core, "t1", {"web1": before, "web2": S.PENDING})
    decision = report(core, "web1", run(outcome=outcome, reason="because"))
    assert isinstance(decision.answer, network.Received)
    assert [change for change in decision.changes if isinstance(change, RunReported)] == [
        RunReported(node="web1", run=run(outcome=outcome, reason="because"), at=START + 2)
    ]
    final = before in {S.FINISHED, S.REFUSED}
    assert moves(decision.changes) == ({} if final else {"web1": word})


@pytest.mark.parametrize("conclusion", [S.EXPIRED, S.LOST, S.CANCELLED])
def test_a_late_report_replaces_what_the_hub_had_concluded(conclusion: DeliveryState) -> None:
    core = core_of("web1")
    remember(core, "t1", {"web1": conclusion})
    assert moves(report(core, "web1").changes) == {"web1": S.FINISHED}


@pytest.mark.parametrize("conclusion", [S.EXPIRED, S.LOST, S.CANCELLED])
def test_late_reports_of_several_nodes_all_win_though_the_first_one_closes_the_trigger(
    conclusion: DeliveryState,
) -> None:
    """They come at once when a network heals; each has been looked up before the first one was decided."""
    core = core_of("web1", "web2")
    remember(core, "t1", {"web1": conclusion, "web2": conclusion})
    assert core.unknown_triggers(network.Report(runs=(run(),))) == []
    assert moves(report(core, "web1").changes) == {"web1": S.FINISHED}
    assert moves(report(core, "web2").changes) == {"web2": S.FINISHED}


def test_a_repeat_is_answered_and_changes_nothing() -> None:
    core = core_of("web1", "web2")
    submit(core)
    for state in (S.ACKNOWLEDGED, S.RUNNING):
        assert moves(ack(core, "web1", state).changes) == {"web1": state}
        again = ack(core, "web1", state)
        assert again.changes == ()
        assert isinstance(again.answer, network.Received)
    assert moves(report(core, "web1").changes) == {"web1": S.FINISHED}
    again = report(core, "web1")
    assert isinstance(again.answer, network.Received)
    assert moves(again.changes) == {}


def test_news_from_the_past_moves_nothing() -> None:
    core = core_of("web1", "web2")
    submit(core)
    report(core, "web1")
    for state in (S.ACKNOWLEDGED, S.RUNNING, S.EXPIRED, S.REFUSED):
        decision = ack(core, "web1", state)
        assert decision.changes == ()
        assert isinstance(decision.answer, network.Received)
    assert state_of(core, "web1") == S.FINISHED


def test_a_report_needs_no_ack_before_it() -> None:
    core = core_of("web1", "web2")
    submit(core)
    assert moves(report(core, "web1").changes) == {"web1": S.FINISHED}


def test_a_run_of_an_unknown_trigger_is_stored_and_moves_nothing() -> None:
    core = core_of("web1")
    decision = report(core, "web1", run("zz"))
    assert [type(change) for change in decision.changes] == [RunReported]
    assert isinstance(decision.answer, network.Received)


@pytest.mark.parametrize("cause", [Cause.LOCAL, Cause.SCHEDULE])
def test_a_run_that_no_trigger_caused_is_stored_and_moves_nothing(cause: Cause) -> None:
    core = core_of("web1", "web2")
    submit(core)
    decision = report(core, "web1", run("t1", cause=cause))
    assert moves(decision.changes) == {}
    assert state_of(core, "web1") == S.SENT


def test_a_node_that_was_not_targeted_moves_nothing() -> None:
    core = core_of("web1", "web2")
    submit(core, target="web1")
    assert moves(ack(core, "web2", S.REFUSED).changes) == {}
    assert moves(report(core, "web2").changes) == {}
    entry = core.ledger.get(id_of("t1"))
    assert entry is not None
    assert entry.deliveries == {"web1": S.SENT}


def test_a_node_speaks_for_itself_alone() -> None:
    core = core_of("web1", "web2")
    submit(core)
    report(core, "web1")
    assert state_of(core, "web2") == S.SENT


def test_a_report_of_a_run_that_has_not_ended_is_denied_whole() -> None:
    core = core_of("web1", "web2")
    submit(core, "t1")
    submit(core, "t2")
    decision = report(core, "web1", run("t1"), run("t2", outcome=None))
    assert isinstance(decision.answer, network.Denied)
    assert decision.answer.reason == f"run {id_of('t2')} has not ended"
    assert decision.changes == ()
    assert state_of(core, "web1", "t1") == S.SENT
    assert moves(report(core, "web1", run("t1")).changes) == {"web1": S.FINISHED}


def test_the_hub_asks_its_store_for_triggers_that_it_does_not_remember() -> None:
    core = core_of("web1")
    submit(core, "t1")
    assert core.unknown_triggers(network.Ack(trigger=id_of("zz"), state=S.RUNNING)) == [id_of("zz")]
    runs = (run("t1"), run("zz"), run("yy", cause=Cause.LOCAL))
    assert core.unknown_triggers(network.Report(runs=runs)) == [id_of("zz")]
    assert core.unknown_triggers(said_hello()) == []


def test_no_delivery_is_open_once_every_node_has_reported() -> None:
    core = core_of("web1", "web2")
    submit(core)
    report(core, "web1")
    assert core.ledger.open_deliveries() == 1
    ack(core, "web2", S.REFUSED)
    assert core.ledger.open_deliveries() == 0
    assert all(state_of(core, node) in FINAL | {None} for node in ("web1", "web2"))
