"""How far the hub has each node's journal: believed only if it was agreed on with this very memory of the hub."""

from nanoexec.hub.roster import HEARD_EVERY
from nanoexec.model import Cursor
from nanoexec.record import NodeHeard
from tests.unit.hub.made import at, core_of, hello, said_hello


def test_a_cursor_of_this_epoch_is_taken_over_and_told_again() -> None:
    core = core_of("web1")
    assert hello(core, "web1", cursor=Cursor("j1", 7, "e1")).cursor == Cursor("j1", 7, "e1")
    assert hello(core, "web1", 15.0, cursor=Cursor("j1", 9, "e1")).cursor == Cursor("j1", 9, "e1")


def test_a_cursor_of_another_epoch_is_answered_with_what_is_known_here() -> None:
    core = core_of("web1")
    assert hello(core, "web1", cursor=Cursor("j1", 7, "e0")).cursor == Cursor()
    hello(core, "web1", cursor=Cursor("j1", 3, "e1"))
    assert hello(core, "web1", cursor=Cursor("j1", 7, "e0")).cursor == Cursor("j1", 3, "e1")


def test_each_node_has_a_cursor_of_its_own() -> None:
    core = core_of("web1", "web2")
    hello(core, "web1", cursor=Cursor("j1", 7, "e1"))
    assert hello(core, "web2", cursor=Cursor("j2", 1, "e0")).cursor == Cursor()


def test_a_node_that_says_none_is_told_none() -> None:
    assert hello(core_of("web1"), "web1").cursor is None


def test_the_cursor_is_recorded_with_what_else_a_node_says_and_not_for_each_hello() -> None:
    core = core_of("web1")
    moved = core.ask("web1", said_hello(15.0, cursor=Cursor("j1", 7, "e1")), at(15))
    assert moved.changes == ()
    late = core.ask("web1", said_hello(HEARD_EVERY + 1, cursor=Cursor("j1", 9, "e1")), at(HEARD_EVERY + 1))
    (heard,) = late.changes
    assert isinstance(heard, NodeHeard)
    assert heard.relayed == Cursor("j1", 9, "e1")
    foreign = core.ask("web1", said_hello(800.0, cursor=Cursor("j1", 50, "e0")), at(800))
    (heard,) = foreign.changes
    assert isinstance(heard, NodeHeard)
    assert heard.relayed == Cursor("j1", 9, "e1")
