"""What a trigger has come to so far: counts, whether to go on waiting, and the exit code. Pure."""

from collections.abc import Iterable
from typing import Final

from nanoexec.errors import ExitCode
from nanoexec.model import FINAL, NODES_WORD, UNCONFIRMED, Delivery, DeliveryState, Outcome, Trigger

PATIENCE: Final = 10.0  # seconds that a connected node may take to say that it has the trigger, or a cancellation
GONE: Final = 60.0  # seconds that a node may be away until nobody waits any more for the run that goes on there

_GOOD: Final = frozenset({Outcome.SUCCEEDED, Outcome.SKIPPED})


def was_cancelled(delivery: Delivery) -> bool:
    """Whether an operator took it back in time: the hub's conclusion, or the node's word."""
    if delivery.run is not None and delivery.state in FINAL:
        return delivery.run.outcome is Outcome.CANCELLED
    return delivery.state is DeliveryState.CANCELLED


class Tally:
    """One trigger's deliveries, by node."""

    def __init__(self, trigger: Trigger, nodes: Iterable[str], away: Iterable[str], unknown: Iterable[str]) -> None:
        self.trigger = trigger
        self.away = set(away)
        self._left: dict[str, float] = {}  # node -> when it went away while somebody waited, in seconds since then
        self.unknown = tuple(unknown)
        self.deliveries = {
            node: Delivery(
                trigger=trigger.id,
                node=node,
                state=DeliveryState.PENDING if node in self.away else DeliveryState.SENT,
                updated=trigger.issued,
            )
            for node in nodes
        }

    def update(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self.deliveries[delivery.node] = delivery
            self.away.discard(delivery.node)

    def moved(self, away: Iterable[str], back: Iterable[str], elapsed: float) -> None:
        """Nodes have gone away, or come back, so many seconds after the trigger was accepted."""
        for node in self.deliveries.keys() & set(away):
            self.away.add(node)
            self._left[node] = elapsed
        self.away.difference_update(back)

    def waiting(self, elapsed: float) -> bool:
        """Whether any answer is still worth waiting for, so many seconds after the trigger was accepted."""
        here = any(self._may_answer(delivery.node, elapsed) for delivery in self.running())
        return here or (elapsed < PATIENCE and bool(self.silent()))

    def unanswered(self, elapsed: float) -> bool:
        """As `waiting`, for the answer to a cancellation: the hub's conclusions are none."""
        concluded = any(delivery.node not in self.away for delivery in self.gone())
        return self.waiting(elapsed) or (elapsed < PATIENCE and concluded)

    def _may_answer(self, node: str, elapsed: float) -> bool:
        return node not in self.away or elapsed - self._left.get(node, -GONE) < GONE

    def _in(self, *states: DeliveryState) -> list[Delivery]:
        return [delivery for delivery in self.deliveries.values() if delivery.state in states]

    def done(self) -> list[Delivery]:
        """Deliveries in a final state."""
        return [delivery for delivery in self.deliveries.values() if delivery.state in FINAL]

    def answered(self) -> list[Delivery]:
        """Those of which it is known for good that they have ended, or never start."""
        return [d for d in self.deliveries.values() if d.state in NODES_WORD or was_cancelled(d)]

    def running(self) -> list[Delivery]:
        """Started, or in the node's journal and waiting there."""
        return self._in(DeliveryState.RUNNING, DeliveryState.ACKNOWLEDGED)

    def silent(self) -> list[Delivery]:
        """Connected nodes that have not said that they have it."""
        return [d for d in self.deliveries.values() if d.state in UNCONFIRMED and d.node not in self.away]

    def queued(self) -> list[Delivery]:
        """Nodes that are away: they get it when they return, until it expires."""
        return [d for d in self.deliveries.values() if d.state in UNCONFIRMED and d.node in self.away]

    def cancelled(self) -> list[Delivery]:
        """Taken back by an operator: never started, or stopped."""
        return [d for d in self.deliveries.values() if was_cancelled(d)]

    def succeeded(self) -> list[Delivery]:
        return [d for d in self._in(DeliveryState.FINISHED) if d.run is None or d.run.outcome in _GOOD]

    def failed(self) -> list[Delivery]:
        bad = [d for d in self._in(DeliveryState.FINISHED) if d.run is not None and d.run.outcome not in _GOOD]
        return [d for d in bad if not was_cancelled(d)]

    def refused(self) -> list[Delivery]:
        return self._in(DeliveryState.REFUSED)

    def gone(self) -> list[Delivery]:
        """Final without the node's word."""
        return self._in(DeliveryState.EXPIRED, DeliveryState.LOST)

    def exit_code(self) -> ExitCode:
        """The worst that can be said: a failure (or that it was cancelled) before a refusal before a silence."""
        if self.failed() or self.cancelled():
            return ExitCode.RUN_FAILED
        if self.refused():
            return ExitCode.REFUSED
        if self.gone() or self.silent() or self.queued() or self.running() or self.unknown:
            return ExitCode.NO_ANSWER
        return ExitCode.OK

    def summary(self) -> str:
        """One line: ``3 succeeded, 1 failed, 1 queued until 14:05``; zeros are left out."""
        counts = (
            (len(self.succeeded()), "succeeded"),
            (len(self.failed()), "failed"),
            (len(self.cancelled()), "cancelled"),
            (len(self.refused()), "refused"),
            (len(self.gone()), "expired or lost"),
            (len(self.running()), "still running"),
            (len(self.silent()), "silent"),
            (len(self.queued()), "queued"),
            (len(self.unknown), "unknown"),
        )
        return ", ".join(f"{count} {word}" for count, word in counts if count) or "nothing to do"
