"""The figures of the model. They must show all that can happen: a campaign in which nothing did proves nothing."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from nanoexec.model import DeliveryState, Outcome
from tests.chaos.figures import Figures
from tests.chaos.truth import Truth

MANY: Final = 100  # examples in which all that is not rare happens
VERY_MANY: Final = 1000  # examples in which everything does
SPARED: Final = 3  # rules that hypothesis, which likes to say the same again, may leave out of the former
_JUDGED: Final = (
    *("memory", "database", "progress", "handed over", "admitted", "expired at the hub", "called expired by a node"),
    *("nothing waits that has expired", "expired, taken back"),
    *(f"taken back, {state}" for state in ("pending", "sent", "acknowledged", "running", "expired", "lost")),
)
_RARE: Final = (
    *(DeliveryState.LOST, Outcome.SKIPPED, "called expired by a node", "expired, taken back"),
    *(f"taken back, {state}" for state in ("sent", "acknowledged", "running", "expired", "lost")),
)


class Happened(Figures):
    """Also counts what is no fault, by kind: rules, states of deliveries, outcomes, and promises put to the test."""

    def __init__(self, campaign: str, **first: str) -> None:
        super().__init__(campaign, **first)
        self.rules: Counter[str] = Counter()
        self.states: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.judged: Counter[str] = Counter()

    def take(self, truth: Truth) -> None:
        """All that has happened in one world."""
        for what, times in truth.counts.items():
            self.add(what, times)
        triggered = [times for (_, run), times in truth.starts.items() if run in truth.expires]
        self.add("starts", truth.starts.total())
        self.add("starts of triggered runs", sum(triggered))
        self.add("doubled", sum(times - 1 for times in truth.starts.values()))
        self.states += truth.came
        self.outcomes += truth.outcomes
        self.judged += truth.judged

    def missing(self, rules: Iterable[str]) -> list[str]:
        """What has not happened, and ought to have, in so many examples."""
        examples = self._counts["examples"]
        missing = [what for what in ("deliveries", "starts of triggered runs") if not self._counts[what]]
        if examples < MANY:
            return missing
        left_out = [name for name in rules if not self.rules[name]]
        missing += left_out[0 if examples >= VERY_MANY else SPARED :]
        for counts, wanted in ((self.states, DeliveryState), (self.outcomes, Outcome), (self.judged, _JUDGED)):
            missing += [what for what in wanted if not counts[what] and (examples >= VERY_MANY or what not in _RARE)]
        return missing

    def lines(self) -> list[str]:
        for kind in ("rules", "states", "outcomes", "judged"):
            counts: Counter[str] = getattr(self, kind)
            self.fact(kind, ", ".join(f"{what} {times}" for what, times in counts.most_common()))
        return super().lines()
