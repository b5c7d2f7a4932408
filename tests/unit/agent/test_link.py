"""When the agent says hello, and when it takes the hub for gone."""

import pytest

from nanoexec import __version__
from nanoexec.errors import ProtocolError
from nanoexec.model import Cursor
from nanoexec.wire import network
from tests.unit.agent.made import (
    EPOCH,
    HUB,
    UPTIME,
    at,
    beacon,
    core_of,
    greet,
    hear,
    offer,
    publication,
    run,
    said,
    welcomed,
)

pytestmark = pytest.mark.node


def hello_is_due(seconds: float, core: object) -> bool:
    return isinstance(core.question(at(seconds)), network.Hello)  # type: ignore[attr-defined]


def test_nothing_is_said_without_a_link() -> None:
    core = core_of()
    assert core.question(at(0)) is None
    core.described((UPTIME,))
    core.told(run())
    assert core.question(at(1000)) is None
    assert not core.welcomed


def test_the_first_word_on_a_link_is_hello_with_clock_and_actions() -> None:
    core = core_of()
    core.described((UPTIME,))
    core.connected(at(0))
    assert core.question(at(0, off=7200)) == network.Hello(
        version=__version__, time=HUB + 7200, actions=(UPTIME,), epoch="", sequence=0, cursor=Cursor()
    )


def test_nothing_else_is_said_before_the_hub_has_answered_hello() -> None:
    core = core_of()
    core.connected(at(0))
    core.told(run())
    assert isinstance(core.question(at(0)), network.Hello)
    assert not core.welcomed
    greet(core)
    assert core.welcomed
    assert isinstance(core.question(at(0)), network.Report)


def test_hello_is_repeated_as_a_heartbeat_each_interval_without_the_actions() -> None:
    core = welcomed()
    for beat in (15.0, 30.0, 45.0):
        assert core.question(at(beat - 0.1)) is None
        hello = greet(core, beat)
        assert hello.actions is None
        assert hello.epoch == EPOCH


def test_the_hub_decides_how_often_the_heart_beats() -> None:
    core = welcomed(interval=3.0)
    assert core.question(at(2.9)) is None
    assert hello_is_due(3.0, core)


def test_more_offers_are_asked_for_after_a_second() -> None:
    core = welcomed(more=True)
    assert core.question(at(0.9)) is None
    assert hello_is_due(1.0, core)


def test_new_actions_are_told_at_once_and_the_same_ones_are_not() -> None:
    core = welcomed()
    core.described((UPTIME,))
    assert greet(core, 1.0).actions == (UPTIME,)
    core.described((UPTIME,))
    assert core.question(at(2)) is None


def test_actions_are_told_again_until_the_hub_has_them() -> None:
    core = welcomed()
    core.described((UPTIME,))
    assert hello_is_due(1.0, core)
    core.disconnected()
    core.connected(at(2))
    assert greet(core, 2.0).actions == (UPTIME,)


def test_actions_that_change_while_hello_is_on_its_way_are_told_with_the_next() -> None:
    core = core_of()
    core.connected(at(0))
    question = core.question(at(0))
    core.described((UPTIME,))
    assert question is not None
    answer = network.Welcome(node="web1", epoch=EPOCH, sequence=0, time=HUB, interval=15.0)
    core.answered(question, network.encode(answer), at(0))
    assert greet(core, 15.0).actions == (UPTIME,)


def test_a_beacon_in_sequence_needs_no_answer() -> None:
    core = welcomed(sequence=3)
    beacon(core, 10.0, sequence=3)
    assert core.question(at(10)) is None


def test_publications_in_sequence_need_no_hello() -> None:
    core = welcomed()
    core.heard(publication(offer("t1"), sequence=1), at(1))
    core.heard(publication(offer("t2"), sequence=2), at(2))
    beacon(core, 3.0, sequence=2)
    assert core.question(at(3)) is None


def test_a_gap_before_a_publication_makes_the_agent_ask() -> None:
    core = welcomed()
    core.heard(publication(offer("t2"), sequence=2), at(1))
    assert hello_is_due(1.0, core)


def test_a_gap_before_a_beacon_makes_the_agent_ask() -> None:
    core = welcomed()
    beacon(core, 1.0, sequence=1)
    assert hello_is_due(1.0, core)


def test_a_gap_before_an_order_to_this_node_alone_makes_the_agent_ask() -> None:
    core = welcomed()
    core.heard(publication(offer("t2"), sequence=1, topic=network.topic_of("web1")), at(1))
    assert hello_is_due(1.0, core)


def test_an_order_to_this_node_alone_does_not_count() -> None:
    core = welcomed(sequence=4)
    core.heard(publication(offer("t1"), sequence=4, topic=network.topic_of("web1")), at(1))
    core.heard(publication(offer("t2"), sequence=5), at(1))
    assert core.question(at(1)) is None


@pytest.mark.parametrize("sequence", [0, 5])
def test_a_new_epoch_makes_the_agent_ask_whatever_its_sequence(sequence: int) -> None:
    core = welcomed(sequence=5)
    beacon(core, 1.0, sequence=sequence, epoch="e2")
    assert hello_is_due(1.0, core)
    greet(core, 1.0, sequence=sequence, epoch="e2")
    beacon(core, 2.0, sequence=sequence, epoch="e2")
    assert core.question(at(2)) is None


def test_a_repeated_publication_makes_no_gap() -> None:
    core = welcomed()
    for _ in range(3):
        core.heard(publication(offer("t1"), sequence=1), at(1))
    core.heard(publication(offer("t2"), sequence=2), at(1))
    assert core.question(at(1)) is None


def test_publications_out_of_order_are_both_taken_and_the_agent_asks() -> None:
    core = welcomed()
    core.heard(publication(offer("t2"), sequence=2), at(1))
    core.heard(publication(offer("t1"), sequence=1), at(1))
    assert [taken.id for taken in core.orders_due(at(1))] == [offer("t2").id, offer("t1").id]
    assert hello_is_due(1.0, core)


def test_a_new_link_begins_with_hello_at_once() -> None:
    core = welcomed()
    core.disconnected()
    assert not core.welcomed
    assert core.question(at(5)) is None
    core.connected(at(5))
    assert hello_is_due(5.0, core)


def test_the_hub_counts_as_gone_after_two_and_a_half_intervals_without_a_beacon() -> None:
    core = welcomed()
    assert not core.hub_is_silent(at(37.5))
    assert core.hub_is_silent(at(37.6))
    beacon(core, 37.0)
    assert not core.hub_is_silent(at(74.5))
    assert core.hub_is_silent(at(74.6))


def test_the_length_of_silence_follows_the_hubs_interval() -> None:
    core = welcomed()
    beacon(core, 1.0, interval=2.0)
    assert not core.hub_is_silent(at(6))
    assert core.hub_is_silent(at(6.1))


def test_publications_and_answers_do_not_stand_for_beacons() -> None:
    """The two connections fail apart: a hub that answers but cannot be heard is of no use."""
    core = welcomed()
    for beat in (15.0, 30.0, 45.0):
        greet(core, beat, sequence=1)
    core.heard(publication(offer("t1"), seconds=45.0), at(45))
    core.told(run())
    hear(core, 45.0)
    assert core.hub_is_silent(at(46))


def test_a_new_link_gives_the_hub_time_again() -> None:
    core = welcomed()
    core.disconnected()
    core.connected(at(1000))
    assert not core.hub_is_silent(at(1037))
    assert core.hub_is_silent(at(1038))


def test_a_welcome_under_another_name_is_refused_with_advice() -> None:
    core = core_of()
    core.connected(at(0))
    with pytest.raises(ProtocolError, match=r"^the hub knows this node as web2: set name = 'web2' in agent\.toml$"):
        greet(core, node="web2", offers=(offer("t1", "web2"),))
    assert not core.welcomed
    assert core.orders_due(at(0)) == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (network.Denied(reason="web1 is not on the roster", time=HUB), "web1 is not on the roster"),
        (network.Received(time=HUB), "it answers with something else"),
    ],
)
def test_a_hub_that_does_not_welcome_is_of_no_use(answer: network.Answer, reason: str) -> None:
    core = core_of()
    core.connected(at(0))
    with pytest.raises(ProtocolError, match=f"^the hub does not welcome web1: {reason}$"):
        hear(core, 0.0, answer)
    assert not core.welcomed


def test_an_answer_that_cannot_be_read_makes_the_link_useless() -> None:
    core = core_of()
    core.connected(at(0))
    question = core.question(at(0))
    assert question is not None
    with pytest.raises(ProtocolError):
        core.answered(question, b"\x01garbage", at(0))


@pytest.mark.parametrize("frame", [b"", b"ALL", b"ALL:", b"ALL:\x01garbage", b"ALL:\x02\x80", b"hub:reboot"])
def test_a_published_frame_that_cannot_be_read_is_noted_and_changes_nothing(frame: bytes) -> None:
    core = welcomed()
    core.heard(frame, at(1))
    assert [note.count for note in core.notes] == ["frames_refused"]
    assert core.question(at(1)) is None
    assert core.hub_is_silent(at(46))


def test_a_quiet_agent_has_nothing_to_say() -> None:
    assert said(welcomed()) == []
