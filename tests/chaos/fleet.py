"""What can happen to a hub and its nodes, as rules that hypothesis puts into any order."""

from hypothesis import strategies as st

from tests.chaos.happening import Happening, happens
from tests.chaos.hub_disk import DAY
from tests.chaos.world import NAMES

names = st.sampled_from(NAMES)
lifetimes = st.sampled_from([2.0, 30.0, 30.0, 600.0, 86400.0])
leaps = st.sampled_from([3600.0, -3600.0, 20.0, -20.0, 120.0, 231 * DAY, -231 * DAY])
jumps = st.sampled_from([3600.0, -3600.0, 20.0, -20.0, 120.0, 2 * DAY, -2 * DAY])
targets = st.sampled_from(["ALL", "ALL", "web[1-2]", "db1", "web1", "ALL,!web2"])
actions = st.sampled_from(["puppet", "puppet", "backup", "report", "exec", "unknown"])
places = st.integers(0, 60)
regrets = st.sampled_from(["", "at once", "late"])


class Fleet(Happening):
    """Each rule is something that happens to a hub and its nodes."""

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
        self.fault("agent killed")
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
        self.fault("loss of frames")
        self.world.network.drop(chance)

    @happens(longest=st.sampled_from([0.0, 0.01, 0.5, 5.0]), disorder=st.sampled_from([0.0, 0.0, 0.5]))
    def frames_are_late_and_overtake_each_other(self, longest: float, disorder: float) -> None:
        self.fault("delay and disorder")
        self.world.network.delay(0.0, longest)
        self.world.network.reorder(disorder)

    @happens(name=names)
    def a_node_is_cut_off(self, name: str) -> None:
        self.fault("partition")
        self.world.network.partition(name)

    @happens(name=names)
    def a_node_is_reached_again(self, name: str) -> None:
        self.world.network.heal(name)

    @happens(name=names)
    def a_connection_breaks(self, name: str) -> None:
        self.fault("broken connection")
        self.world.in_nobodys_name(self.world.network.sever, name)

    @happens(name=names, moment=st.sampled_from([0.0, 0.005, 0.01, 0.02, 0.05]))
    def a_connection_breaks_as_a_command_ends(self, name: str, moment: float) -> None:
        self.fault("broken connection")
        for child in tuple(self.world.nodes[name].children):
            child.command_is_over()
        self.world.advance(moment)
        self.world.in_nobodys_name(self.world.network.sever, name)

    @happens(name=names, place=places)
    def an_old_frame_comes_again(self, name: str, place: int) -> None:
        if self.world.publish_again(name, place):
            self.fault("repeated frame")

    @happens(name=names, place=places)
    def an_old_question_comes_again(self, name: str, place: int) -> None:
        if self.world.nodes[name].wire.ask_again(place):
            self.fault("repeated question")

    # What happens to the hub

    @happens()
    def the_hub_dies(self) -> None:
        if self.world.hub is not None:
            self.fault("hub killed")
            self.world.kill_hub()

    @happens()
    def the_hub_starts(self) -> None:
        self.world.start_hub()

    @happens()
    def the_hub_dies_and_starts(self) -> None:
        self.fault("hub killed")
        self.world.kill_hub()
        self.world.start_hub()

    @happens()
    def the_hub_cannot_write_for_a_moment(self) -> None:
        """It makes its memory anew, in a new epoch, and no connection breaks."""
        self.fault("hub's disk full")
        full, self.world.store.full = self.world.store.full, True
        self.world.submit("ALL", "puppet", 30.0)
        self.world.advance(0.05)
        self.world.store.full = full

    @happens(full=st.booleans())
    def the_disk_of_the_hub_fills_and_empties(self, full: bool) -> None:  # noqa: FBT001
        if full:
            self.fault("hub's disk full")
        self.world.store.full = full

    @happens()
    def a_backup_of_the_hub_is_made(self) -> None:
        self.world.back_up()

    @happens()
    def the_hub_is_restored_from_its_backup(self) -> None:
        if self.world.restore():
            self.fault("hub restored")

    @happens(seconds=jumps)
    def the_clock_of_the_hub_jumps(self, seconds: float) -> None:
        self.fault("hub's clock jumps")
        self.world.hub_clock.put_forward(seconds)

    @happens(whom=targets, seconds=st.sampled_from([2 * DAY, 2 * DAY, DAY - 3600.0]), take_back=regrets)
    def the_clock_of_the_hub_is_far_ahead_while_commands_run(self, whom: str, seconds: float, take_back: str) -> None:
        self.world.submit(whom, "exec", 600.0)
        self.world.advance(0.5)
        if take_back == "at once":
            self.world.cancel(0, None)
        self.fault("hub's clock jumps", 2)
        self.world.hub_clock.put_forward(seconds)
        self.world.advance(3.0)
        if take_back == "late":
            self.world.cancel(0, None)
        self.world.hub_clock.put_forward(-seconds)

    @happens()
    def the_hub_stands_still_or_goes_on(self) -> None:
        world = self.world
        if world.hub is None:
            return
        if world.hub_process.stopped:
            world.loop.resume(world.hub_process)
        else:
            self.fault("hub stopped")
            world.loop.stop_process(world.hub_process)

    # What happens to the nodes

    def _want_meanwhile(self, name: str, lifetime: float, seconds: float, take_back: str) -> None:
        """Trigger what cannot start now, and perhaps think better of it, before it expires or after that."""
        self.world.submit(name, "exec", lifetime)
        self.world.advance(0.05)
        if take_back == "at once":
            self.world.cancel(0, None)
        self.world.advance(seconds)
        if take_back == "late":
            self.world.cancel(0, None)
            self.world.advance(0.05)

    @happens(name=names)
    def an_agent_dies(self, name: str) -> None:
        self.fault("agent killed")
        self.world.nodes[name].kill_agent()

    @happens(name=names)
    def an_agent_starts(self, name: str) -> None:
        self.world.nodes[name].start_agent()

    @happens(name=names)
    def an_agent_is_restarted_properly(self, name: str) -> None:
        self.fault("agent restarted")
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
            self.fault("agent stopped")
            self.world.loop.stop_process(node.process)

    @happens(name=names, seconds=st.sampled_from([5.0, 40.0, 600.0]), take_back=regrets)
    def a_machine_sleeps_while_it_is_wanted(self, name: str, seconds: float, take_back: str) -> None:
        node, loop = self.world.nodes[name], self.world.loop
        if node.agent is None or node.process.stopped:
            return
        self.fault("agent stopped")
        loop.stop_process(node.process)
        self._want_meanwhile(name, 2.0, seconds, take_back)
        loop.resume(node.process)

    @happens(name=names)
    def a_runner_dies(self, name: str) -> None:
        self.fault("runner killed")
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
            self.fault("runner stopped")
            node.stop_runner()

    @happens(
        name=names,
        lifetime=st.sampled_from([2.0, 30.0]),
        seconds=st.sampled_from([1.0, 5.0, 40.0]),
        take_back=regrets,
    )
    def a_runner_stands_still_while_it_is_wanted(
        self, name: str, lifetime: float, seconds: float, take_back: str
    ) -> None:
        node = self.world.nodes[name]
        if node.runner_up and not node.runner_stopped:
            self.fault("runner stopped")
            node.stop_runner()
            self._want_meanwhile(name, lifetime, seconds, take_back)
            node.resume_runner()

    @happens(name=names, slow=st.booleans())
    def the_disk_of_a_node_is_slow_or_fast(self, name: str, slow: bool) -> None:  # noqa: FBT001
        if slow:
            self.fault("node's disk slow")
        self.world.nodes[name].slow = slow

    @happens(name=names, place=places)
    def a_child_of_the_runner_dies(self, name: str, place: int) -> None:
        children = self.world.nodes[name].children
        if children:
            self.fault("supervisor killed")
            children[place % len(children)].kill()

    @happens(name=names, where=st.sampled_from(["before", "after"]))
    def a_child_of_the_runner_is_to_die_at_a_commit(self, name: str, where: str) -> None:
        self.world.nodes[name].death = where

    @happens(name=names)
    def the_power_fails(self, name: str) -> None:
        self.fault("power cut")
        node = self.world.nodes[name]
        node.power_cut()
        node.start_runner()
        node.start_agent()

    @happens(name=names, seconds=leaps)
    def the_clock_of_a_node_jumps(self, name: str, seconds: float) -> None:
        self.fault("node's clock jumps")
        self.world.nodes[name].move_clock(seconds)
