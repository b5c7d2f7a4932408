"""What the shell that cron started hears of the end of a command."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from nanoexec.crontab.adoption import SHELLS
from nanoexec.model import Outcome
from tests.support.cron import ScheduledNode, from_shell, start_shell
from tests.support.runner import GATE, until

pytestmark = pytest.mark.node
SHELLED = [shell for shell in sorted(SHELLS - {"mksh"}) if Path(f"/bin/{shell}").exists()]  # mksh may exit instead


@pytest.mark.parametrize("shell", SHELLED)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
def test_a_command_that_a_signal_ends_ends_the_shell_by_the_same(
    node: ScheduledNode, shell: str, number: signal.Signals
) -> None:
    (command,) = node.write(f"kill -{number.value} $$", settings=f"SHELL=/bin/{shell}\n")
    before, _ = from_shell(f"kill -{number.value} $$".encode(), f"/bin/{shell}")
    after, _ = from_shell(command, f"/bin/{shell}")
    assert (before, node.runs()[0].status) == (-number, -number)
    assert after == -number


def test_a_signal_reaches_the_command(node: ScheduledNode) -> None:
    gate = GATE.replace("$LEDGER", str(node.ledger))
    (command,) = node.write(f"trap 'echo caught; exit 5' TERM; {gate}")
    shell = start_shell(command)
    until(lambda: node.notes, "it runs")
    os.kill(node.runs()[0].supervisor, signal.SIGTERM)
    said, _ = shell.communicate()
    # The whole group is told: whether the shell still has a child to call terminated is a matter of the moment.
    assert (said.removeprefix(b"Terminated\n"), shell.returncode) == (b"caught\n", 5)


def test_a_background_child_that_keeps_the_output_open_is_heard_to_its_end(node: ScheduledNode) -> None:
    gate = GATE.replace("$LEDGER", str(node.ledger))
    (command,) = node.write(f"echo first; {{ {gate}; echo last; }} &")
    shell = start_shell(command)
    assert shell.wait(30) == 0
    node.let_go()
    assert shell.communicate() == (b"first\nlast\n", None)


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_a_command_that_cannot_start_is_over_whoever_takes_the_words(node: ScheduledNode, where: str) -> None:
    shell = node.root / "sh"
    shutil.copy("/bin/sh", shell)
    node.install(f"import os; os.unlink({str(shell)!r})")
    command = node.note()
    done = subprocess.run(["/bin/sh", "-c", f'exec "$@" {where}', "sh", shell, "-c", command], check=False)
    assert done.returncode == 126
    (run,) = node.runs()
    assert (run.outcome, run.reason) == (Outcome.FAILED, f"cannot start {shell}: No such file or directory")
    assert node.notes == []


def test_a_fault_that_nobody_can_be_told_of_has_its_status(node: ScheduledNode) -> None:
    words = ["sh", "-c", 'exec "$@" 2>&-', "sh", node.launcher, "--scheduled"]
    assert subprocess.run(words, check=False).returncode == 2


@pytest.mark.parametrize("words", [["--scheduled", "probe"], ["--scheduled"], ["--nix", "--scheduled", "probe"]])
def test_by_hand_it_says_what_it_is_for(node: ScheduledNode, words: list[str]) -> None:
    done = subprocess.run(
        [node.launcher, "--root", node.root, *words],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert not node.paths.journal.exists()
