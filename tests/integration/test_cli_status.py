"""``nanoexec status``: how a machine stands, and what it cannot know."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nanoexec.cli.status import lines
from nanoexec.config import Paths
from nanoexec.crontab.adoption import adopt
from nanoexec.crontab.lines import parse
from nanoexec.doctor.status import is_silent, node_status, outlook
from nanoexec.fallback import Policy
from nanoexec.keys.credentials import NODE_CERTIFICATE
from tests.integration.test_service import command, needs_root, somebody
from tests.support.cron import REPOSITORY, from_shell
from tests.support.fleet import Fleet, FleetNode, assert_one_line, fleet_of, wait_until, whoami
from tests.support.somebody import acting_as_nobody

pytestmark = pytest.mark.timeout(180)


def standing(fleet: Fleet, node: FleetNode) -> dict[str, Any]:
    return dict(json.loads(fleet.run("status", "-o", "json", root=node.root).stdout)["node"])


def test_a_node_tells_of_its_link_its_runs_and_its_outbox_through_the_life_of_a_hub() -> None:
    with fleet_of("web1", beacon_interval=0.5) as fleet:
        node = fleet.nodes["web1"]
        trigger = fleet.trigger("web1:uptime")["web1"]["trigger"]
        wait_until(lambda: standing(fleet, node)["waiting"] == 0, "the cursor is kept")
        up = standing(fleet, node)
        assert (up["name"], up["joined"], up["hub"]) == ("web1", True, "localhost")
        assert (up["agent"], up["link"]["up"], up["runner"], up["silent"]) == (True, True, True, False)
        assert [run["id"] for run in up["last_runs"]] == [trigger]
        assert (up["open_runs"], up["unknown"]) == ([], [])
        said = fleet.run("status", root=node.root).stdout
        assert "node web1, joined to localhost" in said
        assert "agent   runs; link up since" in said
        assert f"last    {trigger}  uptime  trigger" in said

        fleet.hub.kill()
        down = wait_until(
            lambda: (found := standing(fleet, node))["link"]["why"] and found, "the end of the link is noted"
        )
        assert (down["agent"], down["link"]["up"]) == (True, False)
        fleet.run("run", "uptime", root=node.root)
        assert standing(fleet, node)["waiting"] == 1
        assert "outbox  1 run that the hub has not stored, or" in fleet.run("status", root=node.root).stdout

        fleet.start_hub()
        wait_until(lambda: standing(fleet, node)["link"]["up"], "the link is up again")
        wait_until(lambda: standing(fleet, node)["waiting"] == 0, "the outbox empties")
        assert "outbox  empty: the hub has stored every run" in fleet.run("status", root=node.root).stdout

        node.agent.kill()
        node.runner.kill()
        dead = standing(fleet, node)
        assert (dead["agent"], dead["runner"], dead["joined"]) == (False, False, True)
        assert [run["action"] for run in dead["last_runs"]] == ["uptime", "uptime"]
        assert "agent   does not run; no link" in fleet.run("status", root=node.root).stdout


def test_an_agent_that_is_stopped_says_so_and_an_open_run_shows() -> None:
    with fleet_of("web1") as fleet:
        node = fleet.nodes["web1"]
        node.action("long", f"command = ['/bin/sleep', '60']\nuser = '{whoami()}'\n")
        trigger = fleet.issue("web1:long")
        fleet.wait_state(trigger, "web1", "running")
        assert [run["id"] for run in standing(fleet, node)["open_runs"]] == [trigger]
        assert (
            f"open    {trigger}  long  trigger, by {whoami()}  runs since" in fleet.run("status", root=node.root).stdout
        )
        node.agent.stop()
        stopped = standing(fleet, node)
        assert (stopped["agent"], stopped["link"]["up"]) == (False, False)
        assert stopped["link"]["why"] == "the agent was stopped"
        (node.root / "var/lib/nanoexec/agent/cursor").write_bytes(b'{"journal": "\xff"}')
        assert standing(fleet, node)["waiting"] == 0, "a cursor that cannot be read is as none"
        for left in ("cursor", "link"):  # what the agent's account may put there
            (node.root / "var/lib/nanoexec/agent" / left).unlink()
            os.mkfifo(node.root / "var/lib/nanoexec/agent" / left)
        assert not standing(fleet, node)["agent"], "nobody waits for what will never be written"


def test_a_node_that_has_joined_needs_no_configuration_of_its_own() -> None:
    with fleet_of("web1") as fleet:
        node = fleet.nodes["web1"]
        node.config.unlink()
        found = standing(fleet, node)
        assert (found["name"], found["joined"], found["link"]["up"]) == ("web1", True, True)


def test_a_machine_that_is_both_shows_both_and_one_that_is_neither_says_so(tmp_path: Path) -> None:
    with fleet_of("web1") as fleet:
        node = fleet.nodes["web1"]
        (fleet.root / "etc/nanoexec/agent.toml").write_bytes(node.config.read_bytes())
        both = json.loads(fleet.run("status", "-o", "json").stdout)
        assert (both["hub"]["connected"], both["node"]["joined"]) == (1, False)
        assert "hub localhost, version" in fleet.run("status").stdout
        fleet.hub.stop()
        assert "no hub answers at" in fleet.run("status").stdout
        assert_one_line(
            fleet.run("status", root=tmp_path, check=False), 1, "neither hub.toml nor agent.toml", "agent join"
        )


@needs_root
def test_a_user_without_rights_is_told_what_cannot_be_known() -> None:
    with fleet_of("web1") as fleet:
        fleet.directory.chmod(0o755)
        node = fleet.nodes["web1"]
        node.root.chmod(0o755)
        words = command(fleet, "status", "-o", "json")
        words[words.index("--root") + 1] = str(node.root)
        done = subprocess.run(
            [*somebody(None), *words], capture_output=True, text=True, check=False, cwd="/", env=os.environ
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)["node"]
        assert (found["name"], found["hub"]) == ("web1", "localhost")
        assert found["joined"] is not False, "whoever cannot look does not know that it has not"
        assert (found["runner"], found["waiting"], found["last_runs"]) == (None, None, None)
        assert any("only its owner knows what has run" in each for each in found["unknown"])
        assert any("runner.sock" in each for each in found["unknown"])


@needs_root
def test_a_user_who_may_not_look_is_not_told_what_is_not_so() -> None:
    with fleet_of("web1") as fleet:
        paths = Paths(root=fleet.nodes["web1"].root)
        fleet.directory.chmod(0o755)
        paths.agent_state.chmod(0o700)
        told = list(lines(node_status(paths, time.time())))  # as root, for what is imported on the way
        assert told[0] == "node web1, joined to localhost"
        with acting_as_nobody():
            found = node_status(paths, time.time())
            told = list(lines(found))
        assert (found.name, found.hub) == ("web1", "localhost")
        assert (found.joined, found.agent, found.silent) == (None, None, None)
        assert told == [
            "node web1, hub localhost; whether it has joined is not known",
            "agent   not known, nor its link",
            "hub     when it was last heard is not known",
            "runner  not known",
            "outbox  not known",
        ]
        assert any(f"{paths.agent_state / NODE_CERTIFICATE}: " in each for each in found.unknown)


def test_a_fault_in_the_nodes_own_file_is_said_and_what_joining_has_written_holds() -> None:
    with fleet_of("web1") as fleet:
        node = fleet.nodes["web1"]
        slot, _ = hub_silent_line(fleet, node)
        assert slot
        node.config.write_text('colour = "red"\nhub_silent_after = 3600\n')
        found = standing(fleet, node)
        assert (found["name"], found["joined"], found["hub"]) == ("web1", True, "localhost")
        assert (found["silent"], found["hub_silent_after"]) == (None, None), "how long is too long, nobody can say"
        (fallback,) = found["fallbacks"]
        assert (fallback["runs"], fallback["why"]) == (True, "what agent.toml says is not known, so nothing is skipped")
        said = fleet.run("status", root=node.root)
        assert said.stdout.startswith("node web1, joined to localhost\n")
        assert f"not known: {node.config}: unknown key colour\n" in said.stderr
        assert "hub     last heard" in said.stdout
        assert "; whether it is silent is not known" in said.stdout

        node.root.joinpath("etc/nanoexec/joined.toml").unlink()
        found = standing(fleet, node)
        assert (found["name"], found["joined"], found["hub"]) == (None, None, None)
        said = fleet.run("status", root=node.root)
        assert said.stdout.startswith("node not known by name; whether it has joined is not known\n")


def test_a_node_with_a_certificate_and_no_hub_has_not_joined() -> None:
    with fleet_of("web1") as fleet:
        node = fleet.nodes["web1"]
        node.root.joinpath("etc/nanoexec/joined.toml").unlink()
        node.set(name="web1")
        assert standing(fleet, node)["joined"] is False
        assert fleet.run("status", root=node.root).stdout.startswith("node web1, not joined: nanoexec agent join\n")


# Hub silence, from the beacon to the crontab


def hub_silent_line(fleet: Fleet, node: FleetNode) -> tuple[bytes, Path]:
    """A line of ``probe``, which runs only when the hub is silent: what cron hands to the shell, and its ledger."""
    ledger = fleet.directory / "original"
    node.action("probe", f"command = ['/bin/true']\nuser = '{whoami()}'\n[fallback]\npolicy = 'hub-silent'\n")
    launcher = node.root / "nanoexec-run"
    launcher.write_text(
        f"#!{sys.executable}\nimport sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from nanoexec.run import main\nmain()\n"
    )
    launcher.chmod(0o755)
    crontab = node.root / "etc/cron.d/probe"
    crontab.parent.mkdir(parents=True)
    (node.root / "etc/crontab").touch()
    (line,) = parse(f"* * * * * {whoami()} echo original >> {ledger}\n".encode(), system=True)
    crontab.write_bytes(adopt(line, "probe", str(launcher), root=str(node.root)))
    crontab.chmod(0o644)
    (adopted,) = parse(crontab.read_bytes(), system=True)
    return adopted.command, ledger


def test_a_hub_silent_fallback_runs_once_the_hub_is_dead_for_long_enough_and_not_while_it_is_heard() -> None:
    silence = 10.0
    with fleet_of("web1", beacon_interval=0.5) as fleet:
        node = fleet.nodes["web1"]
        node.set(hub_silent_after=silence)
        slot, ledger = hub_silent_line(fleet, node)
        beacon = node.root / "var/lib/nanoexec/agent/beacon"
        wait_until(beacon.exists, "the hub is heard")

        assert from_shell(slot)[0] == 0
        assert not ledger.exists(), "the hub is heard: the slot is skipped"
        (fallback,) = standing(fleet, node)["fallbacks"]
        assert (fallback["action"], fallback["runs"], fallback["why"]) == ("probe", False, "the hub is heard")
        assert standing(fleet, node)["last_runs"][0]["reason"].startswith("policy hub-silent: the hub was heard at")

        fleet.hub.kill()
        wait_until(lambda: time.time() - beacon.stat().st_mtime > silence + 1, "the hub is silent", within=60)
        assert from_shell(slot)[0] == 0
        assert ledger.read_text() == "original\n", "the hub is silent: the work is done"
        found = standing(fleet, node)
        assert (found["silent"], found["fallbacks"][0]["runs"]) == (True, True)
        said = fleet.run("status", root=node.root).stdout
        assert "silent for more than 10s: hub-silent fallbacks run" in said
        assert "would run: the hub is silent" in said

        fleet.start_hub()
        wait_until(lambda: standing(fleet, node)["silent"] is False, "it is heard again", within=60)
        assert from_shell(slot)[0] == 0
        assert ledger.read_text() == "original\n"


@pytest.mark.parametrize(
    ("heard", "silent"), [(None, True), (989.9, True), (990.0, True), (990.1, False), (1005.0, False), (1006.0, True)]
)
def test_silence_is_judged_as_a_slot_judges_it(heard: float | None, silent: bool) -> None:  # noqa: FBT001 - a table
    assert is_silent(heard, 10.0, 1000.0) is silent


def test_what_a_slot_would_do_follows_its_policy() -> None:
    for satisfied in (False, True):
        for silent in (False, True):
            what = {policy: outlook(policy, satisfied=satisfied, silent=silent)[0] for policy in Policy}
            assert what == {
                Policy.ALWAYS: True,
                Policy.NEVER: False,
                Policy.UNSATISFIED: not satisfied,
                Policy.HUB_SILENT: not satisfied and silent,
            }
