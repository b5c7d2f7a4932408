"""From an offer to the runner, and from the runner's word to the hub."""

import pytest

from nanoexec.agent.core import AgentCore
from nanoexec.errors import ConfigError, RefusedError
from nanoexec.model import DeliveryState, Order, Outcome
from nanoexec.wire import network
from tests.unit.agent.made import (
    HUB,
    at,
    beacon,
    core_of,
    due,
    greet,
    hear,
    id_of,
    offer,
    publication,
    run,
    said,
    welcomed,
)

pytestmark = pytest.mark.node
S = DeliveryState


def take(core: AgentCore, *offered: network.Offer, seconds: float = 1.0) -> None:
    for one in offered:
        core.heard(publication(one, seconds, topic=network.topic_of("web1"), sequence=0), at(seconds))


def ack(text: str, state: DeliveryState, reason: str = "", started: float | None = None) -> network.Ack:
    return network.Ack(trigger=id_of(text), state=state, reason=reason, started=started)


# Taking


def test_an_order_is_handed_over_whether_it_is_published_or_offered() -> None:
    core = welcomed(offers=(offer("t1"),))
    core.heard(publication(offer("t2")), at(1))
    assert due(core, 1.0) == [id_of("t1"), id_of("t2")]


@pytest.mark.parametrize("nodes", ["ALL", "web1", "web[1-3]", "db1,web1"])
def test_an_order_for_this_node_is_taken(nodes: str) -> None:
    core = welcomed()
    take(core, offer("t1", nodes))
    assert due(core) == [id_of("t1")]


@pytest.mark.parametrize("nodes", ["web10", "web[2-3]", "db1"])
def test_an_order_for_others_is_left_alone_without_a_word(nodes: str) -> None:
    core = welcomed()
    take(core, offer("t1", nodes))
    assert due(core) == []
    assert said(core) == []
    assert core.notes == []


def test_the_same_order_is_handed_over_once_however_often_it_comes() -> None:
    core = welcomed()
    for beat in (15.0, 30.0, 45.0):
        take(core, offer("t1"))
        greet(core, beat, offers=(offer("t1"), offer("t1")))
        core.disconnected()
        core.connected(at(beat))
        greet(core, beat, offers=(offer("t1"),))
    assert due(core) == [id_of("t1")]
    take(core, offer("t1"))
    assert due(core) == []


def test_an_order_that_the_runner_has_is_given_to_it_again_if_the_hub_asks_again() -> None:
    """The runner answers from its journal; the agent remembers nothing that could be wrong."""
    core = welcomed()
    take(core, offer("t1"))
    due(core)
    core.told(run())
    take(core, offer("t1"))
    assert due(core) == [id_of("t1")]


def test_an_order_is_verified_before_anything_in_it_is_read() -> None:
    seen = []

    def refuse(order: Order) -> None:
        seen.append(order)
        raise RefusedError("signature is not by this node's signer")

    core = welcomed(core_of(verify=refuse))
    garbage = network.Offer(id_of("t1"), Order(b"\xff not a trigger at all", b"forged"))
    take(core, garbage)
    assert seen == [garbage.order]
    assert said(core) == [ack("t1", S.REFUSED, "signature is not by this node's signer")]
    assert [note.count for note in core.notes] == ["orders_refused"]
    assert due(core) == []


def test_a_fault_in_the_nodes_own_keys_is_told_to_the_hub_and_costs_no_link() -> None:
    def stumble(_: Order) -> None:
        raise ConfigError("agent.toml: signers[0]: not an Ed25519 public key")

    core = welcomed(core_of(verify=stumble))
    take(core, offer("t1"))
    assert said(core) == [ack("t1", S.REFUSED, "agent.toml: signers[0]: not an Ed25519 public key")]


@pytest.mark.parametrize(
    "body", [b"", b"garbage", b"nanoexec trigger 1\0\xff", b"nanoexec trigger 2\0", offer("t1", "web[").order.body]
)
def test_an_order_that_cannot_be_read_is_noted_and_nothing_else(body: bytes) -> None:
    core = welcomed()
    take(core, network.Offer(id_of("t1"), Order(body)))
    assert due(core) == []
    assert said(core) == []
    assert [note.count for note in core.notes] == ["frames_refused"]


def test_an_order_under_another_id_than_its_own_is_refused() -> None:
    core = welcomed()
    take(core, network.Offer(id_of("t2"), offer("t1").order))
    assert due(core) == []
    assert said(core) == []
    assert [note.text for note in core.notes] == [f"trigger {id_of('t2')} names itself {id_of('t1')}"]


# Expiry


@pytest.mark.parametrize("off", [0.0, 7200.0, -7200.0])
def test_expiry_is_judged_by_the_hubs_clock_however_wrong_ones_own_is(off: float) -> None:
    core = core_of()
    core.connected(at(0, off))
    hello = core.question(at(0, off))
    assert hello is not None
    answer = network.Welcome(node="web1", epoch="e1", sequence=0, time=HUB, interval=15.0)
    core.answered(hello, network.encode(answer), at(0, off))
    alive, dead = offer("t1", lifetime=10.1), offer("t2", lifetime=10.0)
    for one in (alive, dead):
        core.heard(publication(one, 10.0, topic=network.topic_of("web1"), sequence=0), at(10, off))
    assert due(core, 10.0) == [id_of("t1")]
    assert core.question(at(10, off)) == ack("t2", S.EXPIRED, "it had expired when it came")


def test_an_order_that_the_runner_did_not_take_in_time_is_given_up_with_the_runners_problem() -> None:
    core = welcomed()
    take(core, offer("t1", lifetime=10.0))
    due(core, 1.0)
    core.handovers.failed(id_of("t1"), "the runner cannot be reached: no such file", 1.0)
    core.tick(at(9.9))
    assert said(core) == []
    core.tick(at(10))
    assert said(core) == [ack("t1", S.EXPIRED, "the runner cannot be reached: no such file")]
    assert due(core, 100.0) == []


def test_an_order_that_nobody_came_for_is_given_up_too() -> None:
    core = welcomed()
    take(core, offer("t1", lifetime=10.0))
    core.tick(at(10))
    assert said(core) == [ack("t1", S.EXPIRED, "the runner did not take it in time")]


def test_an_order_that_expired_while_this_machine_slept_is_not_handed_over() -> None:
    core = welcomed()
    take(core, offer("t1", lifetime=60.0))
    assert core.orders_due(at(3600)) == []
    assert said(core) == [ack("t1", S.EXPIRED, "the runner did not take it in time")]


def test_an_order_in_a_frame_that_was_held_up_is_judged_by_the_present_moment() -> None:
    core = welcomed()
    late = publication(offer("t1", lifetime=60.0), 1.0, topic=network.topic_of("web1"), sequence=0)
    core.heard(late, at(3600))
    assert core.orders_due(at(3600)) == []
    greet(core, 3600.0)  # or the hub's clock was set back, and it would not have expired
    assert core.orders_due(at(3600)) == []
    assert ack("t1", S.EXPIRED, "it had expired when it came") in said(core)


def test_an_order_that_the_runner_is_just_taking_is_not_given_up() -> None:
    core = welcomed()
    take(core, offer("t1", lifetime=10.0))
    due(core, 9.0)
    core.tick(at(11))
    assert said(core) == []
    core.told(run())
    assert said(core) == [network.Report(runs=(run(),))]


def test_an_order_that_the_runner_came_to_too_late_is_given_up_once() -> None:
    core = welcomed()
    take(core, offer("t1", lifetime=10.0))
    assert [order.deadline for order in core.orders_due(at(9))] == [10.0]
    greet(core, 9.0)
    assert core.orders_due(at(14)) == []
    assert said(core, 14.0) == [], "perhaps it runs, and that was not told yet"
    core.rejected(id_of("t1"), "it expired before the runner came to it", at(14), final=False)
    for seconds in (14.0, 14.5, 14.9):
        assert core.orders_due(at(seconds)) == []
        beacon(core, seconds)
    assert said(core, 14.9) == [ack("t1", S.EXPIRED, "it expired before the runner came to it")]
    take(core, offer("t2", lifetime=60.0), seconds=14.9)
    assert [order.id for order in core.orders_due(at(14.9))] == [id_of("t2")]


def test_an_order_survives_the_loss_of_the_link() -> None:
    core = welcomed()
    take(core, offer("t1"))
    core.disconnected()
    assert due(core) == [id_of("t1")]


# The runner


def test_a_runner_that_fails_is_tried_again_after_pauses_that_double() -> None:
    core = welcomed()
    take(core, offer("t1", lifetime=1000.0))
    tries, now = [], 1.0
    while now < 120:
        if due(core, now):
            tries.append(now)
            core.handovers.failed(id_of("t1"), "no runner", now)
        now += 1.0
    assert tries == [1, 2, 4, 8, 16, 32, 62, 92]


def test_a_failure_of_an_order_that_is_settled_is_no_news() -> None:
    core = welcomed()
    take(core, offer("t1"))
    due(core)
    core.told(run())
    core.handovers.failed(id_of("t1"), "the runner hung up", 1.0)
    assert due(core, 100.0) == []


def test_a_final_no_of_the_runner_reaches_the_hub() -> None:
    core = welcomed()
    take(core, offer("t1"))
    due(core)
    core.rejected(id_of("t1"), "action uptime is not known here", at(1), final=True)
    assert said(core) == [ack("t1", S.REFUSED, "action uptime is not known here")]
    assert due(core, 100.0) == []


def test_a_no_for_now_is_tried_again_and_not_told() -> None:
    core = welcomed()
    take(core, offer("t1", lifetime=100.0))
    due(core, 1.0)
    core.rejected(id_of("t1"), "the disk is full", at(1), final=False)
    assert said(core) == []
    assert due(core, 1.9) == []
    assert due(core, 2.0) == [id_of("t1")]
    core.rejected(id_of("t1"), "the disk is full", at(2), final=False)
    core.tick(at(100))
    assert said(core, 14.0) == [ack("t1", S.EXPIRED, "the disk is full")]


def test_a_run_that_waits_is_acknowledged_and_one_that_has_started_runs() -> None:
    core = welcomed()
    core.told(run(started=None, ended=None, outcome=None))
    assert said(core) == [ack("t1", S.ACKNOWLEDGED)]
    core.told(run(change=2, ended=None, outcome=None))
    assert said(core) == [ack("t1", S.RUNNING, started=HUB)]


def test_a_newer_ack_replaces_one_that_was_not_said_yet() -> None:
    core = welcomed()
    core.told(run(started=None, ended=None, outcome=None))
    core.told(run(change=2, ended=None, outcome=None))
    assert said(core) == [ack("t1", S.RUNNING, started=HUB)]


def test_a_report_makes_the_ack_before_it_unnecessary() -> None:
    core = welcomed()
    core.told(run(started=None, ended=None, outcome=None))
    core.told(run(change=2))
    core.told(run(change=1, ended=None, outcome=None))
    assert said(core) == [network.Report(runs=(run(change=2),))]


def test_an_ack_that_changed_while_it_was_said_is_said_again() -> None:
    core = welcomed()
    core.told(run(started=None, ended=None, outcome=None))
    question = core.question(at(1))
    assert question == ack("t1", S.ACKNOWLEDGED)
    core.told(run(change=2, ended=None, outcome=None))
    core.answered(question, network.encode(network.Received(time=HUB)), at(1))
    assert said(core) == [ack("t1", S.RUNNING, started=HUB)]


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_is_reported(outcome: Outcome) -> None:
    core = welcomed()
    core.told(run(outcome=outcome))
    assert said(core) == [network.Report(runs=(run(outcome=outcome),))]


def test_a_denied_ack_is_noted_and_not_said_again() -> None:
    core = welcomed()
    core.told(run(started=None, ended=None, outcome=None))
    hear(core, answer=network.Denied(reason="an ack cannot say that", time=HUB))
    assert said(core) == []
    assert [note.count for note in core.notes] == ["messages_denied"]


def test_acks_come_before_reports_and_hello_before_both() -> None:
    core = welcomed()
    core.told(run("t1"))
    core.told(run("t2", ended=None, outcome=None))
    beacon(core, 1.0, sequence=1)
    greeted = greet(core, 1.0, sequence=1)
    assert isinstance(greeted, network.Hello)
    assert [type(question) for question in said(core)] == [network.Ack, network.Report]
