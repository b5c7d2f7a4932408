"""What an agent holds for the hub's time, and what it does with an order while it cannot know."""

import math

import pytest
from msgspec.structs import replace

from nanoexec.agent.core import ANSWER_WITHIN, AgentCore
from nanoexec.agent.hub_time import SET, HubTime
from nanoexec.errors import UnavailableError
from nanoexec.model import DeliveryState
from nanoexec.wire import network
from tests.unit.agent.made import (
    EPOCH,
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
    said,
    welcomed,
)

pytestmark = pytest.mark.node


def bounds(known: HubTime, steady: float) -> tuple[float, float]:
    return known.earliest(steady) - HUB, known.latest(steady) - HUB


def expired(core: AgentCore, seconds: float) -> list[str]:
    """What the agent calls expired now, and why."""
    acks = [ack for ack in said(core, seconds) if isinstance(ack, network.Ack)]
    assert all(ack.state is DeliveryState.EXPIRED for ack in acks)
    return [ack.reason for ack in acks]


def slow_welcome(core: AgentCore, question: float, answer: float, hub: float, **more: object) -> None:
    """Hello is answered slowly, after the hub's clock has shown ``hub`` at some moment between the two."""
    hello = core.question(at(question))
    assert isinstance(hello, network.Hello)
    welcome = network.Welcome(node="web1", epoch=EPOCH, sequence=0, time=HUB + hub, interval=15.0)
    core.answered(hello, network.encode(replace(welcome, **more)), at(answer))


# The bounds


def test_nothing_is_known_of_the_hubs_time_until_it_has_answered() -> None:
    known = HubTime()
    known.published(HUB, 0.0)
    assert not known.known
    assert bounds(known, 5.0) == (-math.inf, math.inf)


def test_an_answer_tells_the_hubs_time_as_exactly_as_it_was_quick_and_the_steady_clock_carries_it_on() -> None:
    known = HubTime()
    known.answered(HUB, asked=1.0, read=4.0)
    assert known.known
    assert bounds(known, 4.0) == (0.0, 3.0)
    assert bounds(known, 3604.0) == (3600.0, 3603.0)


def test_the_newest_answer_counts_also_when_it_is_slower_for_the_clock_may_have_been_set_meanwhile() -> None:
    known = HubTime()
    known.answered(HUB, asked=0.0, read=0.0)
    known.answered(HUB + 2.0, asked=1.0, read=22.0)  # set back by 20 s, and shown just as the answer was read
    assert bounds(known, 22.0) == (2.0, 23.0)


def test_a_frame_that_was_held_up_does_not_turn_the_hubs_time_back() -> None:
    known = HubTime()
    known.answered(HUB, asked=0.0, read=0.0)
    known.published(HUB + 2.0, read=3600.0)  # this machine slept; the frame waited in a buffer
    assert bounds(known, 3600.0) == (3600.0, 3600.0)


def test_a_published_frame_shows_how_late_it_is_at_least() -> None:
    known = HubTime()
    known.answered(HUB, asked=0.0, read=10.0)
    known.published(HUB + 16.0, read=20.0)
    assert bounds(known, 20.0) == (16.0, 20.0)


def test_clocks_that_drift_leave_no_doubt() -> None:
    known = HubTime()
    known.answered(HUB, asked=0.0, read=0.0)
    known.published(HUB + 15.0 + SET, read=15.0)
    assert bounds(known, 15.0) == (15.0 + SET, 15.0 + SET)


def test_a_frame_from_a_clock_that_was_set_leaves_everything_open_until_the_hub_answers() -> None:
    known = HubTime()
    known.answered(HUB, asked=0.0, read=0.0)
    for _ in range(2):  # perhaps it was set back since, and these are from before
        known.published(HUB + 3600.0, read=15.0)
        assert bounds(known, 15.0) == (15.0, math.inf)
    known.answered(HUB - 20.0, asked=16.0, read=16.0)
    assert bounds(known, 16.0) == (-20.0, -20.0)


# Orders


def test_an_order_that_may_have_expired_is_neither_run_nor_called_expired_and_the_hub_is_asked_at_once() -> None:
    """The hub's clock was set back by 600 s, and its answer took ten."""
    core = welcomed()
    slow_welcome(core, 15.0, 25.0, hub=-600.0, offers=(offer(lifetime=5.0, issued=-600.0),))
    assert core.orders_due(at(25)) == []
    greet(core, 25.0, time=HUB - 600.0, offers=(offer(lifetime=5.0, issued=-600.0),))
    assert [order.id for order in core.orders_due(at(25))] == [id_of("t1")]


def test_an_order_is_not_run_late_after_a_slow_answer() -> None:
    core = core_of()
    core.connected(at(0))
    slow_welcome(core, 0.0, 20.0, hub=0.0, offers=(offer(lifetime=15.0),))  # it was 20 when this was read, or 0
    assert core.orders_due(at(20)) == []
    greet(core, 20.0)
    assert core.orders_due(at(20)) == []
    assert expired(core, 20.0) == ["the hub did not say in time that it had not expired"]


def test_the_runner_is_told_when_an_order_has_expired_by_the_latest_time_that_it_may_be_at_the_hub() -> None:
    core = core_of()
    core.connected(at(0))
    slow_welcome(core, 0.0, 20.0, hub=0.0, offers=(offer(lifetime=30.0),))  # it was 20 when this was read, or 0
    assert [order.deadline for order in core.orders_due(at(21))] == [30.0]


def test_an_order_that_the_runner_found_late_is_handed_over_again_if_the_hubs_clock_was_set_back() -> None:
    core = welcomed(offers=(offer(lifetime=10.0),))
    assert [order.deadline for order in core.orders_due(at(5))] == [10.0]
    core.tick(at(9))
    greet(core, 9.0, time=HUB - 11)
    core.rejected(id_of("t1"), "it expired before the runner came to it", at(11), final=False)
    assert core.orders_due(at(11)) == []
    assert [order.deadline for order in core.orders_due(at(12))] == [30.0]
    assert expired(core, 12.0) == []


def test_the_hub_is_asked_once_a_second_at_most() -> None:
    core = welcomed(offers=(offer(lifetime=10.0),))
    questions = []
    for tenth in range(75, 100):
        core.tick(at(tenth / 10))
        if core.question(at(tenth / 10)) is not None:
            greet(core, tenth / 10)
            questions.append(tenth / 10)
    assert questions == [8.0, 9.0]


def test_an_order_in_doubt_is_given_up_when_even_the_earliest_possible_time_is_past_it() -> None:
    core = core_of()
    core.connected(at(0))
    slow_welcome(core, 0.0, 20.0, hub=0.0, offers=(offer(lifetime=15.0),))
    for second in range(20, 35):
        core.tick(at(second))
        assert core.outbox.question() is None
    core.tick(at(35))
    assert core.outbox.question() is not None


def test_the_hub_is_asked_before_an_order_is_given_up_for_its_clock_may_have_been_set_back() -> None:
    core = welcomed(offers=(offer(lifetime=10.0),))
    assert due(core) == [id_of("t1")]
    core.handovers.failed(id_of("t1"), "no runner", 0.0)
    core.tick(at(7))
    assert core.question(at(7)) is None
    core.tick(at(8.5))
    greet(core, 8.5, time=HUB - 11.5)
    core.tick(at(10))
    assert expired(core, 10.0) == []
    assert due(core, 10.0) == [id_of("t1")]


def test_an_order_is_not_given_up_while_the_hub_is_being_asked() -> None:
    core = welcomed(offers=(offer(lifetime=10.0),))
    core.tick(at(9))
    hello = core.question(at(9))
    assert isinstance(hello, network.Hello)
    core.tick(at(12))
    assert core.outbox.question() is None
    answer = network.Welcome(node="web1", epoch=EPOCH, sequence=0, time=HUB - 11.0, interval=15.0)
    core.answered(hello, network.encode(answer), at(12))
    assert [order.id for order in core.orders_due(at(12))] == [id_of("t1")]


def test_an_order_that_came_too_late_is_not_given_up_before_the_hub_has_been_asked() -> None:
    core = welcomed()
    core.heard(publication(offer(lifetime=60.0, issued=-3590.0), -3590.0), at(10))  # the clock was set back by an hour
    assert core.orders_due(at(10)) == []
    greet(core, 10.0, time=HUB - 3590.0)
    assert [order.id for order in core.orders_due(at(10))] == [id_of("t1")]


def test_without_a_link_no_order_is_given_up_before_the_next_welcome() -> None:
    core = welcomed(offers=(offer(lifetime=10.0),))
    core.disconnected()
    core.tick(at(12))
    core.connected(at(13))
    core.heard(publication(offer("t2", lifetime=11.0), 0.0), at(13))
    assert core.orders_due(at(13)) == []
    greet(core, 13.0, time=HUB - 7.0)
    assert [order.id for order in core.orders_due(at(13))] == [id_of("t1"), id_of("t2")]


def test_a_message_that_cannot_be_sent_is_no_question_to_wait_for() -> None:
    core = welcomed(offers=(offer(lifetime=10.0),))
    core.tick(at(9))
    hello = core.question(at(9))
    assert hello is not None
    core.unsayable(hello, "too large", at(9))
    core.tick(at(10))
    assert core.outbox.question() is not None


def test_when_the_hubs_clock_is_set_forward_an_order_waits_until_the_hub_has_been_asked() -> None:
    core = welcomed(offers=(offer("t1", lifetime=60.0), offer("t2", lifetime=7200.0)))
    beacon(core, 10.0, time=HUB + 3610)
    assert core.orders_due(at(10)) == []
    greet(core, 10.0, time=HUB + 3610)
    assert [order.id for order in core.orders_due(at(10))] == [id_of("t2")]
    assert len(expired(core, 10.0)) == 1


# Sleep


def test_an_order_that_waited_while_the_machine_slept_is_not_run_before_the_hub_has_said_what_time_it_is() -> None:
    core = core_of()
    core.connected(at(0.0))
    core.heard(publication(offer(lifetime=30.0)), at(600.0))  # it came at once, and was read ten minutes later
    assert due(core, 600.0) == []
    greet(core, 600.0, offers=(offer(lifetime=30.0),))
    assert due(core, 600.0) == []
    said = hear(core, 600.0)
    assert isinstance(said, network.Ack)
    assert said.state is DeliveryState.EXPIRED


def test_an_answer_that_is_read_long_after_its_question_is_none() -> None:
    core = core_of()
    core.connected(at(0.0))
    question = core.question(at(0.0))
    assert question is not None
    welcome = network.Welcome(
        node="web1", epoch=EPOCH, sequence=0, time=HUB, interval=15.0, offers=(offer(lifetime=30.0),)
    )
    with pytest.raises(UnavailableError, match="was read 600 s after it was asked for"):
        core.answered(question, network.encode(welcome), at(600.0))
    assert due(core, 600.0) == []
    core.answered(question, network.encode(welcome), at(ANSWER_WITHIN))
    assert core.welcomed
