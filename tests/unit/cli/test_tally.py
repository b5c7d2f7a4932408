"""What a trigger has come to: the exit code, the summary, and whether to go on waiting."""

import itertools

import pytest

from nanoexec.cli.tally import GONE, PATIENCE, Tally
from nanoexec.errors import ExitCode
from nanoexec.model import Delivery, DeliveryState, Outcome
from tests.support.fake_hub import make_delivery, make_trigger

pytestmark = pytest.mark.node

S = DeliveryState
GOOD = make_delivery("web1", S.FINISHED, Outcome.SUCCEEDED)
FAILED = make_delivery("web2", S.FINISHED, Outcome.FAILED)
REFUSED = make_delivery("web3", S.REFUSED)
EXPIRED = make_delivery("web4", S.EXPIRED)


def tally(*deliveries: Delivery, silent: int = 0, away: int = 0, unknown: tuple[str, ...] = ()) -> Tally:
    """These deliveries, and so many nodes that are connected and say nothing, or are away."""
    mute, gone = [f"mute{n}" for n in range(silent)], [f"away{n}" for n in range(away)]
    made = Tally(make_trigger(), [*(d.node for d in deliveries), *mute, *gone], gone, unknown)
    made.update(deliveries)
    return made


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (tally(GOOD), ExitCode.OK),
        (tally(make_delivery("web1", S.FINISHED, Outcome.SKIPPED)), ExitCode.OK),
        (tally(make_delivery("web1", S.FINISHED, Outcome.FAILED)), ExitCode.RUN_FAILED),
        (tally(make_delivery("web1", S.FINISHED, Outcome.TIMED_OUT)), ExitCode.RUN_FAILED),
        (tally(make_delivery("web1", S.FINISHED, Outcome.INTERRUPTED)), ExitCode.RUN_FAILED),
        (tally(GOOD, REFUSED), ExitCode.REFUSED),
        (tally(GOOD, EXPIRED), ExitCode.NO_ANSWER),
        (tally(GOOD, make_delivery("web2", S.LOST)), ExitCode.NO_ANSWER),
        (tally(GOOD, make_delivery("web2", S.CANCELLED)), ExitCode.RUN_FAILED),
        (tally(GOOD, make_delivery("web2", S.FINISHED, Outcome.CANCELLED)), ExitCode.RUN_FAILED),
        (tally(GOOD, make_delivery("web2", S.RUNNING)), ExitCode.NO_ANSWER),
        (tally(GOOD, silent=1), ExitCode.NO_ANSWER),
        (tally(GOOD, away=1), ExitCode.NO_ANSWER),
        (tally(GOOD, unknown=("wbe1",)), ExitCode.NO_ANSWER),
    ],
)
def test_each_way_to_end_has_its_exit_code(made: Tally, code: ExitCode) -> None:
    assert made.exit_code() is code


@pytest.mark.parametrize("order", list(itertools.permutations([GOOD, FAILED, REFUSED, EXPIRED])))
def test_a_failure_outweighs_a_refusal_and_that_a_silence_in_any_order(order: tuple[Delivery, ...]) -> None:
    assert tally(*order, silent=1).exit_code() is ExitCode.RUN_FAILED
    assert tally(*(d for d in order if d is not FAILED), silent=1).exit_code() is ExitCode.REFUSED
    assert tally(*(d for d in order if d not in (FAILED, REFUSED))).exit_code() is ExitCode.NO_ANSWER


def test_every_node_is_counted_exactly_once() -> None:
    running = make_delivery("web5", S.ACKNOWLEDGED)
    made = tally(GOOD, FAILED, REFUSED, EXPIRED, running, silent=2, away=3)
    kinds = (made.succeeded, made.failed, made.refused, made.gone, made.running, made.silent, made.queued)
    assert [len(kind()) for kind in kinds] == [1, 1, 1, 1, 1, 2, 3]
    assert sorted(d.node for kind in kinds for d in kind()) == sorted(made.deliveries)


def test_the_summary_is_one_line_that_leaves_zeros_out() -> None:
    assert tally(GOOD, FAILED, away=2).summary() == "1 succeeded, 1 failed, 2 queued"
    assert tally(GOOD, unknown=("wbe1",)).summary() == "1 succeeded, 1 unknown"
    assert tally().summary() == "nothing to do"


def test_what_runs_is_waited_for_however_long() -> None:
    assert tally(make_delivery("web1", S.RUNNING)).waiting(1e6)
    assert tally(make_delivery("web1", S.ACKNOWLEDGED)).waiting(1e6)


def test_a_connected_node_that_says_nothing_is_waited_for_only_so_long() -> None:
    assert tally(GOOD, silent=1).waiting(PATIENCE - 0.1)
    assert not tally(GOOD, silent=1).waiting(PATIENCE)


def test_a_node_that_is_away_is_not_waited_for_but_once_it_returns_it_is() -> None:
    made = tally(GOOD, away=1)
    assert not made.waiting(0.0)
    made.update([make_delivery("away0", S.SENT)])
    assert made.waiting(0.0)
    assert not made.queued()


def test_a_run_whose_node_goes_away_is_waited_for_a_while_and_anew_once_it_is_back() -> None:
    made = tally(make_delivery("web1", S.RUNNING))
    made.moved(["web1", "other"], [], 100.0)
    assert made.waiting(100.0 + GONE - 0.1)
    assert not made.waiting(100.0 + GONE)
    made.moved([], ["web1"], 200.0)
    assert made.waiting(1e6)
    assert set(made.deliveries) == {"web1"}


def test_a_connected_node_that_goes_away_before_it_has_answered_is_queued_for() -> None:
    made = tally(GOOD, silent=1)
    made.moved(["mute0"], [], 1.0)
    assert not made.waiting(1.0)
    assert [delivery.node for delivery in made.queued()] == ["mute0"]


def test_the_hubs_own_conclusions_are_no_answer_to_a_cancellation() -> None:
    made = tally(EXPIRED, make_delivery("web5", S.CANCELLED), make_delivery("web1", S.FINISHED, Outcome.CANCELLED))
    assert sorted(delivery.node for delivery in made.answered()) == ["web1", "web5"]
    assert made.unanswered(PATIENCE - 0.1)
    assert not made.unanswered(PATIENCE)
    made.moved(["web4"], [], 0.0)
    assert not made.unanswered(0.0)


def test_nothing_is_waited_for_once_every_node_has_its_last_word() -> None:
    assert not tally(GOOD, FAILED, REFUSED, EXPIRED).waiting(0.0)
