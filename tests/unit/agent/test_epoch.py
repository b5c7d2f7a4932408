"""A hub of another epoch may have lost what an earlier one had stored: the agent goes back to what it says it has."""

from nanoexec.model import Cause, Cursor, Run
from nanoexec.wire import network, runner
from tests.unit.agent.made import (
    EPOCH,
    at,
    core_of,
    greet,
    journal,
    reported,
    run,
    said,
    welcomed,
)


def local(text: str, change: int) -> Run:
    return run(text, change, cause=Cause.LOCAL)


def test_hello_says_how_far_the_journal_is_relayed_and_with_which_epoch_that_was_agreed() -> None:
    core = core_of(cursor=Cursor("j1", 7, "e0"))
    core.connected(at(0))
    assert greet(core, cursor=Cursor("j1", 7)).cursor == Cursor("j1", 7, "e0")
    assert greet(core, 15.0, cursor=Cursor("j1", 7)).cursor == Cursor("j1", 7, EPOCH)


def test_runs_that_a_restored_hub_does_not_have_are_relayed_again() -> None:
    core = welcomed(core_of(cursor=Cursor("j1", 7, "e0")), cursor=Cursor("j1", 4))
    assert core.outbox.cursor == Cursor("j1", 4, EPOCH)
    assert journal(core, local("r5", 5), run("t7", 7)).after == 4
    assert reported(said(core)) == [local("r5", 5), run("t7", 7)]
    assert core.outbox.cursor == Cursor("j1", 7, EPOCH)


def test_what_this_agent_has_told_an_earlier_epoch_is_no_reason_to_keep_quiet() -> None:
    core = welcomed(cursor=Cursor())
    journal(core, run("t1", 3))
    assert len(reported(said(core))) == 1
    core.disconnected()
    welcomed(core, 10.0, epoch="e2", cursor=Cursor())
    journal(core, run("t1", 3), seconds=11.0)
    assert reported(said(core, 11.0)) == [run("t1", 3)]


def test_the_same_epoch_does_not_set_the_cursor_back_for_the_hub_notes_it_only_now_and_then() -> None:
    core = welcomed(core_of(cursor=Cursor("j1", 7, EPOCH)), cursor=Cursor("j1", 2))
    assert core.outbox.cursor == Cursor("j1", 7, EPOCH)


def test_a_hub_that_knows_another_journal_or_none_gets_all_of_this_one() -> None:
    for known in (Cursor("j0", 900), Cursor()):
        core = welcomed(core_of(cursor=Cursor("j1", 7, "e0")), cursor=known)
        assert core.outbox.cursor == Cursor("j1", 0, EPOCH)


def test_a_hub_that_claims_to_have_more_than_the_agent_knows_of_does_not_make_it_skip_anything() -> None:
    core = welcomed(core_of(cursor=Cursor("j1", 7, "e0")), cursor=Cursor("j1", 900))
    assert core.outbox.cursor == Cursor("j1", 7, EPOCH)


def test_a_hub_that_says_nothing_of_it_leaves_the_cursor_as_it_is() -> None:
    core = welcomed(core_of(cursor=Cursor("j1", 7, "e0")))
    assert core.outbox.cursor == Cursor("j1", 7, "e0")


def test_what_was_being_read_when_the_epoch_began_is_read_again_from_where_it_begins_now() -> None:
    core = welcomed(core_of(cursor=Cursor("j1", 7, EPOCH)), cursor=Cursor())
    assert core.changes_wanted(at(1)) == runner.Changes(journal="j1", after=7, limit=100)
    greet(core, 15.0, epoch="e2", cursor=Cursor("j1", 4))
    core.changed(runner.Changed(journal="j1", runs=(run("t9", 9),), more=False))
    assert core.outbox.cursor == Cursor("j1", 4, "e2")
    assert journal(core, run("t6", 6), run("t9", 9), seconds=16.0).after == 4


def test_what_waits_to_be_said_when_the_epoch_begins_is_said_and_the_cursor_does_not_follow_it() -> None:
    core = welcomed(core_of(cursor=Cursor("j1", 7, EPOCH)), cursor=Cursor())
    journal(core, run("t9", 9))
    greet(core, 15.0, epoch="e2", cursor=Cursor("j1", 4))
    questions = said(core, 15.0)
    assert [type(question) for question in questions] == [network.Report]
    assert core.outbox.cursor == Cursor("j1", 4, "e2")


def test_a_new_journal_keeps_the_epoch() -> None:
    core = welcomed(core_of(cursor=Cursor("j1", 7, "e0")), cursor=Cursor())
    journal(core, run("t1", 2), name="j2")
    said(core)
    assert core.outbox.cursor == Cursor("j2", 2, EPOCH)
