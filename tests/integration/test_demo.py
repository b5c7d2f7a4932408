"""The demo: plays to its end as any user, and leaves neither processes nor files behind, however it ends."""

import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.support.somebody import dropping_to

WITHIN = 60.0  # seconds; it takes about five
SOMEBODY = 1  # daemon: neither root nor nobody, as whom the shipped action runs anyway
MAIN_JOB = "4. The main job"


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A short name (sockets have short paths), open to every user."""
    directory = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    directory.chmod(0o1777)
    yield directory
    for pid in processes_of(directory):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(directory)


def processes_of(directory: Path) -> list[int]:
    """Who has this directory on its command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if f"{directory}/".encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "nanoexec", "demo", *words]


def environment(scratch: Path) -> dict[str, str]:
    return os.environ | {"TMPDIR": str(scratch), "NO_COLOR": "1", "HOME": "/", "PYTHONUNBUFFERED": "1"}


def begin(scratch: Path, *words: str) -> "subprocess.Popen[str]":
    """The demo, in a session of its own."""
    return subprocess.Popen(
        command(*words),
        env=environment(scratch),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read_to(demo: "subprocess.Popen[str]", beginning: str) -> str:
    """What it prints up to the line that begins so."""
    assert demo.stdout is not None
    said = ""
    for line in demo.stdout:
        said += line
        if line.startswith(beginning):
            return said
    raise AssertionError(said)


def ordinary_user() -> list[str]:
    """What to put before a command so that it does not run as root."""
    return dropping_to(SOMEBODY, SOMEBODY) if os.geteuid() == 0 else []


def test_an_ordinary_user_sees_every_node_run_both_triggers(scratch: Path) -> None:
    demo = subprocess.run(
        [*ordinary_user(), *command()],
        env=environment(scratch),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout
    assert re.search(r"^uptime \w{16}: 3 succeeded$", demo.stdout, re.MULTILINE)
    assert re.search(r"^node3  queued until ", demo.stdout, re.MULTILINE)
    assert re.search(r"^uptime \w{16}: 2 succeeded, 1 queued until ", demo.stdout, re.MULTILINE)
    assert re.search(r"^3 succeeded$", demo.stdout, re.MULTILINE)
    assert "Every node ran both triggers, each exactly once." in demo.stdout
    assert processes_of(scratch) == []
    assert list(scratch.iterdir()) == []


def test_what_is_kept_can_be_looked_at_and_nothing_runs_there_any_more(scratch: Path) -> None:
    with begin(scratch, "--nodes", "1", "--keep") as demo:
        said, _ = demo.communicate(timeout=WITHIN)
    (kept,) = scratch.iterdir()
    assert demo.returncode == 0, said
    assert f"Kept: {kept} " in said
    assert (kept / "node1/var/lib/nanoexec/journal/journal.db").exists()
    assert (kept / "hub.log").read_text()
    assert processes_of(scratch) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_leaves_nothing_behind(scratch: Path, number: signal.Signals) -> None:
    with begin(scratch, "--nodes", "1") as demo:
        read_to(demo, MAIN_JOB)
        assert len(processes_of(scratch)) == 3  # hub, runner, agent
        demo.send_signal(number)
        demo.communicate(timeout=WITHIN)
    assert demo.returncode == 130
    assert processes_of(scratch) == []
    assert list(scratch.iterdir()) == []


def test_when_the_hub_dies_the_demo_fails_and_shows_the_end_of_every_log(scratch: Path) -> None:
    with begin(scratch, "--nodes", "1") as demo:
        said = read_to(demo, MAIN_JOB)
        (hub,) = (pid for pid in processes_of(scratch) if b"nanoexec.hub" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(hub, signal.SIGKILL)
        rest, _ = demo.communicate(timeout=WITHIN)
    assert demo.returncode == 1, said + rest
    assert re.search(r"^-- hub \(.*/hub\.log\)$", rest, re.MULTILINE)
    assert "hub localhost serves on ports" in rest
    assert re.search(r"^-- agent of node1 ", rest, re.MULTILINE)
    assert rest.splitlines()[-1].startswith("nanoexec: ")
    assert processes_of(scratch) == []
    assert list(scratch.iterdir()) == []


def test_a_terminal_of_80_columns_is_wide_enough_and_no_color_is_honoured(scratch: Path) -> None:
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    demo = subprocess.Popen(command("--nodes", "2"), env=environment(scratch), stdin=there, stdout=there, stderr=there)
    os.close(there)
    with closing(os.fdopen(here, "rb", buffering=0)) as terminal:
        shown = read_all(terminal.fileno()).decode()
    assert demo.wait(WITHIN) == 0, shown
    assert "\x1b[3" not in shown  # no colour, though cursor movements of the progress bar
    plain = re.sub(r"\x1b\[\??[0-9;]*[A-Za-z]", "", shown)
    lines = re.split(r"[\r\n]+", plain)
    assert [line for line in lines if len(line) > 80] == []
    assert "uptime" in plain


def read_all(descriptor: int) -> bytes:
    """Everything until the other end is closed, which a terminal reports as EIO."""
    data = b""
    until = time.monotonic() + WITHIN
    with suppress(OSError):
        while time.monotonic() < until and (part := os.read(descriptor, 65536)):
            data += part
    return data


def test_a_temporary_directory_too_deep_for_sockets_is_said_so(scratch: Path) -> None:
    deep = scratch / ("d" * 100)
    deep.mkdir()
    demo = subprocess.run(command(), env=environment(deep), capture_output=True, text=True, timeout=WITHIN, check=False)
    assert demo.returncode == 1
    assert demo.stderr.startswith("nanoexec: ")
    assert demo.stderr.endswith("too long a name for Unix sockets: set TMPDIR=/tmp\n")
    assert list(deep.iterdir()) == []
