"""Orders on their way from the hub to the runner. Pure.

An order stays here from the moment it is taken until the runner's journal has it: from then on the journal answers for
it, also when the same order comes again. The runner may come to it much later than it was handed over: so it is told
when that would be too late, and rejects it then. Until it has, nobody knows whether it runs.
"""

from typing import Final

from nanoexec.model import Order, Trigger, Value
from nanoexec.wire.network import Offer

FIRST_PAUSE: Final = 1.0  # seconds between two tries to reach the runner
LAST_PAUSE: Final = 30.0


class Due(Value, frozen=True):
    """An order to hand over now. From ``deadline``, on the steady clock, it must not be started any more."""

    id: str
    order: Order
    deadline: float


class Handover:
    """One order and how its handing over goes."""

    __slots__ = ("busy", "due", "offer", "problem", "tries", "trigger")

    def __init__(self, offer: Offer, trigger: Trigger, problem: str) -> None:
        self.offer = offer
        self.trigger = trigger
        self.busy = False
        self.tries = 0
        self.due = 0.0
        self.problem = problem


class Handovers:
    """By trigger id, in the order in which they came."""

    def __init__(self) -> None:
        self._orders: dict[str, Handover] = {}

    def __contains__(self, trigger: str) -> bool:
        return trigger in self._orders

    def take(self, offer: Offer, trigger: Trigger, problem: str = "") -> None:
        """``problem``: why it may never be handed over, if that is known already."""
        self._orders[trigger.id] = Handover(offer, trigger, problem)

    def due(self, steady: float, latest: float) -> list[Due]:
        """Orders to hand over now that have not expired even if it is ``latest`` at the hub.

        Each is the caller's until `done` or `failed`.
        """
        waiting = [order for order in self._orders.values() if not order.busy and order.due <= steady]
        for order in waiting:
            order.busy = order.trigger.expires > latest
            if not order.busy:
                order.problem = order.problem or "the hub did not say in time that it had not expired"
        return [
            Due(order.offer.id, order.offer.order, deadline=steady + order.trigger.expires - latest)
            for order in waiting
            if order.busy
        ]

    def done(self, trigger: str) -> None:
        """The journal has it, or it will never be run. Unknown ids are no error."""
        self._orders.pop(trigger, None)

    def drop(self, trigger: str) -> None:
        """It must not be run any more. One that the runner is being handed at this moment stays: the runner decides."""
        order = self._orders.get(trigger)
        if order and not order.busy:
            del self._orders[trigger]

    def failed(self, trigger: str, problem: str, steady: float) -> None:
        """The runner could not take it: try again after a pause that doubles."""
        order = self._orders.get(trigger)
        if order is None:
            return
        order.busy = False
        order.due = steady + min(FIRST_PAUSE * 2.0**order.tries, LAST_PAUSE)
        order.tries += 1
        order.problem = problem

    def in_doubt(self, earliest: float, latest: float) -> bool:
        """Whether there are orders of which these two hub times tell different things: expired or not."""
        return any(earliest < order.trigger.expires <= latest for order in self._orders.values())

    def expired(self, earliest: float) -> list[Handover]:
        """Orders that were not handed over in time though it be only ``earliest``; they are forgotten here."""
        late = [order for order in self._orders.values() if not order.busy and order.trigger.expires <= earliest]
        for order in late:
            del self._orders[order.trigger.id]
        return late
