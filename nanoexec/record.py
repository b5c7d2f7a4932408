"""What the hub writes down: each change of its state as one value, applied by the store in groups.

`hub.core` decides them, `store` commits a batch of them in one transaction, in the order given.
"""

from nanoexec.model import ActionOffer, DeliveryState, Identifier, NodeName, Order, Reason, Run, Trigger, Value


class TriggerIssued(Value, frozen=True):
    """A trigger was accepted: the trigger, its exact bytes, and a pending delivery for each node."""

    trigger: Trigger
    order: Order
    target: str
    nodes: tuple[NodeName, ...]


class DeliveryMoved(Value, frozen=True):
    """A delivery changed its state. The core has consulted the table; the store writes what it is told."""

    trigger: Identifier
    node: NodeName
    state: DeliveryState
    at: float
    reason: Reason = ""


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
    """What a node said of itself in its last hello."""

    name: NodeName
    seen: float
    skew: float
    version: str
    actions: tuple[ActionOffer, ...]


class TokenMade(Value, frozen=True):
    """A join token. Only the SHA-256 of its secret is kept (hex)."""

    digest: str
    expires: float
    uses: int
    node: NodeName | None = None


class TokenUsed(Value, frozen=True):
    """One use of a token was spent."""

    digest: str


Change = TriggerIssued | DeliveryMoved | RunReported | NodeJoined | NodeRevoked | NodeHeard | TokenMade | TokenUsed


class StoredTrigger(Value, frozen=True):
    """A trigger as the store gives it back, with the state of every delivery."""

    trigger: Trigger
    order: Order
    target: str
    deliveries: dict[NodeName, DeliveryState]
