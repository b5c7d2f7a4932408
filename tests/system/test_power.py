"""Nodes that lose power or reboot in the middle of a run: said to be interrupted, never run again, nothing forgotten.

A power cut loses whatever was not fsynced, on the node's disk and in the journal alike.
"""

from tests.support.fleet import wait_until
from tests.system.estate import GATE, Estate, each, journal, ledger, outcomes
from tests.system.machines import Machine


def started(node: Machine, trigger: str) -> bool:
    """Whether the command of a trigger has been started. Asks the disk from outside: quicker than asking the node."""
    return trigger in (node.view / "srv/ledger").read_text().split()


def begin(estate: Estate, *names: str) -> str:
    """Start a run that will not end by itself on these nodes; the trigger's id, once all of them have begun."""
    trigger = estate.issue(f"{','.join(names)}:mark", "-a", f"until={GATE}")
    wait_until(lambda: all(started(estate.nodes[name], trigger) for name in names), f"it has begun on {names}")
    return trigger


def assert_interrupted_once(estate: Estate, trigger: str, *names: str) -> None:
    """Hub, journal and ledger tell the same: it was started, interrupted, and never started again."""
    shown = estate.wait_state(trigger, "finished", *names)
    assert outcomes(shown) == dict.fromkeys(names, "interrupted")
    estate.wait_connected(*names)
    after = estate.trigger(f"{','.join(names)}:mark")  # whatever might still start has had its chance
    assert outcomes(after) == dict.fromkeys(names, "succeeded")
    for name in names:
        assert shown[name]["run"]["reason"].startswith("the machine rebooted during the run"), shown[name]
        node = estate.nodes[name]
        assert ledger(node).count(trigger) == 1
        kept = journal(node)
        assert kept["integrity"] == "ok"
        told = [(run["outcome"], run["started"] is not None) for run in kept["runs"] if run["id"] == trigger]
        assert told == [("interrupted", True)]
        entries = [entry for entry in estate.history("--node", name) if entry["id"] == trigger]
        assert [entry["outcome"] for entry in entries] == ["interrupted"]


def test_a_run_is_interrupted_by_a_reboot_and_not_repeated(estate: Estate) -> None:
    names = ("node1", "node2")  # one of each suite
    trigger = begin(estate, *names)
    estate.wait_state(trigger, "running", *names)
    each((estate.nodes[name] for name in names), Machine.reboot)
    assert_interrupted_once(estate, trigger, *names)


def test_a_run_is_interrupted_by_a_power_cut_and_not_repeated(estate: Estate) -> None:
    names = ("node1", "node3")
    trigger = begin(estate, *names)
    estate.wait_state(trigger, "running", *names)
    each((estate.nodes[name] for name in names), Machine.power_cut)
    each((estate.nodes[name] for name in names), Machine.power_on)
    assert_interrupted_once(estate, trigger, *names)


def test_a_power_cut_right_after_the_start_repeats_nothing(estate: Estate) -> None:
    node = estate.nodes["node2"]
    trigger = estate.issue("node2:mark", "-a", f"until={GATE}")
    wait_until(lambda: started(node, trigger), "the run has begun")
    node.power_cut()
    node.power_on()
    assert_interrupted_once(estate, trigger, "node2")
