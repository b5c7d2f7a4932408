"""The nouns of nanoexec as frozen values, and the life of a delivery as a table.

Times are seconds since the epoch (float, UTC) unless a name says otherwise; durations are monotonic seconds. Nothing
here reads a clock, a file or a socket.
"""

import enum
from typing import Annotated, Final

import msgspec

ID_LENGTH: Final = 16
ID_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u to misread
MAX_REASON: Final = 1000
MAX_ORDER: Final = 64 << 10  # bytes of a trigger
MAX_ACTIONS: Final = 1000  # of one node
MAX_RUNS: Final = 256  # in one report
MAX_LIFETIME: Final = 30 * 86400.0  # seconds of a trigger; the journal relies on it when it forgets

# ClusterShell reads no number of more than a hundred digits, and one such name would spoil every set that it is in.
NodeName = Annotated[str, msgspec.Meta(pattern=r"^(?!.{0,152}\d{101})[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?\Z")]
ActionName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9._-]{0,62}\Z")]
Identifier = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-hjkmnp-tv-z]{16}\Z")]
# Numbers from a node are bounded: what a database cannot hold (NaN, 2**64) must not get into the group of others.
Moment = Annotated[float, msgspec.Meta(ge=-1e11, le=1e11)]
Duration = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Number = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Reason = Annotated[str, msgspec.Meta(max_length=4 * MAX_REASON)]
Name = Annotated[str, msgspec.Meta(max_length=256)]  # of a user, for the record
ShortText = Annotated[str, msgspec.Meta(max_length=64)]
Arguments = dict[str, str]

EVERY_NODE: Final = "ALL"
EXEC: Final = "exec"  # the reserved action of ad-hoc commands


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A frozen value. Unknown fields are an error: what was not understood must not be acted on."""


class Cause(enum.StrEnum):
    """Why a run happened."""

    TRIGGER = "trigger"
    SCHEDULE = "schedule"
    LOCAL = "local"


class Outcome(enum.StrEnum):
    """How a run ended.

    REFUSED is a run that the node never started because its own rules forbid it; CANCELLED one that an operator took
    back, before the node started it or by having the node stop it.
    """

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed-out"
    INTERRUPTED = "interrupted"
    SKIPPED = "skipped"
    REFUSED = "refused"
    CANCELLED = "cancelled"


# The life of a delivery
# ----------------------
# A delivery is one trigger for one node. The hub moves it; the node's word is the stronger one.
#
#   pending       on disk at the hub; the node is away, or the frame has not gone out yet
#   sent          published while the node was connected; nothing heard yet
#   acknowledged  the node has the trigger id in its journal: from here on it can never start twice
#   running       the node has started the command
#   finished      the node reported how the run ended (the outcome says how)
#   refused       the node will not run it: unknown action, bad argument, exec not allowed, ...
#   expired       nobody started it in time
#   cancelled     an operator took it back before it was sent; the node has not spoken of it
#   lost          the hub has given up waiting for a report, and says why
#
# A node may be ahead of what the hub has heard (an ack is lost, the report arrives), so every state may be followed by
# any later word of the node. `expired`, `cancelled` and `lost` are conclusions that the hub draws without the node: a
# report that arrives after all is the truth and replaces them. `finished` and `refused` are the node's own last word
# and never change. A repeated message asks for a transition that has already happened; it is answered and changes
# nothing.


class DeliveryState(enum.StrEnum):
    PENDING = "pending"
    SENT = "sent"
    ACKNOWLEDGED = "acknowledged"
    RUNNING = "running"
    FINISHED = "finished"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    LOST = "lost"


_S = DeliveryState
NODES_WORD: Final = frozenset({_S.FINISHED, _S.REFUSED})
TRANSITIONS: Final[dict[DeliveryState, frozenset[DeliveryState]]] = {
    _S.PENDING: frozenset({_S.SENT, _S.ACKNOWLEDGED, _S.RUNNING, _S.EXPIRED, _S.CANCELLED, _S.LOST}) | NODES_WORD,
    _S.SENT: frozenset({_S.ACKNOWLEDGED, _S.RUNNING, _S.EXPIRED, _S.LOST}) | NODES_WORD,
    _S.ACKNOWLEDGED: frozenset({_S.RUNNING, _S.LOST}) | NODES_WORD,
    _S.RUNNING: frozenset({_S.LOST}) | NODES_WORD,
    _S.EXPIRED: NODES_WORD,
    _S.CANCELLED: NODES_WORD,
    _S.LOST: NODES_WORD,
    _S.FINISHED: frozenset(),
    _S.REFUSED: frozenset(),
}
FINAL: Final = frozenset({_S.FINISHED, _S.REFUSED, _S.EXPIRED, _S.CANCELLED, _S.LOST})
OPEN: Final = frozenset(DeliveryState) - FINAL
UNCONFIRMED: Final = frozenset({_S.PENDING, _S.SENT})  # the node may not have it: offered again until it says it does


def may_follow(before: DeliveryState, after: DeliveryState) -> bool:
    """Whether the table lets a delivery go from ``before`` to ``after``."""
    return after in TRANSITIONS[before]


class Trigger(Value, frozen=True, array_like=True):
    """The request, as the node sees it: an action's name and typed arguments, never a command.

    ``nodes`` is ``ALL`` or a folded node set. ``command`` is only for the reserved action ``exec``. ``timeout``
    (seconds) can shorten what the node's manifest allows, never lengthen it.
    """

    id: Identifier
    action: ActionName
    nodes: str
    issued: Moment
    expires: Moment
    by: Name
    arguments: Arguments = {}
    timeout: Annotated[float, msgspec.Meta(gt=0)] | None = None
    command: tuple[str, ...] = ()


class Output(Value, frozen=True, array_like=True):
    """What a command printed, capped: the first and last bytes, and how many there were in all."""

    head: bytes = b""
    tail: bytes = b""
    size: Count = 0

    @property
    def cut(self) -> int:
        """Bytes left out between head and tail."""
        return self.size - len(self.head) - len(self.tail)

    def shortened(self, limit: int) -> "Output":
        """The same with at most ``limit`` bytes kept, half of them from each end."""
        if len(self.head) + len(self.tail) <= limit:
            return self
        half = limit // 2
        tail = self.tail if self.cut else self.head[half:] + self.tail
        return Output(head=self.head[:half], tail=tail[-half:] if half else b"", size=self.size)

    def text(self) -> str:
        """The output as text; undecodable bytes are shown as replacement characters and a cut is said where it is."""
        head, tail = self.head.decode(errors="replace"), self.tail.decode(errors="replace")
        return f"{head}\n[... {self.cut} bytes cut ...]\n{tail}" if self.cut else head + tail


class Run(Value, frozen=True):
    """One execution of an action on a node, as the journal has it; the same value travels to the hub as the report.

    ``id`` is the trigger's for a triggered run (it can run once), else the node's own. ``change`` counts the journal's
    commits: a run gets a new one whenever it changes. ``status`` is the exit status, negative for a signal's number.
    ``changed`` is what the tool said about having changed the machine, None if it does not say. ``shared`` names the
    run whose outcome this is, when this one was coalesced into it. ``cancelled`` is when the node noted that
    ``canceller`` wants it stopped; the outcome says whether that came in time. ``admitted`` and ``began`` are the
    changes that admitted and started it: that order is the journal's, whatever clocks say.
    """

    id: Identifier
    action: ActionName
    cause: Cause
    by: Name
    requested: Moment
    change: Count = 0
    arguments: Arguments = {}
    command: tuple[str, ...] = ()
    boot: str = ""
    supervisor: Number = 0
    pid: Number | None = None
    started: Moment | None = None
    ended: Moment | None = None
    duration: Duration | None = None
    outcome: Outcome | None = None
    reason: Reason = ""
    status: Number | None = None
    changed: bool | None = None
    shared: Identifier | None = None
    cancelled: Moment | None = None
    canceller: Name = ""
    admitted: Count = 0
    began: Count | None = None
    output: Output = Output()


class Delivery(Value, frozen=True):
    """One trigger for one node, as the hub has it. ``run`` is present once the node has reported.

    ``cancelled`` is when ``canceller`` took it back; the state and the run say what became of that.
    """

    trigger: Identifier
    node: NodeName
    state: DeliveryState
    updated: float
    reason: Reason = ""
    run: Run | None = None
    cancelled: float | None = None
    canceller: str = ""


class Credentials(Value, frozen=True):
    """What mutual TLS needs, as PEM text: the CA to trust, one's own certificate and key (empty before joining)."""

    ca: str
    certificate: str = ""
    key: str = ""

    def __repr__(self) -> str:
        return "Credentials(...)"  # a key must not get into a log by way of a traceback


class Instant(Value, frozen=True):
    """One moment on two clocks: ``wall`` since the epoch, for people and across restarts; ``steady`` for measuring."""

    wall: float
    steady: float


class Order(Value, frozen=True, array_like=True):
    """A trigger as the exact bytes that were issued, with the Ed25519 signature over them (empty when not signed)."""

    body: Annotated[bytes, msgspec.Meta(max_length=MAX_ORDER)]
    signature: Annotated[bytes, msgspec.Meta(max_length=64)] = b""


class ActionOffer(Value, frozen=True, array_like=True):
    """An action that a node offers, as it tells the hub.

    ``interval`` (seconds) is the longest time between two slots of its fallback schedule there; None without one.
    """

    name: ActionName
    summary: str = ""
    arguments: tuple[str, ...] = ()
    interval: Duration | None = None


class Cursor(Value, frozen=True):
    """How far a node's journal has been relayed: up to ``change`` of the journal with this id, the hub has stored it.

    That was agreed on with a hub of this ``epoch``. One of another epoch may have lost some of it: its database may be
    an older one than before.
    """

    journal: ShortText = ""
    change: Count = 0
    epoch: ShortText = ""


class Node(Value, frozen=True):
    """A machine on the hub's roster. ``skew`` is node clock minus hub clock in seconds, None before it first spoke.

    ``relayed`` is how much of its journal is stored here at least; its ``epoch`` does not matter.
    """

    name: NodeName
    key: str
    joined: float
    connected: bool = False
    seen: float | None = None
    skew: float | None = None
    version: str = ""
    actions: tuple[ActionOffer, ...] = ()
    revoked: float | None = None
    relayed: Cursor = Cursor()


def identifier(random_bytes: bytes) -> str:
    """A new trigger or run id from ten random bytes: short enough to type, too many to collide."""
    number = int.from_bytes(random_bytes[:10], "big")
    return "".join(ID_ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(ID_LENGTH)))
