"""Completion in real shells: the key TAB, as bash and zsh hear it from a terminal, and what fish would offer."""

import contextlib
import fcntl
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from docs.completion import __main__ as generated
from docs.man.commands import Command, tree
from tests.support.command_line import ENVIRONMENT
from tests.support.fleet import fleet_of

SCRIPTS = Path(generated.__file__).parent
WITHIN = 30.0  # seconds that a busy machine may take for a completion
GROUPS = [command for command in tree().all() if command.within]
# Loads the script, and shows a command line instead of running it: what TAB has made of it.
SETUP = {
    "bash": ["PS1='> '", f"source '{SCRIPTS}/nanoexec.bash'", 'show() { echo "<$*>"; }'],
    "zsh": [
        "PS1='> '",
        f"fpath=('{SCRIPTS}' $fpath); autoload -Uz compinit; compinit -u -D",
        'show() { echo "<$*>"; }',
    ],
}
LISTING = {"bash": "\t\t", "zsh": "\t"}  # what shows all that is possible
START = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}


def needs(shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with ``nanoexec`` as it would be installed."""
    there = tmp_path / "bin"
    there.mkdir()
    program = there / "nanoexec"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m nanoexec "$@"\n')
    program.chmod(0o755)
    return there


def environment(programs: Path, root: Path) -> dict[str, str]:
    path = f"{programs}:{os.environ['PATH']}"
    return ENVIRONMENT | {"PATH": path, "NANOEXEC_ROOT": str(root), "TERM": "xterm", "HOME": str(programs)}


class Terminal:
    """A shell on a terminal of its own."""

    def __init__(self, shell: str, programs: Path, root: Path) -> None:
        self._shell = shell
        self._environment = environment(programs, root)
        self._seen = ""

    def __enter__(self) -> Self:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *START[self._shell]],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=self._environment,
        )
        os.close(theirs)
        for line in SETUP[self._shell]:
            self.type(f"{line}\n")
        self.type("show ready\n")
        self.wait_for("<ready>")
        # The lines to come are not run: the command is shown with what has become of its words.
        self.type("nanoexec() { show nanoexec $*; }; nanoexec-run() { show nanoexec-run $*; }; show defined\n")
        self.wait_for("<defined>")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._ours)  # the shell gets a hangup
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, *texts: str) -> str:
        """What the terminal has shown since the last time, once all of ``texts`` are in it."""
        end = time.monotonic() + WITHIN
        while not all(text in self._seen for text in texts):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._ours], [], [], left)[0]:
                raise AssertionError(f"{self._shell}: waited in vain for {texts}, got {self._seen!r}")
            with contextlib.suppress(OSError):
                self._seen += os.read(self._ours, 65536).decode(errors="replace")
        seen, self._seen = self._seen, ""
        return seen


def offered(line: str, programs: Path, root: Path) -> set[str]:
    """What fish offers at the end of this line."""
    program = f"source '{SCRIPTS}/nanoexec.fish'; complete --do-complete \"$argv\""
    printed = said(["fish", "--no-config", "-c", program, line], programs, root)
    return {row.partition("\t")[0] for row in printed.splitlines()}


def in_bash(line: str, programs: Path, root: Path) -> set[str]:
    """What bash would offer at the end of this line; quicker than a terminal for each."""
    program = f"""
        source '{SCRIPTS}/nanoexec.bash'
        compopt() {{ :; }} # there is no completion going on that it could alter
        COMP_LINE=$1 COMP_POINT=${{#1}}
        _nanoexec
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return set(said(["bash", "--norc", "-u", "-c", program, "bash", line], programs, root).split())


def said(words: list[str], programs: Path, root: Path) -> str:
    """What a shell prints that ends well and has nothing to complain of."""
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, timeout=WITHIN, env=environment(programs, root)
    )
    assert done.stderr == ""
    return done.stdout


# The scripts are those of the program


@pytest.mark.parametrize("file", generated.scripts(), ids=lambda file: file.name)
def test_a_script_is_what_the_program_would_generate_now(file: Path) -> None:
    assert file.read_text() == generated.scripts()[file], "run: python -m docs.completion"


@pytest.mark.parametrize(
    "check",
    [("bash", "-n", "nanoexec.bash"), ("zsh", "-n", "_nanoexec"), ("fish", "-n", "nanoexec.fish")],
    ids=lambda check: check[0],
)
def test_a_script_has_no_fault_of_syntax(check: tuple[str, str, str]) -> None:
    shell, option, file = check
    needs(shell)
    done = subprocess.run([shell, option, SCRIPTS / file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# The key


@pytest.mark.parametrize("shell", START)
def test_the_tab_key_completes_commands_options_and_actions(shell: str, programs: Path, tmp_path: Path) -> None:
    needs(shell)
    with Terminal(shell, programs, tmp_path) as terminal:
        terminal.type("nanoexec trig\t\n")
        terminal.wait_for("<nanoexec trigger>")
        terminal.type(f"nanoexec hub {LISTING[shell]}")
        terminal.wait_for("init", "serve", "signing-key", "status", "token")
        terminal.type("tok\t--us\t7\n")
        terminal.wait_for("<nanoexec hub token --uses 7>")
        terminal.type("nanoexec history -o js\t\n")
        terminal.wait_for("<nanoexec history -o json>")
        terminal.type("nanoexec actions show slaugh\t\n")
        terminal.wait_for("<nanoexec actions show slaughter>")
        terminal.type("nanoexec-run --sched\tslaugh\t\n")
        terminal.wait_for("<nanoexec-run --scheduled slaughter>")


def test_the_tab_key_completes_what_the_hub_knows(programs: Path) -> None:
    with fleet_of("web1", "db7") as fleet:
        for shell in filter(shutil.which, START):
            with Terminal(shell, programs, fleet.root) as terminal:
                terminal.type("nanoexec nodes revoke d\t\n")
                terminal.wait_for("<nanoexec nodes revoke db7>")
                terminal.type("nanoexec trigger AL\tupt\t\n")
                terminal.wait_for("<nanoexec trigger ALL:uptime>")
        assert in_bash("nanoexec trigger --no-wait w", programs, fleet.root) == {"web1:"}
        assert in_bash("nanoexec exec ", programs, fleet.root) == {"ALL", "db7", "web1"}
        if shutil.which("fish"):
            assert "ALL:uptime" in offered("nanoexec trigger ALL:upt", programs, fleet.root)
            assert offered("nanoexec nodes show d", programs, fleet.root) == {"db7"}


# What is offered


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: " ".join(group.words) or "nanoexec")
def test_a_group_offers_its_commands(group: Command, programs: Path, tmp_path: Path) -> None:
    line = " ".join(("nanoexec", *group.words, ""))
    names = {command.words[-1] for command in group.within}
    assert in_bash(line, programs, tmp_path) == names
    if shutil.which("fish"):
        assert offered(line, programs, tmp_path) == names


@pytest.mark.parametrize(
    "command",
    [command for command in tree().all() if not command.within],
    ids=lambda command: " ".join(command.words),
)
def test_a_command_offers_its_options(command: Command, programs: Path, tmp_path: Path) -> None:
    line = " ".join(("nanoexec", *command.words, "--"))
    names = {name for option in command.options for name in option.names if name.startswith("--")}
    assert in_bash(line, programs, tmp_path) == names
    if shutil.which("fish"):
        assert offered(line, programs, tmp_path) == names


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nanoexec trigger --output=j", {"json", "jsonl"}),
        ("nanoexec trigger --expires ", set()),  # a duration: nothing to offer, and not the target either
        ("nanoexec trigger --expires 1h -o t", {"text"}),
        ("nanoexec exec ALL -- l", set()),  # somebody else's command
        ("nanoexec cron adopt puppet slaugh", {"slaughter"}),  # one more
        ("nanoexec cron schedule puppet ", set()),
        ("nanoexec cron schedule --every 1h slaugh", {"slaughter"}),  # what an option takes is no argument
        ("nanoexec nonsense ", {command.words[-1] for command in tree().within}),
        ("/usr/bin/nanoexec-run slaugh", {"slaughter"}),
    ],
)
def test_bash_offers_what_can_stand_there(line: str, words: set[str], programs: Path, tmp_path: Path) -> None:
    assert in_bash(line, programs, tmp_path) == words


def test_commands_and_options_are_completed_without_starting_nanoexec(tmp_path: Path) -> None:
    """No interpreter at a TAB: with no program to start, it is all there."""
    empty = tmp_path / "empty"
    empty.mkdir()
    assert in_bash("nanoexec cron a", empty, tmp_path) == {"adopt", "arm"}
    assert in_bash("nanoexec demo --k", empty, tmp_path) == {"--keep"}
