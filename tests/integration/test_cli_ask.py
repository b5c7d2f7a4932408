"""Asking the hub over its socket: what goes wrong there becomes one error that says what to do."""

import grp
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoexec.cli.ask import HubConnection, HubSaidNoError, ask, patience
from nanoexec.config import Paths
from nanoexec.errors import ExitCode, ProtocolError, RefusedError, UnavailableError
from nanoexec.wire import control, stream
from tests.support.command_line import ENVIRONMENT, command
from tests.support.fake_hub import answering, fake_hub
from tests.support.somebody import acting_as_nobody

pytestmark = pytest.mark.node

QUESTION = control.ListNodes()
LIST = control.NodeList(nodes=())


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A directory that every user may search."""
    directory = Path(tempfile.mkdtemp(prefix="nx"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def test_an_answer_comes_back_as_the_value_that_was_sent(tmp_path: Path) -> None:
    with fake_hub(tmp_path, answering(LIST)) as paths:
        assert ask(paths, QUESTION) == LIST


def test_without_a_hub_the_error_names_the_socket_and_the_command_that_starts_one(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"no hub answers at .*control\.sock .*`nanoexec hub serve`"):
        ask(Paths(root=tmp_path), QUESTION)


def test_a_socket_that_a_dead_hub_left_behind_is_no_hub(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path)
    paths.control_socket.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(paths.control_socket))
    with pytest.raises(UnavailableError, match="no hub answers"):
        ask(paths, QUESTION)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_who_may_not_ask_is_told_who_may(open_root: Path) -> None:
    with fake_hub(open_root, answering(LIST)) as paths:
        paths.control_socket.chmod(0o600)
        os.chown(paths.control_socket, -1, grp.getgrnam("daemon").gr_gid)
        said = r"^you may not use the hub's control socket: root and the group daemon may$"
        with acting_as_nobody(), pytest.raises(RefusedError, match=said):
            ask(paths, QUESTION)
        paths.control_socket.parent.chmod(0o700)
        with (
            acting_as_nobody(),
            pytest.raises(RefusedError, match=r"root and the group that hub\.toml names as oper"),
        ):
            ask(paths, QUESTION)
        paths.control_socket.parent.chmod(0o755)
        os.chown(paths.control_socket, -1, 0)
        with acting_as_nobody(), pytest.raises(RefusedError, match=r"root and nobody else, unless hub\.toml names"):
            ask(paths, QUESTION)
        paths.control_socket.chmod(0o666)
        with acting_as_nobody():
            assert ask(paths, QUESTION) == LIST


@pytest.mark.parametrize("sent", [0, 2, stream.HEADER, stream.HEADER + 3])
def test_a_hub_that_hangs_up_within_a_reply_has_gone_away(tmp_path: Path, sent: int) -> None:
    def script(connection: socket.socket, _request: control.Request) -> None:
        connection.sendall(stream.encode(LIST)[:sent])

    with fake_hub(tmp_path, script) as paths, pytest.raises(UnavailableError, match="the hub hung up"):
        ask(paths, QUESTION)


@pytest.mark.parametrize(
    ("garbage", "said"),
    [
        (b"\xff\xff\xff\xff", "announces 4294967295 bytes"),
        (b"\0\0\0\x01\x01", "announces 1 bytes"),
        (b"\0\0\0\x03\x01zz", "control reply of 3 bytes"),
        (b"\0\0\0\x03\x09zz", "local protocol 9"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "announces"),
    ],
)
def test_a_reply_that_makes_no_sense_is_a_protocol_error(tmp_path: Path, garbage: bytes, said: str) -> None:
    def script(connection: socket.socket, _request: control.Request) -> None:
        connection.sendall(garbage)
        connection.recv(1)

    with fake_hub(tmp_path, script) as paths, pytest.raises(ProtocolError, match=said):
        ask(paths, QUESTION)


@pytest.mark.parametrize(("given", "code"), [(5, ExitCode.NO_TARGET), (6, ExitCode.REFUSED), (99, ExitCode.UNABLE)])
def test_the_hubs_no_carries_its_words_and_its_exit_code(tmp_path: Path, given: int, code: ExitCode) -> None:
    failed = control.Failed(reason="no node matches", exit_code=given)
    with fake_hub(tmp_path, answering(failed)) as paths, pytest.raises(HubSaidNoError, match="no node matches") as no:
        ask(paths, QUESTION)
    assert no.value.exit_code is code


def test_waiting_a_limited_time_gives_none_and_loses_no_reply(tmp_path: Path) -> None:
    def script(connection: socket.socket, _request: control.Request) -> None:
        data = stream.encode(LIST)
        connection.sendall(data[:2])
        connection.recv(1)  # the other side writes when it has waited in vain for the rest
        connection.sendall(data[2:])
        connection.recv(1)

    def silent(connection: socket.socket, _request: control.Request) -> None:
        connection.recv(1)

    with fake_hub(tmp_path / "a", silent) as paths, HubConnection(paths) as hub:
        hub.send(QUESTION)
        began = time.monotonic()
        assert hub.receive(within=0.05) is None
        assert time.monotonic() - began < 5
    with fake_hub(tmp_path / "b", script) as paths, HubConnection(paths) as hub:
        hub.send(QUESTION)
        os.write(hub.fileno(), b"!")
        assert hub.receive(within=10) == LIST


# A hub that is stuck or stopped

STUCK = r"^no answer from the hub within 0\.2 s: it is stuck or stopped: `nanoexec doctor` looks$"


@pytest.mark.parametrize("sent", [0, 2, stream.HEADER, stream.HEADER + 1])
def test_a_question_to_a_hub_that_stops_at_any_moment_ends_and_says_so(tmp_path: Path, sent: int) -> None:
    def script(connection: socket.socket, _request: control.Request) -> None:
        connection.sendall(stream.encode(LIST)[:sent])
        connection.recv(1)

    with fake_hub(tmp_path, script) as paths, pytest.raises(UnavailableError, match=STUCK):
        ask(paths, QUESTION, within=0.2)


@pytest.mark.parametrize("asked", [QUESTION, control.Prepare(control.Wanted("ALL", "a", 1.0, {"a": "x" * 1_000_000}))])
def test_a_hub_that_takes_no_connection_any_more_is_not_waited_for_either(
    tmp_path: Path, asked: control.Question
) -> None:
    paths = Paths(root=tmp_path)
    paths.control_socket.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(paths.control_socket))
        stopped.listen(0)
        for _ in range(2):  # the first finds room, and is not read; the second does not
            with pytest.raises(UnavailableError, match=STUCK):
                ask(paths, asked, within=0.2)


def test_a_hub_that_has_no_room_for_a_moment_is_asked_when_it_has(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path)
    paths.control_socket.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as before:
        busy.bind(str(paths.control_socket))
        busy.listen(0)
        before.connect(str(paths.control_socket))

        def serve() -> None:
            time.sleep(0.2)
            busy.accept()[0].close()
            connection, _ = busy.accept()
            with connection:
                answering(LIST)(connection, QUESTION)

        thread = threading.Thread(target=serve)
        thread.start()
        assert ask(paths, QUESTION, within=20) == LIST
        thread.join()


@pytest.mark.parametrize("question", typing.get_args(control.Question))
def test_every_single_question_has_an_end(question: type[control.Question]) -> None:
    assert 5 < patience(question) <= 30


def test_a_stuck_hub_is_one_line_for_whoever_asks_one_question(tmp_path: Path) -> None:
    def silent(connection: socket.socket, _request: control.Request) -> None:
        connection.recv(1)

    asked = [("hub", "status"), ("nodes", "list"), ("status",)]
    with fake_hub(tmp_path, silent) as paths:
        paths.hub_config.parent.mkdir(parents=True)
        paths.hub_config.touch()
        running = [
            subprocess.Popen(
                command(tmp_path, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
            )
            for words in asked
        ]
        try:
            done = [(*process.communicate(timeout=50), process.returncode) for process in running]
        finally:
            for process in running:
                process.kill()
    said = "no answer from the hub within 10 s: it is stuck or stopped: `nanoexec doctor` looks\n"
    assert done[:2] == [("", f"nanoexec: {said}", ExitCode.UNABLE)] * 2
    assert done[2] == (f"hub: {said}", "", ExitCode.OK), "it says what it knows, without a hub, too"
