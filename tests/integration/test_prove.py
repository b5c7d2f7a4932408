"""The chain of a run, as the hub and as the node itself show it."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.support.fleet import Fleet, fleet_of, wait_until, whoami

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleet_of("web1", "away") as running:
        for node in running.nodes.values():
            node.action("hello", f"command = ['/bin/sh', '-c', 'echo x']\nuser = '{whoami()}'\n")
        yield running


def prove(fleet: Fleet, *words: str, status: int = 0, node: str | None = None) -> dict[str, Any]:
    root = fleet.nodes[node].root if node else None
    done = fleet.run("prove", "-o", "json", *words, root=root, check=False)
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}{done.stderr}"
    return dict(json.loads(done.stdout))


def steps(proof: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {step["what"]: step for step in proof["steps"]}


def hub_query(fleet: Fleet, sql: str) -> None:
    with closing(sqlite3.connect(fleet.root / "var/lib/nanoexec/hub/hub.db", timeout=20)) as connection, connection:
        assert connection.execute(sql).rowcount == 1


def test_the_hub_shows_every_step_with_the_clock_that_dates_it(fleet: Fleet) -> None:
    delivery = fleet.trigger("web1:hello")["web1"]
    trigger, run = delivery["trigger"], delivery["run"]
    proof = prove(fleet, trigger[:10], "web1")
    found = steps(proof)
    order = ["issued", "published", "received", "journaled", "started", "ended", "reported and stored"]
    assert [word for word in order if word in found] == order
    assert (found["started"]["clock"], found["started"]["at"]) == ("node", run["started"])
    assert f"pid {run['pid']}, supervisor {run['supervisor']}, boot {run['boot']}" == found["started"]["detail"]
    assert found["issued"]["at"] <= found["published"]["at"] <= found["reported and stored"]["at"]
    assert (proof["broken"], proof["missing"], proof["exit_code"]) == ([], [], 0)
    assert proof["skew"] == pytest.approx(0.0, abs=5)

    text = fleet.run("prove", trigger, "web1")
    assert text.stdout.startswith(f"{trigger}  hello on web1\n")
    assert "the clock of web1 was" in text.stderr
    assert_fits(text.stdout, proof)


def assert_fits(text: str, proof: dict[str, Any]) -> None:
    """No line is wider than a terminal, and all that is said is there."""
    assert max(map(len, text.splitlines())) <= 80, text
    words = " ".join(text.split())
    assert [step for step in proof["steps"] if " ".join(step["detail"].split()) not in words] == []


def test_the_node_shows_its_own_side_and_when_the_hub_has_confirmed_it(fleet: Fleet) -> None:
    trigger = fleet.trigger("web1:hello")["web1"]["trigger"]
    found = prove_when_relayed(fleet, trigger)
    assert steps(prove(fleet, trigger, "web1"))["ended"] == steps(found)["ended"]
    assert_fits(fleet.run("prove", trigger, root=fleet.nodes["web1"].root).stdout, found)


def prove_when_relayed(fleet: Fleet, trigger: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        done = fleet.run("prove", "-o", "json", trigger, root=fleet.nodes["web1"].root, check=False)
        assert done.returncode in (0, 4), done.stderr
        found = dict(json.loads(done.stdout))
        assert found["broken"] == []
        return found if done.returncode == 0 else None

    found = wait_until(look, "the agent has relayed the journal")
    assert "reported" in steps(found)
    return dict(found)


def test_a_node_that_is_away_leaves_its_part_missing_and_said_so(fleet: Fleet) -> None:
    fleet.nodes["away"].agent.stop()
    wait_until(lambda: "away" not in fleet.connected(), "the hub sees that it is away")
    trigger = fleet.issue("away:hello")
    proof = prove(fleet, trigger, "away", status=4)
    assert set(steps(proof)) == {"issued"}
    assert proof["missing"] == ["the node's part: the delivery is pending; the node is away"]
    fleet.nodes["away"].agent.start()
    fleet.wait_state(trigger, "away", "finished")
    assert {"issued", "published", "started", "ended"} <= set(steps(prove(fleet, trigger, "away")))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE runs SET started = NULL, began = NULL", "it is said to have succeeded, and no start was journaled"),
        ("UPDATE runs SET admitted = change", "it started with change"),
        ("DELETE FROM runs", "the delivery is finished, and no run is stored"),
    ],
)
def test_a_chain_that_does_not_hold_is_said_in_words(fleet: Fleet, change: str, said: str) -> None:
    trigger = fleet.trigger("web1:hello")["web1"]["trigger"]
    hub_query(fleet, f"{change} WHERE id = '{trigger}'")
    done = fleet.run("prove", trigger, "web1", check=False)
    assert done.returncode == 3
    assert f"broken: {said}" in done.stderr
    assert said in prove(fleet, trigger, "web1", status=3)["broken"][0]


def test_what_cannot_be_asked_is_one_clear_line(fleet: Fleet) -> None:
    trigger = fleet.trigger("web1:hello")["web1"]["trigger"]
    for words, status, said in (
        (("zzzz", "web1"), 2, "no trigger begins with 'zzzz'"),
        ((trigger, "web9"), 2, f"trigger {trigger} was not for web9: `nanoexec show {trigger}` lists its nodes"),
        ((trigger, "web 1"), 2, "'web 1' cannot be a node's name"),
        ((trigger,), 2, "on the hub, name a node too: nanoexec prove ID NODE"),
    ):
        done = fleet.run("prove", *words, check=False)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (status, "", 1), done.stderr
        assert said in done.stderr
    nothing = fleet.run("prove", "zzzz", root=fleet.nodes["web1"].root, check=False)
    assert (nothing.returncode, nothing.stderr) == (2, "nanoexec: no run in this node's journal begins with 'zzzz'\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_only_who_owns_the_journal_may_read_it(fleet: Fleet) -> None:
    journal = fleet.nodes["web1"].journal
    trigger = fleet.trigger("web1:hello")["web1"]["trigger"]
    fleet.directory.chmod(0o755)
    words = ["prove", trigger, "--root", str(fleet.nodes["web1"].root)]
    # Once as root, so that everything is loaded: nobody may not be able to read the checkout.
    code = "import contextlib, os; from nanoexec.cli import main\n"
    code += "with contextlib.suppress(SystemExit): main()\n"
    code += "os.setuid(65534); main()"

    def as_nobody() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, cwd="/"
        )

    said = f"nanoexec: {journal}: only its owner may read it: use sudo nanoexec prove {trigger}"
    done = as_nobody()
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, said)
    closed = journal.parents[1]  # a directory on the way to it
    mode = closed.stat().st_mode
    closed.chmod(0o700)
    try:
        done = as_nobody()
    finally:
        closed.chmod(mode)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, said)
    assert "Traceback" not in done.stderr
