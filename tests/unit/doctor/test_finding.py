"""What the doctor concludes from what it has seen."""

from pathlib import PurePosixPath

import pytest

from nanoexec.agent.link import LinkState
from nanoexec.doctor import finding
from nanoexec.doctor.finding import HUB, NODE, Level
from nanoexec.model import Node
from nanoexec.runner.process import Process

pytestmark = pytest.mark.node

NOW = 1_700_000_000.0
DAY = 86400.0
KEY = "0123456789abcdef"
AGENT = Process(boot="b1", pid=7, ticks=1)
SILENT_AFTER = 600.0


def node(name: str, *, connected: bool = True, skew: float | None = 0.0, revoked: float | None = None) -> Node:
    return Node(name=name, key=KEY, joined=1.0, connected=connected, skew=skew, revoked=revoked)


@pytest.mark.parametrize("offset", [0.0, 60.0, -60.0])
def test_a_clock_within_a_minute_is_in_order(offset: float) -> None:
    assert finding.clock(offset).level is Level.OK


@pytest.mark.parametrize(("offset", "said"), [(61.0, "61 s ahead of the hub's"), (-7200.0, "7200 s behind the hub's")])
def test_a_clock_further_off_is_a_warning_that_says_by_how_much_and_never_a_failure(offset: float, said: str) -> None:
    found = finding.clock(offset)
    assert found.level is Level.WARN
    assert said in found.detail


def test_the_clocks_of_nodes_are_named_worst_or_not_but_revoked_ones_do_not_count() -> None:
    found = finding.clocks([node("a", skew=90.0), node("b", skew=-61.0), node("c"), node("d", skew=None)])
    assert found.level is Level.WARN
    assert "a +90 s, b -61 s" in found.detail
    assert finding.clocks([node("a", skew=90.0, revoked=2.0)]).level is Level.OK
    many = finding.clocks([node(f"n{n}", skew=100.0) for n in range(10)])
    assert "and 7 others" in many.detail


def test_nodes_that_are_away_are_named_folded() -> None:
    found = finding.presence([node("web1"), *(node(f"db{n}", connected=False) for n in (1, 2, 3))])
    assert found.level is Level.WARN
    assert "1 connected, 3 away: db[1-3]" in found.detail
    assert finding.presence([node("web1"), node("gone", connected=False, revoked=2.0)]).level is Level.OK
    assert "none is on the roster" in finding.presence([]).detail


def test_refusals_are_counted_and_other_counters_are_not_refusals() -> None:
    assert finding.refusals({"questions": 9, "peers_refused": 0}).level is Level.OK
    found = finding.refusals({"questions": 9, "peers_refused": 2, "frames_refused": 1})
    assert found.level is Level.WARN
    assert found.detail.startswith("frames refused: 1, peers refused: 2,")


def test_faulty_manifests_fail_and_none_at_all_is_a_warning() -> None:
    assert finding.manifests(["uptime"], []).level is Level.OK
    assert finding.manifests([], []).level is Level.WARN
    found = finding.manifests(["uptime"], ["x.toml: a", "x.toml: b", "y.toml: c"])
    assert found.level is Level.FAIL
    assert found.detail.startswith("x.toml: a and 2 more: ")


@pytest.mark.parametrize(
    ("version", "level"), [("0001", Level.WARN), ("0002", Level.OK), ("0003", Level.FAIL), ("0010", Level.FAIL)]
)
def test_only_a_database_of_a_newer_version_fails(version: str, level: Level) -> None:
    found = finding.store(PurePosixPath("/hub.db"), version, "0002")
    assert found.level is level
    assert version in found.detail


def test_a_certificate_for_another_name_fails_and_one_that_expires_soon_is_a_warning() -> None:
    assert finding.certificate(NODE, "web1", "web1", NOW + 300 * DAY, NOW).level is Level.OK
    other = finding.certificate(NODE, "web1", "web2", NOW + 300 * DAY, NOW)
    assert other.level is Level.FAIL
    assert "set name = 'web1' in agent.toml" in other.detail
    assert "leave name out of hub.toml" in finding.certificate(HUB, "hub", "bub", NOW + 300 * DAY, NOW).detail
    soon = finding.certificate(NODE, "web1", "web1", NOW + 10 * DAY, NOW)
    assert soon.level is Level.WARN
    assert "2023-11-24" in soon.detail


# The hub's own beacon


@pytest.mark.parametrize(
    ("heard", "level", "said"),
    [
        (NOW - 37.0, Level.OK, "comes back through the network, last 37 s ago"),
        (NOW - 83.0, Level.FAIL, "its own beacon does not come back: it was last heard 83 s ago: restart the hub"),
        (None, Level.FAIL, "it has not been heard since the hub started 300 s ago: restart the hub"),
    ],
)
def test_a_beacon_that_is_late_fails_whether_or_not_the_hub_itself_has_noticed(
    heard: float | None, level: Level, said: str
) -> None:
    found = finding.beacon(heard, "", NOW, started=NOW - 300.0, late=37.5)
    assert found.level is level
    assert said in found.detail


def test_a_hub_that_has_just_started_need_not_have_heard_itself_yet() -> None:
    found = finding.beacon(None, "", NOW, started=NOW - 2.0, late=37.5)
    assert found.level is Level.WARN
    assert "the hub has just started" in found.detail


def test_where_the_interval_is_not_known_the_hubs_own_word_counts() -> None:
    assert finding.beacon(NOW - 83.0, "", NOW, started=NOW - 300.0, late=None).level is Level.OK
    assert finding.beacon(None, "", NOW, started=NOW - 300.0, late=None).level is Level.WARN
    assert finding.beacon(NOW - 1.0, "deaf", NOW, started=NOW - 300.0, late=None).level is Level.FAIL


def test_an_alarm_before_the_first_beacon_is_said_in_words_that_make_sense() -> None:
    found = finding.beacon(None, "deaf", NOW, started=NOW - 40.0, late=37.5)
    assert found.detail.startswith("deaf; it has not been heard since the hub started 40 s ago: restart the hub")


# The node's link


def link(*, up: bool, since: float, heard: float | None, age: float = DAY, why: str = "") -> finding.Finding:
    """``since`` and ``heard`` are seconds ago."""
    state = LinkState(up=up, since=NOW - since, agent=AGENT, why=why)
    last = None if heard is None else NOW - heard
    return finding.link(state, last, age=age, silent_after=SILENT_AFTER, now=NOW)


def test_a_link_that_is_up_and_over_which_the_hub_is_heard_is_in_order() -> None:
    found = link(up=True, since=7500.0, heard=4.0)
    assert found.level is Level.OK
    assert found.detail == "up for 2h 5m; the hub was last heard 4 s ago"


def test_a_link_that_is_down_fails_and_says_why_and_where_to_look() -> None:
    found = link(up=False, since=61.0, heard=70.0, why="hub port 4445: connection refused")
    assert found.level is Level.FAIL
    assert found.detail.startswith("down for 1m 1s: hub port 4445: connection refused; ")
    assert "`nanoexec doctor` on the hub" in found.detail


@pytest.mark.parametrize("why", ["the agent has just started", "the hub hung up"])
def test_a_link_that_was_lost_a_moment_ago_or_is_coming_up_is_a_warning(why: str) -> None:
    found = link(up=False, since=5.0, heard=9.0, why=why)
    assert found.level is Level.WARN
    assert found.detail == f"down for 5s: {why}; the agent dials again within a minute"


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("heard", [601.0, None])
def test_a_silent_hub_fails_even_while_the_agent_has_a_link_again_and_again(
    up: bool,  # noqa: FBT001 - a table
    heard: float | None,
) -> None:
    found = link(up=up, since=3.0, heard=heard, why="" if up else "the hub is silent")
    assert found.level is Level.FAIL
    assert "longer than hub_silent_after (10m), so hub-silent fallbacks run" in found.detail
    assert "`nanoexec doctor` on the hub" in found.detail


@pytest.mark.parametrize("heard", [None, DAY])
def test_an_agent_that_has_just_started_is_not_blamed_for_what_was_not_heard_before(heard: float | None) -> None:
    assert link(up=True, since=1.0, heard=heard, age=2.0).level is Level.OK
    assert link(up=False, since=DAY, heard=heard, age=2.0, why="x").level is Level.WARN, "the clock has been set since"


def test_a_link_that_has_come_up_and_over_which_nothing_has_come_yet_is_a_warning() -> None:
    found = link(up=True, since=10.0, heard=83.0)
    assert found.level is Level.WARN
    assert found.detail == "up for 10s, and nothing has been heard since; the hub was last heard 83 s ago"


def test_a_clock_that_was_put_back_makes_no_hub_silent() -> None:
    assert link(up=True, since=-3600.0, heard=-3605.0).level is Level.OK


# What the asking user could not see


def test_what_matters_and_was_hidden_is_told_apart_from_what_does_not_matter() -> None:
    assert finding.unseen([HUB.hidden("key", "x"), HUB.hidden("store", "x"), HUB.ok("hub", "")]) == ()
    assert finding.unseen([HUB.ok("config", ""), HUB.hidden("hub", "x")]) == ("hub",)
    assert finding.unseen([NODE.hidden("journal", "x"), NODE.ok("agent", "")]) == ()
    for stage in ("key", "agent", "runner"):
        assert finding.unseen([NODE.ok("config", ""), NODE.hidden(stage, "x"), HUB.ok("hub", "")]) == ("node",)


def test_what_was_skipped_for_want_of_another_stage_was_not_hidden() -> None:
    assert finding.unseen([NODE.fail("config", ""), *NODE.skip("a node that has joined", "key", "agent")]) == ()
