"""What hub and nodes say to each other survives the way there, whatever it is."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoexec.errors import ProtocolError
from nanoexec.model import Order, Trigger
from nanoexec.wire import network
from tests.unit.wire.values import examples, kinds, values

pytestmark = pytest.mark.node

SPOKEN: list[tuple[Any, Callable[[bytes], Any]]] = [
    (network.Question, network.decode_question),
    (network.Answer, network.decode_answer),
    (network.JoinQuestion, network.decode_join_question),
    (network.JoinReply, network.decode_join_reply),
]


@pytest.mark.parametrize(
    ("kind", "read"), [pytest.param(kind, read, id=kind.__name__) for union, read in SPOKEN for kind in kinds(union)]
)
@examples
@given(data=st.data())
def test_every_message_is_read_as_it_was_written(
    kind: type[network.Message], read: Callable[[bytes], network.Message], data: st.DataObject
) -> None:
    message = data.draw(values(kind))
    assert read(network.encode(message)) == message


@examples
@given(message=values(network.Beacon) | values(network.Publication), node=values(network.Welcome).map(lambda w: w.node))
def test_every_publication_is_read_as_it_was_written_whatever_its_topic(message: network.Published, node: str) -> None:
    for topic in (network.TOPIC_ALL, network.TOPIC_HUB, network.topic_of(node)):
        assert network.decode_published(network.publish(topic, message)) == message


@examples
@given(trigger=values(Trigger))
def test_a_trigger_is_read_as_it_was_issued(trigger: Trigger) -> None:
    if 0 <= trigger.expires - trigger.issued <= 30 * 86400 + 1:
        assert network.decode_trigger(network.encode_trigger(trigger)) == trigger
    else:
        with pytest.raises(ProtocolError, match=r"expires before it was issued|lives longer than 30 days"):
            network.decode_trigger(network.encode_trigger(trigger))


def test_the_same_trigger_gives_the_same_bytes_each_time() -> None:
    trigger = Trigger("0123456789abcdef", "uptime", "ALL", 1.0, 2.0, "root", {"b": "1", "a": "2"})
    assert network.encode_trigger(trigger) == network.encode_trigger(trigger)


def test_what_is_signed_can_be_taken_for_nothing_but_a_trigger() -> None:
    body = network.encode_trigger(Trigger("0123456789abcdef", "uptime", "ALL", 1.0, 2.0, "root"))
    assert body.startswith(b"nanoexec trigger 1\0")
    for read in (network.decode_question, network.decode_answer, network.decode_join_question):
        with pytest.raises(ProtocolError):
            read(body)


def test_the_topic_of_a_node_is_not_the_beginning_of_anothers() -> None:
    frame = network.publish(network.topic_of("web10"), network.Beacon(epoch="e", sequence=0, time=0.0, interval=1.0))
    assert frame.startswith(network.topic_of("web10"))
    assert not frame.startswith(network.topic_of("web1"))
    assert network.topic_of("web1") == b"web1:"


def test_a_frame_that_no_peer_would_accept_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match=r"^denied frame of \d+ bytes: at most 1048576 may be sent$"):
        network.encode(network.Denied(reason="x" * network.MAX_FRAME, time=0.0))


def test_the_largest_order_fits_into_every_frame_that_carries_one() -> None:
    offer = network.Offer("0123456789abcdef", Order(b"x" * (64 << 10), b"s" * 64))
    publication = network.Publication(epoch="e" * 64, sequence=2**63 - 1, time=1e11, offer=offer)
    frame = network.publish(network.topic_of("n" * 253), publication)
    assert network.decode_published(frame) == publication
