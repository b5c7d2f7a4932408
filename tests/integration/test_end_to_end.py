"""A trigger's whole way, through real processes: command line, hub, TLS, agent, runner, command, and back."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.fleet import Fleet, fleet_of, wait_until, whoami

pytestmark = pytest.mark.timeout(180)


def ledger_action(fleet: Fleet, name: str = "work", seconds: float = 0.0) -> Path:
    """An action that writes one line for each time that it starts: the truth, outside nanoexec."""
    ledger = fleet.directory / "ledger"
    script = f'echo "$NANOEXEC_TRIGGER_ID" >> {ledger}; sleep {seconds}; echo done'
    for node in fleet.nodes.values():
        node.action(name, f"command = ['/bin/sh', '-c', '{script}']\nuser = '{whoami()}'\n")
    return ledger


def starts(ledger: Path) -> list[str]:
    return ledger.read_text().split() if ledger.exists() else []


def test_every_node_runs_it_once_and_every_result_comes_back() -> None:
    with fleet_of("web1", "web2", "web10") as fleet:
        ledger = ledger_action(fleet)
        deliveries = fleet.trigger("ALL:work")
        assert {node: d["run"]["outcome"] for node, d in deliveries.items()} == dict.fromkeys(fleet.nodes, "succeeded")
        assert len(starts(ledger)) == 3
        assert {d["run"]["output"]["text"] for d in deliveries.values()} == {"done\n"}

        assert set(fleet.trigger("web1:work")) == {"web1"}
        assert set(fleet.trigger("web[1-2]:work")) == {"web1", "web2"}
        assert len(starts(ledger)) == 6

        entries = json.loads(fleet.run("history", "-o", "json").stdout)
        assert len(entries) == 6
        assert {entry["outcome"] for entry in entries} == {"succeeded"}
        folded = fleet.run("trigger", "ALL:work")
        assert folded.stdout.startswith("web[1-2,10] (3)  succeeded")
        assert "3 succeeded" in folded.stderr


def test_a_node_that_was_away_gets_it_when_it_returns_and_runs_it_once() -> None:
    with fleet_of("here", "away") as fleet:
        ledger = ledger_action(fleet)
        fleet.nodes["away"].agent.stop()
        wait_until(lambda: fleet.connected() == {"here"}, "the hub sees that it is away")
        deliveries = fleet.trigger("ALL:work", status=4)
        assert deliveries["away"]["state"] == "pending"
        trigger = deliveries["away"]["trigger"]
        fleet.nodes["away"].agent.start()
        assert fleet.wait_state(trigger, "away", "finished")["run"]["outcome"] == "succeeded"
        assert starts(ledger) == [trigger, trigger]


def test_a_trigger_that_expires_before_the_node_returns_is_never_run() -> None:
    with fleet_of("away") as fleet:
        ledger = ledger_action(fleet)
        fleet.nodes["away"].agent.stop()
        wait_until(lambda: not fleet.connected(), "the hub sees that it is away")
        trigger = fleet.trigger("ALL:work", "--expires", "1s", status=4)["away"]["trigger"]
        fleet.wait_state(trigger, "away", "expired")
        fleet.nodes["away"].agent.start()
        fleet.wait_connected("away")
        assert fleet.trigger("ALL:work")["away"]["run"]["outcome"] == "succeeded"
        assert trigger not in starts(ledger)


def test_a_restart_of_the_hub_loses_nothing_and_runs_nothing_twice() -> None:
    with fleet_of("one", "two") as fleet:
        ledger = ledger_action(fleet, seconds=1.5)
        trigger = fleet.issue("ALL:work")
        wait_until(lambda: len(starts(ledger)) == 2, "both have started")
        fleet.hub.kill()
        time.sleep(1.5)  # they end while the hub is dead
        fleet.start_hub()
        for node in ("one", "two"):
            assert fleet.wait_state(trigger, node, "finished")["run"]["outcome"] == "succeeded"
        assert starts(ledger) == [trigger, trigger]


@pytest.mark.parametrize("victim", ["agent", "runner"])
def test_a_run_survives_the_death_of_agent_and_runner_and_its_real_result_arrives(victim: str) -> None:
    with fleet_of("node") as fleet:
        ledger = ledger_action(fleet, seconds=1.0)
        node = fleet.nodes["node"]
        trigger = fleet.issue("ALL:work")
        wait_until(lambda: starts(ledger), "it has started")
        service = getattr(node, victim)
        service.kill()
        service.start()
        delivery = fleet.wait_state(trigger, "node", "finished")
        assert delivery["run"]["outcome"] == "succeeded"
        assert delivery["run"]["output"]["text"] == "done\n"
        assert starts(ledger) == [trigger]


def test_a_run_whose_supervisor_was_killed_is_interrupted_and_never_run_again() -> None:
    with fleet_of("node") as fleet:
        ledger = ledger_action(fleet, seconds=30.0)
        trigger = fleet.issue("ALL:work")
        fleet.wait_state(trigger, "node", "running")
        runner = fleet.nodes["node"].runner.process
        assert runner is not None
        children = Path(f"/proc/{runner.pid}/task/{runner.pid}/children").read_text().split()
        for supervisor in children:
            command = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
            os.kill(int(supervisor), signal.SIGKILL)
            for pid in command:
                os.kill(int(pid), signal.SIGKILL)
        fleet.nodes["node"].runner.kill()
        fleet.nodes["node"].agent.kill()
        fleet.nodes["node"].start()
        delivery = fleet.wait_state(trigger, "node", "finished")
        assert delivery["run"]["outcome"] == "interrupted"
        assert starts(ledger) == [trigger]


def test_a_revoked_node_is_out_at_once_and_its_old_key_stays_out_after_a_rejoin() -> None:
    with fleet_of("web") as fleet:
        old = fleet.nodes["web"]
        fleet.run("nodes", "revoke", "web")
        wait_until(lambda: not fleet.connected(), "it is cut off")
        assert fleet.run("trigger", "web:uptime", check=False).returncode == 5
        old.stop()
        state = old.root / "var/lib/nanoexec/agent"
        saved = {file.name: file.read_bytes() for file in state.iterdir()}

        fleet.add("web")
        assert fleet.trigger("web:uptime")["web"]["run"]["outcome"] == "succeeded"
        fleet.nodes["web"].stop()
        wait_until(lambda: not fleet.connected(), "the new one is away")
        for name, data in saved.items():
            (state / name).write_bytes(data)
        old.agent.start()
        fleet.nodes["web"] = old
        wait_until(lambda: "not on the hub's roster" in old.agent.text(), "the old key is refused, and told why")
        assert not fleet.connected()


def test_exec_is_refused_until_the_node_itself_allows_it() -> None:
    with fleet_of("node") as fleet:
        refused = fleet.run("exec", "ALL", "--", "echo", "hello world", check=False)
        assert refused.returncode == 6
        assert "allow_exec = true" in refused.stdout
        node = fleet.nodes["node"]
        node.set(allow_exec=True, exec_user=whoami())
        node.runner.stop()
        node.runner.start()
        allowed = fleet.run("exec", "ALL", "--", "echo", "hello  $HOME; world", check=False)
        assert allowed.returncode == 0, allowed.stdout + allowed.stderr
        assert "hello  $HOME; world" in allowed.stdout, "arguments reach the command as argv, never through a shell"


def test_a_strict_node_runs_only_what_its_signers_signed() -> None:
    with fleet_of("node") as fleet:
        ledger = ledger_action(fleet)
        key = fleet.directory / "signing.key"
        done = subprocess.run(
            [sys.executable, "-m", "nanoexec", "hub", "signing-key", str(key)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "restart agent and runner" in done.stderr
        node = fleet.nodes["node"]
        node.config.write_text(done.stdout + node.config.read_text())
        node.stop()
        node.start()
        fleet.wait_connected("node")
        unsigned = fleet.trigger("ALL:work", status=6)["node"]
        assert unsigned["state"] == "refused"
        assert "signed" in unsigned["reason"]
        assert not starts(ledger)
        assert fleet.trigger("ALL:work", "--sign", str(key))["node"]["run"]["outcome"] == "succeeded"
        assert len(starts(ledger)) == 1
