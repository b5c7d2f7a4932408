"""A hub that is away while nodes are at work: what it has accepted is done, and what was done is told."""

from tests.support.fleet import wait_until
from tests.system.estate import GATE, Estate, journal, ledger, outcomes
from tests.system.machines import Machine


def has_ended(node: Machine) -> bool:
    """Whether the last run of a node has ended."""
    return journal(node)["runs"][-1]["outcome"] is not None


def test_reports_arrive_although_the_hub_was_rebooted_before_them(estate: Estate) -> None:
    trigger = estate.issue("ALL:mark", "-a", f"until={GATE}")
    estate.wait_state(trigger, "running")
    estate.hub.power_off()
    for node in estate.nodes.values():
        node.put("", GATE)
    wait_until(lambda: all(map(has_ended, estate.nodes.values())), "the runs have ended")
    estate.hub.power_on()
    shown = estate.wait_state(trigger, "finished")
    assert outcomes(shown) == dict.fromkeys(estate.nodes, "succeeded")
    assert [entry["id"] for entry in estate.history("--action", "mark")] == [trigger] * 3
    estate.wait_connected(*estate.nodes)
    for node in estate.nodes.values():
        assert ledger(node) == [trigger]


def test_what_the_hub_has_accepted_outlives_a_power_cut(estate: Estate) -> None:
    before = {name: ledger(node) for name, node in estate.nodes.items()}
    away = estate.nodes["node3"]
    away.cut()  # hears of the trigger only from what the hub has on its disk
    try:
        trigger = estate.issue("ALL:mark")
        estate.hub.power_cut()
    finally:
        away.heal()
    estate.hub.power_on()
    shown = estate.wait_state(trigger, "finished")
    assert outcomes(shown) == dict.fromkeys(estate.nodes, "succeeded")
    estate.wait_connected(*estate.nodes)
    assert outcomes(estate.trigger("ALL:uptime")) == dict.fromkeys(estate.nodes, "succeeded")
    for name, node in estate.nodes.items():
        assert ledger(node) == [*before[name], trigger]
