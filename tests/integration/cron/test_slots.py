"""Slots of an adopted line, started by a real shell as cron starts it: run or skipped, and by which rule."""

import os
import subprocess
import time

import pytest

from nanoexec.model import Cause, Outcome
from nanoexec.run.shell import Shell
from nanoexec.run.slot import Call, Slot
from tests.support.cron import CRON_ENVIRONMENT, ScheduledNode, from_shell, start_shell
from tests.support.runner import ME, until

pytestmark = pytest.mark.node


def test_an_unsatisfied_slot_runs_the_original_and_journals_it(node: ScheduledNode) -> None:
    assert from_shell(node.note("; echo said; exit 7")) == (7, b"said\n")
    (run,) = node.runs()
    assert (run.cause, run.by, run.outcome, run.status) == (Cause.SCHEDULE, ME, Outcome.FAILED, 7)
    assert run.command == ("/bin/sh", "-c", f"echo original >> {node.ledger}; echo said; exit 7")
    assert run.output.text() == "said\n"
    assert node.notes == ["original"]


def test_a_slot_after_a_success_is_skipped_silently_and_journaled(node: ScheduledNode) -> None:
    command = node.note()
    node.local()
    assert from_shell(command) == (0, b"")
    assert node.notes == ["triggered"]
    run = node.runs()[-1]
    assert (run.cause, run.by, run.outcome, run.started) == (Cause.SCHEDULE, ME, Outcome.SKIPPED, None)
    assert run.reason.startswith("satisfied: a run that succeeded has started at ")


def test_scheduled_runs_do_not_satisfy_the_next_slot(node: ScheduledNode) -> None:
    command = node.note()
    assert [from_shell(command), from_shell(command)] == [(0, b""), (0, b"")]
    assert node.notes == ["original", "original"]


def test_a_failure_satisfies_nothing(node: ScheduledNode) -> None:
    command = node.note()
    node.action("probe", "exit 1")
    assert node.begin_local().wait() == 1
    from_shell(command)
    assert node.notes == ["original"]


def test_a_slot_that_no_schedule_explains_runs(node: ScheduledNode) -> None:
    """Half a day away from its only slot: cron goes by another zone, or somebody has typed the line."""
    hour = (time.localtime().tm_hour + 12) % 24
    command = node.note(schedule=f"0 {hour} * * *")
    node.local()
    from_shell(command)
    assert node.notes == ["triggered", "original"]


def test_a_line_that_has_gone_from_the_crontab_runs(node: ScheduledNode) -> None:
    command = node.note()
    node.local()
    node.crontab.unlink()
    from_shell(command)
    assert node.notes == ["triggered", "original"]


def test_a_schedule_edited_by_hand_counts_from_the_next_slot_on(node: ScheduledNode) -> None:
    command = node.note()
    node.local()
    from_shell(command)
    assert node.notes == ["triggered"]
    hour = (time.localtime().tm_hour + 12) % 24
    node.replace(node.crontab.read_bytes().replace(b"* * * * *", f"0 {hour} * * *".encode()))
    from_shell(command)
    assert node.notes == ["triggered", "original"]


def test_lines_at_reboot_always_run(node: ScheduledNode) -> None:
    command = node.note(schedule="@reboot")
    node.local()
    from_shell(command)
    assert node.notes == ["triggered", "original"]


def test_at_reboot_even_the_policy_never_runs(node: ScheduledNode) -> None:
    node.action("probe", "true", more='[fallback]\npolicy = "never"')
    command = node.note(schedule="@reboot")
    from_shell(command)
    assert node.notes == ["original"]


class ShellOf(Shell):
    """A shell whose cron has been running for ``age`` seconds."""

    age = 0.0

    def cron_age(self) -> float:
        return self.age


@pytest.mark.parametrize(("age", "runs"), [(5.0, True), (3600.0, False)])
def test_a_command_at_reboot_and_at_a_slot_too_is_told_apart_by_the_age_of_cron(
    node: ScheduledNode, age: float, *, runs: bool
) -> None:
    command = node.note()
    node.replace(node.crontab.read_bytes() + node.crontab.read_bytes().replace(b"* * * * *", b"@reboot"))
    node.local()
    shell = ShellOf(os.getpid(), [b"/bin/sh", b"-c", command])
    shell.age = age
    slot = Slot(Call("probe", str(node.root), shadow=False), shell)
    assert slot.decide(time.time()).run is runs


def test_the_age_of_cron_is_that_of_the_parent_of_the_shells_parent() -> None:
    with start_shell(b"read line", stdin=subprocess.PIPE) as shell:
        age = Shell(shell.pid, []).cron_age()
        words = ["ps", "-o", "etimes=", "-p", str(os.getppid())]
        known = float(subprocess.run(words, capture_output=True, check=True).stdout)
    assert abs(age - known) < 5


def test_tz_in_a_crontab_is_for_the_command_and_not_for_the_schedule(node: ScheduledNode) -> None:
    now = time.localtime()
    command = node.note(schedule=f"{now.tm_min} {now.tm_hour} * * *", settings="TZ=Pacific/Kiritimati\n")
    node.local()
    zone = {"TZ": "Pacific/Kiritimati"}
    from_shell(command, env=CRON_ENVIRONMENT | zone)
    assert node.notes == ["triggered"]
    (again,) = node.write(r"echo $TZ; date +\%:z", settings="TZ=Pacific/Kiritimati\n", schedule="@reboot")
    assert from_shell(again, env=CRON_ENVIRONMENT | zone) == (0, b"Pacific/Kiritimati\n+14:00\n")


def test_cron_tz_says_when_the_slot_was(node: ScheduledNode) -> None:
    there = time.gmtime(time.time() + 14 * 3600)
    command = node.note(schedule=f"{there.tm_min} {there.tm_hour} * * *")
    node.local()
    from_shell(command, env=CRON_ENVIRONMENT | {"CRON_TZ": "Pacific/Kiritimati"})
    assert node.notes == ["triggered"]


def test_the_policy_always_runs_and_never_skips(node: ScheduledNode) -> None:
    command = node.note()
    node.local()
    node.action("probe", "true", more='[fallback]\npolicy = "always"')
    from_shell(command)
    assert node.notes == ["triggered", "original"]
    node.action("probe", "true", more='[fallback]\npolicy = "never"')
    from_shell(command)
    assert node.notes == ["triggered", "original"]
    assert node.reasons() == ["policy never"]


def test_while_the_hub_is_heard_hub_silent_skips_and_then_runs(node: ScheduledNode) -> None:
    node.action("probe", "true", more='[fallback]\npolicy = "hub-silent"')
    command = node.note()
    node.paths.agent_state.mkdir(parents=True)
    node.paths.beacon.touch()
    from_shell(command)
    assert node.notes == []
    assert node.reasons()[0].startswith("policy hub-silent: the hub was heard at")
    long_ago = time.time() - 601
    os.utime(node.paths.beacon, (long_ago, long_ago))
    from_shell(command)
    assert node.notes == ["original"]
    node.configure(hub_silent_after=3600.0)
    from_shell(command)
    assert node.notes == ["original"]
    node.paths.beacon.unlink()
    from_shell(command)
    assert node.notes == ["original", "original"]


def test_a_scheduled_run_has_no_time_limit_but_its_own(node: ScheduledNode) -> None:
    node.action("probe", "true", timeout="0.2s")
    (command,) = node.write("sleep 0.5; echo end")
    assert from_shell(command) == (0, b"end\n")
    node.action("probe", "true", more='[fallback]\ntimeout = "0.2s"')
    assert from_shell(command)[0] == 124
    assert node.runs()[-1].reason == "timed out after 200ms"


def test_in_the_shadow_the_original_runs_and_the_decision_is_noted(node: ScheduledNode) -> None:
    command = node.note("; cat; exit 7", shadow=True)
    assert from_shell(command, input=b"given") == (7, b"given")
    until(node.reasons, "it is noted")
    node.local()
    assert from_shell(command, input=b"given") == (7, b"given")
    first, second = until(lambda: len(node.reasons()) == 2 and node.reasons(), "it is noted again")
    assert first.startswith("shadow: would have been run: unsatisfied")
    assert second.startswith("shadow: would have been skipped: satisfied")
    assert node.notes == ["original", "triggered", "original"]
