"""What the hub writes down: each change of its state as one value, applied by the store in groups.

`hub.core` decides them, `store` commits a batch of them in one transaction, in the order given.
"""

import enum

import msgspec

from nanoexec.model import (
    ActionName,
    ActionOffer,
    Cause,
    Cursor,
    Delivery,
    DeliveryState,
    Identifier,
    NodeName,
    Order,
    Outcome,
    Reason,
    Run,
    Trigger,
    Value,
)


class TriggerIssued(Value, frozen=True):
    """A trigger was accepted: the trigger, its exact bytes, and a delivery for each node, pending or already sent.

    Sent ones are published as soon as this is on disk; after a crash in between they are offered again like the others.
    """

    trigger: Trigger
    order: Order
    target: str
    nodes: tuple[NodeName, ...]
    sent: tuple[NodeName, ...] = ()


class DeliveryMoved(Value, frozen=True):
    """A delivery changed its state. The core has consulted the table; the store writes what it is told."""

    trigger: Identifier
    node: NodeName
    state: DeliveryState
    at: float
    reason: Reason = ""


class DeliveryCancelled(Value, frozen=True):
    """An operator takes a delivery back. Its state moves by a change of its own, now or when the node has answered."""

    trigger: Identifier
    node: NodeName
    by: str
    at: float


class RunReported(Value, frozen=True):
    """A node reported a run that ended or was refused. It may be reported again: the newer ``change`` stays."""

    node: NodeName
    run: Run
    at: float


class NodeJoined(Value, frozen=True):
    """A machine got a certificate, ``key`` its id; an earlier key of that name is no longer accepted."""

    name: NodeName
    key: str
    at: float


class NodeRevoked(Value, frozen=True):
    name: NodeName
    at: float


class NodeHeard(Value, frozen=True):
    """What a node said of itself in its last hello, and how far its journal is stored here."""

    name: NodeName
    seen: float
    skew: float
    version: str
    actions: tuple[ActionOffer, ...]
    relayed: Cursor = Cursor()


class TokenMade(Value, frozen=True):
    """A join token. Only the SHA-256 of its secret is kept (hex)."""

    digest: str
    expires: float
    uses: int
    node: NodeName | None = None


class TokenUsed(Value, frozen=True):
    """One use of a token was spent."""

    digest: str


Change = (
    TriggerIssued
    | DeliveryMoved
    | DeliveryCancelled
    | RunReported
    | NodeJoined
    | NodeRevoked
    | NodeHeard
    | TokenMade
    | TokenUsed
)


class StoredTrigger(Value, frozen=True):
    """A trigger as the store gives it back, with the state of every delivery.

    ``cancels``: of which nodes it was taken back, and by whom; ``wished``: when that was noted last.
    """

    trigger: Trigger
    order: Order
    target: str
    deliveries: dict[NodeName, DeliveryState]
    cancels: dict[NodeName, str] = msgspec.field(default_factory=dict)
    wished: float = 0.0


class HistoryEntry(Value, frozen=True):
    """One line of history: a run, or a delivery that has none, so that expired and silent ones show.

    ``id`` is the trigger's, or the run's own if no trigger caused it; then ``state`` is None. ``at`` is the hub's
    clock: when the run was reported, or the delivery last moved. ``started`` is the node's clock.
    """

    id: Identifier
    node: NodeName
    action: ActionName
    cause: Cause
    by: str
    at: float
    state: DeliveryState | None = None
    outcome: Outcome | None = None
    reason: Reason = ""
    started: float | None = None
    duration: float | None = None
    status: int | None = None
    changed: bool | None = None


class Standing(Value, frozen=True):
    """How an action stands on a node, by the history; each entry is None if there is no such run.

    ``succeeded`` is the last run without arguments that succeeded: one with arguments may have done something else.
    ``failing`` is the first that ended badly after it, ``latest`` the last of all.
    """

    succeeded: HistoryEntry | None = None
    failing: HistoryEntry | None = None
    latest: HistoryEntry | None = None


class Why(enum.StrEnum):
    """Why an action is overdue on a node."""

    OFFLINE = "offline"
    FAILING = "failing"
    REFUSED = "refused"
    SKIPPED = "skipped"
    UNSCHEDULED = "no schedule"
    SILENT = "not run"  # the node is here, its schedule has passed, and no run has been heard of


class Lapse(Value, frozen=True):
    """An action that is overdue on a node: its interval has passed without a success.

    ``succeeded`` is when the last success started, by the hub's clock; ``interval`` (seconds) what it is judged by.
    ``since`` is when what ``why`` says began, ``detail`` what the node said of it.
    """

    node: NodeName
    action: ActionName
    why: Why
    since: float | None = None
    detail: Reason = ""
    succeeded: float | None = None
    interval: float | None = None


class TriggerDetail(Value, frozen=True):
    """Everything about one trigger: each delivery, by node name, with the run and its output once reported."""

    trigger: Trigger
    target: str
    deliveries: tuple[Delivery, ...]


class Chain(Value, frozen=True):
    """What the hub has of one trigger on one node, for a proof. Times are the hub's clock unless the run has them.

    ``sent``, ``acknowledged`` and ``running`` are when the delivery first came into those states, ``stored`` when the
    run was stored. ``skew`` is node clock minus hub clock in seconds, None if it is not known.
    """

    trigger: Trigger
    signed: bool
    delivery: Delivery
    sent: float | None = None
    acknowledged: float | None = None
    running: float | None = None
    stored: float | None = None
    skew: float | None = None
    connected: bool = False
