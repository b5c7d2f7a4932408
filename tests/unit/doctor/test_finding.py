"""What the doctor concludes from what it has seen."""

from pathlib import PurePosixPath

import pytest

from nanoexec.doctor import finding
from nanoexec.doctor.finding import HUB, NODE, Level
from nanoexec.model import Node

pytestmark = pytest.mark.node

NOW = 1_700_000_000.0
DAY = 86400.0
KEY = "0123456789abcdef"


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
