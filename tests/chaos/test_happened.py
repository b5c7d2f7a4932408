"""What the model is judged by must itself be able to fail."""

import logging

from nanoexec.model import DeliveryState, Outcome
from tests.chaos.ear import listening
from tests.chaos.happened import MANY, SPARED, VERY_MANY, Happened
from tests.chaos.hub_clock import HubClock

_log = logging.getLogger("nanoexec.hub")
_RULES = [f"rule {number}" for number in range(SPARED + 1)]


def missing(examples: int, **happened: int) -> list[str]:
    """What a campaign lacks in which only this has happened."""
    figures = Happened("made up")
    figures.add("examples", examples)
    for what, times in happened.items():
        figures.add(what.replace("_", " "), times)
    return figures.missing(_RULES)


def test_a_campaign_in_which_nothing_was_delivered_or_started_proves_nothing() -> None:
    assert missing(1) == ["deliveries", "starts of triggered runs"]
    assert missing(1, deliveries=1) == ["starts of triggered runs"]
    assert missing(1, deliveries=1, starts_of_triggered_runs=1) == []


def test_a_campaign_of_many_examples_shows_all_that_is_not_rare() -> None:
    lacks = missing(MANY)
    assert {_RULES[-1], DeliveryState.CANCELLED, Outcome.INTERRUPTED, "progress"} <= {*lacks}
    assert not {_RULES[0], DeliveryState.LOST, Outcome.SKIPPED} & {*lacks}


def test_a_campaign_of_very_many_examples_shows_everything() -> None:
    assert {*_RULES, *DeliveryState, *Outcome, "taken back, lost"} <= {*missing(VERY_MANY)}


def test_what_is_logged_as_an_error_or_with_an_exception_is_a_fault_unless_it_was_meant() -> None:
    faults: list[str] = []
    with listening(faults):
        _log.warning("nothing of importance")
        _log.error("hub.db: cannot be written: disk is full")
        _log.error("this is not meant")
        _log.warning("caught", exc_info=KeyError("neither is this"))
    _log.error("nobody listens any more")
    assert len(faults) == 2
    assert "this is not meant" in faults[0]
    assert "neither is this" in faults[1]


def test_who_asked_before_the_hubs_clock_was_set_may_believe_either_and_who_asked_since_may_not() -> None:
    now = [100.0]
    clock = HubClock(lambda: now[0], 1000.0)
    now[0] = 110.0
    clock.put_forward(-60.0)
    now[0] = 120.0
    assert clock.shows == 1060.0
    assert (clock.lowest(105.0), clock.highest(105.0), clock.shown(105.0)) == (1060.0, 1120.0, 1110.0)
    assert (clock.lowest(110.0), clock.highest(110.0), clock.shown(110.0)) == (1060.0, 1060.0, 1060.0)
