"""What the hub does when nobody asks: expiries, repetitions, silence."""

import tracemalloc

import pytest

from nanoexec.hub.ledger import KEPT, LOST_AFTER
from nanoexec.model import DeliveryState, Instant
from nanoexec.record import DeliveryMoved
from nanoexec.wire import network
from tests.unit.hub.made import (
    START,
    ack,
    at,
    core_of,
    hello,
    id_of,
    key_of,
    moves,
    published,
    remember,
    report,
    run,
    said_hello,
    state_of,
    submit,
)

S = DeliveryState


def test_what_nobody_started_in_time_expires_with_the_reason() -> None:
    core = core_of("web1", "web2")
    core.roster.away("web2")
    submit(core)
    assert core.tick(at(59.9)).changes == ()
    assert core.tick(at(60)).changes == (
        DeliveryMoved(id_of("t1"), "web1", S.EXPIRED, START + 60, "the node did not answer until it expired"),
        DeliveryMoved(id_of("t1"), "web2", S.EXPIRED, START + 60, "the node was away until it expired"),
    )
    assert core.ledger.open_deliveries() == 0


@pytest.mark.parametrize("state", [S.ACKNOWLEDGED, S.RUNNING])
def test_what_a_node_has_taken_is_waited_for_until_a_day_after_it_expired(state: DeliveryState) -> None:
    core = core_of("web1")
    submit(core)
    ack(core, "web1", state)
    for seconds in (60.0, 61.0, 3600.0, 60 + LOST_AFTER - 1):
        assert core.tick(at(seconds)).changes == ()
    (change,) = core.tick(at(60 + LOST_AFTER)).changes
    assert change == DeliveryMoved(
        id_of("t1"),
        "web1",
        S.LOST,
        START + 60 + LOST_AFTER,
        f"{state} since, and no report within a day after it expired",
    )


def test_a_hub_that_was_down_for_days_expires_what_is_left_at_once() -> None:
    core = core_of("web1", "web2", "web3", here=False)
    remember(core, "t1", {"web1": S.PENDING, "web2": S.RUNNING, "web3": S.FINISHED})
    assert moves(core.tick(at(5 * 86400)).changes) == {"web1": S.EXPIRED, "web2": S.LOST}


def test_each_trigger_expires_at_its_own_time() -> None:
    core = core_of("web1", here=False)
    for text, lifetime in (("t3", 30.0), ("t1", 10.0), ("t2", 20.0)):
        submit(core, text, lifetime=lifetime)
    ended = []
    for seconds in (10.0, 20.0, 30.0):
        changes = core.tick(at(seconds)).changes
        ended += [change.trigger for change in changes if isinstance(change, DeliveryMoved)]
        assert len(changes) == 1
    assert ended == [id_of("t1"), id_of("t2"), id_of("t3")]


def test_an_offer_is_repeated_with_doubling_pauses_to_the_node_alone() -> None:
    core = core_of("web1", "web2")
    submit(core, lifetime=3600.0)
    ack(core, "web2", S.ACKNOWLEDGED)
    repeated = []
    for second in range(1, 300):
        if second % 15 == 0:  # the node is still heard, but not with a hello, which would offer it again
            core.ask("web1", network.Ack(trigger=id_of("zz"), state=S.RUNNING), at(second))
        for frame in core.tick(at(second)).frames:
            topic, publication = published(frame)
            assert (topic, publication.offer.id) == (b"web1:", id_of("t1"))
            repeated.append(second)
    assert repeated == [3, 9, 21, 45, 93, 153, 213, 273]


@pytest.mark.parametrize("state", [S.ACKNOWLEDGED, S.RUNNING, S.REFUSED, S.EXPIRED])
def test_an_offer_is_not_repeated_once_it_is_confirmed(state: DeliveryState) -> None:
    core = core_of("web1", "web2")
    submit(core)
    ack(core, "web1", state)
    ack(core, "web2", state)
    assert core.tick(at(3)).frames == ()
    assert core.tick(at(30)).frames == ()


def test_an_offer_is_not_repeated_after_its_report() -> None:
    core = core_of("web1")
    submit(core)
    report(core, "web1")
    assert core.tick(at(3)).frames == ()


def test_an_offer_is_not_repeated_after_it_expired() -> None:
    core = core_of("web1")
    submit(core, lifetime=2.0)
    decision = core.tick(at(3))
    assert moves(decision.changes) == {"web1": S.EXPIRED}
    assert decision.frames == ()


def test_an_offer_is_not_repeated_to_a_node_that_is_away_but_given_when_it_returns() -> None:
    core = core_of("web1", "web2")
    submit(core, lifetime=3600.0)
    core.roster.away("web1")
    ack(core, "web2", S.ACKNOWLEDGED)
    assert core.tick(at(3)).frames == ()
    assert [offer.id for offer in hello(core, "web1", 4.0).offers] == [id_of("t1")]
    assert core.tick(at(6)).frames == ()
    assert len(core.tick(at(7)).frames) == 1


def test_repetitions_do_not_count_as_new_publications() -> None:
    core = core_of("web1", "web2")
    submit(core)
    for frame in core.tick(at(3)).frames:
        assert published(frame)[1].sequence == core.sequence == 1


def test_a_node_that_says_nothing_for_two_and_a_half_intervals_is_away() -> None:
    core = core_of("web1", "web2")
    core.ask("web2", said_hello(30.0), at(30))
    core.tick(at(37.5))
    assert core.roster.is_connected("web1")
    core.tick(at(37.6))
    assert not core.roster.is_connected("web1")
    assert core.roster.is_connected("web2")
    assert len(core.roster.connected()) == 1


def test_any_word_shows_that_a_node_is_there() -> None:
    core = core_of("web1")
    submit(core)
    ack(core, "web1", S.RUNNING, seconds=40.0)
    core.tick(at(46))
    assert core.roster.is_connected("web1")


def test_silence_is_measured_by_the_steady_clock_and_expiry_by_the_wall_clock() -> None:
    core = core_of("web1")
    submit(core)
    stepped = Instant(wall=START + 3600, steady=1.0)
    assert moves(core.tick(stepped).changes) == {"web1": S.EXPIRED}
    assert core.roster.is_connected("web1")


def test_a_closed_trigger_is_forgotten_when_nobody_has_asked_for_it_for_a_while() -> None:
    core = core_of("web1")
    submit(core)
    report(core, "web1")
    core.tick(at(10))
    core.tick(at(10 + KEPT))
    assert state_of(core, "web1") == S.FINISHED
    assert core.unknown_triggers(network.Ack(trigger=id_of("t1"), state=S.RUNNING)) == []
    core.tick(at(11 + KEPT))
    assert state_of(core, "web1") == S.FINISHED
    core.tick(at(12 + 2 * KEPT))
    assert state_of(core, "web1") is None
    assert core.unknown_triggers(network.Ack(trigger=id_of("t1"), state=S.RUNNING)) == [id_of("t1")]


def test_an_open_trigger_is_never_forgotten() -> None:
    core = core_of("web1", "web2")
    submit(core)
    report(core, "web1")
    ack(core, "web2", S.RUNNING)
    for seconds in range(0, 86400, 1000):
        core.tick(at(seconds))
    assert state_of(core, "web2") == S.RUNNING
    assert moves(report(core, "web2", seconds=86400.0).changes) == {"web2": S.FINISHED}


def test_the_connections_of_a_silent_node_are_cut() -> None:
    core = core_of("web1", "web2")
    core.ask("web2", said_hello(40.0), at(40))
    assert core.tick(at(46)).disconnect == (key_of("web1"),)
    assert core.tick(at(47)).disconnect == ()


def test_what_is_over_costs_no_memory_however_far_its_expiry() -> None:
    core = core_of("web1", "web2")
    submit(core, "last", "web2", lifetime=86400.0)
    began = 0
    tracemalloc.start()
    try:
        for number in range(6000):
            text = f"t{number:04}x"
            submit(core, text, "web1", seconds=number / 10, lifetime=30 * 86400.0)
            report(core, "web1", run(text), seconds=number / 10)
            core.tick(at(number / 10))
            if number == 3000:
                began = tracemalloc.get_traced_memory()[0]
        assert tracemalloc.get_traced_memory()[0] - began < 100_000
    finally:
        tracemalloc.stop()
    assert state_of(core, "web2", "last") is S.SENT
    core.tick(at(86400.0))
    assert state_of(core, "web2", "last") is S.EXPIRED
