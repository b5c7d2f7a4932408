"""What can happen to a hub and its nodes, as rules that hypothesis puts into any order."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.chaos.happened import Happened
from tests.chaos.hub_disk import DAY
from tests.chaos.world import NAMES, World

names = st.sampled_from(NAMES)
lifetimes = st.sampled_from([2.0, 30.0, 30.0, 600.0, 86400.0])
leaps = st.sampled_from([3600.0, -3600.0, 20.0, -20.0, 120.0, 231 * DAY, -231 * DAY])
jumps = st.sampled_from([3600.0, -3600.0, 20.0, -20.0, 120.0, 2 * DAY, -2 * DAY])
targets = st.sampled_from(["ALL", "ALL", "web[1-2]", "db1", "web1", "ALL,!web2"])
actions = st.sampled_from(["puppet", "puppet", "backup", "report", "exec", "unknown"])
pauses = st.sampled_from([0.0, 0.0, 0.001, 0.003, 0.005, 0.01, 0.02, 0.2, 1.0, 4.0])
places = st.integers(0, 60)


def happens(**drawn: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule after which a little time passes, mostly so little that the consequences are still under way."""

    def ruled(what: Callable[..., None]) -> Any:
        def step(self: "Fleet", pause: float, **values: Any) -> None:
            self.figures.rules[what.__name__] += 1
            what(self, **values)
            self.world.advance(pause)

        step.__name__ = what.__name__
        a_rule: Any = rule(pause=pauses, **drawn)
        made = a_rule(step)
        made.happens = True
        return made

    return ruled


class Fleet(RuleBasedStateMachine):
    """Each rule is something that happens to a hub and its nodes."""

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

    def _fault(self, kind: str, times: int = 1) -> None:
        self.figures.count(kind, times)

    # What people and time do

    @happens(whom=targets, action=actions, lifetime=lifetimes)
    def somebody_triggers(self, whom: str, action: str, lifetime: float) -> None:
        self.world.submit(whom, action, lifetime)

    @happens(whom=targets, lifetime=lifetimes)
    def somebody_triggers_puppet(self, whom: str, lifetime: float) -> None:
        self.world.submit(whom, "puppet", lifetime)

    @happens(name=names, lifetime=lifetimes)
    def somebody_triggers_on_one_node(self, name: str, lifetime: float) -> None:
        self.world.submit(name, "exec", lifetime)

    @happens(whom=targets, action=actions, times=st.integers(2, 4))
    def somebody_triggers_again_and_again(self, whom: str, action: str, times: int) -> None:
        for _ in range(times):
            self.world.submit(whom, action, 60.0)

    @happens(place=st.integers(0, 3), nodes=st.sampled_from([None, None, "web1", "web[1-2]"]))
    def somebody_takes_a_trigger_back(self, place: int, nodes: str | None) -> None:
        self.world.cancel(place, nodes)

    @happens(
        whom=targets, action=actions, times=st.integers(1, 2), moment=st.sampled_from([0.0, 0.001, 0.01, 0.2, 0.5, 2.0])
    )
    def somebody_triggers_and_thinks_better_of_it(self, whom: str, action: str, times: int, moment: float) -> None:
        """The second has to wait for the first, where the action does not refuse it."""
        for _ in range(times):
            self.world.submit(whom, action, 600.0)
        self.world.advance(moment)
        self.world.cancel(0, None)

    @happens(name=names)
    def somebody_triggers_on_a_dead_node_and_thinks_better_of_it(self, name: str) -> None:
        self._fault("agent killed")
        self.world.nodes[name].kill_agent()
        self.world.advance(0.05)
        self.world.submit(name, "exec", 600.0)
        self.world.advance(0.05)
        self.world.cancel(0, None)

    @happens(seconds=st.sampled_from([10.0, 20.0, 40.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @happens()
    def all_is_well_for_a_while(self) -> None:
        self.world.mend()
        self.world.advance(20.0)

    @happens(name=names, action=st.sampled_from(["puppet", "backup", "report"]))
    def somebody_runs_it_by_hand(self, name: str, action: str) -> None:
        self.world.nodes[name].run_locally(action)

    @happens(name=names)
    def a_command_ends(self, name: str) -> None:
        for child in tuple(self.world.nodes[name].children[:1]):
            child.command_is_over()

    # What happens to the network

    @happens(chance=st.sampled_from([0.0, 0.0, 0.05, 0.3]))
    def frames_are_lost(self, chance: float) -> None:
        self._fault("loss of frames")
        self.world.network.drop(chance)

    @happens(longest=st.sampled_from([0.0, 0.01, 0.5, 5.0]), disorder=st.sampled_from([0.0, 0.0, 0.5]))
    def frames_are_late_and_overtake_each_other(self, longest: float, disorder: float) -> None:
        self._fault("delay and disorder")
        self.world.network.delay(0.0, longest)
        self.world.network.reorder(disorder)

    @happens(name=names)
    def a_node_is_cut_off(self, name: str) -> None:
        self._fault("partition")
        self.world.network.partition(name)

    @happens(name=names)
    def a_node_is_reached_again(self, name: str) -> None:
        self.world.network.heal(name)

    @happens(name=names)
    def a_connection_breaks(self, name: str) -> None:
        self._fault("broken connection")
        self.world.in_nobodys_name(self.world.network.sever, name)

    @happens(name=names, moment=st.sampled_from([0.0, 0.005, 0.01, 0.02, 0.05]))
    def a_connection_breaks_as_a_command_ends(self, name: str, moment: float) -> None:
        self._fault("broken connection")
        for child in tuple(self.world.nodes[name].children):
            child.command_is_over()
        self.world.advance(moment)
        self.world.in_nobodys_name(self.world.network.sever, name)

    @happens(name=names, place=places)
    def an_old_frame_comes_again(self, name: str, place: int) -> None:
        if self.world.publish_again(name, place):
            self._fault("repeated frame")

    @happens(name=names, place=places)
    def an_old_question_comes_again(self, name: str, place: int) -> None:
        if self.world.nodes[name].wire.ask_again(place):
            self._fault("repeated question")

    # What happens to the hub

    @happens()
    def the_hub_dies(self) -> None:
        if self.world.hub is not None:
            self._fault("hub killed")
            self.world.kill_hub()

    @happens()
    def the_hub_starts(self) -> None:
        self.world.start_hub()

    @happens()
    def the_hub_dies_and_starts(self) -> None:
        self._fault("hub killed")
        self.world.kill_hub()
        self.world.start_hub()

    @happens()
    def the_hub_cannot_write_for_a_moment(self) -> None:
        """It makes its memory anew, in a new epoch, and no connection breaks."""
        self._fault("hub's disk full")
        full, self.world.store.full = self.world.store.full, True
        self.world.submit("ALL", "puppet", 30.0)
        self.world.advance(0.05)
        self.world.store.full = full

    @happens(full=st.booleans())
    def the_disk_of_the_hub_fills_and_empties(self, full: bool) -> None:  # noqa: FBT001
        if full:
            self._fault("hub's disk full")
        self.world.store.full = full

    @happens()
    def a_backup_of_the_hub_is_made(self) -> None:
        self.world.back_up()

    @happens()
    def the_hub_is_restored_from_its_backup(self) -> None:
        if self.world.restore():
            self._fault("hub restored")

    @happens(seconds=jumps)
    def the_clock_of_the_hub_jumps(self, seconds: float) -> None:
        self._fault("hub's clock jumps")
        self.world.hub_clock.put_forward(seconds)

    @happens(whom=targets, take_back=st.booleans())
    def the_clock_of_the_hub_is_days_ahead_while_commands_run(self, whom: str, take_back: bool) -> None:  # noqa: FBT001
        self.world.submit(whom, "exec", 600.0)
        self.world.advance(0.5)
        self._fault("hub's clock jumps", 2)
        self.world.hub_clock.put_forward(2 * DAY)
        self.world.advance(3.0)
        if take_back:
            self.world.cancel(0, None)
        self.world.hub_clock.put_forward(-2 * DAY)

    @happens()
    def the_hub_stands_still_or_goes_on(self) -> None:
        world = self.world
        if world.hub is None:
            return
        if world.hub_process.stopped:
            world.loop.resume(world.hub_process)
        else:
            self._fault("hub stopped")
            world.loop.stop_process(world.hub_process)

    # What happens to the nodes

    @happens(name=names)
    def an_agent_dies(self, name: str) -> None:
        self._fault("agent killed")
        self.world.nodes[name].kill_agent()

    @happens(name=names)
    def an_agent_starts(self, name: str) -> None:
        self.world.nodes[name].start_agent()

    @happens(name=names)
    def an_agent_is_restarted_properly(self, name: str) -> None:
        self._fault("agent restarted")
        self.world.nodes[name].stop_agent()
        self.world.nodes[name].start_agent()

    @happens(name=names)
    def an_agent_stands_still_or_goes_on(self, name: str) -> None:
        node = self.world.nodes[name]
        if node.agent is None:
            return
        if node.process.stopped:
            self.world.loop.resume(node.process)
        else:
            self._fault("agent stopped")
            self.world.loop.stop_process(node.process)

    @happens(name=names, seconds=st.sampled_from([5.0, 40.0, 600.0]))
    def a_machine_sleeps_while_it_is_wanted(self, name: str, seconds: float) -> None:
        node, loop = self.world.nodes[name], self.world.loop
        if node.agent is None or node.process.stopped:
            return
        self._fault("agent stopped")
        loop.stop_process(node.process)
        self.world.submit(name, "exec", 2.0)
        self.world.advance(seconds)
        loop.resume(node.process)

    @happens(name=names)
    def a_runner_dies(self, name: str) -> None:
        self._fault("runner killed")
        self.world.nodes[name].kill_runner()

    @happens(name=names)
    def a_runner_starts(self, name: str) -> None:
        self.world.nodes[name].start_runner()

    @happens(name=names)
    def a_runner_stands_still_or_goes_on(self, name: str) -> None:
        node = self.world.nodes[name]
        if node.runner_stopped:
            node.resume_runner()
        elif node.runner_up:
            self._fault("runner stopped")
            node.stop_runner()

    @happens(name=names, lifetime=st.sampled_from([2.0, 30.0]), seconds=st.sampled_from([1.0, 5.0, 40.0]))
    def a_runner_stands_still_while_it_is_wanted(self, name: str, lifetime: float, seconds: float) -> None:
        node = self.world.nodes[name]
        if node.runner_up and not node.runner_stopped:
            self._fault("runner stopped")
            node.stop_runner()
            self.world.submit(name, "exec", lifetime)
            self.world.advance(seconds)
            node.resume_runner()

    @happens(name=names, slow=st.booleans())
    def the_disk_of_a_node_is_slow_or_fast(self, name: str, slow: bool) -> None:  # noqa: FBT001
        if slow:
            self._fault("node's disk slow")
        self.world.nodes[name].slow = slow

    @happens(name=names, place=places)
    def a_child_of_the_runner_dies(self, name: str, place: int) -> None:
        children = self.world.nodes[name].children
        if children:
            self._fault("supervisor killed")
            children[place % len(children)].kill()

    @happens(name=names, where=st.sampled_from(["before", "after"]))
    def a_child_of_the_runner_is_to_die_at_a_commit(self, name: str, where: str) -> None:
        self.world.nodes[name].death = where

    @happens(name=names)
    def the_power_fails(self, name: str) -> None:
        self._fault("power cut")
        node = self.world.nodes[name]
        node.power_cut()
        node.start_runner()
        node.start_agent()

    @happens(name=names, seconds=leaps)
    def the_clock_of_a_node_jumps(self, name: str, seconds: float) -> None:
        self._fault("node's clock jumps")
        self.world.nodes[name].move_clock(seconds)

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
