"""The original's wire against real peers: nanomsg's own ``nanocat`` both ways, and a subscriber made of bare TCP."""

import contextlib
import io
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pynng
import pytest

import nanoexec
from nanoexec.errors import UnavailableError, UsageError
from nanoexec.original import send

pytestmark = pytest.mark.node

DEADLINE = 30.0
PROGRAM = """
import json, sys
from nanoexec.original import listen
options = json.loads(sys.argv[2])
actions = options.pop("actions")
if options.pop("deaf", False):
    from tests.support.signals import heard_elsewhere
    heard_elsewhere()
listen(sys.argv[1], resolve=actions.get, out=sys.stdout, **options)
"""


def eventually(what: Callable[[], Any], meaning: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < deadline, f"never happened: {meaning}"
        time.sleep(0.01)


class Listener:
    """`listen` in a process of its own; its lines and what its commands print end up in one file."""

    def __init__(self, url: str, directory: Path, name: str = "web1", **options: Any) -> None:
        self.log = directory / f"{name}.log"
        options = {"hostname": name, "actions": {}, **options}
        with self.log.open("wb") as log:
            command = [sys.executable, "-c", PROGRAM, url, json.dumps(options)]
            self.process = subprocess.Popen(command, stdout=log, process_group=0)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def wait_for(self, line: str) -> None:
        eventually(lambda: any(line in said for said in self.lines()), f"{line!r} in {self.lines()}")

    def __enter__(self) -> Self:
        self.wait_for("WARNING")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def nanocat() -> str:
    program = shutil.which("nanocat")
    if not program:
        (pytest.fail if "CI" in os.environ else pytest.skip)("nanocat is missing: apt-get install nanomsg-utils")
    return program


@contextlib.contextmanager
def nanocat_publishing(nanocat: str, url: str, frame: bytes, directory: Path) -> Iterator[None]:
    """nanomsg's publisher saying the same frame five times a second, as a file because argv cannot hold a NUL."""
    file = directory / "frame"
    file.write_bytes(frame)
    with subprocess.Popen([nanocat, "--pub", "--bind", url, "--file", file, "--interval", "0.2"]) as process:
        try:
            yield
        finally:
            process.terminate()


@contextlib.contextmanager
def publisher(url: str, listeners: int = 1) -> Iterator[pynng.Pub0]:
    arrived = threading.Semaphore(0)
    with pynng.Pub0(send_buffer_size=1000) as pub:  # by itself it keeps 16 frames for each listener
        pub.add_post_pipe_connect_cb(lambda _: arrived.release())
        pub.listen(url)
        for _ in range(listeners):
            assert arrived.acquire(timeout=DEADLINE)
        yield pub


def echo(word: str) -> list[str]:
    return ["/bin/echo", word]


def test_nanocat_orders_and_the_listener_runs_the_named_action(nanocat: str, url: str, tmp_path: Path) -> None:
    with (
        Listener(url, tmp_path, actions={"greet": echo("good morning")}) as listener,
        nanocat_publishing(nanocat, url, b"ALL:greet\0", tmp_path),
    ):
        listener.wait_for("good morning")
    assert listener.lines()[0] == "Filtering on hostname: web1"
    assert listener.lines()[1].startswith("WARNING: this wire is neither encrypted nor authenticated")


def test_nanocat_orders_a_shell_command_which_runs_only_where_that_is_allowed(
    nanocat: str, url: str, tmp_path: Path
) -> None:
    with (
        Listener(url, tmp_path, name="strict") as strict,
        Listener(url, tmp_path, name="open", allow_exec=True) as permissive,
        nanocat_publishing(nanocat, url, b"ALL:echo $((6 * 7))\0", tmp_path),
    ):
        permissive.wait_for("42")
        strict.wait_for("'echo $((6 * 7))' refused")
    assert "42" not in strict.lines()


def test_nanocat_hears_what_is_sent_with_the_trailing_nul(nanocat: str, url: str, tmp_path: Path) -> None:
    heard, out = tmp_path / "heard", io.StringIO()
    with (
        heard.open("wb") as file,
        subprocess.Popen([nanocat, "--sub", "--connect", url, "--subscribe", "ALL", "--raw"], stdout=file) as process,
    ):
        assert send(url, "ALL:uptime", out=out) == 1
        eventually(heard.read_bytes, "nanocat prints something")
        process.terminate()
    assert heard.read_bytes() == b"ALL:uptime\0"
    assert out.getvalue() == "sent to 1 subscriber\n"


def test_sending_reaches_every_listener_and_only_the_one_named_runs_it(url: str, tmp_path: Path) -> None:
    with (
        Listener(url, tmp_path, name="web1", allow_exec=True) as one,
        Listener(url, tmp_path, name="web10", allow_exec=True) as ten,
    ):
        assert send(url, "web10:echo for ten", out=io.StringIO(), subscribers=2) == 2
        ten.wait_for("for ten")
        assert send(url, "ALL:echo for all", out=io.StringIO(), subscribers=2) == 2
        one.wait_for("for all")
        ten.wait_for("for all")
    assert [line for line in one.lines() if line.startswith("for")] == ["for all"]
    assert [line for line in ten.lines() if line.startswith("for")] == ["for ten", "for all"]


def test_a_listener_finds_a_publisher_that_comes_back(url: str, tmp_path: Path) -> None:
    with Listener(url, tmp_path, allow_exec=True) as listener:
        for round_number in range(5):
            send(url, f"web1:echo round {round_number}", out=io.StringIO())
            listener.wait_for(f"round {round_number}")


def test_a_listener_lives_on_after_frames_it_cannot_accept(url: str, tmp_path: Path) -> None:
    with Listener(url, tmp_path, allow_exec=True) as listener:
        with publisher(url) as pub:
            for frame in (b"web1 no colon", b"web1:a\0b", b"web1:\xff", b"web1:", b"web1:" + b"x" * (64 << 10)):
                pub.send(frame)
            pub.send(b"web1:echo still here\0")
            listener.wait_for("still here")
            refused = [line for line in listener.lines() if "refused" in line]
            assert len(refused) == 5
            pub.send(b"web1:" + b"x" * (2 << 20))  # NNG itself hangs up on this one
        send(url, "web1:echo back again", out=io.StringIO())
        listener.wait_for("back again")


def test_orders_that_come_during_a_slow_command_all_run_afterwards_in_order(url: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Listener(url, tmp_path, allow_exec=True) as listener, publisher(url) as pub:
        pub.send(f"web1:echo slow; while [ ! -e {gate} ]; do sleep 0.02; done".encode())
        listener.wait_for("slow")
        for number in range(100):  # SUB keeps 128 until it is read
            pub.send(f"web1:echo order {number}\0".encode())
        gate.touch()
        listener.wait_for("order 99")
    assert [line for line in listener.lines() if line.startswith("order")] == [f"order {n}" for n in range(100)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_listener_ends_at_once_when_told_to(number: signal.Signals, url: str, tmp_path: Path) -> None:
    with Listener(url, tmp_path) as listener:
        listener.process.send_signal(number)
        assert listener.process.wait(DEADLINE) == 0


def test_a_signal_that_comes_just_before_the_listener_falls_asleep_is_heard(url: str, tmp_path: Path) -> None:
    with Listener(url, tmp_path, deaf=True) as listener:
        listener.process.terminate()
        assert listener.process.wait(DEADLINE) == 0


def test_a_stopped_listener_waits_for_the_command_that_runs_and_starts_no_other(url: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Listener(url, tmp_path, allow_exec=True, verbose=True) as listener, publisher(url) as pub:
        pub.send(f"web1:while [ ! -e {gate} ]; do sleep 0.02; done; echo work is done".encode())
        pub.send(b"web1:echo too late\0")
        listener.wait_for("too late")
        listener.process.terminate()
        listener.wait_for("still running")
        assert listener.process.poll() is None
        gate.touch()
        assert listener.process.wait(DEADLINE) == 0
    assert "work is done" in listener.lines()
    assert "stopping: 'echo too late' was still waiting and is not run" in listener.lines()
    assert "too late" not in listener.lines()


def test_control_c_at_the_terminal_is_not_meant_for_the_command_that_runs(url: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Listener(url, tmp_path, allow_exec=True) as listener, publisher(url) as pub:
        pub.send(f"web1:echo begun; while [ ! -e {gate} ]; do sleep 0.02; done; echo work is done".encode())
        listener.wait_for("begun")
        os.killpg(listener.process.pid, signal.SIGINT)  # as a terminal does: the whole foreground group
        listener.wait_for("still running")
        gate.touch()
        assert listener.process.wait(DEADLINE) == 0
    assert "work is done" in listener.lines()


def test_exit_statuses_are_known_even_under_a_parent_that_ignores_its_children(url: str, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        listener = Listener(url, tmp_path, allow_exec=True)
    finally:
        signal.signal(signal.SIGCHLD, before)
    with listener:
        send(url, "web1:exit 9", out=io.StringIO())
        listener.wait_for("'exit 9' ended: exit status 9")


def test_a_second_signal_leaves_the_command_running_and_ends_the_listener(url: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Listener(url, tmp_path, allow_exec=True) as listener, publisher(url) as pub:
        pub.send(f"web1:echo begun; while [ ! -e {gate} ]; do sleep 0.02; done; echo ended alone".encode())
        listener.wait_for("begun")
        listener.process.terminate()
        listener.wait_for("still running")
        listener.process.terminate()
        assert listener.process.wait(DEADLINE) == 0
        listener.wait_for("goes on by itself")
        gate.touch()
        listener.wait_for("ended alone")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_commands_run_as_the_user_that_root_was_given_up_for(url: str, tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    with Listener(url, tmp_path, allow_exec=True, user="nobody") as listener:
        send(url, "web1:id -un; id -G; pwd; echo $LOGNAME", out=io.StringIO())
        eventually(lambda: len(listener.lines()) >= 6, "four lines of output")
        status = Path(f"/proc/{listener.process.pid}/status").read_text()
    assert listener.lines()[2:] == ["nobody", str(nobody.pw_gid), "/", "nobody"]
    ids = {line.split(":")[0]: line.split()[1:] for line in status.splitlines()}
    assert ids["Uid"] == [str(nobody.pw_uid)] * 4
    assert ids["Gid"] == [str(nobody.pw_gid)] * 4
    assert ids["Groups"] == [str(nobody.pw_gid)]
    assert int(ids["CapEff"][0], 16) == 0


@contextlib.contextmanager
def listen_command(url: str, root: Path, *options: str) -> Iterator[Path]:
    """``nanoexec listen`` on a node with the action ``greet`` and the broken ``faulty``; gives its log."""
    manifests, log = root / "etc/nanoexec/actions.d", root / "log"
    manifests.mkdir(parents=True)
    (root / "etc/nanoexec/agent.toml").write_text('hub = "hub.example.org"\n')
    user = pwd.getpwuid(os.geteuid()).pw_name
    (manifests / "greet.toml").write_text(
        f'name = "greet"\nsummary = "Say hello"\ncommand = ["/bin/echo", "hello from the journal"]\nuser = "{user}"\n'
    )
    (manifests / "faulty.toml").write_text('name = "faulty"\ncommand = 7\n')
    command = [sys.executable, "-m", "nanoexec", "listen", url, "--root", str(root), "--hostname", "web1", *options]
    environment = {**os.environ, "PYTHONPATH": str(Path(nanoexec.__file__).parents[1])}  # where it is not installed
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file, env=environment) as process:
        try:
            eventually(lambda: "WARNING" in log.read_text(), "the listener starts")
            yield log
        finally:
            process.terminate()


def test_the_command_runs_an_action_of_the_manifests_through_nanoexec_run(url: str, tmp_path: Path) -> None:
    with listen_command(url, tmp_path, "--verbose", "--allow-exec") as log:
        send(url, "ALL:greet", out=io.StringIO())
        eventually(lambda: "'greet' ended" in log.read_text(), "the action ends")
        send(url, "ALL:faulty", out=io.StringIO())
        eventually(lambda: "'faulty' not run" in log.read_text(), "the fault is said")
    assert "\nhello from the journal\n'greet' ended: exit status 0\n" in log.read_text()
    assert (tmp_path / "var/lib/nanoexec/journal/journal.db").exists()


def test_the_send_command_says_in_one_line_that_nobody_came_and_fails(url: str) -> None:
    command = [sys.executable, "-m", "nanoexec", "send", "--listen", url, "--within", "0.2", "ALL:uptime"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert len(ended.stderr.splitlines()) == 1
    assert "nobody came" in ended.stderr


def test_sending_where_nobody_comes_is_an_error(url: str) -> None:
    with pytest.raises(UnavailableError, match=r"^nobody came to tcp://\S+ within 0.2 seconds; nothing was sent$"):
        send(url, "ALL:uptime", out=io.StringIO(), within=0.2)


def test_sending_to_fewer_subscribers_than_asked_for_sends_nothing(url: str) -> None:
    with pynng.Sub0(topics=b"", reconnect_time_min=50, recv_timeout=200) as sub:
        sub.dial(url, block=False)
        with pytest.raises(UnavailableError, match="only 1 of 2 subscribers came"):
            send(url, "ALL:uptime", out=io.StringIO(), subscribers=2, within=1.0)
        with pytest.raises(pynng.Timeout):
            sub.recv()


def test_sending_waits_for_subscribers_that_come_one_after_another(url: str) -> None:
    with contextlib.ExitStack() as stack:
        subs = [stack.enter_context(pynng.Sub0(topics=b"", recv_timeout=5000)) for _ in range(4)]

        def come() -> None:
            for sub in subs:
                deadline = time.monotonic() + DEADLINE
                while time.monotonic() < deadline:
                    with contextlib.suppress(pynng.ConnectionRefused):
                        sub.dial(url, block=True)
                        break
                time.sleep(0.1)  # later than the one before, sooner than `settle`

        coming = threading.Thread(target=come)
        coming.start()
        assert send(url, "ALL:uptime", out=io.StringIO(), settle=1.0) == 4
        coming.join()
        assert [sub.recv() for sub in subs] == [b"ALL:uptime\0"] * 4


def test_sending_on_a_port_in_use_is_one_line(url: str) -> None:
    with pynng.Pub0(listen=url), pytest.raises(UnavailableError, match="the port is in use"):
        send(url, "ALL:uptime", out=io.StringIO())


def test_sending_on_every_interface_is_spelt_as_in_nanomsg(url: str) -> None:
    with pynng.Sub0(topics=b"ALL", reconnect_time_min=50, recv_timeout=5000) as sub:
        sub.dial(url, block=False)
        send(url.replace("127.0.0.1", "*"), "ALL:uptime", out=io.StringIO())
        assert sub.recv() == b"ALL:uptime\0"


@pytest.mark.parametrize("message", ["uptime", "ALL:", "ALL:a\0b", ":uptime", "ALL:" + "x" * (64 << 10)])
def test_what_no_listener_would_accept_is_not_sent(message: str, url: str) -> None:
    with pytest.raises(UsageError, match=r"^cannot send this: frame "):
        send(url, message, out=io.StringIO(), within=0.1)


class BareSubscriber:
    """The wire by hand: eight bytes of greeting, then eight bytes of length before each frame.

    Its window and segments are small, so that a frame of 64 KiB does not fit into the kernel's buffers.
    """

    GREETING = b"\0SP\0\0\x21\0\0"  # protocol 33: SUB

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("tcp://").split(":")
        self._address = (host, int(port))
        self.frame = b""

    def __call__(self, pause: float) -> None:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            with socket.socket() as peer, contextlib.suppress(ConnectionRefusedError):
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least there is
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 88)
                peer.connect(self._address)
                peer.sendall(self.GREETING)
                self._read(peer, 8)
                size = int.from_bytes(self._read(peer, 8), "big")
                time.sleep(pause)
                self.frame = self._read(peer, size)
                return

    @staticmethod
    def _read(peer: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := peer.recv(size - len(data))):
            data += more
        return data


def test_a_slow_subscriber_gets_the_whole_frame_before_the_sender_is_gone(url: str) -> None:
    command = "x" * ((64 << 10) - 10)
    peer = BareSubscriber(url)
    reading = threading.Thread(target=peer, args=(0.5,))
    reading.start()
    # So small a window closes and opens again all the time: on a busy machine that takes more than the usual patience.
    assert send(url, f"ALL:{command}", out=io.StringIO(), within=DEADLINE) == 1
    reading.join()
    assert peer.frame == f"ALL:{command}\0".encode()


def test_a_subscriber_that_takes_nothing_is_not_counted(url: str) -> None:
    peer = BareSubscriber(url)
    stuck = threading.Thread(target=peer, args=(2.0,))
    stuck.start()
    with pytest.raises(UnavailableError, match=r"^1 came to \S+, and none took the frame"):
        send(url, "ALL:" + "x" * ((64 << 10) - 10), out=io.StringIO(), within=1.0)
    stuck.join()
