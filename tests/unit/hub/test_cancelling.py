"""Taking a trigger back: what the hub concludes at once, whom it asks, and how long."""

import itertools

import pytest

from nanoexec.errors import NoTargetError, UsageError
from nanoexec.hub.core import Answered, Decision, HubCore
from nanoexec.hub.ledger import LOST_AFTER
from nanoexec.model import DeliveryState, Order, Outcome, Trigger
from nanoexec.record import DeliveryCancelled, DeliveryMoved, StoredTrigger
from nanoexec.target import contains
from nanoexec.wire import network
from nanoexec.wire.control import Cancelling
from tests.unit.hub.made import (
    START,
    ack,
    at,
    core_of,
    hello,
    id_of,
    moves,
    report,
    run,
    said_hello,
    state_of,
    submit,
    wanted,
)

S = DeliveryState


def cancel(
    core: HubCore, text: str = "t1", nodes: str | None = None, seconds: float = 1.0, by: str = "bob"
) -> Answered[Cancelling]:
    return core.cancel(id_of(text), by, nodes, at(seconds))


def asked(decision: Decision) -> list[tuple[str, str, str]]:
    """Topic, nodes and canceller of every cancellation that goes out."""
    found = []
    for frame in decision.frames:
        message = network.decode_published(frame)
        if isinstance(message, network.Cancellation):
            found.append((frame.partition(b":")[0].decode(), message.nodes, message.by))
    return found


def noted(decision: Decision) -> list[tuple[str, str]]:
    return [(change.node, change.by) for change in decision.changes if isinstance(change, DeliveryCancelled)]


def test_a_node_that_is_here_is_asked_and_its_delivery_stays_until_it_has_answered() -> None:
    core = core_of("web1", "web2")
    submit(core)
    ack(core, "web1", S.RUNNING)
    decision = cancel(core)
    assert noted(decision) == [("web1", "bob"), ("web2", "bob")]
    assert moves(decision.changes) == {}
    assert asked(decision) == [("ALL", "web[1-2]", "bob")]
    stopped = run(outcome=Outcome.CANCELLED, reason="cancelled by bob")
    assert moves(report(core, "web1", stopped).changes) == {"web1": S.FINISHED}
    assert moves(report(core, "web2", stopped).changes) == {"web2": S.FINISHED}


def test_a_frame_says_what_a_node_needs_that_never_had_the_order() -> None:
    core = core_of("web1")
    submit(core)
    (frame,) = cancel(core).frames
    assert network.decode_published(frame) == network.Cancellation(
        epoch="e1",
        sequence=0,
        time=START + 1,
        trigger=id_of("t1"),
        action="uptime",
        nodes="web1",
        expires=START + 60,
        issuer="root",
        by="bob",
    )


def test_what_was_never_sent_is_cancelled_at_once() -> None:
    core = core_of("web1", here=False)
    submit(core)
    decision = cancel(core)
    assert moves(decision.changes) == {"web1": S.CANCELLED}
    assert decision.answer.away == ("web1",)
    assert asked(decision) == []


@pytest.mark.parametrize("state", [S.SENT, S.ACKNOWLEDGED, S.RUNNING])
def test_what_a_node_that_is_away_may_have_started_is_not_said_to_be_cancelled(state: DeliveryState) -> None:
    core = core_of("web1")
    submit(core)
    if state is not S.SENT:
        ack(core, "web1", state)
    core.roster.away("web1")
    decision = cancel(core)
    assert (noted(decision), moves(decision.changes)) == ([("web1", "bob")], {})
    assert (decision.answer.away, decision.answer.over) == (("web1",), ())
    returned = core.ask("web1", said_hello(9.0), at(9.0))
    assert asked(returned) == [("web1", "web1", "bob")]
    assert isinstance(returned.answer, network.Welcome)
    assert returned.answer.offers == ()


@pytest.mark.parametrize(("state", "when"), [(S.EXPIRED, 61.0), (S.LOST, 61.0 + LOST_AFTER)])
def test_what_the_hub_has_concluded_alone_is_asked_for_and_the_nodes_word_replaces_it(
    state: DeliveryState, when: float
) -> None:
    core = core_of("web1")
    submit(core)
    if state is S.LOST:
        ack(core, "web1", S.RUNNING)
    core.roster.touch("web1", at(when))
    assert moves(core.tick(at(when)).changes) == {"web1": state}
    decision = cancel(core, seconds=when + 1)
    assert (noted(decision), moves(decision.changes)) == ([("web1", "bob")], {})
    assert (asked(decision), decision.answer.over) == ([("web1", "web1", "bob")], ())
    core.roster.touch("web1", at(when + LOST_AFTER))
    assert asked(core.tick(at(when + LOST_AFTER))) == [("web1", "web1", "bob")], "for a day"
    stopped = run(outcome=Outcome.CANCELLED, reason="cancelled by bob")
    assert moves(report(core, "web1", stopped, seconds=when + LOST_AFTER).changes) == {"web1": S.FINISHED}
    assert asked(core.tick(at(when + LOST_AFTER + 70))) == []


def test_a_wish_about_what_was_lost_ends_a_day_after_it_was_said() -> None:
    core = core_of("web1", here=False)
    core.ledger.remember(stored(S.LOST, wished=START + 100 + LOST_AFTER))
    core.tick(at(99.0 + 2 * LOST_AFTER))
    assert list(core.ledger.cancelled_for("web1"))
    core.tick(at(101.0 + 3 * LOST_AFTER))
    assert not list(core.ledger.cancelled_for("web1"))


def test_a_wish_about_what_had_expired_ends_a_day_after_it_was_said() -> None:
    core = core_of("web1")
    submit(core)
    core.tick(at(61.0))
    cancel(core, seconds=100.0)
    for seconds, kept in ((99.0 + LOST_AFTER, True), (101.0 + LOST_AFTER, False)):
        core.tick(at(seconds))
        assert bool(list(core.ledger.cancelled_for("web1"))) == kept
    core.tick(at(200.0 + LOST_AFTER))
    assert core.ledger.get(id_of("t1")) is None


def test_what_is_taken_back_long_before_it_expires_expires_no_sooner() -> None:
    core = core_of("web1", "web2", "web3")
    core.roster.away("web3")
    core.submit(wanted(lifetime=20 * LOST_AFTER), "root", id_of("t1"), at(0.0))
    cancel(core, nodes="web1")
    for name in ("web1", "web2"):
        core.roster.touch(name, at(2 * LOST_AFTER))
    decision = core.tick(at(2 * LOST_AFTER))
    assert moves(decision.changes) == {}
    assert asked(decision) == [("web1", "web1", "bob")]


def test_a_node_that_returns_is_asked_and_not_offered_what_was_taken_back() -> None:
    core = core_of("web1", here=False)
    submit(core)
    cancel(core)
    decision = core.ask("web1", said_hello(5.0), at(5.0))
    assert isinstance(decision.answer, network.Welcome)
    assert decision.answer.offers == ()
    assert asked(decision) == [("web1", "web1", "bob")]


def test_a_node_that_started_it_all_the_same_has_the_last_word() -> None:
    core = core_of("web1", here=False)
    submit(core)
    cancel(core)
    hello(core, "web1", 2.0)
    assert moves(report(core, "web1", run()).changes) == {"web1": S.FINISHED}
    assert asked(core.ask("web1", said_hello(5.0), at(5.0))) == []


def test_a_lost_frame_is_said_again_and_for_several_nodes_together_until_they_answer() -> None:
    core = core_of("web1", "web2", "web3")
    submit(core)
    cancel(core, seconds=0.0)
    assert asked(core.tick(at(2.9))) == []
    assert asked(core.tick(at(3.1))) == [("ALL", "web[1-3]", "bob")]
    ack(core, "web1", S.RUNNING, seconds=4.0)
    report(core, "web2", run(outcome=Outcome.CANCELLED), seconds=4.0)
    for name in ("web1", "web3"):
        core.roster.touch(name, at(9.0))
    assert asked(core.tick(at(9.5))) == [("ALL", "web[1,3]", "bob")], "an ack is no answer to it"
    for name in ("web1", "web3"):
        report(core, name, run(outcome=Outcome.CANCELLED), seconds=10.0)
    assert asked(core.tick(at(40.0))) == []


def test_nothing_is_concluded_of_a_node_that_goes_away_before_it_answers() -> None:
    core = core_of("web1", "web2")
    submit(core)
    ack(core, "web2", S.RUNNING)
    cancel(core, seconds=0.0)
    core.roster.away("web1")
    core.roster.away("web2")
    assert moves(core.tick(at(3.5)).changes) == {}
    assert (state_of(core, "web1"), state_of(core, "web2")) == (S.SENT, S.RUNNING)


def test_what_a_node_never_answered_expires_and_says_that_it_was_taken_back() -> None:
    core = core_of("web1")
    submit(core)
    cancel(core)
    (change,) = core.tick(at(61.0)).changes
    assert isinstance(change, DeliveryMoved)
    assert (change.state, change.reason) == (
        S.EXPIRED,
        "cancelled by bob, and the node did not answer until it expired",
    )


def test_a_second_cancellation_changes_nothing_and_asks_again() -> None:
    core = core_of("web1")
    submit(core)
    cancel(core)
    again = cancel(core, by="eve", seconds=2.0)
    assert again.changes == ()
    assert asked(again) == [("web1", "web1", "bob")], "who came first is who cancelled it"


def test_what_has_ended_is_too_late_and_said_so() -> None:
    core = core_of("web1", "web2")
    submit(core)
    report(core, "web1", run())
    decision = cancel(core)
    assert decision.answer.over == ("web1",)
    assert noted(decision) == [("web2", "bob")]
    assert asked(decision) == [("web2", "web2", "bob")]


def test_only_some_of_its_nodes_can_be_meant_and_only_its_nodes() -> None:
    core = core_of("web1", "web2", "db1")
    submit(core, target="web[1-2]")
    decision = cancel(core, nodes="web2,db1")
    assert [delivery.node for delivery in decision.answer.deliveries] == ["web2"]
    assert decision.answer.unknown == ("db1",)
    assert [entry.trigger.id for entry in core.ledger.waiting_for("web1")] == [id_of("t1")]
    with pytest.raises(NoTargetError, match=f"target 'db1' matches no node of trigger {id_of('t1')} "):
        cancel(core, nodes="db1")


def test_an_unknown_trigger_is_one_clear_line() -> None:
    with pytest.raises(UsageError, match="there is no trigger t100000000000000: look for its id in the history"):
        cancel(core_of("web1"))


def test_what_two_people_cancelled_is_asked_for_in_the_name_of_each() -> None:
    core = core_of("web1", "web2", "web3")
    submit(core)
    cancel(core, nodes="web1", by="alice")
    assert asked(cancel(core, by="bob")) == [("web1", "web1", "alice"), ("ALL", "web[2-3]", "bob")]


def test_a_fleet_of_names_that_cannot_be_folded_is_asked_in_sets_that_every_node_reads() -> None:
    letters = itertools.islice(itertools.product("abcdefghijklmnop", repeat=3), 2500)
    names = ["".join(word).ljust(253, "x") for word in letters]
    core = core_of(*names)
    submit(core)
    decision = cancel(core, seconds=0.0)
    for frames in (decision.frames, core.tick(at(3.1)).frames):
        told = [nodes for _, nodes, _ in asked(Decision(frames=frames))]
        assert sorted(",".join(told).split(",")) == names
        assert all(contains(nodes, nodes.rpartition(",")[2]) for nodes in told)


def stored(state: DeliveryState, wished: float = START) -> StoredTrigger:
    trigger = Trigger(id_of("t1"), "uptime", "ALL", START, START + 60, "root")
    order = Order(network.encode_trigger(trigger))
    return StoredTrigger(trigger, order, "ALL", {"web1": state}, {"web1": "bob"}, wished)


@pytest.mark.parametrize("state", [S.SENT, S.RUNNING, S.CANCELLED, S.EXPIRED, S.LOST])
def test_a_hub_that_starts_again_goes_on_asking(state: DeliveryState) -> None:
    core = core_of("web1", here=False)
    core.ledger.remember(stored(state))
    decision = core.ask("web1", said_hello(1.0), at(1.0))
    assert isinstance(decision.answer, network.Welcome)
    assert decision.answer.offers == ()
    assert asked(decision) == [("web1", "web1", "bob")]
    for seconds in (2.0, 100.0):  # longer than a trigger stays in memory that is over
        core.roster.touch("web1", at(seconds))
        core.tick(at(seconds))
    assert asked(core.ask("web1", said_hello(101.0), at(101.0))) == [("web1", "web1", "bob")]


def test_a_hub_stops_asking_a_day_after_it_expired_and_forgets_it() -> None:
    core = core_of("web1", here=False)
    core.ledger.remember(stored(S.CANCELLED))
    core.tick(at(61.0))
    assert list(core.ledger.cancelled_for("web1"))
    core.tick(at(61.0 + LOST_AFTER + 1))
    assert not list(core.ledger.cancelled_for("web1"))
    core.tick(at(61.0 + LOST_AFTER + 70))
    assert core.ledger.get(id_of("t1")) is None
