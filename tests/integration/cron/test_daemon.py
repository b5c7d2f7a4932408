"""The proof: Debian's cron, its clock sped up, over adopted lines, in mounts of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoexec.crontab.lines import parse
from nanoexec.model import Cause, Outcome
from tests.support.cron import EVERY_MINUTE, Cron, ScheduledNode, why_no_cron
from tests.support.runner import ME, until

pytestmark = [pytest.mark.node, pytest.mark.skipif(bool(why_no_cron()), reason=why_no_cron() or "cron is there")]

# What the line of a real crontab sees goes to standard output, and so into the mail.
SEES = (
    "tr '\\0' '\\n' </proc/$$/cmdline | tail -n 1 | wc -l; env | sort; pwd; umask; id; cat; echo err >&2; echo \"$0\""
)
LINES = [
    f"{SEES}; exit 3 %first%50\\% of it%",
    "cd /tmp && pwd && echo 'a  b' \"c\" \\%d",
    "echo out; echo err >&2; echo out again # and a comment",
    "A='b c' sh -c 'echo $A; exit 4' || echo failed $?",
    "sh -c 'echo inner; kill -9 $$'",
]
SETTINGS = 'MAILTO=alice\nGREETING = "hello  world"\n'


@pytest.fixture
def cron(node: ScheduledNode) -> Iterator[Cron]:
    with Cron(node) as running:
        yield running


def test_a_slot_runs_then_is_skipped_after_a_success_and_outlives_nanoexec(node: ScheduledNode, cron: Cron) -> None:
    node.write(f"echo original >> {node.ledger}; echo mailed", settings="MAILTO=alice\n")
    until(lambda: "original" in node.notes, "without hub and agent, the slot runs the original")
    until(cron.mails, "its output is mailed")
    assert cron.mails()[0] == "mailed\n"
    (first, *_) = [run for run in node.runs() if run.outcome]
    assert (first.cause, first.by, first.outcome) == (Cause.SCHEDULE, ME, Outcome.SUCCEEDED)

    node.local()
    until(node.reasons, "after a success the next slot is skipped")
    count = node.notes.count("original")
    until(lambda: len(node.reasons()) > 2, "and the next")
    assert node.notes.count("original") == count
    assert all(reason.startswith("satisfied: ") for reason in node.reasons())

    node.launcher.unlink()
    until(lambda: node.notes.count("original") > count, "nanoexec is gone: the original runs")
    node.install("import nothing_of_that_name")
    count = node.notes.count("original")
    until(lambda: node.notes.count("original") > count, "nanoexec is broken: the original runs")
    until(lambda: any("nothing_of_that_name" in mail for mail in cron.mails()), "and its complaint is mailed")


def test_lines_mean_the_same_to_cron_before_and_after(node: ScheduledNode, cron: Cron) -> None:
    def mails(crontab: bytes) -> set[str]:
        seen = len(cron.mails())
        node.replace(crontab)
        until(lambda: len(set(cron.mails()[seen:])) >= len(LINES), f"{len(LINES)} different mails")
        return set(cron.mails()[seen:])

    before = mails((SETTINGS + "".join(f"{EVERY_MINUTE} {ME} {line}\n" for line in LINES)).encode())
    node.replace(b"# nothing\n")
    node.write(*LINES, settings=SETTINGS)
    adopted = node.crontab.read_bytes()
    after = mails(adopted)
    assert after == before
    assert len(before) == len(LINES)
    assert {run.cause for run in node.runs()} == {Cause.SCHEDULE}
    assert len([line for line in parse(adopted, system=True) if line.job]) == len(LINES)


def test_at_reboot_and_in_the_shadow(node: ScheduledNode) -> None:
    node.local()
    node.write(f"echo boot >> {node.ledger}", schedule="@reboot")
    boot = node.crontab.read_bytes()
    node.write(f"echo shadowed >> {node.ledger}", shadow=True)
    node.replace(boot + node.crontab.read_bytes())
    with Cron(node):
        until(lambda: "boot" in node.notes, "@reboot runs, whatever the journal says")
        until(lambda: node.notes.count("shadowed") > 1, "cron runs the original itself")
        until(node.reasons, "and what would have been done is noted")
    assert all(reason.startswith("shadow: would have been skipped: satisfied: ") for reason in node.reasons())
    assert node.notes.count("boot") == 1


def test_the_crontabs_of_this_machine_are_not_touched(node: ScheduledNode, cron: Cron) -> None:
    node.write(f"echo original >> {node.ledger}")
    until(lambda: node.notes, "it runs")
    assert not Path("/etc/cron.d/probe").exists()
