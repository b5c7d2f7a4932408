"""``nanoexec doctor`` on a hub, beside the real one, and what it leaves alone."""

import grp
import json
import os
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from nanoexec.config import Paths
from nanoexec.doctor import Finding, Level, examine
from nanoexec.errors import ExitCode
from nanoexec.keys.credentials import CA_KEY, HUB_KEY
from nanoexec.wire import control
from tests.support.command_line import ENVIRONMENT, command
from tests.support.fake_hub import answering, fake_hub
from tests.support.fleet import Fleet, fleet_of, wait_until
from tests.support.somebody import NOBODY, acting_as_nobody, dropping_to

STAGES = ["config", "key", "certificate", "store", "hub", "ports", "beacon", "nodes", "clocks", "refused", "join"]
LIVE = STAGES[5:]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleet_of("web1") as running:
        yield running


@pytest.fixture
def initialised(tmp_path: Any) -> Paths:
    """A hub that was made and never served."""
    from nanoexec.hub.setup import create  # noqa: PLC0415 - only what a hub needs

    paths = Paths(root=tmp_path)
    create(paths, "hub.example.org")
    return paths


def stages(paths: Paths) -> dict[str, Finding]:
    found = list(examine(paths))
    assert [finding.stage for finding in found] == STAGES
    return {finding.stage: finding for finding in found}


def levels(paths: Paths) -> dict[str, Level]:
    return {stage: finding.level for stage, finding in stages(paths).items()}


def test_a_hub_in_order_passes_every_stage(fleet: Fleet) -> None:
    done = fleet.run("doctor", "-o", "json")
    assert [finding["stage"] for finding in json.loads(done.stdout)] == STAGES
    assert {finding["level"] for finding in json.loads(done.stdout)} == {"ok"}
    found = stages(Paths(root=fleet.root))
    assert found["nodes"].detail == "all 1 are connected"
    assert str(fleet.keys["report_port"]) in found["ports"].detail


def test_the_join_listener_is_tried_while_a_token_is_outstanding(fleet: Fleet) -> None:
    wait_until(
        lambda: "no token is outstanding" in stages(Paths(root=fleet.root))["join"].detail,
        "the listener through which web1 has joined closes",
    )
    fleet.run("hub", "token", "--ttl", "2s")
    assert f"{fleet.join_port} on 127.0.0.1" in stages(Paths(root=fleet.root))["join"].detail


def test_looking_takes_no_trigger_from_the_agent_and_makes_nobody_look_connected(fleet: Fleet) -> None:
    node = fleet.nodes["web1"]
    node.agent.stop()
    try:
        wait_until(lambda: not fleet.connected(), "web1 is away")
        trigger = fleet.issue("web1:uptime")
        done = fleet.run("doctor", root=node.root, check=False)
        assert "ok    node  hello" in done.stdout
        assert "FAIL  node  agent" in done.stdout
        assert fleet.shown(trigger)["web1"]["state"] == "pending"
        assert not fleet.connected()
        found = stages(Paths(root=fleet.root))["nodes"]
        assert found.level is Level.WARN
        assert "0 connected, 1 away: web1" in found.detail
    finally:
        node.agent.start()
    assert fleet.wait_state(trigger, "web1", "finished")["run"]["outcome"] == "succeeded"
    fleet.wait_connected("web1")


def test_a_hub_that_does_not_run_fails_at_that_stage_and_the_rest_is_skipped(initialised: Paths) -> None:
    found = stages(initialised)
    assert found["hub"].level is Level.FAIL
    assert "`nanoexec hub serve`" in found["hub"].detail
    assert found["store"].level is Level.WARN
    assert [stage for stage in STAGES if found[stage].level is Level.SKIP] == LIVE


def answers_and_was_heard(paths: Paths, heard: float | None, *, started: float = 300.0) -> dict[str, Finding]:
    """The stages of a hub that says it hears itself well, last so many seconds ago."""
    now = time.time()
    status = control.Status(
        hub="hub.example.org", version="1", epoch="e1", started=now - started, publish_port=1, report_port=2,
        join_port=None, nodes=0, connected=0, open_deliveries=0, counters={},
        heard=None if heard is None else now - heard,
    )  # fmt: skip

    def script(connection: socket.socket, request: control.Request) -> None:
        reply = status if isinstance(request, control.AskStatus) else control.NodeList(nodes=())
        answering(reply)(connection, request)

    paths.control_socket.unlink(missing_ok=True)
    with fake_hub(paths.root, script):
        return stages(paths)


def test_a_hub_that_has_not_heard_itself_for_too_long_fails_although_it_raises_no_alarm(initialised: Paths) -> None:
    """Whatever keeps it from beaconing, a writer that is stuck, may keep it from judging, too."""
    assert answers_and_was_heard(initialised, 30.0)["beacon"].level is Level.OK
    late = answers_and_was_heard(initialised, 83.0)["beacon"]
    assert late.level is Level.FAIL
    assert "it was last heard 83 s ago: restart the hub" in late.detail
    assert answers_and_was_heard(initialised, None)["beacon"].level is Level.FAIL
    assert answers_and_was_heard(initialised, None, started=5.0)["beacon"].level is Level.WARN

    initialised.hub_config.write_text("beacon_interval = 60\n")
    assert answers_and_was_heard(initialised, 83.0)["beacon"].level is Level.OK
    initialised.hub_config.write_text("beacon_interval = 'often'\n")
    assert answers_and_was_heard(initialised, 83.0)["beacon"].level is Level.OK, "what is too long is not known"


def test_a_key_that_others_can_read_and_a_missing_ca_fail_at_the_key(initialised: Paths) -> None:
    (initialised.hub_state / HUB_KEY).chmod(0o640)
    assert levels(initialised)["key"] is Level.FAIL
    (initialised.hub_state / HUB_KEY).chmod(0o600)
    assert levels(initialised)["key"] is Level.OK
    (initialised.hub_state / CA_KEY).unlink()
    assert "ca.key: missing" in stages(initialised)["key"].detail


def test_a_configuration_for_another_name_fails_at_the_certificate(initialised: Paths) -> None:
    initialised.hub_config.write_text('name = "other.example.org"\n')
    assert "it is for hub.example.org" in stages(initialised)["certificate"].detail
    initialised.hub_config.write_text("name = 7\n")
    assert "hub.toml: name: expected str" in stages(initialised)["config"].detail


@pytest.mark.parametrize(
    ("statement", "level"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", Level.FAIL),
        ("UPDATE alembic_version SET version_num = '0000'", Level.WARN),
        ("DROP TABLE alembic_version", Level.FAIL),
        ("SELECT 1", Level.OK),
    ],
)
def test_the_version_of_the_database_is_judged_and_the_file_not_touched(
    initialised: Paths, statement: str, level: Level
) -> None:
    from nanoexec.store.opening import OURS, prepare  # noqa: PLC0415 - SQLAlchemy

    prepare(initialised.hub_store, OURS)
    with closing(sqlite3.connect(initialised.hub_store)) as database:
        database.execute(statement)
        database.commit()
    before = initialised.hub_store.read_bytes()
    assert levels(initialised)["store"] is level
    assert initialised.hub_store.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_who_may_not_look_is_told_so_and_the_hub_is_not_blamed(fleet: Fleet) -> None:
    root = fleet.root
    fleet.directory.chmod(0o755)
    state = Paths(root=root).hub_state
    state.chmod(0o700)
    stages(Paths(root=root))  # as root, for what is imported on the way
    with acting_as_nobody():
        found = stages(Paths(root=root))
    assert Level.FAIL not in {finding.level for finding in found.values()}
    for stage in ("key", "certificate", "store", "hub"):
        assert found[stage].level is Level.SKIP
        assert "this user may not look at it: run this as root" in found[stage].detail


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_who_may_not_ask_the_hub_gets_no_green_light_and_an_operator_does() -> None:
    with fleet_of(operators="daemon") as fleet:
        fleet.directory.chmod(0o755)
        wait_until(lambda: fleet.status()["heard"], "the hub hears itself")

        def asked_by(group: int) -> "subprocess.CompletedProcess[str]":
            words = [*dropping_to(NOBODY, group), *command(fleet.root, "doctor")]
            return subprocess.run(words, capture_output=True, text=True, check=False, cwd="/", env=ENVIRONMENT)

        stranger, operator = asked_by(NOBODY), asked_by(grp.getgrnam("daemon").gr_gid)
        assert stranger.returncode == ExitCode.UNABLE
        assert "FAIL" not in stranger.stdout
        said = "this user cannot see what matters of the hub: run this as root or as an operator"
        assert stranger.stderr.splitlines()[-1] == said
        assert (operator.returncode, len(operator.stderr.splitlines())) == (0, 1), operator.stdout + operator.stderr


def test_both_sides_of_one_machine_are_looked_at(fleet: Fleet, initialised: Paths) -> None:
    initialised.agent_config.write_text('hub = "127.0.0.1"\nname = "web1"\nreport_port = 1\n')
    sides = [finding.side for finding in examine(initialised)]
    assert sides == ["hub"] * 11 + ["node"] * 14
    assert fleet.run("doctor", root=initialised.root, check=False).returncode == ExitCode.UNABLE
