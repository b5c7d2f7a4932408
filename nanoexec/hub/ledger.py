"""The deliveries that are still open: a memory of what the store holds, indexed by what the hub must do next. Pure.

A trigger is in the ledger while any of its deliveries is open, and again when a node brings late news of an old one
(`remember`). It stays for a while after that: when a network heals, late news comes from many nodes at once. Every move
goes through `move`, which consults the table in `model`.
"""

import heapq
from collections.abc import Iterator
from typing import Final

from nanoexec.model import FINAL, NODES_WORD, UNCONFIRMED, DeliveryState, Order, Trigger, may_follow
from nanoexec.record import DeliveryCancelled, DeliveryMoved, StoredTrigger

LOST_AFTER: Final = 86400.0  # seconds past its expiry that a started run may stay without a report, a wish past itself
KEPT: Final = 60.0  # seconds that a closed trigger stays in memory after anybody last asked for it
FIRST_RETRY: Final = 3.0
LAST_RETRY: Final = 60.0
_SPARE: Final = 100  # ends of closed triggers that are not worth a look
_S: Final = DeliveryState


class Entry:
    """One trigger with the state of all its deliveries."""

    __slots__ = ("cancels", "closed", "deliveries", "open", "order", "retries", "trigger", "wished")

    def __init__(self, stored: StoredTrigger) -> None:
        self.trigger: Trigger = stored.trigger
        self.order: Order = stored.order
        self.deliveries: dict[str, DeliveryState] = dict(stored.deliveries)
        self.open = sum(state not in FINAL for state in self.deliveries.values())
        self.cancels: dict[str, str] = {  # node -> who takes it back; until the node has said what became of it
            node: by for node, by in stored.cancels.items() if unsettled(self.deliveries[node])
        }
        self.wished = stored.wished  # wall time of the latest of these
        self.closed: float | None = None  # steady time since which it is known to be closed and nobody asked for it
        self.retries: dict[str, tuple[int, float]] = {}  # node -> how often offered, when again (steady)


def unsettled(state: DeliveryState) -> bool:
    """Whether a node may still start or go on with a delivery, whatever the hub has concluded without it."""
    return state not in NODES_WORD


class Ledger:
    """Open triggers, by id; unconfirmed deliveries by node; what is due, by time."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._waiting: dict[str, dict[str, None]] = {}  # node -> trigger ids that it may not have, oldest first
        self._cancels: dict[str, dict[str, None]] = {}  # node -> trigger ids that it is to take back
        self._retries: list[tuple[float, str, str]] = []  # steady time, trigger, node
        self._ends: list[tuple[float, str]] = []  # wall time, trigger

    def remember(self, stored: StoredTrigger) -> Entry:
        """Take in a trigger from the store, or a new one."""
        if stored.trigger.id in self._entries:
            return self._entries[stored.trigger.id]
        entry = self._entries[stored.trigger.id] = Entry(stored)
        for node, state in entry.deliveries.items():
            if state in UNCONFIRMED:
                self._waiting.setdefault(node, {})[stored.trigger.id] = None
        for node in entry.cancels:
            self._cancels.setdefault(node, {})[stored.trigger.id] = None
        heapq.heappush(self._ends, (stored.trigger.expires, stored.trigger.id))
        return entry

    def get(self, trigger: str) -> Entry | None:
        return self._entries.get(trigger)

    def keep(self, trigger: str) -> Entry | None:
        """A trigger that is in memory, where it stays long enough for news of it to be decided; None if it is not."""
        entry = self._entries.get(trigger)
        if entry:
            entry.closed = None
        return entry

    def open_deliveries(self) -> int:
        return sum(entry.open for entry in self._entries.values())

    def waiting_for(self, node: str) -> Iterator[Entry]:
        """Triggers that this node may not have and shall run, oldest first."""
        for trigger in tuple(self._waiting.get(node, ())):
            if node not in self._entries[trigger].cancels:
                yield self._entries[trigger]

    def cancelled_for(self, node: str) -> Iterator[Entry]:
        """Triggers that this node is to take back, and has not answered for."""
        for trigger in tuple(self._cancels.get(node, ())):
            yield self._entries[trigger]

    def cancel(self, trigger: str, node: str, by: str, at: float) -> list[DeliveryCancelled]:
        """Take a delivery back. Nothing changes if the node has said how it ended, or if somebody has before."""
        entry = self._entries[trigger]
        state = entry.deliveries[node]
        if node in entry.cancels or state is _S.CANCELLED or not unsettled(state):
            return []
        entry.cancels[node] = by
        entry.wished = at
        entry.retries.pop(node, None)
        self._cancels.setdefault(node, {})[trigger] = None
        heapq.heappush(self._ends, (at + LOST_AFTER, trigger))
        return [DeliveryCancelled(trigger=trigger, node=node, by=by, at=at)]

    def withdraw(self, trigger: str, node: str, at: float) -> list[DeliveryMoved]:
        """Conclude that what was taken back will not run, where the table allows that: it was never sent."""
        return self.move(trigger, node, _S.CANCELLED, at, f"cancelled by {self._entries[trigger].cancels[node]}")

    def move(self, trigger: str, node: str, state: DeliveryState, at: float, reason: str = "") -> list[DeliveryMoved]:
        """Move a delivery if the table allows it; otherwise nothing changes (a repeat, or news from the past)."""
        entry = self._entries.get(trigger)
        before = entry.deliveries.get(node) if entry else None
        if entry is None or before is None or not may_follow(before, state):
            return []
        entry.deliveries[node] = state
        entry.open -= (before not in FINAL) - (state not in FINAL)
        if state not in UNCONFIRMED:
            self._waiting.get(node, {}).pop(trigger, None)
            if node not in entry.cancels:
                entry.retries.pop(node, None)
        if not unsettled(state):
            self._settle(entry, node)
        return [DeliveryMoved(trigger=trigger, node=node, state=state, at=at, reason=reason)]

    def _settle(self, entry: Entry, node: str) -> None:
        """The node has said what became of it, or will never be asked again."""
        entry.retries.pop(node, None)
        entry.cancels.pop(node, None)
        self._cancels.get(node, {}).pop(entry.trigger.id, None)

    def open_of(self, node: str) -> list[str]:
        """Ids of the triggers that have an open delivery for this node."""
        return [id_ for id_, entry in self._entries.items() if entry.deliveries.get(node, _S.LOST) not in FINAL]

    def schedule_retry(self, trigger: str, node: str, steady: float) -> None:
        """Offer it again after a pause that doubles each time, unless the node confirms it before."""
        entry = self._entries[trigger]
        tries = entry.retries.get(node, (0, 0.0))[0] + 1
        due = steady + min(FIRST_RETRY * 2.0 ** (tries - 1), LAST_RETRY)
        entry.retries[node] = (tries, due)
        heapq.heappush(self._retries, (due, trigger, node))

    def due_retries(self, steady: float) -> Iterator[tuple[Entry, str]]:
        """Deliveries to offer again now; those confirmed or rescheduled meanwhile fall out."""
        while self._retries and self._retries[0][0] <= steady:
            due, trigger, node = heapq.heappop(self._retries)
            entry = self._entries.get(trigger)
            if entry and entry.retries.get(node, (0, 0.0))[1] == due:
                yield entry, node

    def forget_retry(self, trigger: str, node: str) -> None:
        """Stop offering until somebody schedules it again."""
        self._entries[trigger].retries.pop(node, None)

    def end_overdue(self, wall: float) -> list[DeliveryMoved]:
        """Expire what nobody started in time; give up on runs that nobody reported within a day after."""
        changes: list[DeliveryMoved] = []
        while self._ends and self._ends[0][0] <= wall:
            _, trigger = heapq.heappop(self._ends)
            if entry := self._entries.get(trigger):
                changes += self._end(entry, wall)
                if entry.open or entry.cancels:
                    again = max(entry.trigger.expires, entry.wished) + LOST_AFTER
                    heapq.heappush(self._ends, (again if again > wall else wall + LOST_AFTER, trigger))
        return changes

    def _end(self, entry: Entry, wall: float) -> list[DeliveryMoved]:
        changes: list[DeliveryMoved] = []
        trigger, expired = entry.trigger.id, entry.trigger.expires <= wall
        given_up = wall >= entry.trigger.expires + LOST_AFTER
        for node, state in tuple(entry.deliveries.items()):
            if node in entry.cancels and state is _S.PENDING:
                changes += self.withdraw(trigger, node, wall)
            elif state is _S.PENDING and expired:
                changes += self.move(trigger, node, _S.EXPIRED, wall, "the node was away until it expired")
            elif state is _S.SENT and expired:
                reason = "the node did not answer until it expired"
                if node in entry.cancels:
                    reason = f"cancelled by {entry.cancels[node]}, and {reason}"
                changes += self.move(trigger, node, _S.EXPIRED, wall, reason)
            elif state not in FINAL and given_up:
                reason = f"{state} since, and no report within a day after it expired"
                changes += self.move(trigger, node, _S.LOST, wall, reason)
            if given_up and wall >= entry.wished + LOST_AFTER:
                self._settle(entry, node)
        return changes

    def forget_closed(self, steady: float) -> None:
        """Drop what has been closed for a while; the store has it."""
        for trigger, entry in tuple(self._entries.items()):
            if entry.open or entry.cancels:
                continue
            if entry.closed is None:
                entry.closed = steady
            elif steady - entry.closed > KEPT:
                del self._entries[trigger]
        if len(self._ends) > 2 * len(self._entries) + _SPARE:  # what is closed needs no end: it may be a month away
            self._ends = sorted({end for end in self._ends if end[1] in self._entries})  # which is a heap
