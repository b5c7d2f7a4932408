"""The original's frames and addresses, and what a listener does with its orders."""

import io
import selectors
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoexec import launch
from nanoexec.config import Paths
from nanoexec.errors import ConfigError, ProtocolError, UsageError
from nanoexec.original import MAX_FRAME, MAX_WAITING, Orders, action_command, become, compose_frame, parse_frame
from nanoexec.original.frame import check_address, shown
from nanoexec.original.listener import listen

pytestmark = pytest.mark.node


def refusal(frame: bytes) -> str:
    try:
        parse_frame(frame)
    except ProtocolError as error:
        return str(error)
    return ""


@given(st.binary(max_size=200) | st.builds(lambda a, b: a + b":" + b, st.binary(max_size=20), st.binary(max_size=80)))
def test_any_bytes_are_a_host_and_a_command_or_refused_in_one_line(frame: bytes) -> None:
    if fault := refusal(frame):
        assert fault.isprintable()
        assert len(fault) < 1000
        return
    host, command = parse_frame(frame)
    assert host
    assert ":" not in host
    assert command == command.strip(" \t\r\n") != ""
    assert "\0" not in host + command
    assert frame.startswith(host.encode() + b":")


@given(st.text(min_size=1).filter(lambda t: ":" not in t), st.text(min_size=1))
def test_what_is_composed_is_parsed_back(host: str, command: str) -> None:
    try:
        frame = compose_frame(f"{host}:{command}")
    except UsageError:
        assert "\0" in host + command or not command.strip(" \t\r\n")
    else:
        assert frame.endswith(b"\0")
        assert parse_frame(frame) == (host, command.strip(" \t\r\n").rstrip("\0\r\n").strip(" \t\r\n"))


@pytest.mark.parametrize("tail", [b"", b"\0", b"\0\0\0", b"\n", b"\n\0", b"\r\n\0", b"  \n\0"])
def test_trailing_nuls_and_newlines_are_not_part_of_the_command(tail: bytes) -> None:
    assert parse_frame(b"web1:uptime" + tail) == ("web1", "uptime")


def test_only_the_first_colon_ends_the_host() -> None:
    assert parse_frame(b"ALL:date +%H:%M\0") == ("ALL", "date +%H:%M")


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        (b"ALL uptime\0", "expected HOST:COMMAND"),
        (b"ALL:\0", "expected HOST:COMMAND"),
        (b"ALL: \n\0", "expected HOST:COMMAND"),
        (b":uptime\0", "expected HOST:COMMAND"),
        (b"", "expected HOST:COMMAND"),
        (b"ALL:id\0;reboot\0", "a NUL inside"),
        (b"ALL:\xff\0", "not UTF-8 at byte 4"),
        (b"ALL:" + b"x" * MAX_FRAME, f"at most {MAX_FRAME}"),
    ],
)
def test_a_frame_that_cannot_be_meant_is_refused_with_its_fault(frame: bytes, fault: str) -> None:
    with pytest.raises(ProtocolError, match=fault):
        parse_frame(frame)


def test_the_largest_frame_is_accepted() -> None:
    assert parse_frame(b"ALL:" + b"x" * (MAX_FRAME - 4)) == ("ALL", "x" * (MAX_FRAME - 4))


@pytest.mark.parametrize("url", ["tcp://master:4444", "tcp://*:4444", "tcp://[::1]:4444", "tcp://10.0.0.1:1"])
def test_the_spellings_of_nanomsg_are_addresses(url: str) -> None:
    check_address(url)


@pytest.mark.parametrize(
    "url",
    ["master:4444", "tcp://master", "tcp://master:0", "tcp://:4444", "tcp://m:99999", "tcp://m:x", "ipc:///x", ""],
)
def test_what_could_only_be_dialled_in_vain_is_not_an_address(url: str) -> None:
    with pytest.raises(UsageError, match="write tcp://HOST:PORT"):
        check_address(url)


@pytest.mark.parametrize("hostname", ["", "web1:ALL"])
def test_a_host_name_that_would_hear_everything_or_nothing_is_refused(hostname: str) -> None:
    with pytest.raises(UsageError, match="host name"):
        listen("tcp://127.0.0.1:4444", hostname=hostname, resolve=lambda _: None, out=io.StringIO())


def test_text_of_a_peer_cannot_speak_to_the_terminal_and_is_cut() -> None:
    assert shown("\x1b[2J\n\u202eevil") == r"'\x1b[2J\n\u202eevil'"
    assert len(shown(b"x" * 5000)) < 250


def test_a_named_action_runs_through_nanoexec_run_with_the_same_paths(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path, config=tmp_path / "agent.toml")
    assert action_command("slaughter", paths) == [
        *launch.command("nanoexec.run"),
        *("--root", str(tmp_path)),
        *("--config", f"{tmp_path}/agent.toml", "slaughter"),
    ]


def test_an_unknown_user_is_one_line() -> None:
    with pytest.raises(UsageError, match="--user no-such-user: there is no such user"):
        become("no-such-user")


def test_importing_the_package_does_not_load_nng() -> None:
    code = "import nanoexec.original, sys; sys.exit('pynng' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Node:
    """One listener's orders, with real commands, told to run them all."""

    def __init__(
        self, *, allow_exec: bool = False, verbose: bool = False, actions: dict[str, list[str]] | None = None
    ) -> None:
        self.out = io.StringIO()
        known = actions or {}
        self.orders = Orders(hostname="web1", resolve=known.get, out=self.out, allow_exec=allow_exec, verbose=verbose)

    def run(self, *frames: bytes) -> list[str]:
        for frame in frames:
            self.orders.take(frame)
        with selectors.DefaultSelector() as selector:
            self.orders.advance(selector)
            while self.orders.running:
                assert selector.select(timeout=20)
                self.orders.advance(selector)
        return self.out.getvalue().splitlines()


def test_a_frame_of_a_host_whose_name_only_begins_like_mine_is_not_for_me() -> None:
    assert Node(allow_exec=True, verbose=True).run(b"web10:exit 1\0", b"ALLIES:exit 1\0", b"WEB1:exit 1\0") == []


def test_an_unknown_name_is_refused_unless_shell_commands_are_allowed() -> None:
    assert Node().run(b"web1:exit 7\0") == [
        "'exit 7' refused: this node has no action of that name, and shell commands are off"
    ]
    assert Node(allow_exec=True).run(b"web1:exit 7\0") == ["'exit 7' ended: exit status 7"]


def test_an_action_wins_over_a_shell_command_of_the_same_name() -> None:
    node = Node(allow_exec=True, actions={"true": ["/bin/sh", "-c", "exit 5"]})
    assert node.run(b"ALL:true\0", b"ALL:true;\0") == ["'true' ended: exit status 5"]


def test_a_command_that_begins_with_a_dash_is_not_an_option_of_the_shell() -> None:
    assert Node(allow_exec=True).run(b"ALL:-c 'exit 3'\0") == ["\"-c 'exit 3'\" ended: exit status 127"]


def test_commands_run_one_after_another_in_the_order_they_came(tmp_path: Path) -> None:
    log = tmp_path / "log"
    frames = [f"ALL:echo begin {n} >> {log}; echo end {n} >> {log}".encode() for n in range(5)]
    assert Node(allow_exec=True).run(*frames) == []
    assert log.read_text().splitlines() == [f"{what} {n}" for n in range(5) for what in ("begin", "end")]


def test_verbose_shows_each_frame_and_how_each_command_ended() -> None:
    assert Node(allow_exec=True, verbose=True).run(b"ALL:true\0", b"ALL:kill -9 $$\0") == [
        r"frame 'ALL:true\x00'",
        r"frame 'ALL:kill -9 $$\x00'",
        "'true' ended: exit status 0",
        "'kill -9 $$' ended: killed by signal 9",
    ]


def test_more_than_the_queue_holds_is_dropped_and_each_is_said() -> None:
    node = Node(allow_exec=True)
    for number in range(MAX_WAITING + 2):
        node.orders.take(f"ALL:true {number}".encode())
    assert node.out.getvalue().splitlines() == [
        f"'true {MAX_WAITING + n}' dropped: {MAX_WAITING} orders are waiting already" for n in (0, 1)
    ]


def test_a_broken_frame_or_manifest_or_program_is_one_line_and_the_next_order_runs() -> None:
    def resolve(name: str) -> list[str] | None:
        if name == "broken":
            raise ConfigError("actions.d/broken.toml: key timeout: expected str")
        return ["/no/such/program"] if name == "gone" else None

    node = Node()
    node.orders = Orders(hostname="web1", resolve=resolve, out=node.out, allow_exec=True, verbose=False)
    assert node.run(b"web1 uptime", b"web1:broken\0", b"web1:gone\0", b"web1:exit 4\0") == [
        "frame 'web1 uptime' refused: expected HOST:COMMAND",
        "'broken' not run: actions.d/broken.toml: key timeout: expected str",
        "'gone' not run: cannot start /no/such/program: No such file or directory",
        "'exit 4' ended: exit status 4",
    ]


def test_a_stop_says_which_orders_were_never_started() -> None:
    node = Node(allow_exec=True)
    node.orders.take(b"ALL:first\0")
    node.orders.take(b"ALL:second\0")
    node.orders.stop()
    assert node.run() == [f"stopping: '{name}' was still waiting and is not run" for name in ("first", "second")]
