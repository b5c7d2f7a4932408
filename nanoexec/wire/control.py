"""What the command line says to the hub, and what it hears, over ``/run/nanoexec/control.sock``.

One request a connection. The kernel tells the hub which user asks; the request does not. Every request may be answered
with `Failed` instead, which carries the exit code.
"""

from typing import Annotated, Final

import msgspec

from nanoexec.model import (
    MAX_LIFETIME,
    ActionName,
    Arguments,
    Delivery,
    Node,
    NodeName,
    Order,
    Reason,
    Trigger,
    Value,
)
from nanoexec.record import Chain, HistoryEntry, Lapse, RunReported, TriggerDetail
from nanoexec.wire import stream

Lifetime = Annotated[float, msgspec.Meta(gt=0, le=MAX_LIFETIME)]
Limit = Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class ControlMessage(Value, frozen=True, tag_field="kind"):
    """A message between the command line and the hub."""


# Requests


class Wanted(Value, frozen=True):
    """What an operator wants to run where. ``lifetime``: seconds in which nodes may start it."""

    target: str
    action: ActionName
    lifetime: Lifetime
    arguments: Arguments = msgspec.field(default_factory=dict)
    command: tuple[str, ...] = ()
    timeout: Annotated[float, msgspec.Meta(gt=0)] | None = None


class Submit(ControlMessage, frozen=True, tag="submit"):
    """Issue this. Answered by `Accepted`, then, if ``watch``, by `Progress` until the asker hangs up."""

    wanted: Wanted
    watch: bool = True


class Prepare(ControlMessage, frozen=True, tag="prepare"):
    """Which bytes would be issued for this? Answered by `Prepared`; nothing is stored."""

    wanted: Wanted


class Issue(ControlMessage, frozen=True, tag="issue"):
    """Issue these bytes, which `Prepare` gave, with their signature. Answered like `Submit`."""

    order: Order
    target: str
    watch: bool = True


class Cancel(ControlMessage, frozen=True, tag="cancel-trigger"):
    """Take a trigger back, by its id or an unambiguous beginning of it; ``nodes`` (a target) narrows it to some.
    Answered by `Cancelling`, then, if ``watch``, by `Progress` until the asker hangs up.
    """

    id: str
    nodes: str | None = None
    watch: bool = True


class Prove(ControlMessage, frozen=True, tag="prove"):
    """What is known of a trigger, by its id or the beginning of it, on one node? Answered by `Proof`."""

    id: str
    node: NodeName


class MakeToken(ControlMessage, frozen=True, tag="make-token"):
    """A join token. Answered by `TokenText`."""

    lifetime: Lifetime
    uses: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1
    node: NodeName | None = None


class ListNodes(ControlMessage, frozen=True, tag="list-nodes"):
    """The roster. Answered by `NodeList`."""


class Revoke(ControlMessage, frozen=True, tag="revoke"):
    """Shut a node out. Answered by `Done`."""

    node: NodeName


class AskHistory(ControlMessage, frozen=True, tag="history"):
    """Runs and deliveries, newest first. Answered by `History`."""

    limit: Limit
    node: NodeName | None = None
    action: ActionName | None = None
    since: float | None = None


class Show(ControlMessage, frozen=True, tag="show"):
    """A trigger by its id or an unambiguous beginning of it, or a run. Answered by `Shown`."""

    id: str


class AskStatus(ControlMessage, frozen=True, tag="status"):
    """How is the hub? Answered by `Status`."""


class AskOverdue(ControlMessage, frozen=True, tag="overdue"):
    """Where has an action's interval passed without a success? ``action`` None means every action that some node has a
    schedule for. Answered by `Overdue`.
    """

    action: ActionName | None = None


# Replies


class Accepted(ControlMessage, frozen=True, tag="accepted"):
    """The trigger is on disk. ``away``: nodes that are not connected now; ``unknown``: names on no roster."""

    trigger: Trigger
    nodes: tuple[NodeName, ...]
    away: tuple[NodeName, ...] = ()
    unknown: tuple[str, ...] = ()


class Cancelling(ControlMessage, frozen=True, tag="cancelling"):
    """That it is taken back is on disk. ``deliveries``: each that was meant, as it is now; ``unknown``: names that are
    no part of the trigger. ``away``: nodes that will hear of it when they return; ``over``: too late for these.
    """

    trigger: Trigger
    deliveries: tuple[Delivery, ...]
    away: tuple[NodeName, ...] = ()
    over: tuple[NodeName, ...] = ()
    unknown: tuple[str, ...] = ()


class Proof(ControlMessage, frozen=True, tag="proof"):
    chain: Chain


class Progress(ControlMessage, frozen=True, tag="progress"):
    """Deliveries that have moved, as they are now; which nodes of the roster have gone ``away``, or come ``back``."""

    deliveries: tuple[Delivery, ...] = ()
    away: tuple[NodeName, ...] = ()
    back: tuple[NodeName, ...] = ()


class Prepared(ControlMessage, frozen=True, tag="prepared"):
    body: bytes
    unknown: tuple[str, ...] = ()


class TokenText(ControlMessage, frozen=True, tag="token"):
    token: str
    expires: float
    join_port: int


class NodeList(ControlMessage, frozen=True, tag="nodes"):
    nodes: tuple[Node, ...]


class Done(ControlMessage, frozen=True, tag="done"):
    """It is so now. ``note`` says what else the operator should know."""

    note: str = ""


class History(ControlMessage, frozen=True, tag="history-is"):
    entries: tuple[HistoryEntry, ...]


class Shown(ControlMessage, frozen=True, tag="shown"):
    """A trigger with its deliveries, or a run that no trigger caused; or the runs of a trigger that a restored hub has
    forgotten, by node.
    """

    trigger: TriggerDetail | None = None
    runs: tuple[RunReported, ...] = ()


class Status(ControlMessage, frozen=True, tag="status-is"):
    """``counters`` are since the start: frames refused, peers refused, reports stored, ...

    ``heard`` is when the hub last heard its own beacon through the network. ``alarm`` says why that is too long ago,
    ``problem`` what else is wrong; both are empty while nothing is.
    """

    hub: NodeName
    version: str
    epoch: str
    started: float
    publish_port: int
    report_port: int
    join_port: int | None
    nodes: int
    connected: int
    open_deliveries: int
    counters: dict[str, int]
    problem: str = ""
    heard: float | None = None
    alarm: str = ""


class Overdue(ControlMessage, frozen=True, tag="overdue-is"):
    """By action, then by node."""

    lapses: tuple[Lapse, ...]


class Failed(ControlMessage, frozen=True, tag="failed"):
    reason: Reason
    exit_code: int


Question = (
    Prepare | Prove | MakeToken | ListNodes | Revoke | AskHistory | Show | AskStatus | AskOverdue
)  # one reply each
Request = Submit | Issue | Cancel | Question
Reply = (
    Accepted
    | Cancelling
    | Progress
    | Prepared
    | Proof
    | TokenText
    | NodeList
    | Done
    | History
    | Shown
    | Status
    | Overdue
    | Failed
)

_request: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)
_reply: Final[msgspec.msgpack.Decoder[Reply]] = msgspec.msgpack.Decoder(Reply)


def decode_request(body: bytes) -> Request:
    """What the command line asks. Raises `ProtocolError`."""
    return stream.decode(_request, body, "control request")


def decode_reply(body: bytes) -> Reply:
    """What the hub answers. Raises `ProtocolError`."""
    return stream.decode(_reply, body, "control reply")
