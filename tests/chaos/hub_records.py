"""The hub's memory and its database, each compared with what was committed and with what is on its way there."""

from typing import TYPE_CHECKING

import sqlalchemy as sa

from nanoexec.hub.ledger import Entry
from nanoexec.model import FINAL, NODES_WORD, DeliveryState
from nanoexec.record import Change, DeliveryCancelled, DeliveryMoved, TriggerIssued
from tests.chaos.hub_disk import Key
from tests.chaos.wires import AT_ONCE

if TYPE_CHECKING:
    from tests.chaos.world import World


def check_memory(world: "World") -> None:
    """A hub remembers what is on its disk, and what it has decided and is about to write there, and nothing else.

    A memory that could not be written is of no use. It is made anew at once.
    """
    assert world.hub is not None
    core = world.hub.clerk.core
    if core.epoch == world.store.spoiled:
        assert world.hub_process.stopped or world.hub_works_since() > world.loop.time() - AT_ONCE, (
            "a memory that could not be written is still used"
        )
        return
    world.truth.judged["memory"] += 1
    states, wishes = dict(world.truth.states), set(world.truth.disk.wishes)
    for change in _under_way(world):
        match change:
            case TriggerIssued():
                states |= {(node, change.trigger.id): DeliveryState.PENDING for node in change.nodes}
                states |= {(node, change.trigger.id): DeliveryState.SENT for node in change.sent}
            case DeliveryMoved():
                states[change.node, change.trigger] = change.state
            case DeliveryCancelled():
                wishes.add((change.node, change.trigger))
    for key, state in states.items():
        _check_delivery(world, key, state, core.ledger.get(key[1]), taken_back=key in wishes)
    for id_, entry in core.ledger._entries.items():
        assert all((node, id_) in states for node in entry.deliveries), f"{id_} is only in the hub's memory"
        assert entry.open == sum(state not in FINAL for state in entry.deliveries.values()), f"{id_}: {entry.open} open"


def _under_way(world: "World") -> list[Change]:
    return [
        change
        for given in world.loop.given
        if given.process is world.hub_process and given.func == world.store.commit
        for change in given.args[0]
    ]


def _check_delivery(world: "World", key: Key, state: DeliveryState, entry: Entry | None, *, taken_back: bool) -> None:
    wanted = taken_back and state not in NODES_WORD
    given_up = key in world.truth.disk.wishes and world.truth.given_up(key)
    if entry is None:
        assert state in FINAL, f"{key} is {state} on disk and the hub does not know it"
        assert not wanted or given_up, f"{key} is {state} and taken back, and the hub does not know it"
        return
    remembered = entry.deliveries.get(key[0])
    assert remembered is state, f"{key} is {state} on disk or about to be, and {remembered} in the hub's memory"
    asked = key[0] in entry.cancels
    assert asked == wanted or given_up, f"{key} is {state}, taken back: {taken_back}, to be asked for: {asked}"


def check_expiry(world: "World") -> None:
    """A hub that is well lets nothing wait that has expired: it looks once a second."""
    well = world.loop.time() - world.hub_works_since()
    if well > AT_ONCE and not world.hub_process.stopped:
        clock = world.truth.hub_clock
        late = [key for key in world.truth.unconfirmed() if world.truth.expires[key[1]] < clock.shows - AT_ONCE]
        assert not late, f"{late} have expired, and the hub waits"
        world.truth.judged["nothing waits that has expired"] += bool(world.truth.unconfirmed())


def check_disk(world: "World") -> None:
    """What was committed is in the database, read by somebody else, and nothing else is."""
    with world.store._read() as connection:
        rows = connection.execute(sa.text("SELECT node, trigger, state, canceller FROM deliveries")).all()
        runs = connection.execute(sa.text("SELECT node, id, outcome FROM runs")).all()
    truth = world.truth
    truth.judged["database"] += 1
    states = {(node, trigger): state for node, trigger, state, _ in rows}
    assert states == truth.states, "the hub's disk has other states than were committed"
    cancellers = {(node, trigger): by for node, trigger, _, by in rows if by is not None}
    assert cancellers == {key: wish.by for key, wish in truth.disk.wishes.items()}, "the hub's disk has other wishes"
    outcomes = {(node, id_): outcome for node, id_, outcome in runs}
    assert outcomes == {key: run.outcome for key, run in truth.reports.items()}, "the hub's disk has other outcomes"
