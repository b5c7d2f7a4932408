"""What an agent says to its runner, and what it hears, over ``/run/nanoexec/runner.sock``.

One request a connection. The agent hands over an order exactly as it came: the runner, which is root, verifies and
reads it for itself and believes nothing that the agent has concluded.
"""

from typing import Final

import msgspec

from nanoexec.model import ActionName, ActionOffer, Identifier, Moment, Name, Order, Reason, Run, Value
from nanoexec.wire import stream


class RunnerMessage(Value, frozen=True, tag_field="kind"):
    """A message between agent and runner."""


class Start(RunnerMessage, frozen=True, tag="start"):
    """Run this order. Answered by `Told` each time its journal record changes in a way worth telling, until it has an
    outcome: once it is journaled, if it must wait; once it has started, if it still runs after 250 ms; once it has
    ended. An order that is already in the journal is never started again: its record is told instead. An order that
    cannot be journaled is answered with `Rejected`.

    ``deadline`` is the moment from which on it must not be started any more unless the journal has it, for it may have
    expired: seconds of the clock that agent and runner share (CLOCK_BOOTTIME), which nobody sets and which goes on
    while the machine sleeps. An older agent gives none.
    """

    order: Order
    deadline: Moment | None = None


class Cancel(RunnerMessage, frozen=True, tag="cancel-run"):
    """``by`` takes a trigger of ``issuer`` back: never start it, or stop it. Answered like `Start`."""

    trigger: Identifier
    action: ActionName
    expires: Moment
    issuer: Name
    by: Name


class Changes(RunnerMessage, frozen=True, tag="changes"):
    """Runs whose ``change`` is above ``after``, oldest change first, at most ``limit``. Answered by `Changed`. With
    another journal's id than the present one, ``after`` counts as 0.
    """

    journal: str
    after: int
    limit: int = 100


class Describe(RunnerMessage, frozen=True, tag="describe"):
    """Which actions does this node offer? Answered by `Described`."""


class Told(RunnerMessage, frozen=True, tag="told"):
    """A run as the journal has it now."""

    run: Run


class Rejected(RunnerMessage, frozen=True, tag="rejected"):
    """Nothing was journaled and nothing runs. ``final``: saying it again will not help."""

    reason: Reason
    final: bool


class Changed(RunnerMessage, frozen=True, tag="changed"):
    journal: str
    runs: tuple[Run, ...]
    more: bool


class Described(RunnerMessage, frozen=True, tag="described"):
    """The offered actions, and one line for each fault in the manifests."""

    actions: tuple[ActionOffer, ...]
    faults: tuple[str, ...]


Request = Start | Cancel | Changes | Describe
Reply = Told | Rejected | Changed | Described

_request: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)
_reply: Final[msgspec.msgpack.Decoder[Reply]] = msgspec.msgpack.Decoder(Reply)


def decode_request(body: bytes) -> Request:
    """What an agent asks. Raises `ProtocolError`."""
    return stream.decode(_request, body, "runner request")


def decode_reply(body: bytes) -> Reply:
    """What a runner answers. Raises `ProtocolError`."""
    return stream.decode(_reply, body, "runner reply")
