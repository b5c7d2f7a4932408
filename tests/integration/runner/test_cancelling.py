"""Taking a trigger back, as the runner does it: real processes, whatever the command makes of being asked to end."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from nanoexec.model import Cause, Outcome, Run, identifier
from nanoexec.runner.process import Process, send_signal, stat_of, this_process
from nanoexec.runner.stopping import STOP
from nanoexec.wire.runner import Cancel, Rejected, Start, Told
from tests.support.runner import GATE, Conversation, Node, a_run, make_order, until

pytestmark = pytest.mark.node
SILENT = f"trap '' TERM; {GATE}"


def wish(identity: str, by: str = "bob", action: str = "last") -> Cancel:
    return Cancel(trigger=identity, action=action, expires=time.time() + 60, issuer="alice", by=by)


def cancelled(node: Node, identity: str, by: str = "bob") -> Run:
    """What the runner tells last."""
    replies = node.ask(wish(identity, by)).rest()
    assert replies
    assert isinstance(replies[-1], Told), replies
    return replies[-1].run


def running(node: Node, **fields: object) -> tuple[Conversation, Run]:
    conversation = node.begin("last", **fields)
    run = conversation.run()
    until(lambda: node.notes, "the command itself has begun")
    return conversation, run


def is_over(pid: int | None) -> bool:
    stat = stat_of(pid or 0)
    return stat is None or stat.state == "Z"


def test_a_run_is_stopped_and_says_by_whom(node: Node) -> None:
    node.action("last", GATE)
    node.start()
    conversation, run = running(node)
    ended = cancelled(node, run.id)
    assert (ended.outcome, ended.reason, ended.status) == (Outcome.CANCELLED, "cancelled by bob", -signal.SIGTERM)
    assert (ended.canceller, ended.by) == ("bob", "alice")
    assert conversation.rest()[-1].run == ended == node.find(run.id)
    assert is_over(run.pid)


def test_what_ignores_it_is_killed_after_the_actions_grace_with_all_of_its_group(node: Node) -> None:
    node.action("last", f"(trap '' TERM; echo $$ >/dev/null; sleep 300) & {SILENT}", kill_after="0.3s")
    node.start()
    _, run = running(node)
    ended = cancelled(node, run.id)
    assert (ended.outcome, ended.status) == (Outcome.CANCELLED, -signal.SIGKILL)
    assert ended.duration is not None
    assert ended.duration >= 0.3
    until(lambda: not group_members(run.pid), "nobody of its group is left")


def group_members(group: int | None) -> list[int]:
    found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    stats = {pid: stat_of(pid) for pid in found}
    return [pid for pid, stat in stats.items() if stat and stat.group == group and stat.state != "Z"]


def test_what_a_command_leaves_behind_that_ignores_it_is_killed_too(node: Node) -> None:
    node.action("last", f"(trap '' TERM; while :; do sleep 0.05; done) & {GATE}", kill_after="0.3s")
    node.start()
    _, run = running(node)
    assert cancelled(node, run.id).status == -signal.SIGTERM
    until(lambda: not group_members(run.pid), "nobody of its group is left")


def test_a_command_that_ends_well_when_asked_was_cancelled_all_the_same(node: Node) -> None:
    node.action("last", f"trap 'exit 0' TERM; {GATE}")
    node.start()
    _, run = running(node)
    ended = cancelled(node, run.id)
    assert (ended.outcome, ended.status, ended.changed) == (Outcome.CANCELLED, 0, None)


def test_an_id_that_never_came_is_journaled_and_its_order_never_runs(node: Node) -> None:
    node.action("last", "echo ran >> $LEDGER")
    node.start()
    order_id = identifier(os.urandom(10))
    told = cancelled(node, order_id)
    assert (told.outcome, told.started, told.reason) == (Outcome.CANCELLED, None, "cancelled by bob before it started")
    assert told.by == "alice"
    late = node.carry_out("last", id=order_id)
    assert late == told
    assert node.notes == []


def test_a_run_that_waits_for_its_turn_never_starts(node: Node) -> None:
    node.action("last", GATE, on_busy="wait")
    node.start()
    _, first = running(node)
    waiting = node.begin("last").run()
    assert waiting.started is None
    told = cancelled(node, waiting.id)
    assert (told.outcome, told.started) == (Outcome.CANCELLED, None)
    until(lambda: is_over(waiting.supervisor), "its supervisor does not wait for nothing")
    node.let_go()
    assert node.ended(first.id).outcome is Outcome.SUCCEEDED
    assert node.carry_out("last").outcome is Outcome.SUCCEEDED
    assert len(node.notes) == 2, "the first and the last"


def test_a_waiting_run_whose_supervisor_is_not_sent_home_does_not_start_either(node: Node) -> None:
    node.action("last", GATE, on_busy="wait")
    node.start()
    _, first = running(node)
    waiting = node.begin("last").run()
    with node.journal() as journal:
        assert journal.call_off(waiting.id, by="bob", at=time.time())  # and then the canceller was killed
    node.let_go()
    assert node.ended(first.id).outcome is Outcome.SUCCEEDED
    until(lambda: is_over(waiting.supervisor), "it has seen that it must not start")
    assert len(node.notes) == 1
    assert node.ended(waiting.id).outcome is Outcome.CANCELLED


def test_what_has_ended_stays_as_it_was(node: Node) -> None:
    node.action("last", "exit 3")
    node.start()
    run = node.carry_out("last")
    assert cancelled(node, run.id) == run == node.find(run.id)


def test_a_second_wish_changes_nothing_and_the_first_who_asked_is_named(node: Node) -> None:
    node.action("last", SILENT, kill_after="1s")
    node.start()
    _, run = running(node)
    first = node.ask(wish(run.id, "bob"))
    until(lambda: (found := node.find(run.id)) and found.canceller == "bob", "the first is noted")
    assert cancelled(node, run.id, "eve").reason == "cancelled by bob"
    assert first.rest()[-1].run == node.find(run.id)
    assert cancelled(node, run.id, "eve").reason == "cancelled by bob"


def test_the_wish_is_on_disk_before_the_signal_and_saying_it_again_after_a_crash_stops_the_run(node: Node) -> None:
    node.action("last", GATE)
    node.start()
    _, run = running(node)
    with node.journal() as journal:
        assert journal.note_cancellation(run.id, by="bob", at=time.time())  # and then the canceller was killed
    assert not is_over(run.pid)
    assert cancelled(node, run.id, "eve").reason == "cancelled by bob"


def test_a_run_that_was_killed_with_its_supervisor_is_interrupted_and_not_claimed_to_be_cancelled(node: Node) -> None:
    node.action("last", GATE)
    node.start()
    _, run = running(node)
    os.kill(run.supervisor, signal.SIGKILL)
    until(lambda: is_over(run.supervisor), "it is gone")
    told = cancelled(node, run.id)
    assert told.outcome is Outcome.INTERRUPTED
    assert f"the command (pid {run.pid}) may still be running" in told.reason


def test_a_run_of_a_killed_runner_can_be_stopped_by_the_next_one(node: Node) -> None:
    node.action("last", GATE)
    node.start()
    _, run = running(node)
    node.kill()
    node.start()
    assert cancelled(node, run.id).outcome is Outcome.CANCELLED
    assert is_over(run.pid)


def test_the_hub_cannot_stop_what_no_trigger_caused(node: Node) -> None:
    node.action("last", GATE)
    node.start()
    local = a_run(action="last", cause=Cause.LOCAL, by="carol", started=1.0)
    with node.journal() as journal:
        journal.admit(local, this_process().ticks)
    (reply,) = node.ask(wish(local.id)).rest()
    assert reply == Rejected(
        reason=f"run {local.id} of last was not triggered: only its own node can stop it", final=True
    )
    known = node.find(local.id)
    assert known is not None
    assert (known.outcome, known.cancelled) == (None, None)


def test_a_supervisor_that_does_not_know_the_signal_is_not_killed_by_it(node: Node) -> None:
    node.action("last", GATE)
    node.start()
    old = a_run(action="last", by="carol", started=1.0)  # its supervisor, this process, has no handler
    with node.journal() as journal:
        journal.admit(old, this_process().ticks)
    (reply,) = node.ask(wish(old.id)).rest()
    assert isinstance(reply, Rejected)
    assert "was started by an older nanoexec" in reply.reason


def test_a_pid_that_is_used_again_is_not_signalled() -> None:
    me = this_process()
    heard: list[int] = []
    before = signal.signal(STOP, lambda number, _: heard.append(number))
    try:
        assert not send_signal(Process(boot=me.boot, pid=me.pid, ticks=me.ticks + 1), STOP)
        assert not send_signal(Process(boot="another", pid=me.pid, ticks=me.ticks), STOP)
        assert heard == []
        assert send_signal(me, STOP, only_if_caught=True)
        until(lambda: heard, "the signal came")
    finally:
        signal.signal(STOP, before)
    assert not send_signal(me, STOP, only_if_caught=True)


@pytest.mark.parametrize("attempt", range(10))
def test_an_order_and_its_cancellation_at_the_same_moment_leave_one_true_outcome(node: Node, attempt: int) -> None:
    node.action("last", "echo ran >> $LEDGER; sleep 30")
    node.start()
    order_id = identifier(os.urandom(10))
    start = make_order("last", id=order_id)
    outcomes: list[Run] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(cancelled(node, order_id))),
        threading.Thread(target=lambda: node.ask(Start(order=start)).rest()),
    ]
    for thread in threads if attempt % 2 else reversed(threads):
        thread.start()
    for thread in threads:
        thread.join(20)
    (told,) = outcomes
    assert told == node.find(order_id)
    assert told.outcome is Outcome.CANCELLED
    assert bool(told.pid) == (told.started is not None)
    if told.started is None:
        assert node.notes == []
