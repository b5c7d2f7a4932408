"""From the journal to the hub: nothing is left out, and nothing is said twice without need."""

import pytest

from nanoexec.agent.core import READ_RUNS, RECHECK
from nanoexec.agent.outbox import REPORT_SIZE
from nanoexec.model import MAX_RUNS, Cause, Cursor, DeliveryState, Outcome, Output, Run
from nanoexec.wire import network, runner
from tests.unit.agent.made import (
    HUB,
    at,
    core_of,
    hear,
    id_of,
    journal,
    offer,
    publication,
    reported,
    run,
    said,
    welcomed,
)

pytestmark = pytest.mark.node


def local(text: str, change: int) -> Run:
    return run(text, change, cause=Cause.LOCAL)


def under_way(text: str, change: int) -> Run:
    return run(text, change, ended=None, outcome=None)


def test_the_journal_is_read_from_the_cursor_on_once_the_hub_has_welcomed() -> None:
    core = core_of(cursor=Cursor(journal="j1", change=7))
    assert core.changes_wanted(at(0)) is None
    core.connected(at(0))
    assert core.changes_wanted(at(0)) is None
    welcomed(core)
    assert core.changes_wanted(at(0)) == runner.Changes(journal="j1", after=7, limit=READ_RUNS)


def test_the_journal_is_not_asked_again_before_it_has_answered_or_moved() -> None:
    core = welcomed()
    assert core.changes_wanted(at(0)) is not None
    core.journal_moved()
    assert core.changes_wanted(at(1)) is None
    core.changed(runner.Changed(journal="j1", runs=(), more=False))
    assert core.changes_wanted(at(1)) is not None
    core.changed(runner.Changed(journal="j1", runs=(), more=False))
    assert core.changes_wanted(at(2)) is None


def test_whoever_caused_a_run_it_is_reported() -> None:
    core = welcomed()
    runs = (run("t1", 1), local("r1", 2), run("r2", 3, cause=Cause.SCHEDULE))
    journal(core, *runs)
    assert reported(said(core)) == list(runs)


def test_the_cursor_moves_only_when_the_hub_has_stored_the_runs() -> None:
    core = welcomed()
    journal(core, local("r1", 1), local("r2", 2))
    assert core.outbox.cursor == Cursor(journal="j1", change=0)
    assert core.question(at(1)) is not None
    assert core.outbox.cursor == Cursor(journal="j1", change=0)
    hear(core)
    assert core.outbox.cursor == Cursor(journal="j1", change=2)


def test_the_cursor_waits_for_every_run_of_what_was_read() -> None:
    core = welcomed()
    big = Output(bytes(REPORT_SIZE), b"", REPORT_SIZE)
    journal(core, run("r1", 1, output=big), run("r2", 2, output=big))
    hear(core)
    assert core.outbox.cursor.change == 0
    hear(core)
    assert core.outbox.cursor.change == 2


def test_no_more_is_read_before_what_was_read_is_stored() -> None:
    core = welcomed()
    journal(core, local("r1", 1), more=True)
    assert core.changes_wanted(at(1)) is None
    hear(core)
    assert core.changes_wanted(at(1)) == runner.Changes(journal="j1", after=1, limit=READ_RUNS)


def test_runs_that_are_under_way_are_passed_by_and_read_again_when_they_end() -> None:
    core = welcomed()
    journal(core, under_way("t1", 1), run("r1", 2, cause=Cause.LOCAL, ended=None, outcome=None))
    assert core.outbox.cursor == Cursor(journal="j1", change=2)
    assert said(core) == [network.Ack(trigger=id_of("t1"), state=DeliveryState.RUNNING, started=HUB)]
    core.journal_moved()
    assert journal(core, local("r1", 3), run("t1", 4)).after == 2
    assert reported(said(core)) == [local("r1", 3), run("t1", 4)]


def test_another_journal_is_read_from_its_beginning() -> None:
    core = welcomed(core_of(cursor=Cursor(journal="old", change=700)))
    asked = journal(core, local("r1", 3), name="new")
    assert (asked.journal, asked.after) == ("old", 700)
    assert core.outbox.cursor == Cursor(journal="new", change=0)
    said(core)
    assert core.outbox.cursor == Cursor(journal="new", change=3)


def test_an_empty_journal_moves_nothing_but_its_name() -> None:
    core = welcomed(core_of(cursor=Cursor(journal="j1", change=7)))
    journal(core)
    assert core.outbox.cursor == Cursor(journal="j1", change=7)
    core.journal_moved()
    journal(core, name="j2")
    assert core.outbox.cursor == Cursor(journal="j2", change=0)


def test_a_run_that_was_told_is_not_said_again_when_the_journal_has_it_too() -> None:
    core = welcomed()
    core.told(run("t1", 3))
    assert reported(said(core)) == [run("t1", 3)]
    journal(core, run("t1", 3), local("r1", 4))
    assert reported(said(core)) == [local("r1", 4)]
    assert core.outbox.cursor.change == 4


def test_a_run_that_is_told_and_read_before_it_was_said_is_said_once() -> None:
    core = welcomed()
    core.told(run("t1", 3))
    journal(core, run("t1", 3))
    assert reported(said(core)) == [run("t1", 3)]
    assert core.outbox.cursor.change == 3


def test_a_run_whose_record_changed_is_said_again() -> None:
    core = welcomed()
    core.told(run("t1", 3))
    said(core)
    again = run("t1", 5, outcome=Outcome.INTERRUPTED)
    journal(core, again)
    assert reported(said(core)) == [again]
    assert core.outbox.cursor.change == 5


def test_a_run_that_changed_while_it_was_said_is_said_again_and_the_cursor_waits() -> None:
    core = welcomed()
    core.told(run("t1", 3))
    question = core.question(at(1))
    assert question == network.Report(runs=(run("t1", 3),))
    again = run("t1", 5, outcome=Outcome.INTERRUPTED)
    journal(core, again)
    core.answered(question, network.encode(network.Received(time=HUB)), at(1))
    assert core.outbox.cursor.change == 0
    assert reported(said(core)) == [again]
    assert core.outbox.cursor.change == 5


def test_older_news_of_a_run_does_not_replace_newer_news() -> None:
    core = welcomed()
    newer = run("t1", 5, outcome=Outcome.INTERRUPTED)
    journal(core, newer)
    core.told(run("t1", 3))
    assert reported(said(core)) == [newer]
    assert core.outbox.cursor.change == 5


def test_what_the_hub_offers_again_is_said_again() -> None:
    """It would not offer what it has a report of: it has lost it, or was restored from a backup."""
    core = welcomed()
    core.told(run("t1", 3))
    said(core)
    core.told(run("t1", 3))
    assert said(core) == []
    core.heard(publication(offer("t1"), sequence=0, topic=network.topic_of("web1")), at(1))
    core.told(run("t1", 3))
    assert reported(said(core)) == [run("t1", 3)]


def test_a_denied_report_is_split_until_only_the_run_at_fault_is_denied() -> None:
    core = welcomed()
    runs = [local(f"r{number}", number) for number in range(1, 5)]
    journal(core, *runs)
    denied = network.Denied(reason="run r2 is at fault", time=HUB)
    assert hear(core, answer=denied) == network.Report(runs=tuple(runs))
    assert core.outbox.cursor.change == 0
    for one in runs:
        answer = denied if one.change == 2 else None
        assert hear(core, answer=answer) == network.Report(runs=(one,))
    assert said(core) == []
    assert core.outbox.cursor.change == 4
    core.told(run("t1", 6))
    core.told(run("t2", 7))
    assert said(core) == [network.Report(runs=(run("t1", 6), run("t2", 7)))]


def test_a_report_is_as_large_as_the_hub_accepts_and_no_larger() -> None:
    core = welcomed()
    for number in range(8):
        core.told(run(f"t{number}", number + 1, output=Output(bytes(100 << 10), b"", 100 << 10)))
    for question in (questions := said(core)):
        assert isinstance(question, network.Report)
        network.encode(question)
        assert sum(len(one.output.head) for one in question.runs) <= REPORT_SIZE
    assert [one.change for one in reported(questions)] == list(range(1, 9))
    assert len(questions) == 4


def test_a_report_of_runs_that_printed_nothing_but_had_much_to_do_fits_as_well() -> None:
    core = welcomed()
    wordy = [run(f"t{number:02}", number + 1, command=("sh", "-c", "x" * 30_000)) for number in range(60)]
    journal(core, *wordy)
    for question in (questions := said(core)):
        assert len(network.encode(question)) <= network.MAX_FRAME
    assert reported(questions) == wordy
    assert len(questions) > 1


def test_a_report_has_no_more_runs_than_the_hub_accepts() -> None:
    core = welcomed()
    journal(core, *(run(f"t{number:03}", number + 1) for number in range(MAX_RUNS + 1)))
    sizes = [len(question.runs) for question in said(core) if isinstance(question, network.Report)]
    assert sum(sizes) == MAX_RUNS + 1
    assert max(sizes) <= MAX_RUNS


def test_a_run_larger_than_a_report_goes_alone() -> None:
    core = welcomed()
    core.told(run("t1", 1, output=Output(bytes(REPORT_SIZE), bytes(REPORT_SIZE), 1 << 20)))
    core.told(run("t2", 2))
    assert [len(question.runs) for question in said(core) if isinstance(question, network.Report)] == [1, 1]


def test_what_was_not_said_before_the_link_was_lost_is_read_again() -> None:
    core = welcomed()
    core.told(run("t1", 1))
    journal(core, run("t1", 1), local("r1", 2))
    core.disconnected()
    welcomed(core, 5.0)
    assert core.question(at(5)) is None
    assert journal(core, run("t1", 1), local("r1", 2), seconds=5.0).after == 0
    assert reported(said(core, 5.0)) == [run("t1", 1), local("r1", 2)]
    assert core.outbox.cursor.change == 2


def test_what_the_hub_has_stored_is_not_said_again_on_a_new_link() -> None:
    core = welcomed()
    core.told(run("t1", 1))
    said(core)
    core.disconnected()
    welcomed(core, 5.0)
    journal(core, run("t1", 1), seconds=5.0)
    assert said(core, 5.0) == []
    assert core.outbox.cursor.change == 1


def test_an_answer_of_the_runner_that_comes_after_the_link_was_lost_is_dropped() -> None:
    core = welcomed()
    assert core.changes_wanted(at(0)) is not None
    core.disconnected()
    core.changed(runner.Changed(journal="j1", runs=(local("r1", 1),), more=False))
    welcomed(core, 5.0)
    assert core.question(at(5)) is None
    assert journal(core, local("r1", 1), seconds=5.0).after == 0


def test_a_journal_that_could_not_be_read_is_tried_again_after_a_while() -> None:
    core = welcomed()
    assert core.changes_wanted(at(0)) is not None
    core.changes_failed("the runner cannot be reached", at(1))
    assert [note.count for note in core.notes] == ["journal_unread"]
    assert core.changes_wanted(at(RECHECK)) is None
    assert core.changes_wanted(at(1 + RECHECK)) is not None


def test_the_journal_is_looked_at_now_and_then_while_a_run_is_known_to_be_under_way() -> None:
    """Its end may never be told: the connection to the runner does not outlive an agent's restart."""
    core = welcomed()
    journal(core, seconds=0.0)
    assert core.changes_wanted(at(RECHECK)) is None
    core.told(under_way("t1", 1))
    assert core.changes_wanted(at(RECHECK)) is not None
    core.changed(runner.Changed(journal="j1", runs=(run("t1", 2),), more=False))
    assert reported(said(core)) == [run("t1", 2)]
    assert core.changes_wanted(at(10 * RECHECK)) is None


@pytest.mark.parametrize("cause", Cause)
def test_the_journal_is_looked_at_while_any_run_in_it_is_under_way(cause: Cause) -> None:
    """Whoever answers for it may be killed: then the journal does not move by itself."""
    core = welcomed()
    journal(core, run("r1", 1, cause=cause, ended=None, outcome=None), seconds=0.0)
    assert core.changes_wanted(at(RECHECK)) is not None
    core.changed(runner.Changed(journal="j1", runs=(run("r1", 2, cause=cause),), more=False))
    said(core)
    assert core.changes_wanted(at(10 * RECHECK)) is None


def test_a_restarted_agent_goes_on_where_the_hub_had_stored() -> None:
    core = welcomed()
    journal(core, local("r1", 1), local("r2", 2))
    said(core)
    again = welcomed(core_of(cursor=core.outbox.cursor))
    assert again.changes_wanted(at(0)) == runner.Changes(journal="j1", after=2, limit=READ_RUNS)


def test_a_report_that_no_frame_can_hold_is_given_up_and_does_not_hold_up_the_next() -> None:
    core = welcomed()
    monster = local("r1", 1)
    journal(core, monster, local("r2", 2))
    both = core.question(at(0))
    assert isinstance(both, network.Report)
    core.unsayable(both, "too large", at(0))
    first = core.question(at(0))
    assert first == network.Report(runs=(monster,)), "said one by one, to find the run at fault"
    core.unsayable(first, "too large", at(0))
    assert reported(said(core)) == [local("r2", 2)]
    assert [note.count for note in core.notes] == ["messages_denied", "messages_denied"]
