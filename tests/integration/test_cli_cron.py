"""``nanoexec cron`` on scratch machines: what it shows, what it asks, what it changes, and that it runs nothing."""

import json
import os
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nanoexec.errors import ExitCode
from tests.support.command_line import ENVIRONMENT, as_somebody, command, nanoexec_command
from tests.support.fleet import assert_one_line, whoami

pytestmark = pytest.mark.node

SYSTEM = b"""SHELL=/bin/sh
MAILTO=ops
# the policies
17 *\t* * * %(me)s\t/opt/tool/work --now # hourly
25 6 * * * %(me)s echo /opt/tool/work
"""


class Machine:
    """A root with a crontab, an action that would take its line over, and a ledger of everything that ever ran."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ledger = root / "ledger"
        self.crontab = root / "etc/crontab"
        self.own = root / "etc/cron.d/nanoexec"
        self.run = root / "usr/bin/nanoexec-run"
        for file in (self.own, self.run, root / "opt/tool/work", root / "etc/nanoexec/actions.d/work.toml"):
            file.parent.mkdir(parents=True)
        for program in (self.run, root / "opt/tool/work"):
            program.write_text(f"#!/bin/sh\necho ran >> {self.ledger}\n")
            program.chmod(0o755)
        (root / "etc/nanoexec/actions.d/work.toml").write_text(
            f'name = "work"\ncommand = ["{root}/opt/tool/work"]\nuser = "{whoami()}"\n[cron]\n'
            r"match = '(^|/)work(\s|$)'"
            "\n"
        )
        self.crontab.write_bytes(SYSTEM.replace(b"%(me)s", whoami().encode()))
        self.before = self.crontab.read_bytes()

    def action(self, name: str) -> None:
        """Another action, which has no line."""
        (self.root / f"etc/nanoexec/actions.d/{name}.toml").write_text(
            f'name = "{name}"\ncommand = ["/bin/true"]\nuser = "{whoami()}"\n'
        )

    def cron(self, *words: str, status: int = 0, **options: Any) -> "subprocess.CompletedProcess[str]":
        """``nanoexec cron WORDS``, which must end with this status."""
        done = nanoexec_command(self.root, "cron", *words, **{"stdin": subprocess.DEVNULL} | options)
        assert done.returncode == status, f"{done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def adopt(self, *words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        return self.cron("adopt", *words, "--run", str(self.run), **options)

    def json(self, *words: str) -> list[dict[str, Any]]:
        return list(json.loads(self.cron(*words, "-o", "json").stdout))

    def files(self) -> dict[str, bytes]:
        """Everything that is on it."""
        return {str(path): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    assert not made.ledger.exists(), "a command of `nanoexec cron` has run an action, or an original"


def test_scan_shows_which_line_would_be_taken_over_and_why_another_would_not(machine: Machine) -> None:
    before = machine.files()
    done = machine.cron("scan")
    assert f"{machine.crontab}:4  can be adopted: nanoexec cron adopt work" in done.stdout
    assert "    17 *\t* * * " in done.stdout
    assert f"{machine.crontab}:5  not work: it mentions work, and does not run it" in done.stdout
    assert done.stderr == "1 can be adopted: nanoexec cron adopt --all --plan shows how\n"
    first, second = machine.json("scan")
    assert (first["number"], first["action"], first["taken"], first["state"]) == (4, "work", True, "")
    assert (second["number"], second["taken"]) == (5, False)
    assert machine.files() == before


def test_a_plan_is_a_unified_diff_of_the_one_line_and_changes_nothing(machine: Machine) -> None:
    before = machine.files()
    done = machine.adopt("--all", "--plan")
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"--- {machine.crontab}", f"+++ {machine.crontab} (adopt)"]
    changed = [line for line in lines[3:] if not line.startswith(" ")]
    assert [line[0] for line in changed] == ["-", "+"]
    assert changed[1].endswith("/opt/tool/work --now # hourly")
    assert "would change 1 line" in done.stderr
    assert machine.files() == before


def test_adopt_and_restore_give_the_same_bytes_back(machine: Machine) -> None:
    machine.adopt("work", "--yes")
    adopted = machine.crontab.read_bytes()
    head, line, tail = SYSTEM.partition(b"17 *")[0], adopted.splitlines()[3], machine.before.splitlines()[4]
    assert adopted.startswith(head)
    assert b" --scheduled work " in line
    assert adopted.splitlines()[4] == tail
    assert machine.json("scan")[0]["state"] == "live"
    machine.cron("restore", "work", "--yes")
    assert machine.crontab.read_bytes() == machine.before


def test_each_command_may_be_given_twice(machine: Machine) -> None:
    for words in (("adopt", "work", "--shadow", "--run", str(machine.run)), ("arm", "work"), ("restore", "work")):
        first = machine.cron(*words, "--yes")
        after = machine.crontab.read_bytes()
        second = machine.cron(*words, "--yes")
        assert first.stdout
        assert (second.stdout, second.stderr.splitlines()[-1]) == ("", "nothing to change"), words
        assert machine.crontab.read_bytes() == after
    assert after == machine.before


def test_the_shadow_becomes_live_only_by_arming(machine: Machine) -> None:
    machine.adopt("work", "--shadow", "--yes")
    assert machine.json("status")[0]["state"] == "shadow"
    done = machine.adopt("work", "--yes", status=ExitCode.REFUSED)
    assert "nanoexec cron arm work" in done.stderr
    machine.cron("arm", "work", "--yes")
    assert machine.json("status")[0]["state"] == "live"


def test_a_line_that_was_edited_meanwhile_is_said_to_be_and_keeps_the_edit(machine: Machine) -> None:
    machine.adopt("work", "--yes")
    machine.crontab.write_bytes(machine.crontab.read_bytes().replace(b"17 *\t", b"18 *\t"))
    (one,) = machine.json("status")
    assert any("edited by hand" in drift for drift in one["drift"])
    assert "edited by hand" in machine.cron("status").stderr
    done = machine.cron("restore", "work", "--yes")
    assert "the edit is kept" in done.stderr
    assert machine.crontab.read_bytes() == machine.before.replace(b"17 *\t", b"18 *\t")


def test_a_named_line_is_taken_over_whatever_it_runs(machine: Machine) -> None:
    machine.adopt("work", "--line", "/etc/crontab:5", "--yes")
    assert machine.crontab.read_bytes().splitlines()[3] == machine.before.splitlines()[3]
    assert machine.crontab.read_bytes().splitlines()[4].endswith(b"; echo /opt/tool/work")
    machine.adopt("--line", f"{machine.crontab}:5", "work", "--yes")
    assert [one["number"] for one in machine.json("status")] == [5]


def test_what_is_scheduled_is_a_file_of_its_own_that_goes_with_its_last_line(machine: Machine) -> None:
    machine.action("tidy")
    done = machine.cron("schedule", "tidy", "--every", "1h", "--run", str(machine.run))
    assert re.fullmatch(rf"tidy: [0-9]+ \* \* \* \*, in {machine.own}\n", done.stdout)
    written = machine.own.read_bytes()
    assert written.splitlines()[-1].endswith(b"; cd / && /bin/true")
    machine.cron("schedule", "tidy", "--every", "1h", "--run", str(machine.run))
    assert machine.own.read_bytes() == written
    machine.cron("schedule", "tidy", "5 4 * * *", "--run", str(machine.run))
    (one,) = machine.json("status")
    assert (one["action"], one["schedule"], one["state"], one["satisfied"]) == ("tidy", "5 4 * * *", "scheduled", False)
    machine.cron("unschedule", "tidy")
    assert not machine.own.exists()
    assert "no line in" in machine.cron("unschedule", "tidy").stderr
    assert machine.crontab.read_bytes() == machine.before


def test_the_minute_is_the_nodes_own_and_not_the_same_on_every_node(machine: Machine) -> None:
    machine.action("tidy")
    minutes = set()
    for name in ("web1", "web2", "web3", "web4"):
        config = machine.root / "etc/nanoexec/agent.toml"
        config.write_text(f'hub = "localhost"\nname = "{name}"\n')
        minutes.add(machine.cron("schedule", "tidy", "--every", "1d", "--run", str(machine.run)).stdout)
    assert len(minutes) > 1


def test_status_says_when_it_is_due_and_what_has_satisfied_it(machine: Machine) -> None:
    machine.action("tidy")
    machine.cron("schedule", "tidy", "0 5 1 1 *", "--run", str(machine.run))
    (one,) = machine.json("status")
    assert (one["last_success"], one["satisfied"]) == (None, False)
    assert nanoexec_command(machine.root, "run", "tidy").returncode == 0
    (one,) = machine.json("status")
    assert (one["cause"], one["satisfied"], one["policy"], one["drift"]) == ("local", True, "unsatisfied", [])
    assert one["previous"] < one["last_success"] < one["next"]
    row = machine.cron("status").stdout.splitlines()[1].split()
    assert row[:7] == ["tidy", "scheduled", "0", "5", "1", "1", "*"]
    assert {"local", "yes", "unsatisfied", f"{machine.own}:4"} <= set(row)


def test_without_any_fallback_status_says_where_to_begin(machine: Machine) -> None:
    assert machine.json("status") == []
    assert "nanoexec cron scan" in machine.cron("status").stderr


# Asking


def test_where_nobody_can_be_asked_nothing_is_changed_without_yes(machine: Machine) -> None:
    done = machine.adopt("work", status=ExitCode.USAGE)
    assert done.stderr.splitlines()[-1].startswith("nanoexec: standard input is no terminal")
    assert "--yes" in done.stderr
    assert machine.crontab.read_bytes() == machine.before


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("\x03", 130), ("\x04", 130)])
def test_on_a_terminal_it_shows_the_diff_and_asks(machine: Machine, answer: str, status: int) -> None:
    words = command(machine.root, "cron", "adopt", "work", "--run", str(machine.run))
    code, said = at_a_terminal(words, b"? [y/N]: ", answer.encode())
    assert code == status, said
    assert b"+++ " in said.partition(b"Change 1 line in ")[0]
    assert (machine.crontab.read_bytes() != machine.before) == (answer == "y\n")
    assert b"Traceback" not in said


def at_a_terminal(words: list[str], question: bytes, answer: bytes) -> tuple[int, bytes]:
    """Exit status and everything that a terminal shows of a command that is answered once it has asked."""
    keeper, end = os.openpty()
    process = subprocess.Popen(
        words, stdin=end, stdout=end, stderr=end, env={**ENVIRONMENT, "TERM": "dumb"}, start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509 - no threads here; Ctrl-C needs a controlling terminal
    )  # fmt: skip
    os.close(end)
    seen = b""
    try:
        while question not in seen:
            seen += os.read(keeper, 4096)
        os.write(keeper, answer)
        while True:
            # Python can miss a Ctrl-C in the instant between its prompt and its reading: a person presses it again.
            while answer == b"\x03" and process.poll() is None and not select.select([keeper], [], [], 1.0)[0]:
                os.write(keeper, answer)
            try:
                seen += os.read(keeper, 4096)
            except OSError:  # EIO: nobody has the terminal any more
                break
        return process.wait(30), seen
    finally:
        process.kill()
        process.wait()
        os.close(keeper)


def _take_terminal() -> None:
    import fcntl  # noqa: PLC0415 - runs in the child
    import termios  # noqa: PLC0415 - the same

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


# What newcomers get wrong


@pytest.mark.parametrize(
    "words", [("adopt", "wrok"), ("schedule", "wrok", "--every", "1h"), ("restore", "wrok"), ("arm", "work", "wrok")]
)
def test_an_unknown_action_is_answered_with_those_that_there_are(machine: Machine, words: tuple[str, ...]) -> None:
    done = machine.cron(*words, status=ExitCode.USAGE)
    assert_one_line(done, ExitCode.USAGE, "unknown action 'wrok'", "work")


def test_a_line_whose_manifest_is_gone_is_restored_by_the_name_of_its_action(machine: Machine) -> None:
    machine.adopt("work", "--yes")
    for manifest in machine.root.glob("etc/nanoexec/actions.d/*.toml"):
        manifest.unlink()
    machine.cron("restore", "work", "--yes")
    assert machine.crontab.read_bytes() == machine.before


OPENED = """
import sys
opened = []
sys.addaudithook(lambda event, words: opened.append(str(words[0])) if event == "open" else None)
from nanoexec.cli import main
try:
    main()
finally:
    print(*opened, sep="\\n", file=open(sys.stdin.read(), "w"))
"""


@pytest.mark.parametrize(
    ("words", "crontab", "manifest"),
    [
        (("restore", "--all", "--plan"), 1, 0),
        (("arm", "--all", "--plan"), 1, 0),
        (("restore", "work", "--plan"), 2, 0),
        (("status",), 2, 1),
    ],
)
def test_no_crontab_and_no_manifest_is_read_that_need_not_be(
    machine: Machine, words: tuple[str, ...], crontab: int, manifest: int
) -> None:
    """Each user's crontab is a call of crontab(1), a line in the log of the machine, and a minute if it hangs."""
    machine.adopt("work", "--shadow", "--yes")
    opened = machine.root / "opened"
    python = [sys.executable, "-P", "-c", OPENED, *command(machine.root, "cron", *words)[4:]]
    done = subprocess.run(python, input=str(opened), text=True, capture_output=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    seen = opened.read_text().splitlines()
    files = (machine.crontab, machine.root / "etc/nanoexec/actions.d/work.toml")
    assert [sum(each == str(file) for each in seen) for file in files] == [crontab, manifest]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("/etc/crontab:3", "not a job (comment)"),
        ("/etc/crontab:1", "not a job"),
        ("/etc/crontab:99", "no such line"),
        ("/etc/passwd:1", "no such line"),
        ("/etc/crontab", "expected a crontab and the number of a line"),
        ("crontab:4", "expected a crontab and the number of a line"),
    ],
)
def test_a_line_that_is_not_a_job_is_refused_by_name(machine: Machine, place: str, said: str) -> None:
    done = machine.adopt("work", "--line", place, "--yes", status=ExitCode.USAGE)
    assert_one_line(done, ExitCode.USAGE, place, said)
    assert machine.crontab.read_bytes() == machine.before


def test_an_action_that_no_line_runs_is_told_how_to_get_one(machine: Machine) -> None:
    machine.action("tidy")
    done = machine.adopt("tidy", "--yes", status=ExitCode.REFUSED)
    assert "nanoexec cron schedule tidy" in done.stderr


@pytest.mark.parametrize("verb", ["adopt", "restore", "arm"])
def test_who_names_nothing_is_asked_what_is_meant(machine: Machine, verb: str) -> None:
    assert_one_line(machine.cron(verb, "--yes", status=ExitCode.USAGE), ExitCode.USAGE, "--all")
    both = machine.cron(verb, "work", "--all", "--yes", status=ExitCode.USAGE)
    assert_one_line(both, ExitCode.USAGE, "--all means every action")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "when?"),
        (("17 * * * *", "--every", "1h"), "one of the two"),
        (("17 * * *",), "expected five fields"),
        (("0 0 30 2 *",), "it would never fire"),
        (("--every", "7h"), "cron cannot fire each"),
        (("--every", "soon"), "not a duration"),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_refused(machine: Machine, words: tuple[str, ...], said: str) -> None:
    done = machine.cron("schedule", "work", *words, "--run", str(machine.run), status=ExitCode.USAGE)
    assert_one_line(done, ExitCode.USAGE, said)
    assert not machine.own.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_is_not_root_cannot_change_crontabs_and_is_told_so() -> None:
    with tempfile.TemporaryDirectory() as directory:  # pytest's own are closed to others
        machine = Machine(Path(directory))
        machine.root.chmod(0o755)
        done = as_somebody(machine.root, "cron", "adopt", "work", "--yes", "--run", str(machine.run))
        assert done.returncode == ExitCode.UNABLE
        assert done.stderr.splitlines()[-1].startswith(f"nanoexec: {machine.root}")
        assert machine.crontab.read_bytes() == machine.before
        assert "would change 1 line" in as_somebody(machine.root, "cron", "adopt", "--all", "--plan").stderr
    for words in (("adopt", "uptime", "--yes"), ("restore", "--all", "--yes"), ("unschedule", "uptime")):
        refused = as_somebody(Path("/"), "cron", *words)
        assert_one_line(refused, ExitCode.REFUSED, "only root can change the crontabs of this machine", "sudo")
