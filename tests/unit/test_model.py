"""The nouns: ids, output, and the table that says how a delivery may move."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoexec.model import (
    FINAL,
    ID_ALPHABET,
    OPEN,
    TRANSITIONS,
    UNCONFIRMED,
    ActionName,
    Credentials,
    DeliveryState,
    Identifier,
    NodeName,
    Output,
    Trigger,
    identifier,
    may_follow,
)

pytestmark = pytest.mark.node
S = DeliveryState


def test_the_table_says_something_of_every_state() -> None:
    assert TRANSITIONS.keys() == set(DeliveryState)


def test_every_state_is_open_or_final_and_none_is_both() -> None:
    assert set(DeliveryState) == FINAL | OPEN
    assert not FINAL & OPEN
    assert UNCONFIRMED < OPEN


def test_every_state_can_be_reached_from_a_new_delivery() -> None:
    reached = {S.PENDING}
    while more := {after for before in reached for after in TRANSITIONS[before]} - reached:
        reached |= more
    assert reached == set(DeliveryState)


@pytest.mark.parametrize("word", [S.FINISHED, S.REFUSED])
def test_nothing_replaces_the_nodes_own_last_word(word: DeliveryState) -> None:
    assert not any(may_follow(word, after) for after in DeliveryState)


@pytest.mark.parametrize("conclusion", [S.EXPIRED, S.CANCELLED, S.LOST])
def test_what_the_hub_concluded_is_replaced_by_the_nodes_word_and_by_nothing_else(conclusion: DeliveryState) -> None:
    assert {after for after in DeliveryState if may_follow(conclusion, after)} == {S.FINISHED, S.REFUSED}


@pytest.mark.parametrize("state", sorted(OPEN))
def test_a_report_may_overtake_everything_before_it(state: DeliveryState) -> None:
    assert may_follow(state, S.FINISHED)
    assert may_follow(state, S.REFUSED)


@pytest.mark.parametrize("state", DeliveryState)
def test_a_repeat_moves_nothing(state: DeliveryState) -> None:
    assert not may_follow(state, state)


def test_a_delivery_never_goes_back() -> None:
    order = [S.PENDING, S.SENT, S.ACKNOWLEDGED, S.RUNNING, S.FINISHED]
    for place, state in enumerate(order):
        assert not any(may_follow(state, before) for before in order[:place])


def test_what_a_node_has_taken_does_not_expire() -> None:
    assert not may_follow(S.ACKNOWLEDGED, S.EXPIRED)
    assert not may_follow(S.RUNNING, S.EXPIRED)


@settings(deadline=None)
@given(st.binary(min_size=10, max_size=10))
def test_an_id_is_sixteen_letters_that_nobody_misreads(random_bytes: bytes) -> None:
    made = identifier(random_bytes)
    assert msgspec.convert(made, Identifier) == made
    assert not set(made) & set("ilou")


@settings(deadline=None)
@given(st.integers(0, 2**80 - 1), st.integers(0, 2**80 - 1))
def test_different_randomness_gives_different_ids_in_the_same_order(one: int, other: int) -> None:
    ids = [identifier(number.to_bytes(10, "big")) for number in (one, other)]
    assert (ids[0] < ids[1]) == (one < other)
    assert (ids[0] == ids[1]) == (one == other)


def test_the_alphabet_has_thirty_two_letters_all_of_which_an_id_may_hold() -> None:
    assert len(set(ID_ALPHABET)) == 32
    for letter in ID_ALPHABET:
        assert msgspec.convert(letter * 16, Identifier)


@pytest.mark.parametrize("name", ["web1", "web-1.example.org", "a", "0", "10.0.0.1", "a_b", "a" * 253, "9" * 100])
def test_names_that_a_node_may_have(name: str) -> None:
    assert msgspec.convert(name, NodeName) == name


@pytest.mark.parametrize(
    "name", ["", "ALL", "Web1", "-a", "a-", "a b", "a\n", "a:b", "a/b", "a*", "@a", "é", "a" * 254, "a" + "9" * 101]
)
def test_names_that_no_node_has(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, NodeName)


@pytest.mark.parametrize("name", ["", "Uptime", "1up", "a b", "a\n", "a/b", "../a", "-a", "a" * 64])
def test_names_that_no_action_has(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, ActionName)


def test_output_says_where_it_was_cut_and_how_much() -> None:
    assert Output(b"first", b"last", 1009).text() == "first\n[... 1000 bytes cut ...]\nlast"


def test_output_that_is_whole_is_shown_as_it_is() -> None:
    assert Output(b"first ", b"last", 10).text() == "first last"
    assert Output().text() == ""


def test_output_that_is_no_text_is_shown_all_the_same() -> None:
    assert Output(b"\xffok", b"", 3).text() == "\ufffdok"


def test_a_value_cannot_be_changed_and_has_no_unknown_fields() -> None:
    trigger = Trigger("0123456789abcdef", "uptime", "ALL", 1.0, 2.0, "root")
    with pytest.raises(AttributeError):
        trigger.action = "reboot"  # type: ignore[misc]
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"ca": "x", "password": "y"}, Credentials)


def test_a_key_is_not_shown_where_a_value_is_printed() -> None:
    assert "secret" not in repr(Credentials(ca="ca", certificate="cert", key="secret"))


def test_a_shortened_output_keeps_both_ends_and_says_what_was_cut() -> None:
    whole = Output(head=b"0123456789", size=10)
    assert whole.shortened(10) is whole
    assert whole.shortened(4) == Output(head=b"01", tail=b"89", size=10)
    cut = Output(head=b"aaaa", tail=b"zzzz", size=100)
    assert cut.shortened(4) == Output(head=b"aa", tail=b"zz", size=100)
    assert cut.shortened(4).cut == 96
