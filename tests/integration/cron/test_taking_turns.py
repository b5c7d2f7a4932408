"""Slots, triggered runs and people share one lock, and who comes second obeys ``on_busy``."""

import pytest

from tests.support.cron import ScheduledNode, from_shell, start_shell
from tests.support.runner import GATE, until

pytestmark = pytest.mark.node


def test_while_a_triggered_run_goes_on_refuse_skips(node: ScheduledNode) -> None:
    node.action("probe", GATE, on_busy="refuse")
    command = node.note()
    other = node.begin_local()
    until(lambda: node.notes, "it runs")
    assert from_shell(command) == (0, b"")
    assert node.reasons()[0].startswith("busy: run ")
    node.let_go()
    assert other.wait() == 0


@pytest.mark.parametrize("on_busy", ["wait", "coalesce"])
def test_who_waits_for_a_run_that_succeeds_skips_then(node: ScheduledNode, on_busy: str) -> None:
    node.action("probe", GATE, on_busy=on_busy)
    command = node.note()
    other = node.begin_local()
    until(lambda: node.notes, "it runs")
    shell = start_shell(command)
    until(lambda: len(node.runs()) == 2, "the slot waits")
    node.let_go()
    assert (other.wait(), shell.communicate(), shell.returncode) == (0, (b"", None), 0)
    assert "original" not in node.notes
    assert node.reasons()[0].startswith("satisfied: ")


def test_who_waits_for_a_run_that_fails_runs_then(node: ScheduledNode) -> None:
    node.action("probe", GATE)
    node.action("probe", f"{GATE}; exit 1")
    command = node.note()
    other = node.begin_local()
    until(lambda: node.notes, "it runs")
    shell = start_shell(command)
    until(lambda: len(node.runs()) == 2, "the slot waits")
    assert "original" not in node.notes
    node.let_go()
    assert (other.wait(), shell.communicate(), shell.returncode) == (1, (b"", None), 0)
    assert node.notes[-1] == "original"


def test_a_triggered_run_waits_for_the_slot_that_is_running(node: ScheduledNode) -> None:
    command = node.gate()
    shell = start_shell(command)
    until(lambda: node.notes, "the slot runs")
    other = node.begin_local()
    until(lambda: len(node.runs()) == 2, "the other waits")
    assert len(node.notes) == 1
    node.let_go()
    shell.communicate()
    assert other.wait() == 0
    assert node.notes[-1] == "triggered"
