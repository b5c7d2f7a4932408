"""Exit codes and streams of the command line, as a shell sees them."""

import json
import os
import signal
import socket
import subprocess
import sysconfig
import threading
import time
from pathlib import Path

import pytest

from nanoexec.errors import ExitCode
from nanoexec.model import Cause, Delivery, DeliveryState, Outcome
from nanoexec.record import HistoryEntry, TriggerDetail
from nanoexec.wire import control, stream
from tests.support.command_line import ENVIRONMENT, command, nanoexec_command
from tests.support.fake_hub import ID, answering, fake_hub, make_delivery, make_trigger
from tests.support.fleet import assert_one_line

pytestmark = pytest.mark.node

S = DeliveryState


def accepted(*nodes: str, away: tuple[str, ...] = (), unknown: tuple[str, ...] = ()) -> control.Accepted:
    return control.Accepted(trigger=make_trigger(), nodes=(*nodes, *away), away=away, unknown=unknown)


@pytest.mark.parametrize(
    "words",
    [
        ("no-such-command",),
        ("trigger",),
        ("trigger", "ALL:uptime", "--no-such-option"),
        ("trigger", "uptime"),
        ("trigger", "ALL:uptime", "-a", "noop"),
        ("trigger", "ALL:uptime", "--expires", "soon"),
        ("trigger", "ALL:Not An Action"),
        ("exec", "ALL", "--timeout", "5s", "--", "id"),
        ("exec", "ALL", "--sign", "/root/signing.key", "--", "id"),
        ("history", "--limit", "0"),
        ("actions", "show", "no-such-action"),
        ("send", "ALL:uptime", "--listen", "udp://nowhere"),
        ("send", "no-colon", "--listen", "tcp://127.0.0.1:4444"),
        ("listen", "tcp://127.0.0.1"),
    ],
)
def test_a_command_line_that_cannot_be_meant_exits_with_2_and_says_why(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = nanoexec_command(tmp_path, *words) if words[0] != "send" else _without_root(*words)
    assert done.returncode == ExitCode.USAGE
    assert done.stdout == ""
    assert done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trigger", "ALL:uptime", "-a", "name=\udcff"), r"'\udcff' is not UTF-8"),
        (("exec", "ALL", "--", "echo", "caf\udce9"), r"'caf\udce9' is not UTF-8"),
        (("show", "\udcff"), "is not UTF-8"),
        (("cancel", "3f9k", "--nodes", "\udcff"), "is not UTF-8"),
        (("history", "--node", "a b"), "node"),
        (("history", "--action", "A B"), "action"),
        (("overdue", "A B"), "action"),
        (("nodes", "revoke", "a b"), "node"),
        (("hub", "token", "--node", "a b"), "node"),
        (("hub", "token", "--ttl", "31d"), "at most 30 days"),
    ],
)
def test_what_no_hub_would_read_is_not_asked_and_exits_with_2(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    def script(connection: socket.socket, _request: control.Request) -> None:
        connection.sendall(stream.encode(control.Done(note="it was asked")))

    with fake_hub(tmp_path, script):
        done = nanoexec_command(tmp_path, *words)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_a_cancellation_on_some_nodes_is_not_judged_by_the_others(tmp_path: Path) -> None:
    meant, other = make_delivery("web1", S.RUNNING), make_delivery("web2", S.FINISHED, Outcome.SUCCEEDED)
    news = (make_delivery("web3", S.RUNNING), other, make_delivery("web1", S.FINISHED, Outcome.CANCELLED))
    detail = TriggerDetail(trigger=make_trigger(), target="ALL", deliveries=news)

    def script(connection: socket.socket, request: control.Request) -> None:
        if isinstance(request, control.Show):
            answering(control.Shown(trigger=detail))(connection, request)
        else:
            told = control.Cancelling(trigger=make_trigger(), deliveries=(meant,))
            answering(told, *(control.Progress(deliveries=(each,)) for each in news))(connection, request)

    with fake_hub(tmp_path, script):
        done = nanoexec_command(tmp_path, "cancel", ID, "--nodes", "web1", "-o", "jsonl")
    assert [json.loads(line)["node"] for line in done.stdout.splitlines()] == ["web1"]
    assert done.returncode == ExitCode.OK


@pytest.mark.parametrize(
    ("before", "away", "after", "said", "code"),
    [
        (make_delivery("web1", S.EXPIRED), (), make_delivery("web1", S.FINISHED, Outcome.CANCELLED), "cancelled", 0),
        (make_delivery("web1", S.EXPIRED), ("web1",), None, "expired, and away: it hears of it when it returns", 4),
        (make_delivery("web1", S.SENT), ("web1",), None, "sent, and away: it hears of it when it returns", 4),
        (make_delivery("web1", S.CANCELLED), ("web1",), None, "cancelled", 0),
        (make_delivery("web1", S.LOST), ("web1",), None, "lost, and away: it hears of it when it returns", 4),
    ],
)
def test_a_cancellation_is_judged_by_what_the_node_says_and_not_by_what_the_hub_has_concluded(
    tmp_path: Path, *, before: Delivery, away: tuple[str, ...], after: Delivery | None, said: str, code: int
) -> None:
    now = [before]  # the delivery as the hub has it

    def script(connection: socket.socket, request: control.Request) -> None:
        if isinstance(request, control.Show):
            detail = TriggerDetail(trigger=make_trigger(), target="ALL", deliveries=tuple(now))
            answering(control.Shown(trigger=detail))(connection, request)
            return
        told = control.Cancelling(trigger=make_trigger(), deliveries=(before,), away=away)
        connection.sendall(stream.encode(told))
        if after is not None:
            time.sleep(0.5)  # whoever does not wait for the node has left by then
            now[:] = [after]
            connection.sendall(stream.encode(control.Progress(deliveries=(after,))))
        connection.recv(1)

    with fake_hub(tmp_path, script):
        done = nanoexec_command(tmp_path, "cancel", ID)
    assert done.returncode == code
    assert done.stdout.startswith(f"web1  {said}")


def test_what_had_been_refused_has_not_ended(tmp_path: Path) -> None:
    refused, ended = make_delivery("web1", S.REFUSED), make_delivery("web2", S.FINISHED, Outcome.SUCCEEDED)
    detail = TriggerDetail(trigger=make_trigger(), target="ALL", deliveries=(refused, ended))

    def script(connection: socket.socket, request: control.Request) -> None:
        told = control.Cancelling(trigger=make_trigger(), deliveries=(refused, ended), over=("web1", "web2"))
        shown = isinstance(request, control.Show)
        answering(control.Shown(trigger=detail) if shown else told)(connection, request)

    with fake_hub(tmp_path, script):
        done = nanoexec_command(tmp_path, "cancel", ID)
    assert done.stdout == "web2  had ended before\nweb1  had refused it, and never starts it\n"
    assert done.returncode == ExitCode.RUN_FAILED


def _without_root(*words: str) -> "subprocess.CompletedProcess[str]":
    whole = [word for word in command(Path("/"), *words) if word not in ("--root", "/")]
    return subprocess.run(whole, capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT)


def test_without_a_hub_there_is_one_line_and_exit_status_1(tmp_path: Path) -> None:
    done = nanoexec_command(tmp_path, "history")
    assert (done.returncode, done.stdout) == (ExitCode.UNABLE, "")
    assert done.stderr.startswith("nanoexec: no hub answers at ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("code", [ExitCode.UNABLE, ExitCode.USAGE, ExitCode.NO_TARGET, ExitCode.REFUSED])
def test_the_hubs_no_is_one_printable_line_with_its_exit_code(tmp_path: Path, code: ExitCode) -> None:
    with fake_hub(tmp_path, answering(control.Failed(reason="not\x1b[2J\ntoday", exit_code=code))):
        done = nanoexec_command(tmp_path, "trigger", "ALL:uptime")
    assert done.returncode == code
    assert done.stderr.rstrip("\n").isprintable()
    assert "today" in done.stderr


@pytest.mark.parametrize(
    ("outcome", "state", "code"),
    [
        (Outcome.SUCCEEDED, S.FINISHED, ExitCode.OK),
        (Outcome.FAILED, S.FINISHED, ExitCode.RUN_FAILED),
        (None, S.REFUSED, ExitCode.REFUSED),
        (None, S.LOST, ExitCode.NO_ANSWER),
    ],
)
def test_a_trigger_exits_with_what_became_of_it(
    tmp_path: Path, outcome: Outcome | None, state: DeliveryState, code: ExitCode
) -> None:
    delivery = make_delivery("web1", state, outcome, text="up\n")
    with fake_hub(tmp_path, answering(accepted("web1"), control.Progress(deliveries=(delivery,)))):
        done = nanoexec_command(tmp_path, "trigger", "ALL:uptime", "-o", "json")
    assert done.returncode == code
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert (document["exit_code"], [d["state"] for d in document["deliveries"]]) == (code, [state])


def test_results_go_to_standard_output_and_the_summary_to_standard_error(tmp_path: Path) -> None:
    delivery = make_delivery("web1", outcome=Outcome.SUCCEEDED, text="up\n")
    hub = answering(accepted("web1", away=("web2",)), control.Progress(deliveries=(delivery,)))
    with fake_hub(tmp_path, hub):
        done = nanoexec_command(tmp_path, "trigger", "ALL:uptime")
    assert done.returncode == ExitCode.NO_ANSWER
    assert done.stdout.splitlines()[:2] == ["web1  succeeded", "    up"]
    assert done.stdout.splitlines()[2].startswith("web2  queued until ")
    assert "1 succeeded, 1 queued until " in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_a_hub_that_dies_while_we_wait_is_said_and_is_no_success(tmp_path: Path) -> None:
    def script(connection: socket.socket, _request: control.Request) -> None:
        connection.sendall(stream.encode(accepted("web1")))

    with fake_hub(tmp_path, script):
        done = nanoexec_command(tmp_path, "trigger", "ALL:uptime")
    assert done.returncode == ExitCode.UNABLE
    assert "the hub hung up" in done.stderr
    assert f"`nanoexec show {ID}` tells what becomes of it" in done.stderr


def interrupted(root: Path, replies: tuple[control.Reply, ...], *words: str) -> tuple[int, str]:
    """Exit status and standard error of a command that gets Ctrl-C once the hub has its request and it has the replies:
    the last of these makes it print a line.
    """
    asked = threading.Event()

    def script(connection: socket.socket, _request: control.Request) -> None:
        for one in replies:
            connection.sendall(stream.encode(one))
        asked.set()
        connection.recv(1)

    with fake_hub(root, script):
        pipe = subprocess.PIPE
        process = subprocess.Popen(command(root, *words), stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT)
        try:
            assert asked.wait(30)
            if replies:
                assert process.stdout
                assert process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
    return process.returncode, said


def test_ctrl_c_stops_waiting_and_says_what_goes_on_and_how_to_look_again(tmp_path: Path) -> None:
    ended, running = make_delivery("web0", outcome=Outcome.SUCCEEDED), make_delivery("web1", S.RUNNING)
    replies = (accepted("web0", "web1", away=("web2",)), control.Progress(deliveries=(ended, running)))
    code, said = interrupted(tmp_path, replies, "trigger", "ALL:uptime", "-o", "jsonl")
    assert code == ExitCode.INTERRUPTED
    assert said.splitlines()[:2] == ["still running on web1", "queued for web2"]
    assert f"`nanoexec show {ID}`" in said


def test_ctrl_c_before_the_hub_answers_does_not_claim_to_know_whether_it_was_accepted(tmp_path: Path) -> None:
    code, said = interrupted(tmp_path, (), "trigger", "ALL:uptime")
    assert code == ExitCode.INTERRUPTED
    assert "`nanoexec history` says whether it accepted the trigger" in said


def test_ctrl_c_while_the_hub_thinks_ends_without_a_traceback(tmp_path: Path) -> None:
    code, said = interrupted(tmp_path, (), "history")
    assert code == ExitCode.INTERRUPTED
    assert "Traceback" not in said


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(tmp_path: Path) -> None:
    entry = HistoryEntry(id=ID, node="web1", action="uptime", cause=Cause.TRIGGER, by="root", at=1.0)
    reader, writer = os.pipe()
    os.close(reader)
    with fake_hub(tmp_path, answering(control.History(entries=(entry,) * 5000))):
        done = subprocess.run(
            command(tmp_path, "history"),
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
            env=ENVIRONMENT,
        )
    os.close(writer)
    assert (done.returncode, done.stderr) == (ExitCode.UNABLE, b"")


def test_a_disk_that_is_full_is_one_line_and_no_success(tmp_path: Path) -> None:
    entry = HistoryEntry(id=ID, node="web1", action="uptime", cause=Cause.TRIGGER, by="root", at=1.0)
    said = "nanoexec: the output cannot be written: No space left on device\n"
    with fake_hub(tmp_path, answering(control.History(entries=(entry,)))), Path("/dev/full").open("wb") as full:
        for words in (("history",), ("history", "-o", "json")):
            done = subprocess.run(
                command(tmp_path, *words),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
                check=False,
                env=ENVIRONMENT,
            )
            assert (done.returncode, done.stderr) == (ExitCode.UNABLE, said)


@pytest.mark.parametrize(
    "words", [("hub", "serve"), ("hub", "backup", "hub.tar"), ("hub", "restore", "hub.tar"), ("demo",)]
)
def test_where_only_a_node_is_installed_the_hubs_commands_say_what_to_install(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for one in Path(sysconfig.get_path("purelib")).iterdir():
        if not one.name.lower().startswith(("sqlalchemy", "alembic")):
            (libraries / one.name).symlink_to(one)
    whole = command(tmp_path, *words)
    if words[0] == "demo":
        whole = [word for word in whole if word not in ("--root", str(tmp_path))]
    done = subprocess.run(
        [whole[0], "-S", *whole[1:]],  # no libraries but those
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**ENVIRONMENT, "PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{libraries}"},
    )
    assert_one_line(done, ExitCode.UNABLE, "the hub's part of nanoexec is not installed here", "nanoexec-hub")


def test_a_terminal_gets_a_bar_and_colours_unless_its_owner_wants_none(tmp_path: Path) -> None:
    delivery = make_delivery("web1", outcome=Outcome.FAILED, text="no\n")
    hub = answering(accepted("web1"), control.Progress(deliveries=(delivery,)))
    with fake_hub(tmp_path, hub):
        assert b"\x1b[31mfailed" in on_a_terminal(tmp_path)
        assert b"\x1b[31m" not in on_a_terminal(tmp_path, NO_COLOR="1")


def on_a_terminal(root: Path, **environment: str) -> bytes:
    """What a terminal gets of a trigger."""
    keeper, end = os.openpty()
    process = subprocess.Popen(
        command(root, "trigger", "ALL:uptime"),
        stdin=end,
        stdout=end,
        stderr=end,
        env={**{k: v for k, v in ENVIRONMENT.items() if k != "NO_COLOR"}, "TERM": "xterm", **environment},
    )
    os.close(end)
    seen = b""
    try:
        while True:
            try:
                seen += os.read(keeper, 4096)
            except OSError:  # EIO: nobody has the terminal any more
                break
        assert process.wait(30) == ExitCode.RUN_FAILED
    finally:
        process.kill()
        process.wait()
        os.close(keeper)
    return seen
