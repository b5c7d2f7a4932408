"""Hub and agents joined in memory, with everything going wrong that can, and then nothing any more.

This is the promise as a whole: what the hub accepted ends once on every node it was for, and is told truly.
"""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nanoexec.model import FINAL, DeliveryState
from nanoexec.wire.network import Report, decode_question
from tests.unit.hub.world import START, World

HEALING = 200  # seconds: longer than every pause that anybody makes
names = st.sampled_from(["web1", "web2", "db1"])
often = st.sampled_from([True, True, True, False])


class Conversation(RuleBasedStateMachine):
    """Each rule is something that happens, and each flag whether it goes well."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        for node in self.world.nodes.values():
            node.link(0.0)

    @rule(whom=st.sampled_from(["ALL", "web[1-2]", "db1", "web1"]), lifetime=st.sampled_from([5.0, 60.0, 3600.0]))
    def submit(self, whom: str, lifetime: float) -> None:
        self.world.submit(whom, lifetime)

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 20.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)
        self.world.beacon()

    @rule(name=names, place=st.integers(0, 20), again=st.booleans())
    def a_frame_arrives_out_of_turn_and_perhaps_twice(self, name: str, place: int, again: bool) -> None:  # noqa: FBT001
        node = self.world.nodes[name]
        if node.coming:
            if again:
                node.coming.append(node.coming[place % len(node.coming)])
            node.hear(place, self.world.now)

    @rule(name=names, place=st.integers(0, 20))
    def a_frame_is_lost(self, name: str, place: int) -> None:
        coming = self.world.nodes[name].coming
        if coming:
            del coming[place % len(coming)]

    @rule(name=names, arrives=often, answered=often)
    def a_node_asks(self, name: str, arrives: bool, answered: bool) -> None:  # noqa: FBT001
        self.world.ask(self.world.nodes[name], arrives=arrives, answered=answered)

    @rule(name=names)
    def a_node_asks_all_it_has_to(self, name: str) -> None:
        while self.world.ask(self.world.nodes[name]):
            pass

    @rule(name=names, place=st.integers(0, 50))
    def an_old_question_arrives_again(self, name: str, place: int) -> None:
        node = self.world.nodes[name]
        if node.asked:
            self.world.respond(node, node.asked[place % len(node.asked)])

    @rule(name=names, reached=often, told=often)
    def orders_go_to_the_runner(self, name: str, reached: bool, told: bool) -> None:  # noqa: FBT001
        self.world.nodes[name].hand_over(self.world.now, reached=reached, told=told)

    @precondition(lambda self: bool(self.world.records.triggers))
    @rule(place=st.integers(0, 20), whom=st.sampled_from([None, None, "web1", "db1,web2"]))
    def an_operator_takes_it_back(self, place: int, whom: str | None) -> None:
        issued = sorted(self.world.records.triggers)
        self.world.cancel(issued[place % len(issued)], whom)

    @rule(name=names, reached=often, told=often)
    def cancellations_go_to_the_runner(self, name: str, reached: bool, told: bool) -> None:  # noqa: FBT001
        self.world.nodes[name].take_back(self.world.now, reached=reached, told=told)

    @rule(name=names, place=st.integers(0, 5), told=st.booleans())
    def a_run_ends(self, name: str, place: int, told: bool) -> None:  # noqa: FBT001
        node = self.world.nodes[name]
        if under_way := node.runner.under_way():
            node.end(under_way[place % len(under_way)], told=told)

    @rule(name=names, reached=often)
    def the_journal_is_relayed(self, name: str, reached: bool) -> None:  # noqa: FBT001
        self.world.nodes[name].relay(self.world.now, reached=reached)

    @rule(name=names)
    def somebody_runs_it_by_hand(self, name: str) -> None:
        self.world.run_locally(self.world.nodes[name])

    @rule(name=names, noticed=st.booleans())
    def a_link_breaks(self, name: str, noticed: bool) -> None:  # noqa: FBT001
        self.world.nodes[name].unlink()
        if noticed:
            self.world.hub.roster.away(name)

    @rule(name=names)
    def a_link_comes_up(self, name: str) -> None:
        self.world.nodes[name].link(self.world.now)

    @rule(name=names)
    def the_cursor_is_saved(self, name: str) -> None:
        self.world.nodes[name].save()

    @rule(name=names)
    def an_agent_starts_again(self, name: str) -> None:
        self.world.nodes[name].restart()

    @precondition(lambda self: bool(self.world.records.triggers))
    @rule()
    def the_hub_starts_again(self) -> None:
        self.world.restart_hub()

    @rule()
    def the_hub_is_backed_up(self) -> None:
        self.world.back_up()

    @rule(rarely=st.integers(0, 3))
    def the_hub_is_restored(self, rarely: int) -> None:
        if rarely == 0:
            self.world.restore()

    @invariant()
    def nothing_is_ever_started_twice(self) -> None:
        for node in self.world.nodes.values():
            assert all(times == 1 for times in node.runner.starts.values())

    @invariant()
    def nothing_that_was_called_off_has_started(self) -> None:
        for node in self.world.nodes.values():
            off = [id_ for id_, run in node.runner.journal.items() if run.outcome and run.started is None]
            assert not any(node.runner.starts[id_] for id_ in off)

    @invariant()
    def what_the_hub_remembers_is_what_is_on_disk(self) -> None:
        for id_, stored in self.world.records.triggers.items():
            entry = self.world.hub.ledger.get(id_)
            if entry is None:
                assert set(stored.deliveries.values()) <= FINAL
            else:
                for node, state in entry.deliveries.items():
                    on_disk = stored.deliveries[node]
                    assert state == on_disk or (state, on_disk) == (DeliveryState.SENT, DeliveryState.PENDING)

    def teardown(self) -> None:
        world = self.world
        healed_at = START + world.now
        world.heal(HEALING)
        for id_, stored in world.records.triggers.items():
            for name, state in stored.deliveries.items():
                ran = id_ in world.nodes[name].runner.journal
                expected = DeliveryState.FINISHED if ran else DeliveryState.EXPIRED
                assert state == expected, (id_, name)
                assert world.records.finished[id_, name] == ran
                assert ran or stored.trigger.expires <= healed_at + HEALING
                # What was alive when all was well again has run, and was not let expire.
                assert ran or stored.trigger.expires <= healed_at + 100
        for name, node in world.nodes.items():
            told = {id_: run for (teller, id_), run in world.records.runs.items() if teller == name}
            assert told == node.runner.journal
            assert node.core.outbox.cursor.change == max((run.change for run in told.values()), default=0)


def test_the_conversation_survives_whatever_happens_to_it() -> None:
    machine: Any = Conversation.TestCase()
    machine.settings = settings(
        max_examples=80, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
    )
    machine.runTest()


def test_a_hub_restored_from_an_old_backup_has_the_whole_history_again_and_nothing_ran_twice() -> None:
    world = World()
    world.submit("ALL", 3600.0)
    world.heal(10)
    world.back_up()
    for node in world.nodes.values():
        world.run_locally(node)
    world.submit("web[1-2]", 3600.0)
    world.heal(400)  # so long that the hub notes meanwhile how far the journals are stored
    world.submit("ALL", 3600.0)
    world.heal(10)
    before = dict(world.records.runs)
    world.restore()
    assert len(world.records.runs) < len(before)
    world.heal(10)
    assert world.records.runs == before
    for node in world.nodes.values():
        assert set(node.runner.starts.values()) == {1}


def test_a_hub_that_only_starts_again_hears_again_at_most_what_it_had_not_noted_as_stored() -> None:
    world = World()
    world.heal(1)
    for _ in range(6):
        world.submit("ALL", 3600.0)
        world.heal(70)
    node = world.nodes["web1"]
    noted = world.records.relayed["web1"].change
    assert 0 < noted < node.core.outbox.cursor.change
    node.asked.clear()
    world.restart_hub()
    world.heal(5)
    reports = [question for frame in node.asked if isinstance(question := decode_question(frame), Report)]
    again = [run for report in reports for run in report.runs]
    assert again
    assert min(run.change for run in again) > noted
