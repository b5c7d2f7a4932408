"""An order that expires while it lies in the runner's socket: the hub has said so, and so it is."""

import signal
from pathlib import Path

import pytest

from tests.support.fleet import FleetNode, fleet_of, wait_until, whoami


def ledger_action(node: FleetNode) -> Path:
    """An action that notes which trigger started it."""
    ledger = node.root / "ledger"
    script = f'echo "$NANOEXEC_TRIGGER_ID" >> {ledger}'
    node.action("work", f"command = ['/bin/sh', '-c', '{script}']\nuser = '{whoami()}'\n")
    return ledger


@pytest.mark.timeout(180)
def test_what_has_expired_before_a_stopped_runner_goes_on_is_never_run_and_what_has_not_is() -> None:
    with fleet_of("node") as fleet:
        node = fleet.nodes["node"]
        ledger = ledger_action(node)
        assert fleet.trigger("ALL:work")["node"]["run"]["outcome"] == "succeeded"
        runner = node.runner.process
        assert runner is not None
        runner.send_signal(signal.SIGSTOP)
        try:
            short = fleet.issue("ALL:work", "--expires", "2s")
            long = fleet.issue("ALL:work", "--expires", "10m")
            assert fleet.wait_state(short, "node", "expired")["run"] is None
        finally:
            runner.send_signal(signal.SIGCONT)
        assert fleet.wait_state(long, "node", "finished")["run"]["outcome"] == "succeeded"
        said = f"trigger {short} expired before the runner came to it"
        wait_until(lambda: said in node.agent.text(), "the runner has rejected it")
        after = fleet.trigger("ALL:work")["node"]["trigger"]
        assert ledger.read_text().split()[1:] == [long, after]
        assert fleet.shown(short)["node"]["state"] == "expired"
        assert node.agent.text().count(said) == 1, "and the agent has given it up"
