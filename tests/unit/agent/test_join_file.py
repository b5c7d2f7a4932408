"""What joining does to ``agent.toml``, and how an address is read."""

import tomllib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nanoexec.agent.join import JOIN_PORT, set_keys, split_address
from nanoexec.errors import UsageError

pytestmark = pytest.mark.node

WANTED: dict[str, str | int] = {"hub": "10.0.0.1", "report_port": 4445, "name": "web1"}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hub", ("hub", JOIN_PORT)),
        ("hub.example.org:4446", ("hub.example.org", 4446)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1]:4446", ("fe80::1", 4446)),
        ("::1", ("::1", JOIN_PORT)),
    ],
)
def test_an_address_is_a_host_with_or_without_a_port(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


@pytest.mark.parametrize("address", ["", ":", ":4446", "hub:", "hub:0", "hub:65536", "hub:port", "hub:-1", "[]:4446"])
def test_what_is_no_address_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(UsageError, match=r"is not HUB:PORT, such as hub\.example\.org:4446$"):
        split_address(address)


def test_a_new_file_holds_the_keys_and_nothing_else() -> None:
    assert set_keys("", WANTED) == 'hub = "10.0.0.1"\nreport_port = 4445\nname = "web1"\n'


def test_keys_are_replaced_where_they_stand_and_everything_else_stays() -> None:
    text = (
        "# Our node.\n"
        "\n"
        'hub="old"   \n'
        "# name = 'comment'\n"
        "allow_exec = true # on purpose\n"
        "  report_port =   1\n"
        'signers = [\n  "a=",\n]\n'
    )
    assert set_keys(text, WANTED) == (
        "# Our node.\n"
        "\n"
        'hub = "10.0.0.1"\n'
        "# name = 'comment'\n"
        "allow_exec = true # on purpose\n"
        "report_port = 4445\n"
        'signers = [\n  "a=",\n]\n'
        'name = "web1"\n'
    )


def test_new_keys_come_before_the_first_table_and_keys_within_one_are_left_alone() -> None:
    text = 'hub = "old"\n[table]\nname = "inner"\n'
    changed = set_keys(text, WANTED)
    assert tomllib.loads(changed) == {**WANTED, "table": {"name": "inner"}}


def test_setting_keys_twice_changes_nothing_the_second_time() -> None:
    once = set_keys('hub = "old"\n# end', WANTED)
    assert set_keys(once, WANTED) == once


@settings(deadline=None)
@example(["left \u2028name = 1"])
@given(st.lists(st.text(st.characters(blacklist_categories=("Cs", "Cc"))), max_size=4))
def test_comments_stay_whatever_is_in_them(comments: list[str]) -> None:
    text = "".join(f"#{comment}\n" for comment in comments)
    assert set_keys(text, WANTED) == text + set_keys("", WANTED)
