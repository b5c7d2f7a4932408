"""The bytes that cross the network: pure encoding and strict decoding.

A frame is one version byte, then MessagePack. On PUB a topic and ``:`` stand before it; the terminator is part of what
a node subscribes to, so ``web1:`` never receives ``web10:``. ``docs/protocol.md`` says what each message means, what
answers it and what a repeat does. Everything from outside is decoded here, once; whatever is wrong with it is one
`ProtocolError` that names the frame.
"""

from typing import Annotated, Final, TypeVar

import msgspec

from nanoexec.errors import ProtocolError
from nanoexec.model import (
    MAX_ACTIONS,
    MAX_LIFETIME,
    MAX_RUNS,
    ActionName,
    ActionOffer,
    Cursor,
    DeliveryState,
    Identifier,
    Moment,
    Name,
    NodeName,
    Order,
    Reason,
    Run,
    ShortText,
    Trigger,
    Value,
)
from nanoexec.wire.fault import FAULTS, plain

PROTOCOL: Final = 1
MAX_FRAME: Final = 1 << 20  # bytes; the transports refuse more before it is read
TOPIC_ALL: Final = b"ALL:"
TOPIC_HUB: Final = b"hub:"
_ORDER_MAGIC: Final = b"nanoexec trigger 1\0"  # what is signed can be nothing but a trigger
_VERSION: Final = bytes([PROTOCOL])

Epoch = ShortText
Sequence = Annotated[int, msgspec.Meta(ge=0)]


class Message(Value, frozen=True, tag_field="kind"):
    """A message of the protocol: a map whose ``kind`` says which."""


class Offer(Value, frozen=True, array_like=True):
    """An order with its trigger's id beside it, so that a node can refuse by name what it would not even read."""

    id: Identifier
    order: Order


# Hub to nodes, over PUB


class Beacon(Message, frozen=True, tag="beacon"):
    """I am here: my epoch, how many triggers I have published to ALL, my time, seconds to the next beacon."""

    epoch: Epoch
    sequence: Sequence
    time: Moment
    interval: Annotated[float, msgspec.Meta(gt=0, le=86400)]


class Publication(Message, frozen=True, tag="trigger"):
    """An order. On ``ALL:`` it carries the next sequence number; on a node's own topic the current one."""

    epoch: Epoch
    sequence: Sequence
    time: Moment
    offer: Offer


class Cancellation(Message, frozen=True, tag="cancel"):
    """``by`` takes a trigger of ``issuer`` back, on these nodes. It says enough to journal an id that has not come yet.

    It carries the sequence reached, on any topic: it is not counted, but said again until the node has answered.
    """

    epoch: Epoch
    sequence: Sequence
    time: Moment
    trigger: Identifier
    action: ActionName
    nodes: str
    expires: Moment
    issuer: Name
    by: Name


# Node to hub, over REQ


class Hello(Message, frozen=True, tag="hello"):
    """Who I am, my clock, my actions, how far you have my journal. Repeated as a heartbeat, then with ``actions`` None:
    unchanged.
    """

    version: ShortText
    time: Moment
    actions: Annotated[tuple[ActionOffer, ...], msgspec.Meta(max_length=MAX_ACTIONS)] | None = None
    epoch: Epoch = ""
    sequence: Sequence = 0
    cursor: Cursor | None = None


class Ack(Message, frozen=True, tag="ack"):
    """The node has the trigger in its journal (acknowledged), has started it (running), found it expired or refuses."""

    trigger: Identifier
    state: DeliveryState
    reason: Reason = ""
    started: Moment | None = None


class Report(Message, frozen=True, tag="report"):
    """Runs that have ended or were refused, whoever caused them."""

    runs: Annotated[tuple[Run, ...], msgspec.Meta(max_length=MAX_RUNS)]


class Bye(Message, frozen=True, tag="bye"):
    """The agent is stopping: away from now, not silent."""


# The hub's answers


class Welcome(Message, frozen=True, tag="welcome"):
    """Answer to hello: the offers that the hub believes this node does not have. ``more``: ask again after these.

    ``cursor`` is how much of the node's journal the hub is sure to have: whoever has agreed on another with an earlier
    epoch goes back to it. Only a node that has said its own is told.
    """

    node: NodeName
    epoch: Epoch
    sequence: Sequence
    time: Moment
    interval: Annotated[float, msgspec.Meta(gt=0, le=86400)]
    offers: tuple[Offer, ...] = ()
    more: bool = False
    cursor: Cursor | None = None


class Received(Message, frozen=True, tag="received"):
    """What was said is stored (ack, report, bye)."""

    time: Moment


class Denied(Message, frozen=True, tag="denied"):
    """The hub will not take this message; saying it again will not help."""

    reason: Reason
    time: Moment


# Joining, on a listener of its own


class CaRequest(Message, frozen=True, tag="ca"):
    """Show me your CA; I will compare it with my token."""


class CaAnswer(Message, frozen=True, tag="ca-answer"):
    certificate: str


class JoinRequest(Message, frozen=True, tag="join"):
    name: NodeName
    secret: bytes
    request: str


class JoinAnswer(Message, frozen=True, tag="joined"):
    certificate: str
    hub: str
    publish_port: int
    report_port: int


Published = Beacon | Publication | Cancellation
Question = Hello | Ack | Report | Bye
Answer = Welcome | Received | Denied
JoinQuestion = CaRequest | JoinRequest
JoinReply = CaAnswer | JoinAnswer | Denied

_encoder: Final = msgspec.msgpack.Encoder()
_published: Final[msgspec.msgpack.Decoder[Published]] = msgspec.msgpack.Decoder(Published)
_question: Final[msgspec.msgpack.Decoder[Question]] = msgspec.msgpack.Decoder(Question)
_answer: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)
_join_question: Final[msgspec.msgpack.Decoder[JoinQuestion]] = msgspec.msgpack.Decoder(JoinQuestion)
_join_reply: Final[msgspec.msgpack.Decoder[JoinReply]] = msgspec.msgpack.Decoder(JoinReply)
_trigger: Final[msgspec.msgpack.Decoder[Trigger]] = msgspec.msgpack.Decoder(Trigger)

_T = TypeVar("_T")


def encode(message: Message) -> bytes:
    """A frame. Raises `ProtocolError` for one that no peer would accept (over `MAX_FRAME`)."""
    frame = _VERSION + _encoder.encode(message)
    if len(frame) > MAX_FRAME:
        raise ProtocolError(f"{_kind(message)} frame of {len(frame)} bytes: at most {MAX_FRAME} may be sent")
    return frame


def topic_of(node: str) -> bytes:
    """The topic of one node, terminator included."""
    return node.encode() + b":"


def publish(topic: bytes, message: Published) -> bytes:
    """A frame for PUB."""
    return topic + encode(message)


def decode_published(data: bytes) -> Published:
    """What came in on SUB, without its topic (the subscription has already chosen). Raises `ProtocolError`."""
    _, colon, frame = data.partition(b":")
    if not colon:
        raise ProtocolError(f"published frame of {len(data)} bytes has no topic")
    return _decode(_published, frame, "published")


def decode_question(data: bytes) -> Question:
    """What a node asks the hub. Raises `ProtocolError`."""
    return _decode(_question, data, "request")


def decode_answer(data: bytes) -> Answer:
    """What the hub answers. Raises `ProtocolError`."""
    return _decode(_answer, data, "answer")


def decode_join_question(data: bytes) -> JoinQuestion:
    """What an unknown machine asks the join listener. Raises `ProtocolError`."""
    return _decode(_join_question, data, "join request")


def decode_join_reply(data: bytes) -> JoinReply:
    """What the join listener answers. Raises `ProtocolError`."""
    return _decode(_join_reply, data, "join answer")


def encode_trigger(trigger: Trigger) -> bytes:
    """The exact bytes of a trigger: what is stored, signed, published and verified."""
    return _ORDER_MAGIC + _encoder.encode(trigger)


def decode_trigger(body: bytes) -> Trigger:
    """The trigger in an order's body, after its signature has been verified. Raises `ProtocolError`."""
    if not body.startswith(_ORDER_MAGIC):
        raise ProtocolError(f"trigger of {len(body)} bytes does not begin like a trigger of protocol {PROTOCOL}")
    try:
        trigger = _trigger.decode(body[len(_ORDER_MAGIC) :])
    except FAULTS as error:
        raise ProtocolError(f"trigger of {len(body)} bytes: {plain(error)}") from None
    if not trigger.issued <= trigger.expires < float("inf"):
        raise ProtocolError(f"trigger {trigger.id}: it expires before it was issued")
    if trigger.expires - trigger.issued > MAX_LIFETIME + 1:  # what was added up in floating point may be a little more
        raise ProtocolError(f"trigger {trigger.id}: it lives longer than {MAX_LIFETIME / 86400:.0f} days")
    return trigger


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes, what: str) -> _T:
    if len(data) > MAX_FRAME:
        raise ProtocolError(f"{what} frame of {len(data)} bytes: at most {MAX_FRAME} are accepted")
    if not data:
        raise ProtocolError(f"{what} frame is empty")
    if data[0] != PROTOCOL:
        advice = "this side needs an upgrade" if data[0] > PROTOCOL else "it is not nanoexec, or too old"
        raise ProtocolError(f"{what} frame speaks protocol {data[0]}, this side speaks {PROTOCOL}: {advice}")
    try:
        return decoder.decode(memoryview(data)[1:])
    except FAULTS as error:
        raise ProtocolError(f"{what} frame of {len(data)} bytes: {plain(error)}") from None


def _kind(message: Message) -> str:
    return str(message.__struct_config__.tag)
