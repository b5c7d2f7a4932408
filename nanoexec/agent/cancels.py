"""Triggers that an operator takes back, on their way from the hub to the runner. Pure.

A wish stays here until the runner has said what became of it. It need not outlive the agent: the hub repeats it until
it has the node's word.
"""

from typing import Final

from nanoexec.wire.runner import Cancel

FIRST_PAUSE: Final = 1.0  # seconds between two tries to reach the runner
LAST_PAUSE: Final = 30.0


class Wish:
    """One cancellation and how its handing over goes."""

    __slots__ = ("busy", "due", "request", "tries")

    def __init__(self, request: Cancel) -> None:
        self.request = request
        self.busy = False
        self.due = 0.0
        self.tries = 0


class Cancels:
    """By trigger id, in the order in which they came."""

    def __init__(self) -> None:
        self._wishes: dict[str, Wish] = {}

    def take(self, request: Cancel) -> None:
        """A repeat of one that is on its way changes nothing."""
        self._wishes.setdefault(request.trigger, Wish(request))

    def due(self, steady: float) -> list[Cancel]:
        """What to ask the runner now. Each is the caller's until `done` or `failed`."""
        ready = [wish for wish in self._wishes.values() if not wish.busy and wish.due <= steady]
        for wish in ready:
            wish.busy = True
        return [wish.request for wish in ready]

    def done(self, trigger: str) -> None:
        """The runner has answered for good. Unknown ids are no error."""
        self._wishes.pop(trigger, None)

    def failed(self, trigger: str, steady: float) -> None:
        """The runner could not be asked: try again after a pause that doubles."""
        wish = self._wishes.get(trigger)
        if wish is None:
            return
        wish.busy = False
        wish.due = steady + min(FIRST_PAUSE * 2.0**wish.tries, LAST_PAUSE)
        wish.tries += 1
