"""What must be so once nothing is wrong any more: nothing is left to do, and every record tells the same story."""

from typing import TYPE_CHECKING, Final

from nanoexec.model import DeliveryState, Outcome, Run
from tests.chaos import hub_records

if TYPE_CHECKING:
    from tests.chaos.node import Node
    from tests.chaos.world import World

HEALING: Final = 400.0  # seconds in which everything must have come to its end, once nothing is wrong any more


def restless(world: "World") -> str:
    """What is still to do."""
    if world.truth.open():
        return f"open: {[(key, world.truth.states[key]) for key in world.truth.open()]}"
    if unanswered := [key for key in world.truth.disk.unanswered() if not world.truth.given_up(key)]:
        return f"taken back, and not answered for: {unanswered}"
    return next(filter(None, (_still_to_do(world, node) for node in world.nodes.values())), "")


def _still_to_do(world: "World", node: "Node") -> str:
    assert node.agent is not None
    core, runs = node.agent.core, node.journal.changes(0, 10_000)[0]
    if node.children:
        return f"{node.name} has children: {[child.run_id for child in node.children]}"
    if _unreported(world, node):
        return f"{node.name} has runs that the hub has not: {_unreported(world, node)}"
    if not core.welcomed:
        return f"{node.name} is not welcome"
    if core.outbox.question() is not None:
        return f"{node.name} has still to say {core.outbox.question()}"
    if runs and core.outbox.cursor.change != runs[-1].change:
        return f"the cursor of {node.name} is not at its journal's end"
    return ""


def _unreported(world: "World", node: "Node") -> list[Run]:
    runs = node.journal.changes(0, 10_000)[0]
    return [
        run
        for run in runs
        if (node.name, run.id) not in world.truth.reports
        or world.truth.reports[node.name, run.id].outcome is not run.outcome
    ]


def check(world: "World") -> None:
    """Everything has come to its end, and the hub's disk, the nodes' journals and what really happened agree."""
    assert not restless(world), f"after {HEALING:.0f} s of peace: {restless(world)}"
    assert world.hub is not None
    assert world.hub.clerk.core.ledger.open_deliveries() == 0
    hub_records.check_disk(world)
    on_disk = {id_ for _, id_ in world.truth.states}
    assert world.truth.accepted <= on_disk | world.truth.forgotten, "what was accepted is not on the hub's disk"
    assert not world.truth.forgotten & on_disk
    for key in world.truth.said_to_run:
        assert world.truth.starts[key] or key in world.truth.kills, f"{key} was said to run, and never started"
    for node, run in world.truth.starts:
        pruned = run in world.truth.local and world.nodes[node].far and world.nodes[node].journal.find(run) is None
        assert (node, run) in world.truth.reports or pruned, f"{run} was started on {node}, and the hub has no outcome"
    for (name, id_), state in world.truth.states.items():
        known = world.nodes[name].journal.find(id_)
        possible = _possible(known, taken_back=(name, id_) in world.truth.disk.wishes)
        assert state in possible, f"{id_} on {name} is {state}; its node has {known}"


def _possible(known: Run | None, *, taken_back: bool) -> set[DeliveryState]:
    """How a delivery may have ended, by what the journal of its node has. `restless` waits for an answer to a wish."""
    if known is None:
        return {DeliveryState.EXPIRED, DeliveryState.CANCELLED} if taken_back else {DeliveryState.EXPIRED}
    return {DeliveryState.REFUSED if known.outcome is Outcome.REFUSED else DeliveryState.FINISHED}
