"""What the hub knows of schedules: the runs that it did not cause, and the nodes that have not kept their promise."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import nanoexec
from nanoexec.errors import ExitCode
from nanoexec.model import Cause, Outcome, Run, identifier
from nanoexec.runner.journal import Journal
from tests.support.fleet import Fleet, FleetNode, assert_one_line, fleet_of, wait_until, whoami

pytestmark = pytest.mark.timeout(180)

HOUR = 3600.0


def adopt(fleet: Fleet, node: FleetNode, schedule: str = "17 * * * *") -> None:
    """Give a node the action ``work``, a crontab line that runs its tool, and have the action take the line over."""
    tool(node)
    crontab = node.root / "etc/crontab"
    crontab.write_text(f"{schedule} {whoami()} {node.root}/opt/work\n")
    run = node.root / "usr/bin/nanoexec-run"
    run.parent.mkdir(parents=True)
    run.write_text(f'#!/bin/sh\nexec {sys.executable} -m nanoexec.run "$@"\n')
    run.chmod(0o755)
    fleet.run("cron", "adopt", "work", "--run", str(run), "--yes", root=node.root)


def tool(node: FleetNode) -> None:
    """The action ``work``: it succeeds unless the file ``broken`` is there."""
    program = node.root / "opt/work"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho working\ntest ! -e {node.root}/broken\n")
    program.chmod(0o755)
    node.action("work", f"command = ['{program}']\nuser = '{whoami()}'\n[cron]\nmatch = '(^|/)work$'\n")


def described(fleet: Fleet) -> dict[str, float | None]:
    """What every agent has told the hub of the interval of ``work``."""
    for node in fleet.nodes.values():
        assert node.agent.process
        node.agent.process.send_signal(signal.SIGHUP)

    def told() -> dict[str, float | None] | None:
        offers = {
            name: [offer for offer in one["actions"] if offer["name"] == "work"]
            for name in fleet.nodes
            for one in [shown(fleet, name)]
        }
        return {name: some[0]["interval"] for name, some in offers.items()} if all(offers.values()) else None

    return dict(wait_until(told, "the hub knows what each node offers"))


def shown(fleet: Fleet, name: str) -> dict[str, Any]:

    return dict(json.loads(fleet.run("nodes", "show", name, "-o", "json").stdout))


def cron_starts(node: FleetNode) -> "subprocess.CompletedProcess[str]":
    """Start the node's line as cron does: its command, handed to a shell."""
    line = (node.root / "etc/crontab").read_text().splitlines()[-1]
    command = line.split(None, 6)[6]
    package = str(Path(nanoexec.__file__).parents[1])
    return subprocess.run(
        ["/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False, cwd=node.root,
        env={"PATH": os.environ["PATH"], "HOME": "/", "LOGNAME": whoami(), "SHELL": "/bin/sh", "PYTHONPATH": package},
    )  # fmt: skip


def succeeded_before(node: FleetNode, ago: float) -> None:
    """Have the journal say that cron ran the action so long ago."""
    started = time.time() - ago
    run = Run(
        id=identifier(os.urandom(10)), action="work", cause=Cause.SCHEDULE, by="root", requested=started,
        started=started, ended=started, duration=0.1, outcome=Outcome.SUCCEEDED, status=0,
    )  # fmt: skip
    with Journal.open(node.journal) as journal:
        assert journal.admit(run, 0) is None


def overdue(fleet: Fleet, *words: str) -> dict[str, dict[str, Any]]:
    """The lapses by node."""

    done = fleet.run("overdue", "-o", "json", *words, check=False)
    found = {lapse["node"]: lapse for lapse in json.loads(done.stdout)}
    assert done.returncode == (ExitCode.RUN_FAILED if found else ExitCode.OK)
    return found


def test_the_hub_lists_who_is_overdue_and_why() -> None:
    with fleet_of("away", "failing", "refusing", "bare", "fine", "quiet") as fleet:
        nodes = fleet.nodes
        for name in ("away", "failing", "refusing", "fine", "quiet"):
            adopt(fleet, nodes[name])
        tool(nodes["bare"])
        assert described(fleet) == dict.fromkeys(nodes, HOUR) | {"bare": None}
        for node in nodes.values():
            succeeded_before(node, 5 * HOUR)
        wait_until(lambda: len(fleet.history()) == len(nodes), "every old run is in the history")
        assert {lapse["why"] for name, lapse in overdue(fleet).items() if name != "bare"} == {"not run"}

        (nodes["failing"].root / "broken").touch()
        fleet.trigger("failing,fine:work", status=ExitCode.RUN_FAILED)
        fleet.trigger("refusing:work", "-a", "strange=1", status=ExitCode.REFUSED)
        nodes["away"].agent.stop()
        wait_until(lambda: "away" not in fleet.connected(), "the hub sees that it is away")

        found = overdue(fleet)
        assert {name: lapse["why"] for name, lapse in found.items()} == {
            "away": "offline",
            "bare": "no schedule",
            "failing": "failing",
            "quiet": "not run",
            "refusing": "refused",
        }
        assert {lapse["interval"] for lapse in found.values()} == {HOUR}
        assert all(abs(time.time() - 5 * HOUR - lapse["succeeded"]) < 60 for lapse in found.values())
        assert "exit" in found["failing"]["detail"]
        assert "strange" in found["refusing"]["detail"]
        assert overdue(fleet, "work").keys() == found.keys()

        rows = fleet.run("overdue", check=False).stdout.splitlines()
        assert [row.split()[0] for row in rows] == ["NODE", *sorted(found)]
        assert [row for row in rows if "failing since " in row and found["failing"]["detail"] in row]

        (nodes["failing"].root / "broken").unlink()
        fleet.trigger("failing,refusing,bare,quiet:work")
        assert set(overdue(fleet)) == {"away"}
        nodes["away"].agent.start()
        fleet.wait_connected("away")
        assert cron_starts(nodes["away"]).stdout == "working\n"
        wait_until(lambda: not overdue(fleet), "the run that cron started ends the last lapse")
        assert "nothing is overdue" in fleet.run("overdue").stderr


def test_runs_that_cron_and_people_start_are_in_the_history_with_their_cause() -> None:
    with fleet_of("web1") as fleet:
        node = fleet.nodes["web1"]
        adopt(fleet, node, "* * * * *")
        due = cron_starts(node)
        assert (due.returncode, due.stdout, due.stderr) == (0, "working\n", "")
        fleet.run("run", "work", root=node.root)
        spared = cron_starts(node)
        assert (spared.returncode, spared.stdout, spared.stderr) == (0, "", "")
        wait_until(lambda: len(fleet.history()) == 3, "all three are in the history")
        told = {(one["cause"], one["outcome"]): one for one in fleet.history()}
        assert set(told) == {("schedule", "succeeded"), ("local", "succeeded"), ("schedule", "skipped")}
        assert {one["by"] for one in told.values()} == {whoami()}
        assert told["schedule", "skipped"]["reason"].startswith("satisfied: ")
        assert " schedule " in fleet.run("history").stdout


def test_a_line_in_the_shadow_promises_the_hub_nothing() -> None:
    with fleet_of("web1") as fleet:
        node = fleet.nodes["web1"]
        adopt(fleet, node, "0,20 * * * *")
        assert described(fleet) == {"web1": 2400.0}
        run = str(node.root / "usr/bin/nanoexec-run")
        fleet.run("cron", "restore", "work", "--yes", root=node.root)
        fleet.run("cron", "adopt", "work", "--shadow", "--run", run, "--yes", root=node.root)
        wait_until(lambda: described(fleet) == {"web1": None}, "the hub hears that there is no schedule")
        assert overdue(fleet) == {}
        assert {lapse["why"] for lapse in overdue(fleet, "work").values()} == {"no schedule"}


def test_an_action_that_no_node_offers_is_said_to_be_none() -> None:
    with Fleet() as fleet:
        done = fleet.run("overdue", "wrok", check=False)
        assert_one_line(done, ExitCode.USAGE, "no node offers the action wrok")
        assert "nothing is overdue" in fleet.run("overdue").stderr
