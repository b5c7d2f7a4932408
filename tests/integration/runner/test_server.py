"""The runner as the agent meets it: real processes, real sockets, a real journal."""

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nanoexec import clock
from nanoexec.model import MAX_ACTIONS, Order, Outcome
from nanoexec.runner.listening import bind
from nanoexec.runner.process import stat_of
from nanoexec.runner.stopping import STOP
from nanoexec.wire import stream
from nanoexec.wire.runner import Cancel, Changed, Changes, Describe, Described, Rejected, Start, Told
from tests.support.runner import GATE, ME, Conversation, Node, make_order, until
from tests.support.somebody import NOBODY, as_user

pytestmark = pytest.mark.node
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
ID = "0123456789abcdef"
OTHER = "fedcba9876543210"


def supervisor_of(node: Node, identity: str) -> int:
    run = until(lambda: (found := node.find(identity)) and found.pid and found, "the run has a pid")
    assert run.supervisor != node.runner.pid
    return int(run.supervisor)


def wait_for_end(pid: int) -> None:
    """Its connections are closed a moment before it is a zombie: until then it lives."""
    until(lambda: (stat := stat_of(pid)) is None or stat.state == "Z", f"{pid} is gone")


# What is told


def test_a_short_run_is_told_once_with_its_output_and_status(node: Node) -> None:
    node.action("greet", "echo hello; echo world >&2; exit 3")
    node.start()
    (told,) = node.begin("greet").rest()
    assert (told.run.outcome, told.run.status, told.run.reason) == (Outcome.FAILED, 3, "exit status 3")
    assert told.run.output.text() == "hello\nworld\n"
    assert told.run.started is not None
    assert told.run.started <= told.run.ended
    assert told.run == node.find(told.run.id)


def test_a_run_that_lasts_is_told_when_it_has_started_and_when_it_has_ended(node: Node) -> None:
    node.action("last", GATE)
    node.start()
    conversation = node.begin("last")
    first = conversation.run()
    assert first.outcome is None
    assert first.started
    assert node.notes == [str(first.pid)]
    node.let_go()
    (last,) = conversation.rest()
    assert last.run.outcome is Outcome.SUCCEEDED


def test_what_is_told_of_a_run_is_what_the_journal_holds_and_its_command_saw_itself_there(node: Node) -> None:
    look = "import sqlite3,sys,os; r=sqlite3.connect(sys.argv[1]).execute('SELECT id, outcome, started FROM runs')"
    node.action("look", sys.executable, "-c", f"{look}; print(*r.fetchone(), os.environ['NANOEXEC_TRIGGER_ID'])", "J")
    text = (node.paths.actions / "look.toml").read_text().replace('"J"', f'"{node.paths.journal}"')
    (node.paths.actions / "look.toml").write_text(text)
    node.start()
    run = node.carry_out("look")
    assert run.output.text() == f"{run.id} None {run.started} {run.id}\n"


# Never twice


def test_an_order_that_comes_again_is_told_and_not_run(node: Node) -> None:
    node.action("note", "echo ran >> $LEDGER")
    node.start()
    first = node.carry_out("note", id=ID)
    assert node.carry_out("note", id=ID) == first
    assert node.notes == ["ran"]


def test_twenty_orders_of_one_id_at_once_make_one_run_and_all_hear_of_it(node: Node) -> None:
    for on_busy in ("coalesce", "refuse"):
        node.action(on_busy, "sleep 0.2; echo ran >> $LEDGER", on_busy=on_busy)
    node.start()
    for number, on_busy in enumerate(("coalesce", "refuse")):
        order = make_order(on_busy, id=f"{number}123456789abcdef")
        conversations = [node.ask(Start(order=order)) for _ in range(20)]
        lasts = [conversation.rest()[-1] for conversation in conversations]
        assert {last.run.outcome for last in lasts} == {Outcome.SUCCEEDED}
        assert {last.run.change for last in lasts} == {lasts[0].run.change}
        assert node.notes == ["ran"] * (number + 1)


def test_a_run_whose_supervisor_is_killed_is_interrupted_and_never_runs_again(node: Node) -> None:
    node.action("last", GATE)
    node.start()
    conversation = node.begin("last", id=ID)
    pid = conversation.run().pid
    supervisor = supervisor_of(node, ID)
    os.kill(supervisor, signal.SIGKILL)
    conversation.rest()
    wait_for_end(supervisor)
    (changed,) = node.ask(Changes(journal="", after=0)).rest()
    (run,) = changed.runs
    assert run.outcome is Outcome.INTERRUPTED
    assert run.reason == f"its supervisor (pid {supervisor}) is gone; the command (pid {pid}) may still be running"
    assert node.carry_out("last", id=ID) == run
    assert node.notes == [str(pid)]
    node.let_go()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_what_the_runner_obeys_ends_a_supervisor(node: Node, number: signal.Signals) -> None:
    node.action("last", GATE, on_busy="wait")
    node.start()
    first = node.begin("last", id=ID)
    holder = first.run().supervisor
    second = node.begin("last", id=OTHER)
    # One waits for its command, one for the lock, which it would get if the other went first.
    for conversation, supervisor in ((second, second.run().supervisor), (first, holder)):
        os.kill(supervisor, number)
        conversation.rest()
        wait_for_end(supervisor)
    (changed,) = node.ask(Changes(journal="", after=0)).rest()
    assert {run.id: run.outcome for run in changed.runs} == dict.fromkeys((ID, OTHER), Outcome.INTERRUPTED)
    assert len(node.notes) == 1
    node.let_go()


def test_a_call_to_stop_a_run_that_reaches_the_runner_itself_is_nothing_to_it(node: Node) -> None:
    node.action("note", "echo ran >> $LEDGER")
    runner = node.start()
    assert node.ask(Describe()).rest(), "it serves, and so it has its handlers"
    os.kill(runner.pid, STOP)
    assert node.carry_out("note").outcome is Outcome.SUCCEEDED
    assert runner.poll() is None


def test_a_redelivery_settles_a_run_whose_supervisor_is_gone(node: Node) -> None:
    node.action("last", GATE)
    node.start()
    node.begin("last", id=ID).run()
    os.kill(supervisor_of(node, ID), signal.SIGKILL)
    assert node.carry_out("last", id=ID).outcome is Outcome.INTERRUPTED
    assert len(node.notes) == 1
    node.let_go()


def test_a_new_runner_settles_the_runs_that_died_before_it(node: Node) -> None:
    node.action("last", GATE)
    node.start()
    node.begin("last", id=ID).run()
    supervisor = supervisor_of(node, ID)
    node.kill()
    os.kill(supervisor, signal.SIGKILL)
    node.start()
    assert node.ended(ID).outcome is Outcome.INTERRUPTED
    node.logged(f"run {ID} of last was interrupted")
    node.let_go()


def test_being_asked_what_there_is_settles_the_runs_that_nobody_answers_for(node: Node) -> None:
    """An agent asks that every five minutes, also for runs of which it does not know."""
    node.action("last", GATE)
    node.start()
    node.begin("last", id=ID).run()
    supervisor = supervisor_of(node, ID)
    os.kill(supervisor, signal.SIGKILL)
    wait_for_end(supervisor)
    assert node.ask(Describe()).rest()
    assert node.ended(ID).outcome is Outcome.INTERRUPTED
    node.let_go()


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_run_outlives_its_runner_and_keeps_its_real_status(node: Node, end: str) -> None:
    node.action("last", f"{GATE}; exit 7")
    node.start()
    conversation = node.begin("last", id=ID)
    assert conversation.run().started
    getattr(node, end)()
    if end == "stop":
        assert node.runner.returncode == 0
    node.start()
    again = node.begin("last", id=ID)
    assert again.run().outcome is None
    node.let_go()
    assert conversation.rest()[-1].run.status == 7
    assert again.rest()[-1].run.status == 7
    assert (node.find(ID).outcome, len(node.notes)) == (Outcome.FAILED, 1)


def test_a_run_goes_on_when_the_agent_goes_away(node: Node) -> None:
    node.action("last", f"{GATE}; seq 100000")
    node.start()
    conversation = node.begin("last", id=ID)
    conversation.run()
    conversation.close()
    node.let_go()
    run = node.ended(ID)
    assert (run.outcome, run.output.size) == (Outcome.SUCCEEDED, 588895)


def test_a_trigger_that_expired_before_the_journals_memory_begins_is_rejected(node: Node) -> None:
    node.configure(journal_days=1)
    node.action("note", "echo ran >> $LEDGER")
    node.start()
    node.carry_out("note")
    (reply,) = node.begin("note", issued=1.0, expires=2.0).rest()
    assert isinstance(reply, Rejected)
    assert reply.final
    assert "expired more than 1 days ago" in reply.reason
    assert node.notes == ["ran"]


def test_a_node_whose_clock_is_years_ahead_runs_what_is_triggered_and_nothing_twice(node: Node) -> None:
    """Seen from this clock, the hub issues what has long expired."""
    node.configure(journal_days=1)
    node.action("note", "echo ran >> $LEDGER")
    node.start()
    issued = time.time() - 2 * 365 * 86400
    for number, identity in enumerate((ID, "0000000000000001", "0000000000000002")):
        began = issued + number * 20 * 86400
        assert node.carry_out("note", id=identity, issued=began, expires=began + 60).outcome is Outcome.SUCCEEDED
    node.stop()
    node.start()  # and it forgets what is old
    assert node.carry_out("note", id=ID, issued=issued, expires=issued + 60).outcome is Outcome.SUCCEEDED
    assert len(node.notes) == 3


# Not after its expiry


def boot_time() -> float:
    return clock.now().steady


def test_an_order_that_the_runner_comes_to_after_its_deadline_does_not_start_and_may_come_again(node: Node) -> None:
    """It lay in the socket's queue meanwhile: the runner was stopped, or is being started."""
    node.action("note", "echo ran >> $LEDGER")
    runner = node.start()
    runner.send_signal(signal.SIGSTOP)
    try:
        deadline = boot_time() + 0.3
        conversation = node.ask(Start(order=make_order("note", id=ID), deadline=deadline))
        until(lambda: boot_time() > deadline, "it has expired")
    finally:
        runner.send_signal(signal.SIGCONT)
    (reply,) = conversation.rest()
    assert reply == Rejected(reason=f"trigger {ID} expired before the runner came to it", final=False)
    with node.journal() as journal:
        assert journal.changes(0, 10) == ((), False)
    (told,) = node.ask(Start(order=make_order("note", id=ID), deadline=boot_time() + 60)).rest()
    assert (told.run.outcome, node.notes) == (Outcome.SUCCEEDED, ["ran"]), "the hub's clock was set back"


def test_what_the_journal_has_is_told_whatever_the_deadline(node: Node) -> None:
    node.action("note", "echo ran >> $LEDGER")
    node.start()
    first = node.carry_out("note", id=ID)
    (again,) = node.ask(Start(order=make_order("note", id=ID), deadline=boot_time() - 1)).rest()
    assert (again.run, node.notes) == (first, ["ran"])


def test_an_order_that_waits_for_its_turn_was_taken_in_time_and_starts_after_its_deadline(node: Node) -> None:
    node.action("last", GATE, on_busy="wait")
    node.start()
    first = node.begin("last")
    first.run()
    deadline = boot_time() + 2
    second = node.ask(Start(order=make_order("last"), deadline=deadline))
    assert second.run().started is None
    late = node.ask(Start(order=make_order("last"), deadline=boot_time() - 0.1))
    assert isinstance(late.next(), Rejected)
    until(lambda: boot_time() > deadline, "it has expired")
    node.let_go()
    assert second.rest()[-1].run.outcome is Outcome.SUCCEEDED
    first.rest()
    assert len(node.notes) == 2


def test_a_busy_journal_keeps_no_order_beyond_its_deadline(node: Node) -> None:
    node.action("note", "echo ran >> $LEDGER")
    node.start()
    node.carry_out("note")
    with node.journal() as journal:
        journal._connection.execute("BEGIN IMMEDIATE")  # somebody forgets what is old, on a slow disk
        deadline = boot_time() + 0.3
        conversation = node.ask(Start(order=make_order("note", id=ID), deadline=deadline))
        until(lambda: boot_time() > deadline + 0.3, "it has expired")
        journal._connection.execute("ROLLBACK")
    (reply,) = conversation.rest()
    assert isinstance(reply, Rejected)
    assert (reply.final, node.notes) == (False, ["ran"])


# A full disk


@pytest.fixture
def small_disk(node: Node) -> Iterator[Path]:
    """The journal lies on a disk of its own, which a command can fill."""
    place = node.paths.journal.parent
    place.mkdir(parents=True)
    mounting = ["mount", "-t", "tmpfs", "-o", "size=512k,mode=711", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mounting, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small disk cannot be mounted here")
    node.action("fill", f"head -c 1000000 /dev/zero > {place}/rest 2>/dev/null; echo $$ >> $LEDGER; exit 0")
    node.start(prelude="import nanoexec.runner.supervision as s; s._RETRIES = (0.05, 0.1)")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_run_that_ended_on_a_full_disk_is_told_as_it_ended_once_there_is_room(node: Node, small_disk: Path) -> None:
    conversation = node.begin("fill", id=ID)
    told = conversation.run()
    assert (told.outcome, bool(told.started)) == (None, True), "or it would be taken for one that never started"
    for _ in range(10):
        node.logged(f"run {ID} has ended (succeeded); saying so again in 100ms")
        node._lines.clear()
        (changed,) = node.ask(Changes(journal="", after=0)).rest()  # and recovers, if it may
        assert [run.outcome for run in changed.runs] == [None]
    (small_disk / "rest").unlink()
    (last,) = conversation.rest()
    assert (last.run.outcome, last.run.status) == (Outcome.SUCCEEDED, 0)
    assert last.run == node.find(ID)
    node.action("fill", "true")
    assert node.carry_out("fill").outcome is Outcome.SUCCEEDED, "and the action is free again"


def test_who_waits_for_room_on_a_disk_ends_when_told_to_and_nothing_is_guessed(node: Node, small_disk: Path) -> None:
    conversation = node.begin("fill", id=ID)
    supervisor = conversation.run().supervisor
    node.logged(f"run {ID} has ended (succeeded); saying so again in 100ms")
    os.kill(supervisor, signal.SIGTERM)
    assert conversation.rest() == []
    wait_for_end(supervisor)
    (small_disk / "rest").unlink()
    (changed,) = node.ask(Changes(journal="", after=0)).rest()
    (run,) = changed.runs
    assert run.outcome is Outcome.INTERRUPTED
    assert run.reason == f"its supervisor (pid {supervisor}) is gone; the command may still be running"


# The node decides


def test_an_unknown_action_is_a_journaled_refusal_and_stays_one(node: Node) -> None:
    node.action("known", "true")
    node.start()
    run = node.carry_out("unknown", id=ID)
    assert (run.outcome, run.started) == (Outcome.REFUSED, None)
    assert "unknown action 'unknown'" in run.reason
    assert "known" in run.reason.partition("knows:")[2]
    node.action("unknown", "echo ran >> $LEDGER")
    assert node.carry_out("unknown", id=ID) == run
    assert node.carry_out("unknown").outcome is Outcome.SUCCEEDED
    assert node.notes == ["ran"]


def test_what_an_action_lacks_is_named(node: Node) -> None:
    node.action("lacking", "true", requires=["/no/such/tool"])
    node.action("nobodys", "true", user="nosuchuser")
    node.action("nowhere", "true", cwd="/no/such/directory")
    node.start()
    reasons = {name: node.carry_out(name) for name in ("lacking", "nobodys", "nowhere")}
    assert {run.outcome for run in reasons.values()} == {Outcome.REFUSED}
    assert "requires /no/such/tool" in reasons["lacking"].reason
    assert "no user nosuchuser" in reasons["nobodys"].reason
    assert "/no/such/directory, which is not a directory" in reasons["nowhere"].reason


def test_arguments_are_checked_and_never_pass_a_shell(node: Node) -> None:
    declared = '[arguments.what]\npattern = ".*"\nargv = ["{}"]'
    node.action("say", "/usr/bin/printf", "%s", more=declared)
    node.start()
    assert node.carry_out("say", arguments={"what": "$(id); `id` 'x"}).output.text() == "$(id); `id` 'x"
    refused = node.carry_out("say", arguments={"who": "me"})
    assert (refused.outcome, "unknown argument 'who'" in refused.reason) == (Outcome.REFUSED, True)


def test_a_trigger_cannot_bring_a_command_for_a_named_action(node: Node) -> None:
    node.action("note", "echo ran >> $LEDGER")
    node.start()
    run = node.carry_out("note", command=("touch", str(node.ledger)))
    assert (run.outcome, node.notes) == (Outcome.REFUSED, [])
    assert "must not bring a command" in run.reason


def test_adhoc_commands_are_off_until_the_node_says_otherwise(node: Node) -> None:
    node.start()
    refused = node.carry_out("exec", command=("echo", "hi"))
    assert refused.reason == (
        "ad-hoc commands are off on this node: to allow them, set allow_exec = true in /etc/nanoexec/agent.toml, "
        "and restart the runner"
    )
    node.configure(allow_exec=True)
    node.runner.send_signal(signal.SIGHUP)
    node.logged("configuration read again")
    assert node.carry_out("exec", command=("echo", "$HOME", ";id")).output.text() == "$HOME ;id\n"
    assert node.carry_out("exec").outcome is Outcome.REFUSED


def test_adhoc_commands_do_not_wait_for_each_other(node: Node) -> None:
    node.configure(allow_exec=True)
    node.start()
    script = GATE.replace("$LEDGER", str(node.ledger))
    first = node.begin("exec", command=("sh", "-c", script))
    first.run()
    assert node.carry_out("exec", command=("echo", "meanwhile")).output.text() == "meanwhile\n"
    node.let_go()
    first.rest()


def test_a_trigger_may_shorten_the_timeout_and_not_lengthen_it(node: Node) -> None:
    node.action("short", "sleep 30", timeout="0.2s")
    node.action("long", "sleep 30")
    node.start()
    assert node.carry_out("short", timeout=20.0).reason == "timed out after 200ms"
    assert node.carry_out("long", timeout=0.2).outcome is Outcome.TIMED_OUT


# Signatures


def test_a_node_with_signers_runs_only_what_they_signed_and_journals_nothing_else(node: Node) -> None:
    from nanoexec.keys.signing import make_signing_key, public_line, sign  # noqa: PLC0415 - not every test needs it

    key, foreign = make_signing_key(), make_signing_key()
    node.configure(signers=[public_line(key)])
    node.action("note", "echo ran >> $LEDGER")
    node.start()
    order = make_order("note")
    for signature in (b"", sign(foreign, order.body), sign(key, order.body + b"x")):
        (reply,) = node.ask(Start(order=Order(body=order.body, signature=signature))).rest()
        assert isinstance(reply, Rejected)
        assert reply.final
    garbage = b"not a trigger at all"
    (reply,) = node.ask(Start(order=Order(body=garbage))).rest()
    assert "not signed" in reply.reason  # judged before it was parsed
    with node.journal() as journal:
        assert journal.changes(0, 10) == ((), False)
    (told,) = node.ask(Start(order=Order(body=order.body, signature=sign(key, order.body)))).rest()
    assert (told.run.outcome, node.notes) == (Outcome.SUCCEEDED, ["ran"])


def test_what_was_signed_for_other_nodes_does_not_run_on_this_one_whoever_hands_it_over(node: Node) -> None:
    from nanoexec.keys.signing import make_signing_key, public_line, sign  # noqa: PLC0415 - as above

    key = make_signing_key()
    node.configure(signers=[public_line(key)], name="web1")
    node.action("note", "echo $NANOEXEC_TRIGGER_ID >> $LEDGER")
    node.start()

    def hand_over(nodes: str) -> Rejected | Told:
        order = make_order("note", nodes=nodes)
        signed = Order(body=order.body, signature=sign(key, order.body))
        reply = node.ask(Start(order=signed)).rest()[-1]
        assert isinstance(reply, Rejected | Told)
        return reply

    for nodes in ("db1", "web[2-9]", "web[1", "web10"):
        reply = hand_over(nodes)
        assert isinstance(reply, Rejected), nodes
        assert reply.final, nodes
    with node.journal() as journal:
        assert journal.changes(0, 10) == ((), False)
    ran = [hand_over(nodes) for nodes in ("web1", "db1,web[1-3]", "ALL")]
    node.configure(signers=[public_line(key)], name="web9")  # it has joined anew, and nobody told the runner
    ran.append(hand_over("web9"))
    node.configure(signers=[public_line(key)])  # it has never joined, and does not say who it is
    reply = hand_over("web1")
    assert isinstance(reply, Rejected)
    assert not reply.final, "once that is mended it may run"
    assert "agent.toml: name is missing" in reply.reason
    ran.append(hand_over("ALL"))
    assert node.notes == [told.run.id for told in ran if isinstance(told, Told)]
    assert len(node.notes) == len(ran)


def test_a_signer_that_is_no_key_stops_everything_until_it_is_mended(node: Node) -> None:
    node.configure(signers=["rubbish"])
    node.action("note", "echo ran >> $LEDGER")
    node.start()
    (reply,) = node.begin("note").rest()
    assert (reply.final, "signers[0]" in reply.reason, node.notes) == (False, True, [])


# Busy


def test_refuse_names_the_run_that_is_going_on(node: Node) -> None:
    node.action("last", GATE, on_busy="refuse")
    node.start()
    first = node.begin("last")
    running = first.run()
    refused = node.carry_out("last")
    assert refused.outcome is Outcome.REFUSED
    assert refused.reason.startswith(f"busy: run {running.id} has been running for ")
    node.let_go()
    first.rest()
    assert len(node.notes) == 1


def test_wait_is_told_at_once_and_runs_afterwards(node: Node) -> None:
    node.action("last", GATE, on_busy="wait")
    node.start()
    first = node.begin("last")
    first.run()
    second = node.begin("last")
    waiting = second.run()
    assert (waiting.started, waiting.outcome, len(node.notes)) == (None, None, 1)
    node.let_go()
    ended = second.rest()[-1].run
    assert (ended.outcome, ended.shared) == (Outcome.SUCCEEDED, None)
    assert ended.started >= first.rest()[-1].run.started
    assert len(node.notes) == 2


def test_who_waits_longer_than_the_action_may_last_is_skipped(node: Node) -> None:
    node.action("last", GATE, on_busy="wait", timeout="10s")
    node.start()
    first = node.begin("last")
    running = first.run()
    skipped = node.carry_out("last", timeout=0.3)
    assert (skipped.outcome, skipped.reason) == (Outcome.SKIPPED, f"waited 300ms for run {running.id}")
    assert skipped.started is None
    node.let_go()
    first.rest()
    assert len(node.notes) == 1


def test_any_number_of_triggers_during_a_run_make_one_more_and_share_its_outcome(node: Node) -> None:
    node.action("last", f"{GATE}; exit 4")
    node.start()
    first = node.begin("last")
    first.run()
    others = [node.begin("last") for _ in range(10)]
    for other in others:
        assert other.run().started is None
    node.let_go()
    ended = [other.rest()[-1].run for other in others]
    assert len(node.notes) == 2
    (second,) = [run for run in ended if run.shared is None]
    assert second.id != first.rest()[-1].run.id
    for run in ended:
        assert (run.outcome, run.status) == (Outcome.FAILED, 4)
        if run is not second:
            assert (run.shared, run.reason, run.started) == (second.id, f"coalesced with run {second.id}", None)


def test_a_trigger_with_other_arguments_is_not_coalesced(node: Node) -> None:
    node.action("last", f'{GATE}; echo "$0"', more='[arguments.n]\ntype = "integer"\nargv = ["{}"]')
    node.start()
    first = node.begin("last", arguments={"n": "1"})
    first.run()
    others = [node.begin("last", arguments={"n": str(number)}) for number in (2, 3, 2)]
    for other in others:
        other.run()
    node.let_go()
    ended = [other.rest()[-1].run for other in others]
    assert sorted((run.shared is None, run.arguments["n"]) for run in ended) == [(False, "2"), (True, "2"), (True, "3")]


def test_those_who_wait_use_no_processor_time(node: Node) -> None:
    node.action("last", GATE, on_busy="wait")
    node.start()
    first = node.begin("last")
    first.run()
    second = node.begin("last")
    waiting = second.run()
    stat = Path(f"/proc/{waiting.supervisor}/stat")
    before = stat.read_text().rpartition(")")[2].split()[11:13]
    threading.Event().wait(0.5)
    assert stat.read_text().rpartition(")")[2].split()[11:13] == before
    node.let_go()
    first.rest()
    second.rest()


# Bad input


@pytest.mark.parametrize(
    ("request_bytes", "complaint"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "announces 1195725856 bytes"),
        ((200 << 10).to_bytes(4, "big") + b"\1", "at most 131072 are accepted"),
        (b"\0\0\0\5\7abcd", "speaks local protocol 7"),
        (b"\0\0\0\5\1abcd", "runner request of 5 bytes"),
        (stream.encode(Describe())[:-1], "breaks off after"),
        (b"\0\0", "breaks off after 2 bytes"),
        (stream.encode(Described(actions=(), faults=())), "runner request of"),
    ],
)
def test_a_malformed_request_is_one_line_and_nothing_runs(node: Node, request_bytes: bytes, complaint: str) -> None:
    node.action("note", "echo ran >> $LEDGER")
    node.start()
    conversation = node.ask(request_bytes)
    conversation.say_no_more()
    assert conversation.rest() == []
    node.logged(complaint)
    node.logged("1 malformed requests so far")
    assert node.carry_out("note").outcome is Outcome.SUCCEEDED
    assert node.notes == ["ran"]


def test_a_request_that_does_not_come_is_given_up(node: Node) -> None:
    node.start(prelude="import nanoexec.runner.service as s; s.PATIENCE = 0.1")
    assert node.ask(b"\0\0").rest() == []
    node.logged("did not arrive within 0.1 seconds")


def test_an_order_that_is_no_trigger_is_rejected_for_good_and_leaves_no_trace(node: Node) -> None:
    node.start()
    (reply,) = node.ask(Start(order=Order(body=b"rubbish"))).rest()
    assert reply == Rejected(reason="trigger of 7 bytes does not begin like a trigger of protocol 1", final=True)
    with node.journal() as journal:
        assert journal.changes(0, 10) == ((), False)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(b"rubbish" * 1000), "file is not a database"),
        (lambda path: path.parent.chmod(0o711) or path.mkdir(), "unable to open database file"),
    ],
)
def test_without_a_usable_journal_nothing_runs_and_the_order_may_come_again(
    node: Node, spoil: Callable[[Path], object], reason: str
) -> None:
    node.action("note", "echo ran >> $LEDGER")
    node.paths.journal.parent.mkdir(parents=True)
    spoil(node.paths.journal)
    node.start()
    (reply,) = node.begin("note", id=ID).rest()
    assert isinstance(reply, Rejected)
    assert (reply.final, reason in reply.reason, str(node.paths.journal) in reply.reason) == (False, True, True)
    (reply,) = node.ask(Changes(journal="", after=0)).rest()
    assert isinstance(reply, Rejected)
    assert node.notes == []
    node.paths.journal.rename(node.root / "aside")
    assert node.carry_out("note", id=ID).outcome is Outcome.SUCCEEDED


def test_without_a_lock_nothing_runs_and_nothing_is_journaled(node: Node) -> None:
    node.action("note", "echo ran >> $LEDGER")
    node.start()
    node.paths.locks.write_text("in the way")
    (reply,) = node.begin("note").rest()
    assert isinstance(reply, Rejected)
    assert (reply.final, node.notes) == (False, [])


def test_a_program_that_cannot_be_executed_is_a_failed_run(node: Node) -> None:
    broken = node.root / "broken"
    broken.write_bytes(b"\x7fELF nothing of the kind")
    broken.chmod(0o755)
    node.action("broken", str(broken), "x")
    node.start()
    run = node.carry_out("broken")
    assert (run.outcome, run.status) == (Outcome.FAILED, None)
    assert run.reason == f"cannot start {broken}: Exec format error"


# Changes, descriptions


def test_changes_come_in_batches_and_another_journals_cursor_counts_for_nothing(node: Node) -> None:
    node.action("note", "true")
    node.start()
    runs = [node.carry_out("note") for _ in range(3)]
    (first,) = node.ask(Changes(journal="", after=99, limit=2)).rest()
    assert (first.runs, first.more) == (tuple(runs[:2]), True)
    (second,) = node.ask(Changes(journal=first.journal, after=first.runs[-1].change, limit=2)).rest()
    assert second == Changed(journal=first.journal, runs=(runs[2],), more=False)


def test_the_actions_that_the_machine_can_run_are_offered_and_faults_are_told(node: Node) -> None:
    node.configure(allow_exec=True)
    node.action("usable", "true", summary="Nothing")
    node.action("lacking", "true", requires=["/no/such/tool"])
    node.action("faulty", "true", timeout="soon")
    node.start()
    (described,) = node.ask(Describe()).rest()
    offered = {offer.name: offer.summary for offer in described.actions}
    assert offered["usable"] == "Nothing"
    assert "exec" in offered
    assert not {"lacking", "faulty"} & set(offered)
    assert any("faulty.toml: timeout" in fault for fault in described.faults)


def test_more_actions_than_a_hub_takes_are_told_and_the_hub_hears_of_so_many(node: Node) -> None:
    node.configure(allow_exec=True)
    for number in range(MAX_ACTIONS):
        node.action(f"a{number}", "true")
    node.start()
    (described,) = node.ask(Describe()).rest()
    assert len(described.actions) == MAX_ACTIONS
    assert described.actions[-1].name == "exec"
    assert described.faults[-1].endswith(f" actions: the hub hears of {MAX_ACTIONS} of them")


def test_a_changed_manifest_holds_for_the_next_order(node: Node) -> None:
    node.action("say", "echo one")
    node.start()
    assert node.carry_out("say").output.text() == "one\n"
    node.action("say", "echo two!")
    assert node.carry_out("say").output.text() == "two!\n"


# The socket, and who may use it


def test_a_second_runner_is_told_that_there_is_one(node: Node) -> None:
    first = node.start()
    second = node.start()
    assert second.wait() == 1
    node.logged("a runner is already running here")
    first.terminate()
    assert first.wait() == 0


def test_the_socket_of_a_runner_that_was_killed_is_replaced(node: Node) -> None:
    node.start()
    node.kill()
    node.start()
    assert node.ask(Describe()).rest()


def test_something_else_in_the_sockets_place_is_left_alone(node: Node) -> None:
    node.paths.run.mkdir(parents=True)
    node.paths.runner_socket.write_text("precious")
    assert node.start().wait() == 1
    node.logged("not a socket is in the way")
    assert node.paths.runner_socket.read_text() == "precious"


def test_a_path_too_long_for_a_socket_is_a_clear_error(tmp_path: Path) -> None:
    deep = Node(tmp_path / ("x" * 100))
    runner = deep.start()
    assert runner.wait() == 1
    deep.logged("a socket's path has at most 107 bytes")


def test_without_any_configuration_it_serves(node: Node) -> None:
    node.paths.agent_config.unlink()
    node.action("note", "echo ran >> $LEDGER")
    node.start()
    assert node.carry_out("note").outcome is Outcome.SUCCEEDED


def test_a_configuration_that_was_named_and_is_missing_and_a_wrong_option_are_each_one_line(node: Node) -> None:
    missing = node.root / "missing.toml"
    assert node.start("--config", str(missing)).wait() == 1
    node.logged(f"{missing}: cannot read the node's configuration: it is not there")
    assert node.start("--verbose", "yes").wait() == 2
    node.logged("expected --root DIR and --config FILE, got --verbose yes")


def test_a_faulty_configuration_on_reload_leaves_the_old_one(node: Node) -> None:
    node.configure(allow_exec=True)
    node.start()
    node.paths.agent_config.write_text("hub = 1")
    node.runner.send_signal(signal.SIGHUP)
    node.logged("the configuration stays as it was")
    assert node.carry_out("exec", command=("true",)).outcome is Outcome.SUCCEEDED


def test_a_reload_that_comes_as_soon_as_the_socket_is_there_ends_nobody(node: Node) -> None:
    node.configure(allow_exec=True)
    node.start(
        prelude="import os, signal, pathlib, nanoexec.runner.__main__ as main; bind = main.bind\n"
        "def early(path, user):\n"
        "    listener = bind(path, user)\n"
        f"    pathlib.Path({str(node.paths.agent_config)!r}).write_text('hub = 1')\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    return listener\n"
        "main.bind = early"
    )
    node.logged("the configuration stays as it was")
    assert node.carry_out("exec", command=("true",)).outcome is Outcome.SUCCEEDED


@needs_root
def test_a_command_of_roots_has_roots_groups_whatever_the_runner_was_started_with(node: Node) -> None:
    node.action("groups", "sed -n s/^Groups:.//p /proc/self/status", user="root")
    node.start(prelude="import os; os.setgroups([4711])")
    groups = node.carry_out("groups").output.text().split()
    assert sorted(map(int, groups)) == sorted(os.getgrouplist("root", 0))


@needs_root
def test_a_caller_who_is_neither_root_nor_the_agent_is_turned_away(node: Node) -> None:
    node.action("note", "echo ran >> $LEDGER")
    node.start()
    node.paths.runner_socket.chmod(0o666)
    message = stream.encode(Start(order=make_order("note")))

    def is_answered() -> bool:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(node.paths.runner_socket.name)
            try:
                caller.sendall(message)
                return caller.recv(4) != b""
            except (BrokenPipeError, ConnectionResetError):  # hung up before it was read, or before it was sent
                return False

    assert not as_user(NOBODY, is_answered, cwd=node.paths.run)
    assert as_user(0, is_answered, cwd=node.paths.run)
    node.logged("uid 65534 may not use the runner: 1 callers turned away so far")
    assert node.notes == ["ran"]


def filled(node: Node) -> tuple[Conversation, Conversation]:
    """Two runs of which one waits, where there is room for two."""

    def taken() -> Conversation | None:  # those who came while it started may still be there
        conversation = node.begin("last")
        return conversation if isinstance(conversation.next(), Told) else None

    return until(taken), until(taken)


def test_one_too_many_is_told_to_come_back(node: Node) -> None:
    node.action("last", GATE, on_busy="wait")
    node.start(prelude="import nanoexec.runner.server as s; s.MAX_CHILDREN = 2")
    first, second = filled(node)
    order = Start(order=make_order("last", id=ID))
    (reply,) = node.ask(order).rest()
    assert reply == Rejected(reason="busy: 2 runs are going on", final=False)
    assert node.find(ID) is None
    node.let_go()
    first.rest()
    second.rest()
    until(lambda: isinstance(node.ask(order).rest()[-1], Told))


def test_a_full_runner_still_takes_runs_back_and_tells_what_it_has(node: Node) -> None:
    node.action("last", GATE, on_busy="wait")
    node.start(prelude="import nanoexec.runner.server as s; s.MAX_CHILDREN = 2")
    first, second = filled(node)
    (changed,) = node.ask(Changes(journal="", after=0)).rest()
    assert [run.outcome for run in changed.runs] == [None, None]
    assert isinstance(node.ask(Describe()).rest()[0], Described)
    wish = {"action": "last", "expires": time.time() + 60, "issuer": "alice", "by": "bob"}
    for run in reversed(changed.runs):
        (*_, last) = node.ask(Cancel(trigger=run.id, **wish)).rest()
        assert (last.run.id, last.run.outcome) == (run.id, Outcome.CANCELLED)
    assert first.rest()[-1].run.outcome is Outcome.CANCELLED
    second.rest()
    until(lambda: isinstance(node.begin("last").next(), Told))
    node.let_go()


def test_what_is_kept_free_for_those_has_an_end_too(node: Node) -> None:
    node.action("last", GATE, on_busy="wait")
    node.start(prelude="import nanoexec.runner.server as s; s.MAX_CHILDREN, s.RESERVE = 2, 1")
    first, second = filled(node)
    silent = node.ask(b"")
    until(lambda: node.ask(Describe()).rest() == [Rejected(reason="busy: 2 runs are going on", final=False)])
    node.logged("callers told to come back so far")
    silent.close()
    until(lambda: isinstance(node.ask(Describe()).rest()[0], Described))
    node.let_go()
    first.rest()
    second.rest()


def test_out_of_descriptors_it_rests_and_lives_on(node: Node) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))"
    hold = "import os; held = [os.dup(2) for _ in range(40)]; import signal"
    node.action("note", "echo ran >> $LEDGER")
    fill = (
        "import nanoexec.runner.server as s; accept = s.Server._accept; seen = []\n"
        "def filled(self):\n"
        "    if seen: return accept(self)\n"
        "    seen.append(1); hog = []\n"
        "    try:\n"
        "        while True: hog.append(os.dup(2))\n"
        "    except OSError: pass\n"
        "    accept(self)\n"
        "    for fd in hog: os.close(fd)\n"
        "s.Server._accept = filled"
    )
    node.start(prelude=f"{limit}; {hold}\n{fill}")
    assert node.carry_out("note").outcome is Outcome.SUCCEEDED
    node.logged("cannot accept: Too many open files: 1 respites so far")


def test_what_finds_no_descriptor_left_is_said_in_a_line_and_the_same_order_is_taken_when_it_comes_again(
    node: Node,
) -> None:
    node.action("note", "echo ran >> $LEDGER")
    runner = node.start()
    soft, hard = resource.prlimit(runner.pid, resource.RLIMIT_NOFILE)
    opened = 6  # the three standard ones, its socket, the pair that wakes it
    until(lambda: len([*Path(f"/proc/{runner.pid}/fd").iterdir()]) == opened, "it has let go of who found it there")
    orders = [f"{more:x}123456789abcdef" for more in range(1, 10)]
    for more, identity in enumerate(orders, 1):  # each gets a step further than the one before it
        resource.prlimit(runner.pid, resource.RLIMIT_NOFILE, (opened + more, hard))
        node.begin("note", id=identity).rest()
    resource.prlimit(runner.pid, resource.RLIMIT_NOFILE, (soft, hard))
    node.logged("cannot read the actions: Too many open files")
    node.logged("cannot serve: Too many open files")
    runs = [node.carry_out("note", id=identity) for identity in orders]
    failed = {run.reason for run in runs if run.outcome is not Outcome.SUCCEEDED}
    assert failed <= {"cannot start /usr/bin/sh: Too many open files"}
    assert node.notes == ["ran"] * sum(run.outcome is Outcome.SUCCEEDED for run in runs)


@pytest.mark.parametrize("left", range(4))
def test_without_descriptors_to_start_with_it_ends_with_one_line(node: Node, left: int) -> None:
    code = (
        "import resource, sys\n"
        "from nanoexec.runner.__main__ import main\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({3 + left}, 1024)); sys.exit(main(sys.argv[1:]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "--root", str(node.root)], capture_output=True, text=True, timeout=20, check=False
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "Too many open files" in line
    if left == 2:  # enough for the configuration and the socket, not for what wakes the loop
        assert line == "cannot start: Too many open files: this process may have 5 (LimitNOFILE=, ulimit -n)"


# Socket activation


def test_a_runner_started_by_systemd_serves_and_goes_when_it_is_idle(node: Node) -> None:
    node.configure(runner_idle=0.3)
    node.action("last", "sleep 0.6; echo done")
    listener = bind(node.paths.runner_socket, ME)
    adopt = (
        f"import os, sys; os.dup2({listener.fileno()}, 3); "
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); os.set_inheritable(3, True)\n"
        "from nanoexec.runner.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    for _ in range(2):  # and a new one takes over the same socket
        runner = subprocess.Popen([sys.executable, "-c", adopt, "--root", str(node.root)], pass_fds=[listener.fileno()])
        run = node.carry_out("last")
        assert run.output.text() == "done\n"
        assert runner.wait(20) == 0
    listener.close()


@pytest.mark.parametrize(
    ("count", "complaint"),
    [("2", "hands over 2 sockets"), ("1", "hands over no socket|is not a listening Unix stream")],
)
def test_what_systemd_hands_over_must_be_one_listening_socket(node: Node, count: str, complaint: str) -> None:
    code = (
        f"import os, sys; os.dup2(os.open('/dev/null', os.O_RDONLY), 3)\n"
        f"os.environ.update(LISTEN_FDS='{count}', LISTEN_PID=str(os.getpid()))\n"
        "from nanoexec.runner.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "--root", str(node.root)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert any(words in ended.stderr for words in complaint.split("|"))
    assert len(ended.stderr.splitlines()) == 1
