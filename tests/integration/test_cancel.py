"""A trigger that is taken back, through real processes: command line, hub, TLS, agent, runner, command, and back."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nanoexec.cli.ask import HubConnection
from nanoexec.config import Paths
from nanoexec.wire import control
from tests.support.fleet import Fleet, FleetNode, fleet_of, outcomes, wait_until, whoami

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleet_of("web1", "web2", "db1") as running:
        add_actions(running)
        yield running


def add_actions(fleet: Fleet) -> None:
    """Commands that write what they do where nanoexec does not look, and end when they are told to, or not."""
    begin = 'echo "$NANOEXEC_TRIGGER_ID" >> {ledger}'
    scripts = {
        "long": f"{begin}; sleep 300",
        "stubborn": f'trap "" TERM; {begin}; while :; do sleep 0.05; done',
        "short": f"{begin}; echo x",
    }
    for node in fleet.nodes.values():
        for name, script in scripts.items():
            text = json.dumps(["/bin/sh", "-c", script.format(ledger=ledger(node))])
            node.action(name, f"command = {text}\nuser = '{whoami()}'\nkill_after = '1s'\n")


def ledger(node: FleetNode) -> Path:
    return node.root / "ledger"


def starts(node: FleetNode, trigger: str) -> int:
    return ledger(node).read_text().split().count(trigger) if ledger(node).exists() else 0


def issue_and_see_it_run(fleet: Fleet, action: str, *names: str, target: str = "") -> str:
    trigger = fleet.issue(f"{target or ','.join(names)}:{action}")
    for name in names:
        fleet.wait_state(trigger, name, "running")
        wait_until(lambda name=name: starts(fleet.nodes[name], trigger), "the command itself has begun")
    return trigger


def cancel(fleet: Fleet, trigger: str, *words: str, status: int = 0) -> dict[str, dict[str, Any]]:
    """The deliveries by node, once it has come back with this status."""
    done = fleet.run("cancel", trigger, "-o", "json", *words, check=False)
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}{done.stderr}"
    document = json.loads(done.stdout)
    assert document["exit_code"] == status
    return {delivery["node"]: delivery for delivery in document["deliveries"]}


def pid_of(delivery: dict[str, Any]) -> int:
    return int(delivery["run"]["pid"])


def is_over(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_runs_are_stopped_and_everybody_is_told_by_whom(fleet: Fleet) -> None:
    trigger = issue_and_see_it_run(fleet, "long", "web1", "web2")
    deliveries = cancel(fleet, trigger)
    assert outcomes(deliveries) == {"web1": "cancelled", "web2": "cancelled"}
    assert {d["run"]["status"] for d in deliveries.values()} == {-signal.SIGTERM}
    assert all(is_over(pid_of(delivery)) for delivery in deliveries.values())
    shown = fleet.run("show", trigger).stdout
    assert f"by {whoami()}\n" in next(line + "\n" for line in shown.splitlines() if line.startswith("cancelled "))
    assert f"web[1-2] (2)  cancelled by {whoami()}  " in shown
    assert f"cancelled by {whoami()}" in fleet.run("history", "--action", "long").stdout
    assert {d["canceller"] for d in fleet.shown(trigger).values()} == {whoami()}


def test_a_command_that_ignores_it_is_killed(fleet: Fleet) -> None:
    trigger = issue_and_see_it_run(fleet, "stubborn", "web1")
    delivery = cancel(fleet, trigger)["web1"]
    assert (delivery["run"]["outcome"], delivery["run"]["status"]) == ("cancelled", -signal.SIGKILL)
    assert is_over(pid_of(delivery))


def test_who_waits_for_the_trigger_hears_of_it_and_gets_3(fleet: Fleet) -> None:
    words = [sys.executable, "-m", "nanoexec", "trigger", "--root", str(fleet.root), "web1:long"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        entry = wait_until(
            lambda: next((e for e in fleet.history("--node", "web1") if e["state"] == "running"), None), "it runs"
        )
        cancel(fleet, entry["id"])
        out, said = waiting.communicate(timeout=20)
    assert waiting.returncode == 3
    assert out.startswith(f"web1  cancelled by {whoami()}")
    assert said == f"long {entry['id']}: 1 cancelled\n"


def test_only_some_of_its_nodes(fleet: Fleet) -> None:
    trigger = issue_and_see_it_run(fleet, "long", "db1", "web1", target="web1,db1")
    assert set(cancel(fleet, trigger, "--nodes", "web*")) == {"web1"}
    assert fleet.shown(trigger)["db1"]["state"] == "running"
    assert fleet.run("cancel", trigger, "--nodes", "web2", check=False).returncode == 5
    assert set(cancel(fleet, trigger[:9])) == {"web1", "db1"}


def test_twice_is_as_once_and_too_late_is_one_clear_line(fleet: Fleet) -> None:
    trigger = issue_and_see_it_run(fleet, "long", "web1")
    first = cancel(fleet, trigger)
    assert cancel(fleet, trigger) == first
    assert fleet.run("cancel", trigger).stderr == f"long {trigger}: 1 cancelled\n"

    ended = fleet.trigger("web1:short")["web1"]["trigger"]
    late = fleet.run("cancel", ended, check=False)
    assert (late.returncode, late.stdout) == (3, "web1  had ended before\n")
    assert late.stderr == f"short {ended}: 1 succeeded\n"
    assert cancel(fleet, ended, status=3)["web1"]["run"]["outcome"] == "succeeded"

    unknown = fleet.run("cancel", "zzzz", check=False)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr == "nanoexec: no trigger begins with 'zzzz': look for its id in the history\n"


def test_no_wait_returns_at_once_and_it_happens_all_the_same(fleet: Fleet) -> None:
    trigger = issue_and_see_it_run(fleet, "long", "web1")
    done = fleet.run("cancel", trigger, "--no-wait")
    assert done.stdout == f"trigger {trigger} cancelled for 1 node\n"
    assert fleet.wait_state(trigger, "web1", "finished")["run"]["outcome"] == "cancelled"


def test_a_node_that_is_away_never_runs_it_and_says_so_when_it_returns(fleet: Fleet) -> None:
    node = fleet.nodes["db1"]
    node.agent.stop()
    wait_until(lambda: "db1" not in fleet.connected(), "the hub sees that it is away")
    trigger = fleet.issue("db1:short")
    delivery = cancel(fleet, trigger)["db1"]
    assert (delivery["state"], delivery["reason"]) == ("cancelled", f"cancelled by {whoami()}")
    node.agent.start()
    run = fleet.wait_state(trigger, "db1", "finished")["run"]
    assert (run["outcome"], run["started"]) == ("cancelled", None)
    fleet.wait_connected("db1")
    fleet.trigger("db1:short")
    assert starts(node, trigger) == 0


def test_a_run_that_goes_on_while_its_agent_is_away_is_stopped_when_it_returns(fleet: Fleet) -> None:
    node = fleet.nodes["db1"]
    trigger = issue_and_see_it_run(fleet, "long", "db1")
    node.agent.stop()
    wait_until(lambda: "db1" not in fleet.connected(), "the hub sees that it is away")
    assert cancel(fleet, trigger, status=4)["db1"]["state"] == "running", "nobody knows what it does"
    node.agent.start()
    assert fleet.wait_state(trigger, "db1", "finished")["run"]["outcome"] == "cancelled"
    fleet.wait_connected("db1")


def test_who_waits_hears_of_nodes_that_go_away_and_come_back(fleet: Fleet) -> None:
    node = fleet.nodes["db1"]
    wanted = control.Wanted(target="web1", action="long", lifetime=60.0)
    with HubConnection(Paths(root=fleet.root)) as hub:
        hub.send(control.Submit(wanted=wanted, watch=True))
        accepted = hub.receive()
        assert isinstance(accepted, control.Accepted)
        for act, kind in ((node.agent.stop, "away"), (node.agent.start, "back")):
            act()
            for _ in range(20):
                news = hub.receive(30)
                assert isinstance(news, control.Progress)
                if "db1" in (*news.away, *news.back):
                    break
            assert "db1" in getattr(news, kind)
    fleet.wait_connected("db1")
    cancel(fleet, accepted.trigger.id)


def test_a_strict_node_obeys_it_unsigned(fleet: Fleet) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nanoexec", "hub", "signing-key", str(fleet.directory / "key")],
        capture_output=True,
        text=True,
        check=True,
    )
    node = fleet.nodes["db1"]
    before = node.config.read_text()
    node.config.write_text(done.stdout + before)
    node.stop()
    node.start()
    fleet.wait_connected("db1")
    trigger = fleet.issue("db1:long", "--sign", str(fleet.directory / "key"))
    fleet.wait_state(trigger, "db1", "running")
    assert cancel(fleet, trigger)["db1"]["run"]["outcome"] == "cancelled"
    node.stop()
    node.config.write_text(before)
    node.start()
    fleet.wait_connected("db1")


# Whoever is killed meanwhile


def kill_hub(fleet: Fleet) -> None:
    fleet.hub.kill()
    fleet.start_hub()


def kill_agent(fleet: Fleet) -> None:
    fleet.nodes["web1"].agent.kill()
    fleet.nodes["web1"].agent.start()


def kill_runner(fleet: Fleet) -> None:
    fleet.nodes["web1"].runner.kill()
    fleet.nodes["web1"].runner.start()


KILLS = [kill_hub, kill_agent, kill_runner]


@pytest.mark.parametrize("kill", KILLS)
def test_a_cancellation_that_the_hub_accepted_is_carried_out_whoever_is_killed_then(
    fleet: Fleet, kill: Callable[[Fleet], None]
) -> None:
    trigger = issue_and_see_it_run(fleet, "stubborn", "web1")
    fleet.run("cancel", trigger, "--no-wait")
    kill(fleet)
    delivery = fleet.wait_state(trigger, "web1", "finished")
    assert delivery["run"]["outcome"] == "cancelled"
    assert starts(fleet.nodes["web1"], trigger) == 1
    wait_until(lambda: is_over(pid_of(delivery)), "the command is gone")
    fleet.wait_connected("web1")


@pytest.mark.parametrize("kill", KILLS)
def test_nothing_that_was_taken_back_before_it_could_start_starts_after_a_crash(
    fleet: Fleet, kill: Callable[[Fleet], None]
) -> None:
    node = fleet.nodes["web1"]
    runner = node.runner.process
    assert runner is not None
    os.kill(runner.pid, signal.SIGSTOP)  # the order comes, and nobody takes it
    try:
        trigger = fleet.issue("web1:short")
        fleet.wait_state(trigger, "web1", "sent")
        fleet.run("cancel", trigger, "--no-wait")
        if kill is not kill_runner:
            kill(fleet)
    finally:
        os.kill(runner.pid, signal.SIGCONT)
    if kill is kill_runner:
        kill(fleet)
    run = fleet.wait_state(trigger, "web1", "finished")["run"]
    assert starts(node, trigger) <= (run["started"] is not None), "the one that was journaled first has won"
    assert run["outcome"] == "cancelled" or starts(node, trigger) == 1
    fleet.wait_connected("web1")


def test_a_hub_that_was_killed_remembers_whom_it_has_not_told(fleet: Fleet) -> None:
    node = fleet.nodes["db1"]
    node.agent.stop()
    wait_until(lambda: "db1" not in fleet.connected(), "the hub sees that it is away")
    trigger = fleet.issue("db1:short")
    cancel(fleet, trigger)
    fleet.hub.kill()
    fleet.start_hub()
    assert fleet.shown(trigger)["db1"]["state"] == "cancelled"
    node.agent.start()
    run = fleet.wait_state(trigger, "db1", "finished")["run"]
    assert (run["outcome"], starts(node, trigger)) == ("cancelled", 0)
    fleet.wait_connected(*fleet.nodes)


def test_a_cancellation_at_any_moment_leaves_what_the_commands_themselves_say(fleet: Fleet) -> None:
    node = fleet.nodes["web2"]
    for number in range(8):
        trigger = fleet.issue("web2:long")
        time.sleep(0.01 * number)
        run = cancel(fleet, trigger)["web2"]["run"]
        assert run["outcome"] == "cancelled"
        if run["started"] is None:
            assert starts(node, trigger) == 0
        assert starts(node, trigger) <= 1
        assert run["pid"] is None or is_over(run["pid"])


def test_jsonl_gives_a_line_for_each_node_whenever_it_ended(fleet: Fleet) -> None:
    trigger = issue_and_see_it_run(fleet, "long", "web1", "web2")
    cancel(fleet, trigger, "--nodes", "web1")
    done = fleet.run("cancel", trigger, "-o", "jsonl")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(line["node"] for line in lines) == ["web1", "web2"]
    assert {line["run"]["outcome"] for line in lines} == {"cancelled"}
