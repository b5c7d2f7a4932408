"""Orders on their way from the hub to the runner. Pure.

An order stays here from the moment it is taken until the runner's journal has it: from then on the journal answers for
it, also when the same order comes again.
"""

from typing import Final

from nanoexec.model import Trigger
from nanoexec.wire.network import Offer

FIRST_PAUSE: Final = 1.0  # seconds between two tries to reach the runner
LAST_PAUSE: Final = 30.0


class Handover:
    """One order and how its handing over goes."""

    __slots__ = ("busy", "due", "offer", "problem", "tries", "trigger")

    def __init__(self, offer: Offer, trigger: Trigger) -> None:
        self.offer = offer
        self.trigger = trigger
        self.busy = False
        self.tries = 0
        self.due = 0.0
        self.problem = ""


class Handovers:
    """By trigger id, in the order in which they came."""

    def __init__(self) -> None:
        self._orders: dict[str, Handover] = {}

    def __contains__(self, trigger: str) -> bool:
        return trigger in self._orders

    def take(self, offer: Offer, trigger: Trigger) -> None:
        self._orders[trigger.id] = Handover(offer, trigger)

    def due(self, steady: float) -> list[Offer]:
        """Orders to hand over now. Each is the caller's until `done` or `failed`."""
        ready = [order for order in self._orders.values() if not order.busy and order.due <= steady]
        for order in ready:
            order.busy = True
        return [order.offer for order in ready]

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

    def expired(self, hub_time: float) -> list[Handover]:
        """Orders that were not handed over in time; they are forgotten here."""
        late = [order for order in self._orders.values() if not order.busy and order.trigger.expires <= hub_time]
        for order in late:
            del self._orders[order.trigger.id]
        return late
