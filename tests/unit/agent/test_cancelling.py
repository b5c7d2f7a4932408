"""A trigger that is taken back, on its way from the hub to the runner and the answer back."""

import pytest

from nanoexec.agent.core import AgentCore
from nanoexec.errors import RefusedError
from nanoexec.model import Order, Outcome
from nanoexec.wire import network, runner
from tests.unit.agent.made import (
    EPOCH,
    HUB,
    at,
    core_of,
    due,
    id_of,
    offer,
    publication,
    reported,
    run,
    said,
    welcomed,
)

pytestmark = pytest.mark.node


def cancellation(
    core: AgentCore, text: str = "t1", nodes: str = "web1", topic: bytes = b"web1:", sequence: int = 0
) -> None:
    message = network.Cancellation(
        epoch=EPOCH,
        sequence=sequence,
        time=HUB + 1,
        trigger=id_of(text),
        action="uptime",
        nodes=nodes,
        expires=HUB + 60,
        issuer="root",
        by="bob",
    )
    core.heard(network.publish(topic, message), at(1))


def wish(text: str = "t1") -> runner.Cancel:
    return runner.Cancel(trigger=id_of(text), action="uptime", expires=HUB + 60, issuer="root", by="bob")


def test_the_runner_is_asked_whether_or_not_the_order_ever_came() -> None:
    core = welcomed()
    cancellation(core)
    assert core.cancels.due(1.0) == [wish()]


def test_an_order_that_the_runner_does_not_have_yet_is_not_handed_over_any_more() -> None:
    core = welcomed(offers=(offer("t1"), offer("t2")))
    cancellation(core)
    assert due(core, 1.0) == [id_of("t2")]


def test_an_order_that_is_being_handed_over_is_left_to_the_runner() -> None:
    core = welcomed(offers=(offer("t1"),))
    assert due(core, 1.0) == [id_of("t1")]
    cancellation(core)
    core.handovers.failed(id_of("t1"), "no runner", 1.0)
    assert due(core, 9.0) == [id_of("t1")], "the journal decides: it has one of the two first"
    assert core.cancels.due(1.0) == [wish()]


@pytest.mark.parametrize("nodes", ["web2", "web[2-9]", "web[1"])
def test_what_is_meant_for_others_or_cannot_be_read_changes_nothing(nodes: str) -> None:
    core = welcomed(offers=(offer("t1"),))
    cancellation(core, nodes=nodes, topic=network.TOPIC_ALL)
    assert core.cancels.due(1.0) == []
    assert due(core, 1.0) == [id_of("t1")]


def test_a_repeat_while_the_runner_is_at_it_asks_nothing_and_one_after_it_asks_again() -> None:
    core = welcomed()
    cancellation(core)
    assert core.cancels.due(1.0) == [wish()]
    cancellation(core)
    assert core.cancels.due(2.0) == []
    core.cancels.done(id_of("t1"))
    cancellation(core)
    assert core.cancels.due(3.0) == [wish()]


def test_what_became_of_it_is_reported_and_again_if_the_hub_asks_again() -> None:
    core = welcomed()
    stopped = run("t1", 3, outcome=Outcome.CANCELLED)
    for _ in range(2):
        cancellation(core)
        core.told(stopped)
        core.cancels.done(id_of("t1"))
        assert reported(said(core)) == [stopped]
    core.told(stopped)
    assert said(core) == []


def test_a_runner_that_cannot_be_reached_is_asked_again_after_growing_pauses() -> None:
    core = welcomed()
    cancellation(core)
    steady = 1.0
    for pause in (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        assert core.cancels.due(steady) == [wish()]
        core.cancel_rejected(id_of("t1"), "no runner", at(steady), final=False)
        assert core.cancels.due(steady + pause - 0.1) == []
        steady += pause
    assert {note.count for note in core.notes} == {"cancels_refused"}


def test_a_runner_that_never_will_is_not_asked_again() -> None:
    core = welcomed()
    cancellation(core)
    core.cancels.due(1.0)
    core.cancel_rejected(id_of("t1"), "it was not triggered", at(1.0), final=True)
    assert core.cancels.due(99.0) == []
    assert core.notes[-1].text == f"trigger {id_of('t1')} cannot be cancelled: it was not triggered"


def test_a_strict_node_obeys_it_unsigned() -> None:
    def refuse(_: Order) -> None:
        raise RefusedError("not signed")

    core = welcomed(core_of(refuse))
    cancellation(core)
    assert core.cancels.due(1.0) == [wish()]


def test_it_is_not_counted_as_a_publication() -> None:
    core = welcomed(sequence=4)
    cancellation(core, topic=network.TOPIC_ALL, nodes="ALL", sequence=4)
    assert core.question(at(1)) is None
    core.heard(publication(offer("t2"), 1.0, sequence=5), at(1))
    assert core.question(at(1)) is None, "no gap"
    cancellation(core, topic=network.TOPIC_ALL, nodes="ALL", sequence=6)
    assert isinstance(core.question(at(1)), network.Hello), "one publication was missed"
