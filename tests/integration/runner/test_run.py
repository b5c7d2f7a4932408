"""``nanoexec-run`` as cron and people use it: a real process, its output, its exit status, the journal."""

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any, cast

import pytest

from nanoexec.errors import StoreError
from nanoexec.model import Cause, Outcome
from nanoexec.run.local import caller, check_owner, parse
from nanoexec.runner.log import say
from tests.support.runner import GATE, Node, until
from tests.support.somebody import NOBODY, as_user

pytestmark = pytest.mark.node


def begin(node: Node, *words: str, **keys: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "nanoexec.run", "--root", str(node.root), *words],
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | keys,
    )


def run(node: Node, *words: str, **keys: Any) -> tuple[int, str, str]:
    process = begin(node, *words, **keys)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def only_run(node: Node) -> Any:
    with node.journal() as journal:
        (found,), _ = journal.changes(0, 10)
    return found


def open_runs(node: Node) -> Any:
    with node.journal() as journal:
        return journal.open_runs()


def test_output_and_status_pass_through_and_a_success_says_nothing_else(node: Node) -> None:
    node.action("greet", "echo hello; echo there >&2")
    assert run(node, "greet") == (0, "hello\nthere\n", "")
    found = only_run(node)
    assert (found.cause, found.outcome, found.output.text()) == (Cause.LOCAL, Outcome.SUCCEEDED, "hello\nthere\n")


def test_output_passes_while_the_command_runs(node: Node) -> None:
    node.action("last", f"echo early; {GATE}")
    process = begin(node, "last")
    assert process.stdout.readline() == "early\n"
    node.let_go()
    process.communicate()


@pytest.mark.parametrize(
    ("script", "more", "code", "words"),
    [
        ("exit 3", "", 3, "failed: exit status 3"),
        ("kill -9 $$", "", 137, "failed: killed by signal 9 (SIGKILL)"),
        ("sleep 30", 'timeout = "0.2s"', 124, "timed-out: timed out after 200ms"),
        ("echo Oops", "[outcome.failed]\noutput = ['Oops']", 1, "failed: it said: Oops"),
    ],
)
def test_what_did_not_succeed_is_one_line_and_a_status(
    node: Node, script: str, more: str, code: int, words: str
) -> None:
    node.action("try", script, more=more)
    status, _, err = run(node, "try")
    assert status == code
    assert err == f"nanoexec-run: try: {words} (run {only_run(node).id})\n"


def test_a_success_that_the_manifest_sees_keeps_the_commands_status(node: Node) -> None:
    node.action("change", "exit 2", more="[outcome.changed]\nexit = [2]")
    assert run(node, "change") == (2, "", "")
    assert only_run(node).changed is True


def test_arguments_reach_the_command(node: Node) -> None:
    node.action("say", "/usr/bin/printf", "%s-%s", more='[arguments.a]\nargv = ["{}"]\n[arguments.b]\nargv = ["{}"]')
    assert run(node, "say", "-a", "a=1", "--argument=b=x=y")[1] == "1-x=y"


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ([], 2, "expected one ACTION, got none"),
        (["a", "b"], 2, "expected one ACTION, got a b"),
        (["--nix", "a"], 2, "unknown option --nix"),
        (["a", "-a"], 2, "-a needs a value"),
        (["known", "-a", "novalue"], 2, "expected KEY=VALUE"),
        (["unknown"], 6, "unknown action 'unknown'; this node knows:"),
        (["exec"], 6, "unknown action 'exec'"),
        (["known", "-a", "x=1"], 6, "unknown argument 'x'"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_journals_nothing(
    node: Node, words: list[str], code: int, complaint: str
) -> None:
    node.action("known", "echo ran >> $LEDGER")
    status, out, err = run(node, *words)
    assert (status, out, len(err.splitlines())) == (code, "", 1)
    assert complaint in err
    assert not node.paths.journal.exists()
    assert node.notes == []


def test_help_ends_with_a_worked_example(node: Node) -> None:
    status, out, err = run(node, "--help")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].strip().startswith("nanoexec-run puppet ")


def test_it_waits_for_a_triggered_run_and_shares_the_lock(node: Node) -> None:
    node.action("last", GATE, on_busy="wait")
    node.start()
    triggered = node.begin("last")
    triggered.run()
    local = begin(node, "last")
    assert "waiting for the run before it to end" in local.stderr.readline()
    assert len(node.notes) == 1
    node.let_go()
    local.communicate()
    triggered.rest()
    assert (local.returncode, len(node.notes)) == (0, 2)


def test_a_coalesced_success_is_a_success(node: Node) -> None:
    node.action("last", GATE)
    first = begin(node, "last")
    until(lambda: node.notes, "the first runs")
    others = [begin(node, "last") for _ in range(3)]
    for other in others:
        assert "waiting" in other.stderr.readline()
    node.let_go()
    assert [process.communicate() and process.returncode for process in (first, *others)] == [0, 0, 0, 0]
    assert len(node.notes) == 2


def test_refused_and_skipped_are_status_six(node: Node) -> None:
    node.action("refuse", GATE, on_busy="refuse")
    node.action("skip", GATE, on_busy="wait", timeout="20s")
    holders = [begin(node, "refuse"), begin(node, "skip")]
    until(lambda: len(node.notes) == 2, "both run")
    status, _, err = run(node, "refuse")
    assert (status, "refused: busy: run" in err) == (6, True)
    node.action("skip", GATE, on_busy="wait", timeout="0.2s")
    status, _, err = run(node, "skip")
    assert (status, "skipped: waited 200ms for run" in err) == (6, True)
    node.let_go()
    for holder in holders:
        holder.communicate()


def test_a_signal_is_passed_on_to_the_command_and_its_end_is_journaled(node: Node) -> None:
    node.action("last", f"trap 'echo caught; exit 5' TERM; {GATE}")
    process = begin(node, "last")
    until(lambda: node.notes, "it runs")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out.splitlines()[-1]) == (5, "caught")
    assert only_run(node).status == 5


def test_a_signal_that_was_ignored_stays_ignored(node: Node) -> None:
    node.action("last", GATE)
    ignore = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    words = [sys.executable, "-m", "nanoexec.run", "--root", str(node.root), "last"]
    process = subprocess.Popen([sys.executable, "-c", ignore, *words])
    until(lambda: node.notes, "it runs")
    process.send_signal(signal.SIGHUP)
    node.let_go()
    assert process.wait(30) == 0


def test_whoever_wants_to_hear_nothing_of_its_children_still_gets_the_status(node: Node) -> None:
    """Perl's ``$SIG{CHLD} = "IGNORE"`` is inherited: the kernel would reap the command before anybody has looked."""
    node.action("fail", "exit 3")
    ignore = "import os, signal as s, sys; s.signal(s.SIGCHLD, s.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    words = [sys.executable, "-m", "nanoexec.run", "--root", str(node.root), "fail"]
    done = subprocess.run([sys.executable, "-c", ignore, *words], capture_output=True, text=True, check=False)
    found = only_run(node)
    assert (done.returncode, done.stderr) == (3, f"nanoexec-run: fail: failed: exit status 3 (run {found.id})\n")
    assert (found.outcome, found.status) == (Outcome.FAILED, 3)


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_words_that_nobody_can_take_change_neither_run_nor_status(node: Node, where: str) -> None:
    node.action("last", f"{GATE}; exit 3", on_busy="wait")
    node.paths.agent_config.write_text("hub = 1")  # it says so, and goes on
    words = [sys.executable, "-m", "nanoexec.run", "--root", str(node.root), "last"]
    begun = []
    for _ in range(2):  # the second says that it waits
        begun.append(subprocess.Popen(["sh", "-c", f'"$@" {where}', "sh", *words]))
        until(lambda: len(begun) == len(open_runs(node)), "it is in the journal")
    node.let_go()
    assert [process.wait(30) for process in begun] == [3, 3]
    assert len(node.notes) == 2
    with node.journal() as journal:
        assert {found.outcome for found in journal.changes(0, 10)[0]} == {Outcome.FAILED}


def test_a_fault_in_what_is_to_be_said_is_not_taken_for_one_of_the_log() -> None:
    with pytest.raises(AttributeError):
        say(cast("str", None))


def test_a_killed_nanoexec_run_is_interrupted_at_the_next_run(node: Node) -> None:
    node.action("last", GATE, on_busy="refuse")
    first = begin(node, "last")
    until(lambda: node.notes, "it runs")
    first.kill()
    first.communicate()
    node.let_go()
    assert run(node, "last")[0] == 0
    with node.journal() as journal:
        outcomes = {found.outcome for found in journal.changes(0, 10)[0]}
    assert outcomes == {Outcome.INTERRUPTED, Outcome.SUCCEEDED}


def test_a_daemon_that_keeps_the_output_keeps_no_reader_waiting(node: Node) -> None:
    node.action("start", f"setsid sh -c '{GATE}; echo late' & echo started")
    assert run(node, "start") == (0, "started\n", "")
    node.let_go()


def test_a_reader_who_goes_away_does_not_end_the_run(node: Node) -> None:
    node.action("talk", f"{GATE}; seq 100000; echo end >> $LEDGER")
    process = begin(node, "talk")
    until(lambda: node.notes, "it runs")
    process.stdout.close()
    node.let_go()
    assert process.wait(30) == 0
    process.stderr.close()
    assert node.notes[-1] == "end"
    assert only_run(node).output.size == 588895


@pytest.mark.parametrize("words_too", [False, True])
def test_a_terminal_that_shows_nothing_more_keeps_no_run_beyond_its_time(node: Node, *, words_too: bool) -> None:
    """Somebody has pressed Ctrl-S, or closed a lid."""
    node.action("loud", "while :; do echo more; done", more='timeout = "0.5s"\nkill_after = "0.3s"')
    keeper, end = os.openpty()
    process = begin(node, "loud", stdout=end, **{"stderr": end} if words_too else {})
    os.close(end)
    try:
        said = process.communicate(timeout=20)[1]
    finally:
        os.close(keeper)
        process.wait(20)
    assert process.returncode == 124
    assert words_too or "loud: timed-out: timed out after 500ms" in said


def test_a_reader_behind_a_descriptor_that_does_not_block_gets_everything(node: Node) -> None:
    """Such as a terminal that another program has left so."""
    node.action("talk", "seq 100000; echo end >> $LEDGER")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    words = [sys.executable, "-m", "nanoexec.run", "--root", str(node.root), "talk"]
    process = subprocess.Popen(words, stdout=writer)
    os.close(writer)
    until(lambda: struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, bytes(4)))[0] > 32768, "the pipe fills up")
    with os.fdopen(reader, "rb") as output:
        assert len(output.read()) == 588895
    assert process.wait(30) == 0


CROWD = """
import os, select, sys
poller = select.poll()
poller.register(1, select.POLLOUT)
os.fork()
os.fork()
while not os.path.exists(sys.argv[1]):
    poller.poll()
    try:
        os.write(1, bytes(4096))
    except BlockingIOError:
        pass
"""


def test_where_others_write_to_it_at_the_same_moment_it_gets_everything_too(node: Node) -> None:
    node.action("talk", "seq 300000; touch $LEDGER.end")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    words = [sys.executable, "-m", "nanoexec.run", "--root", str(node.root), "talk"]
    others = [sys.executable, "-c", CROWD, f"{node.ledger}.end"]
    processes = [subprocess.Popen(each, stdout=writer) for each in (words, others)]
    os.close(writer)
    heard = b"".join(chunk.replace(b"\0", b"") for chunk in iter(lambda: os.read(reader, 1 << 16), b""))
    os.close(reader)
    assert [process.wait(30) for process in processes] == [0, 0]
    assert heard == b"".join(b"%d\n" % number for number in range(1, 300001))


def test_a_missing_or_faulty_agent_toml_does_not_stop_the_work(node: Node) -> None:
    node.action("note", "echo ran >> $LEDGER")
    node.paths.agent_config.unlink()
    assert run(node, "note") == (0, "", "")
    node.paths.agent_config.write_text("hub = 1")
    status, _, err = run(node, "note")
    assert (status, len(err.splitlines()), "agent.toml: hub: expected str" in err) == (0, 1, True)
    assert node.notes == ["ran", "ran"]


def test_without_a_journal_nothing_runs(node: Node) -> None:
    node.action("note", "echo ran >> $LEDGER")
    node.paths.journal.parent.mkdir(parents=True)
    node.paths.journal.write_bytes(b"rubbish" * 1000)
    status, _, err = run(node, "note")
    assert (status, len(err.splitlines()), "cannot use the journal" in err) == (1, 1, True)
    assert node.notes == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_somebody_who_does_not_own_the_journal_is_told_to_use_sudo(node: Node) -> None:
    node.action("note", "echo ran >> $LEDGER", user="nobody")
    with node.journal():
        pass

    def is_told() -> bool:
        with pytest.raises(StoreError, match="use sudo nanoexec-run"):
            check_owner(Path(node.paths.journal.name))
        return True

    assert as_user(NOBODY, is_told, cwd=node.paths.journal.parent)


def test_who_asks_is_the_user_and_behind_sudo_the_one_who_used_it() -> None:
    assert caller(0, {}) == "root"
    assert caller(0, {"SUDO_USER": "alice"}) == "alice via sudo"
    assert caller(0, {"SUDO_USER": "al\nice"}) == "root"
    assert caller(4_000_000, {"SUDO_USER": "alice"}) == "uid 4000000"


def test_options_may_stand_anywhere() -> None:
    wish = parse(["-a", "k=v", "act", "--root=/x", "--config", "/y", "--argument", "m=n=o"])
    assert (wish.action, wish.arguments, wish.root, wish.config) == ("act", {"k": "v", "m": "n=o"}, "/x", "/y")


def test_it_imports_nothing_that_a_crontab_slot_should_not_pay_for() -> None:
    code = "import nanoexec.run.local, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "sqlite3" in loaded
    assert not loaded & {
        "pynng",
        "asyncio",
        "typer",
        "sqlalchemy",
        "cryptography",
        "ClusterShell",
        "argparse",
        "getopt",
        "logging",
    }
