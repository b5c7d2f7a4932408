"""Commands, one at a time, through the whole of execution: real processes, real signals, real pipes."""

import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nanoexec.actions import Manifest
from nanoexec.errors import RefusedError
from nanoexec.model import Cause, Run
from nanoexec.runner.command import Command, prepare
from nanoexec.runner.execution import LASTING, Ending, execute
from nanoexec.runner.spawning import NotStartedError
from nanoexec.runner.stopping import STOP, hear
from nanoexec.wakeup import Wakeup
from tests.support.runner import ME, until
from tests.support.signals import sent_meanwhile
from tests.support.somebody import NOBODY, as_user

pytestmark = pytest.mark.node
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def command(*words: str, **keys: Any) -> Command:
    """A single word is a shell script."""
    argv = ("sh", "-c", words[0]) if len(words) == 1 else words
    manifest = Manifest(name="test", command=argv, **({"user": ME} | keys))
    run = Run(id="0123456789abcdef", action="test", cause=Cause.LOCAL, by="alice", requested=1.0, command=argv)
    return prepare(manifest, run, None, "C.UTF-8")


def carry_out(*words: str, limit: int = 65536, sinks: Sequence[Any] = (), **keys: Any) -> Ending:
    return execute(command(*words, **keys), sinks=sinks, limit=limit, lasting=lambda _: None)


@pytest.fixture
def stop_is_heard() -> Iterator[None]:
    before = signal.getsignal(STOP)
    hear()
    yield
    signal.signal(STOP, before)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_both_outputs_come_in_the_order_they_were_written() -> None:
    heard: list[bytes] = []
    ending = carry_out("echo one; echo two >&2; echo three; exit 5", sinks=[heard.append])
    assert (ending.status, ending.output.text(), b"".join(heard)) == (5, "one\ntwo\nthree\n", b"one\ntwo\nthree\n")


def test_output_beyond_the_limit_is_cut_in_the_middle_and_counted() -> None:
    ending = carry_out("seq 100000", limit=1000)
    assert ending.output.size == 588895
    assert ending.output.head.startswith(b"1\n2\n3\n")
    assert ending.output.tail.endswith(b"99999\n100000\n")
    assert len(ending.output.head) + len(ending.output.tail) == 1000


def test_a_command_that_a_signal_ends_has_a_negative_status() -> None:
    assert carry_out("kill -USR1 $$").status == -signal.SIGUSR1


def test_a_command_that_closes_its_outputs_is_still_waited_for() -> None:
    ending = carry_out("exec >&- 2>&-; sleep 0.3; exit 9")
    assert ending.status == 9
    assert ending.duration >= 0.3


def test_lasting_is_said_once_and_only_of_a_command_that_lasts() -> None:
    said: list[int] = []
    execute(command("true"), sinks=(), limit=1024, lasting=said.append)
    assert said == []
    ending = execute(command("sleep 0.4; echo x; sleep 0.1"), sinks=(), limit=1024, lasting=said.append)
    assert said == [ending.pid]


def test_a_command_that_ignores_term_is_killed_with_its_group() -> None:
    script = (
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.1; done' & wait; while :; do sleep 1; done"
    )
    ending = carry_out(script, timeout="0.3s", kill_after="0.3s")
    assert (ending.timed_out, ending.status) == (True, -signal.SIGKILL)
    assert 0.6 <= ending.duration < 3
    member = int(ending.output.text())
    until(lambda: gone(member), "the member of the group is killed")


def test_a_group_member_that_outlives_a_leader_who_obeyed_has_its_grace_and_is_then_killed() -> None:
    stubborn = "trap 'echo asked' TERM; while :; do sleep 0.1; done"
    start = time.monotonic()
    ending = carry_out(
        f"sh -c '{stubborn.replace(chr(39), chr(34))}' & echo $!; exec sleep 60", timeout="0.3s", kill_after="0.6s"
    )
    assert (ending.timed_out, ending.status) == (True, -signal.SIGTERM)
    assert time.monotonic() - start >= 0.9
    assert "asked" in ending.output.text()
    pid = ending.output.text().split()[0]
    until(lambda: gone(int(pid)), "the member is killed")


def test_a_silent_group_member_has_its_grace_too(tmp_path: Path) -> None:
    tidy = tmp_path / "tidy"
    script = (
        f"(trap 'sleep 0.3; touch {tidy}; exit' TERM; while :; do sleep 0.05; done) >/dev/null 2>&1 & exec sleep 60"
    )
    ending = carry_out(script, timeout="0.2s", kill_after="5s")
    assert ending.timed_out
    assert tidy.exists()


def test_a_signal_that_comes_just_before_the_wait_is_passed_on_at_once() -> None:
    with sent_meanwhile(signal.SIGTERM, after=LASTING + 0.3):
        ending = execute(
            command("exec sleep 20"), sinks=(), limit=1024, lasting=lambda _: None, forward=[signal.SIGTERM]
        )
    assert (ending.status, ending.stopped) == (-signal.SIGTERM, False)
    assert ending.duration < 10


def test_so_it_is_while_a_reader_does_not_read() -> None:
    reader, writer = os.pipe()
    work = command("trap 'exit 3' TERM; yes & wait", timeout="4s", kill_after="0.1s")
    with sent_meanwhile(signal.SIGTERM, after=LASTING + 0.3):
        ending = execute(work, sinks=(), limit=1024, lasting=lambda _: None, forward=[signal.SIGTERM], outlets=[writer])
    os.close(reader)
    os.close(writer)
    assert (ending.status, ending.timed_out) == (3, False)
    assert ending.duration < 3


def test_a_wish_to_stop_that_comes_just_before_the_wait_is_obeyed_at_once(stop_is_heard: None) -> None:
    work = command("exec sleep 20")
    with Wakeup() as wakeup, sent_meanwhile(STOP, after=LASTING + 0.3):
        ending = execute(work, sinks=(), limit=1024, lasting=lambda _: None, wakeup=wakeup)
    assert (ending.status, ending.stopped) == (-signal.SIGTERM, True)
    assert ending.duration < 10


def test_a_wish_to_stop_that_comes_before_the_command_is_not_forgotten(stop_is_heard: None) -> None:
    with Wakeup() as wakeup:
        signal.raise_signal(STOP)
        ending = execute(command("exec sleep 20"), sinks=(), limit=1024, lasting=lambda _: None, wakeup=wakeup)
    assert ending.stopped
    assert ending.duration < 10


def test_a_command_that_ends_when_asked_is_not_made_to_wait() -> None:
    start = time.monotonic()
    ending = carry_out("exec sleep 60", timeout="0.2s", kill_after="30s")
    assert (ending.timed_out, ending.status) == (True, -signal.SIGTERM)
    assert time.monotonic() - start < 5


def opened(kind: str) -> tuple[int, int]:
    """Both ends of something that a command's output may go to: where it is read, and where it is written."""
    if kind == "terminal":
        return os.openpty()
    if kind == "socket":
        far, near = socket.socketpair()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        return far.detach(), near.detach()
    return os.pipe()


def rest(reader: int) -> bytes:
    """What a reader still finds once nobody writes any more."""
    found = b""
    with suppress(OSError):  # EIO, of a terminal that nobody has any more
        while chunk := os.read(reader, 1 << 16):
            found += chunk
    return found


@pytest.mark.parametrize(
    ("kind", "room", "much"),  # much: more than it holds, not more than it and our own pipe
    [("pipe", 32768, 100000), ("terminal", 4096, 60000), ("socket", 0, 60000)],
)
@pytest.mark.parametrize(
    ("script", "timeout", "status", "timed_out"),
    [
        ("while :; do echo more; done", "0.5s", -signal.SIGTERM, True),
        ("trap '' TERM; while :; do echo more; done", "0.5s", -signal.SIGKILL, True),
        ("head -c MUCH /dev/zero; exit 3", "2s", 3, False),
    ],
)
def test_a_reader_who_does_not_read_keeps_no_command_beyond_its_time(
    *, kind: str, room: int, much: int, script: str, timeout: str, status: int, timed_out: bool
) -> None:
    reader, writer = opened(kind)
    began = time.monotonic()
    work = command(script.replace("MUCH", str(much)), timeout=timeout, kill_after="0.3s")
    ending = execute(work, sinks=(), limit=65536, lasting=lambda _: None, outlets=[writer])
    assert (ending.status, ending.timed_out) == (status, timed_out)
    assert time.monotonic() - began < 10
    assert timed_out or ending.output.size == much, "all of it was read and judged"
    assert os.get_blocking(writer), "it is the caller's own"
    os.close(writer)
    assert len(rest(reader)) > room, "what there is room for was passed on"
    os.close(reader)


CROWD = """
import os, select, sys, time
reader, writer = map(int, sys.argv[1:3])
for _ in range(20):
    if not os.fork():
        while True:
            os.write(writer, bytes(4096))
until = time.monotonic() + float(sys.argv[3])
print("here", flush=True)
while time.monotonic() < until:
    os.read(reader, 4096)
    time.sleep(0.002)
time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["pipe", "terminal", "socket"])
def test_nor_does_a_reader_whom_others_write_to_at_the_same_moment(kind: str) -> None:
    """Who was told that there is room finds it taken."""
    reader, writer = opened(kind)
    words = [sys.executable, "-c", CROWD, str(reader), str(writer), "0.5"]
    others = subprocess.Popen(words, stdout=subprocess.PIPE, pass_fds=(reader, writer), start_new_session=True)
    try:
        assert others.stdout
        assert others.stdout.read(4) == b"here"
        began = time.monotonic()
        work = command("while :; do echo more; done", timeout="0.8s", kill_after="0.3s")
        ending = execute(work, sinks=(), limit=1024, lasting=lambda _: None, outlets=[writer])
        assert ending.timed_out
        assert time.monotonic() - began < 5
    finally:
        os.killpg(others.pid, signal.SIGKILL)
        others.communicate()
        os.close(writer)
        os.close(reader)


@pytest.mark.parametrize("more", ["", "; sleep 0.5"])  # not to be told as lasting, and told
def test_a_command_that_ends_while_its_output_waits_for_a_reader_has_lasted_until_then(more: str) -> None:
    reader, writer = os.pipe()
    late = subprocess.Popen(["sh", "-c", "sleep 2; wc -c"], stdin=reader, stdout=subprocess.PIPE)
    os.close(reader)
    zombies: list[bool] = []
    work = command(f"head -c 120000 /dev/zero{more}")
    ending = execute(work, sinks=(), limit=1024, lasting=lambda pid: zombies.append(gone(pid)), outlets=[writer])
    os.close(writer)
    assert late.communicate() == (b"120000\n", None)
    assert ending.output.size == 120000, "what was still in our own pipe by then was read"
    assert ending.duration < 1.8
    assert True not in zombies


def test_a_daemon_that_keeps_the_output_is_left_alone_and_never_meets_a_broken_pipe(tmp_path: Path) -> None:
    done = tmp_path / "done"
    daemon = f"sleep 2; seq 50000; echo alive && touch {done}"  # more than a pipe holds
    start = time.monotonic()
    ending = carry_out(f"setsid sh -c '{daemon}' & echo started")
    assert (ending.status, ending.output.text()) == (0, "started\n")
    assert time.monotonic() - start < 1.9
    until(done.exists, "the daemon wrote all it had")


def test_a_daemon_that_lets_go_of_the_output_costs_no_wait() -> None:
    start = time.monotonic()
    ending = carry_out("setsid sleep 2 >/dev/null 2>&1 &")
    assert ending.status == 0
    assert time.monotonic() - start - ending.duration < 0.4


def test_the_command_finds_a_clean_house(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the caller")
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    look = (
        "import json, os; print(json.dumps({'env': dict(os.environ), 'cwd': os.getcwd(), 'umask': os.umask(0),"
        " 'session': os.getsid(0) == os.getpid(), 'stdin': os.readlink('/proc/self/fd/0'),"
        " 'fds': sorted(map(int, os.listdir('/proc/self/fd')))}))"
    )
    ending = carry_out(sys.executable, "-I", "-c", look, env={"EXTRA": "1", "LANG": "de_DE"}, cwd="/usr")
    os.close(leak)
    seen = json.loads(ending.output.text())
    home = os.path.expanduser(f"~{ME}")  # noqa: PTH111 - as pwd says, whatever HOME is
    assert {key: seen["env"].pop(key) for key in ("HOME", "LOGNAME", "USER", "SHELL", "LANG", "EXTRA")} == {
        "HOME": home,
        "LOGNAME": ME,
        "USER": ME,
        "SHELL": "/bin/sh",
        "LANG": "de_DE",
        "EXTRA": "1",
    }
    assert seen["env"].pop("PATH") == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert seen["env"].pop("NANOEXEC_ACTION") == "test"
    assert seen["env"].pop("NANOEXEC_BY") == "alice"
    assert set(seen["env"]) <= {"LC_CTYPE"}  # Python's own
    assert (seen["cwd"], seen["stdin"], seen["umask"], seen["session"]) == ("/usr", "/dev/null", 0o022, True)
    assert len(seen["fds"]) == 4  # the three, and the directory that is being listed


def test_no_signal_that_python_ignores_is_ignored_in_the_command() -> None:
    ending = carry_out("grep SigIgn /proc/self/status")
    ignored = int(ending.output.text().split()[1], 16)
    assert [number for number in signal.Signals if number < signal.SIGRTMIN and ignored & 1 << (number - 1)] == []


def test_whoever_runs_a_command_stands_afterwards_where_it_stood_and_with_its_own_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        here = Path.cwd()
        assert carry_out("pwd; umask", cwd="/usr").output.text() == "/usr\n0022\n"
        (tmp_path / "gone").mkdir()
        doomed = command("true", cwd=str(tmp_path / "gone"))
        (tmp_path / "gone").rmdir()
        with pytest.raises(NotStartedError, match=r"cannot start .*sh: No such file or directory"):
            execute(doomed, sinks=(), limit=1024, lasting=lambda _: None)
        assert (Path.cwd(), os.umask(0o077)) == (here, 0o077)
    finally:
        os.umask(before)


def test_a_command_finds_its_input_empty_whatever_ours_is() -> None:
    ours, other = os.dup(0), os.open("/dev/zero", os.O_RDONLY)
    try:
        os.dup2(other, 0)
        ending = carry_out("head -c 5 | wc -c")
    finally:
        os.dup2(ours, 0)
        os.close(ours)
        os.close(other)
    assert ending.output.text() == "0\n"


def test_the_service_is_spared_what_threading_does_after_every_fork() -> None:
    look = "import sys, nanoexec.runner.__main__; sys.exit('threading' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


def test_the_service_carries_no_part_of_a_library_that_it_does_without() -> None:
    look = "import sys, nanoexec.runner.__main__; sys.exit('inspect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


@needs_root
def test_another_users_command_has_that_users_ids_and_groups_and_nothing_of_ours() -> None:
    ending = carry_out("id -u; id -g; id -G; echo $HOME $USER; grep CapEff /proc/self/status", user="nobody")
    uid, gid, groups, home, capabilities = ending.output.text().splitlines()
    assert (uid, gid, groups, home.split()[1]) == ("65534", "65534", "65534", "nobody")
    assert int(capabilities.split()[1], 16) == 0


@needs_root
def test_only_root_may_switch() -> None:
    def is_refused() -> bool:
        with pytest.raises(RefusedError, match=r"runs as daemon.*only root may switch"):
            command("true", user="daemon")
        return True

    assert as_user(NOBODY, is_refused)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"user": "nosuchuser"}, "there is no user nosuchuser on this node"),
        ({"cwd": "/no/such"}, "which is not a directory"),
    ],
)
def test_what_cannot_be_prepared_is_refused(keys: dict[str, str], complaint: str) -> None:
    with pytest.raises(RefusedError, match=complaint):
        command("true", **keys)


def test_a_program_that_is_not_there_is_refused() -> None:
    with pytest.raises(RefusedError, match="there is no program nosuchprogram"):
        command("nosuchprogram", "x")
    with pytest.raises(RefusedError, match="there is no program /etc/passwd"):
        command("/etc/passwd", "x")


def test_a_script_without_an_interpreter_line_is_not_guessed_at(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo ran\n")
    script.chmod(stat.S_IRWXU)
    with pytest.raises(NotStartedError, match=f"cannot start {script}: Exec format error"):
        carry_out(str(script), "x")


def test_a_hundred_megabytes_pass_in_flat_memory() -> None:
    start, before = time.monotonic(), _peak()
    ending = carry_out("head -c 100000000 /dev/zero")
    assert ending.output.size == 100_000_000
    assert _peak() - before < 4096  # KiB
    assert time.monotonic() - start < 10


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


@pytest.mark.parametrize("outlets", [0, 1, 2])
@pytest.mark.parametrize("left", range(10))
def test_with_few_descriptors_left_a_command_is_run_to_its_end_or_not_started(left: int, outlets: int) -> None:
    """Whatever else could be raised would leave a run in the journal that nobody answers for."""
    ends = [os.pipe() for _ in range(outlets)]
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = [os.open("/", os.O_PATH) for _ in range(highest)]  # no gaps below
    ready = command("echo said; exit 7")
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 1 + left, before[1]))
        to = [writer for _, writer in ends]
        status: int | str = execute(ready, sinks=(), limit=1024, lasting=lambda _: None, outlets=to).status
    except NotStartedError as error:
        status = str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in (*spare, *(writer for _, writer in ends)):
            os.close(descriptor)
    heard = b"".join(rest(reader) for reader, _ in ends)
    for reader, _ in ends:
        os.close(reader)
    assert heard == (b"said\n" if outlets and status == 7 else b"")
    assert status in (7, "cannot start /usr/bin/sh: Too many open files", "cannot start /bin/sh: Too many open files")


@needs_root
@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_what_may_not_be_opened_anew_is_passed_on_to_all_the_same(kind: str) -> None:
    """After a change of user, say: the pipe is still that of the one before."""
    reader, writer = opened(kind)
    tty.setraw(writer) if kind == "terminal" else None
    as_nobody = command("seq 200", user="nobody")

    def is_passed_on() -> bool:
        with pytest.raises(PermissionError):
            os.open(f"/proc/self/fd/{writer}", os.O_WRONLY)
        return execute(as_nobody, sinks=(), limit=1024, lasting=lambda _: None, outlets=[writer]).status == 0

    assert as_user(NOBODY, is_passed_on)
    os.close(writer)
    assert rest(reader) == "".join(f"{number}\n" for number in range(1, 201)).encode()
    os.close(reader)


def test_the_other_side_of_a_terminal_is_not_opened_anew() -> None:
    """That would be another terminal."""
    keeper, end = os.openpty()
    tty.setraw(end)
    execute(command("echo typed"), sinks=(), limit=1024, lasting=lambda _: None, outlets=[keeper])
    assert os.read(end, 100) == b"typed\n"
    os.close(keeper)
    os.close(end)
