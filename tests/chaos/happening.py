"""How things happen to a world, one after the other."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.chaos.happened import Happened
from tests.chaos.world import World

pauses = st.sampled_from([0.0, 0.0, 0.001, 0.003, 0.005, 0.01, 0.02, 0.2, 1.0, 4.0])


def happens(**drawn: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule after which a little time passes, mostly so little that the consequences are still under way."""

    def ruled(what: Callable[..., None]) -> Any:
        def step(self: "Happening", pause: float, **values: Any) -> None:
            self.figures.rules[what.__name__] += 1
            what(self, **values)
            self.world.advance(pause)

        step.__name__ = what.__name__
        a_rule: Any = rule(pause=pauses, **drawn)
        made = a_rule(step)
        made.happens = True
        return made

    return ruled


class Happening(RuleBasedStateMachine):
    """A world from its beginning to its end. After each step every promise holds."""

    figures = Happened("model")

    def __init__(self) -> None:
        super().__init__()
        self.world: World

    @classmethod
    def all_that_happens(cls) -> list[str]:
        """The names of the rules."""
        return [name for name, what in vars(cls).items() if hasattr(what, "happens")]

    @initialize(chance=st.integers(0, 2**32))
    def the_world_begins(self, chance: int) -> None:
        self.world = World(chance, self.figures)
        self.figures.add("examples")

    def fault(self, kind: str, times: int = 1) -> None:
        self.figures.count(kind, times)

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def every_promise_holds(self) -> None:
        self.figures.add("steps")
        self.world.check()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.world.heal()
        finally:
            self.figures.add("lost", len(self.world.truth.open()))
            self.world.close()
