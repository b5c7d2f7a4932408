"""What people do with a fleet meanwhile: they trigger, take back, and run things by hand."""

from random import Random
from typing import Final

from nanoexec.wire import control
from tests.chaos.figures import Figures
from tests.chaos.fleet_of_processes import FleetOfProcesses
from tests.chaos.processes_ledger import COALESCED, KINDS

_MOST_OPEN: Final = 400  # deliveries: beyond it no more is triggered, for a machine with two cores has to do it all
_LIFETIME: Final = 3600.0
_SHORT: Final = 2.0
_TO_ALL: Final = 0.4  # of the triggers
_BY_HAND: Final = 3  # at once


class People:
    """They remember what they were told is accepted, and what they have wanted to stop."""

    def __init__(self, fleet: FleetOfProcesses, chance: Random, figures: Figures) -> None:
        self.accepted: dict[str, control.Accepted] = {}  # by the trigger's id
        self.stopped: set[str] = set()
        self._fleet = fleet
        self._chance = chance
        self._figures = figures

    def trigger(self) -> None:
        status = self._fleet.ask(control.AskStatus())
        if not isinstance(status, control.Status) or status.open_deliveries > _MOST_OPEN:
            return
        wanted = self._chance.randint(1, 4)
        while wanted and self._trigger_one():
            wanted -= 1

    def _trigger_one(self) -> str | None:
        action = self._chance.choice((*KINDS, "plain", "plain", "slow", COALESCED, COALESCED))
        names = [node.name for node in self._fleet.chaos_nodes()]
        target = "ALL" if self._chance.random() < _TO_ALL else self._chance.choice(names)
        lifetime = self._chance.choice([_LIFETIME] * 9 + [_SHORT])
        return self.submit(target, action, lifetime)

    def submit(self, target: str, action: str, lifetime: float = _LIFETIME) -> str | None:
        """Trigger; the id, None unless the hub has said that it is accepted."""
        wanted = control.Wanted(target=target, action=action, lifetime=lifetime)
        said = self._fleet.ask(control.Submit(wanted=wanted, watch=False))
        if not isinstance(said, control.Accepted):
            self._figures.add("triggers not accepted")
            return None
        self._figures.add("triggers")
        self._figures.add("deliveries", len(said.nodes))
        self.accepted[said.trigger.id] = said
        return said.trigger.id

    def cancel_one(self) -> None:
        if self.accepted:
            self.cancel(self._chance.choice(list(self.accepted)[-5:]))

    def cancel(self, id_: str) -> None:
        self.stopped.add(id_)  # whether or not the hub says that it has heard it
        self._fleet.ask(control.Cancel(id=id_, watch=False))
        self._figures.add("cancellations")

    def run_by_hand(self) -> None:
        if len(self._fleet.by_hand) < _BY_HAND:
            self._figures.add("runs by hand")
            node = self._chance.choice(self._fleet.chaos_nodes())
            self._fleet.run_by_hand(node, self._chance.choice(["plain", "slow", COALESCED]))
