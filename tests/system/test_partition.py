"""Nodes that the network has cut off: what was triggered meanwhile runs once when they are back, or not at all."""

from tests.support.fleet import wait_until
from tests.system.cron import fast_cron
from tests.system.estate import GATE, Estate, adopt_line, ledger, outcomes


def test_a_node_that_nobody_misses_yet_runs_once_after_the_partition(estate: Estate) -> None:
    node = estate.nodes["node1"]
    node.cut()
    try:
        trigger = estate.issue("node[1-2]:mark")
        estate.wait_state(trigger, "finished", "node2")
        assert estate.shown(trigger)["node1"]["state"] in {"sent", "pending"}  # the latter on a very slow machine
        assert ledger(node) == []
    finally:
        node.heal()
    assert outcomes(estate.wait_state(trigger, "finished")) == dict.fromkeys(("node1", "node2"), "succeeded")
    estate.wait_connected("node1")
    estate.trigger("node1:uptime")  # whatever might start it again has had its chance
    assert ledger(node) == [trigger]


def test_a_node_that_is_missed_runs_once_after_the_partition(estate: Estate) -> None:
    node = estate.nodes["node2"]
    before = ledger(node)
    node.cut()
    try:
        estate.wait_away("node2")
        trigger = estate.issue("node2:mark")
        assert estate.shown(trigger)["node2"]["state"] == "pending"
    finally:
        node.heal()
    assert outcomes(estate.wait_state(trigger, "finished")) == {"node2": "succeeded"}
    estate.trigger("node2:uptime")
    assert ledger(node) == [*before, trigger]


def test_a_run_that_ends_behind_a_partition_is_reported_once(estate: Estate) -> None:
    node = estate.nodes["node2"]
    trigger = estate.issue("node2:mark", "-a", f"until={GATE}")
    estate.wait_state(trigger, "running")
    node.cut()
    try:
        estate.wait_away("node2")
        node.put("", GATE)
    finally:
        node.heal()
    shown = estate.wait_state(trigger, "finished")
    assert outcomes(shown) == {"node2": "succeeded"}
    assert "marked and waited" in str(shown["node2"]["run"]["output"])
    assert ledger(node).count(trigger) == 1


def test_a_trigger_that_expires_behind_a_partition_never_runs_and_the_fallback_does(estate: Estate) -> None:
    node = estate.nodes["node3"]
    adopt_line(node)
    node.cut()
    try:
        trigger = estate.issue("node3:mark", "--expires", "3s")
        with fast_cron(node):
            wait_until(lambda: ledger(node), "a slot of the crontab has run")
        shown = estate.wait_state(trigger, "expired")
        assert shown["node3"]["reason"].endswith("until it expired")
    finally:
        node.heal()
    estate.wait_connected("node3")

    def fallbacks() -> list[dict[str, object]]:
        entries = estate.history("--node", "node3", "--action", "mark")
        return [entry for entry in entries if entry["cause"] == "schedule"]

    told = wait_until(lambda: len(fallbacks()) == len(ledger(node)) and fallbacks(), "the hub knows every fallback")
    assert {entry["outcome"] for entry in told} == {"succeeded"}
    assert estate.shown(trigger)["node3"]["state"] == "expired"
    after = estate.trigger("node3:uptime")
    assert outcomes(after) == {"node3": "succeeded"}
    assert set(ledger(node)) == {"original"}
