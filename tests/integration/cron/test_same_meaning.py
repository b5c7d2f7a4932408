"""An adopted line means what it meant: what a command sees, prints and returns is the same before and after."""

import os
import re
import resource
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nanoexec.crontab.lines import parse
from tests.support.cron import CRON_ENVIRONMENT, EVERY_MINUTE, ScheduledNode, from_shell
from tests.support.runner import ME

pytestmark = pytest.mark.node

# P is a probe: it writes down all that it was given, and says a line on each output.
SHAPES = [
    "P",
    "P one two",
    "P 'single  quotes' \"double  $LOGNAME\" back\\ slash",
    'P "$(echo a; echo b)" `echo c`',
    "P 'it'\\''s' \"a \\\"b\\\"\"",
    "P \\$HOME '$HOME' ~ \"$HOME\"",
    "P a\\%b '100\\%'",
    "P %first%second\\%still%",
    "P - %",
    "cd /tmp && P here",
    "cd /nonexistent && P never",
    "cd /nonexistent 2>/dev/null || P instead",
    "test -x /bin/sh && P tested",
    "[ -x /nonexistent ] && P not",
    "[ -x /nonexistent ] || P not",
    "P one; P two",
    "P one; exit 3",
    "P one && false",
    "P | cat; P | grep -v nothing",
    "P x | exit 5",
    "P > /dev/null",
    "P 2>&1 >/dev/null",
    "P >&2",
    "P 2>/dev/null # a comment: P 'not closed",
    "# only a comment",
    "(P in a subshell; exit 4)",
    "{ P in braces; }",
    "if true; then P then; else P else; fi",
    "for i in 1 2 3; do P $i; done",
    "A=b C='d e' P with variables",
    "export A=b; P",
    "env -i PATH=$PATH P",
    "nice -n 5 P",
    "umask 077; P",
    "ulimit -n 64; P",
    "exec P",
    "timeout 10 P",
    "sh -c 'P inner; exit 9'",
    "trap 'P at exit' EXIT",
    "set -e; false; P never",
    'set -- a b; P "$@" $#',
    "P\ttabs\t\there\t",
    "P   trailing blanks   ",
    "P " + "long" * 50,
    "P caf\u00e9 \u65e5\u672c",
    "echo $0 $# $SHLVL $-; P",
    "kill -9 $$",
    "nosuchcommand",
    "read line; echo got $line; P %one%two",
    "cat >/dev/null; P %all%of%it",
    "P <&- %gone",
    "syntax error (",
    "P & wait",
    "printf 'no newline'",
    "printf '\\\\000\\\\377' | od",
    "P; echo exit $? >&2; (exit 200)",
]
UNREADABLE = ("syntax error (",)  # the shell reads the whole line first, and runs none of it
PROBE = r"""#!/bin/sh
{
    tr '\0' '\n' </proc/$$/cmdline
    tr '\0' '\n' </proc/$$/environ | sort
    pwd; umask; id; nice; ulimit -a
    grep -E '^(Uid|Gid|Groups|SigBlk|SigIgn|NoNewPrivs|Cap)' /proc/self/status
    cat
    echo end of input
} >>RECORD 2>&1
echo "out $*"
echo "err $*" >&2
"""


@pytest.fixture
def probe(node: ScheduledNode) -> Path:
    """The program P, and in ``record`` what it saw."""
    directory = node.root / "bin"
    directory.mkdir()
    program = directory / "P"
    program.write_text(PROBE.replace("RECORD", str(node.root / "record")))
    program.chmod(0o755)
    return program


def outcome(node: ScheduledNode, command: bytes, *, program: str = "/bin/sh", **keys: Any) -> tuple[Any, ...]:
    """What cron and the probe see of a command: status, both outputs (apart), the record."""
    record = node.root / "record"
    record.unlink(missing_ok=True)
    with (node.root / "errors").open("wb+") as errors:
        status, out = from_shell(command, program, stderr=errors, **keys)
        errors.seek(0)
        said = errors.read()
    said = re.sub(rb"(?m)^.*line 1: `.*\n", b"", said)  # bash repeats the whole line that it cannot read
    seen = record.read_bytes() if record.exists() else b""
    return status, out, re.sub(rb"(?m)^\S*sh: .*?(\d+: )?", b"sh: ", said), seen


def before_and_after(node: ScheduledNode, text: str, *, program: str = "/bin/sh", **keys: Any) -> None:
    settings = f"SHELL={program}\n"
    original = f"{settings}{EVERY_MINUTE} {ME} {text}\n".encode()
    line = parse(original, system=True)[-1]
    (command,) = node.write(text, settings=settings)
    given = line.text(line.job.input if line.job else None)
    environment = CRON_ENVIRONMENT | {"SHELL": program, "PATH": f"{node.root}/bin:/usr/bin:/bin"}
    how = {
        "input": given.replace("\\%", "\0").replace("%", "\n").replace("\0", "%").encode(),
        "env": environment,
    } | keys
    before = outcome(node, line.command, program=program, **how)
    after = outcome(node, command, program=program, **how)
    assert after == before
    assert [run.command[0] for run in node.runs()] == ([] if text in UNREADABLE else [program])


@pytest.mark.parametrize("text", SHAPES)
@pytest.mark.usefixtures("probe")
def test_a_line_means_the_same_to_sh(node: ScheduledNode, text: str) -> None:
    before_and_after(node, text)


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="bash is not installed")
@pytest.mark.parametrize("text", SHAPES)
@pytest.mark.usefixtures("probe")
def test_a_line_means_the_same_to_bash(node: ScheduledNode, text: str) -> None:
    before_and_after(node, text, program="/bin/bash")


def limits() -> None:
    os.umask(0o027)
    os.nice(3)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.mark.usefixtures("probe")
def test_umask_nice_limits_directory_and_ignored_signals_pass_through(node: ScheduledNode) -> None:
    place = node.root / "place"
    place.mkdir()
    before_and_after(node, "P", preexec_fn=limits, cwd=place)
    record = (node.root / "record").read_text()
    assert f"\n{place}\n0027\n" in record
    assert f"\n{min(19, os.nice(0) + 3)}\n" in record


@pytest.mark.usefixtures("probe")
def test_an_environment_of_any_bytes_passes_through(node: ScheduledNode) -> None:
    odd = {b"LATIN": b"caf\xe9", b"TWO": b"a\nb", b"SHLVL": b"7", b"LC_ALL": b"C", b"PATH": b"/usr/bin:/bin"}
    odd[b"PATH"] = os.fsencode(node.root / "bin") + b":/usr/bin:/bin"
    before_and_after(node, "P", env=odd)
    assert b"LATIN=caf\xe9\n" in (node.root / "record").read_bytes()


@pytest.mark.usefixtures("probe")
def test_bytes_that_are_no_utf8_pass_through(node: ScheduledNode) -> None:
    (command,) = node.write("P caf_")
    node.replace(node.crontab.read_bytes().replace(b"caf_", b"caf\xe9"))
    environment = CRON_ENVIRONMENT | {"PATH": f"{node.root}/bin:/usr/bin:/bin"}
    assert outcome(node, command.replace(b"caf_", b"caf\xe9"), env=environment)[1] == b"out caf\xe9\n"


def test_the_order_of_both_outputs_is_kept_as_cron_gives_one_pipe_for_both(node: ScheduledNode) -> None:
    (command,) = node.write("for i in 1 2 3 4 5 6 7 8 9; do echo out $i; echo err $i >&2; done")
    expected = "".join(f"out {i}\nerr {i}\n" for i in range(1, 10))
    assert from_shell(command) == (0, expected.encode())
    assert node.runs()[0].output.text() == expected


def test_standard_input_that_nobody_reads_is_left_alone(node: ScheduledNode, tmp_path: Path) -> None:
    (command,) = node.write("head -c 3")
    given = tmp_path / "given"
    given.write_bytes(b"abcdef")
    with given.open("rb", buffering=0) as file:
        assert from_shell(command, stdin=file) == (0, b"abc")
        assert file.tell() == 3


def test_the_command_gets_no_descriptor_of_ours(node: ScheduledNode) -> None:
    (command,) = node.write("ls /proc/self/fd | tr '\\n' ' '")
    assert from_shell(command) == from_shell(b"ls /proc/self/fd | tr '\\n' ' '")


def test_much_output_passes_whole(node: ScheduledNode) -> None:
    (command,) = node.write("seq 200000")
    status, out = from_shell(command)
    assert (status, out) == (0, subprocess.run(["seq", "200000"], capture_output=True, check=True).stdout)


def test_a_terminal_is_none(node: ScheduledNode) -> None:
    (command,) = node.write(
        "test -t 0 || test -t 1 || test -t 2 || echo none; stat -Lc %F /dev/stdout".replace("%", "\\%")
    )
    assert from_shell(command) == (0, b"none\nfifo\n")
    assert stat.S_ISREG(node.paths.journal.stat().st_mode)
