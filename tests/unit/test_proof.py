"""What holds together, what cannot have happened, and what is not known."""

from typing import Any

import pytest
from msgspec.structs import replace

from nanoexec import proof
from nanoexec.model import Cause, Delivery, DeliveryState, Outcome, Run, Trigger
from nanoexec.record import Chain

pytestmark = pytest.mark.node
S = DeliveryState
ID = "t100000000000000"
SOON = "; of a run that has just ended it may be known in a few seconds"
TRIGGER = Trigger(ID, "uptime", "ALL", 100.0, 160.0, "alice")
RUN = Run(
    id=ID,
    action="uptime",
    cause=Cause.TRIGGER,
    by="alice",
    requested=101.0,
    change=9,
    boot="b1",
    supervisor=7,
    pid=8,
    started=101.5,
    ended=102.5,
    duration=1.0,
    outcome=Outcome.SUCCEEDED,
    status=0,
    admitted=5,
    began=5,
)


def chain(run: Run | None = RUN, state: S = S.FINISHED, **more: Any) -> Chain:
    delivery = Delivery(trigger=ID, node="web1", state=state, updated=103.0, run=run)
    stored = {} if run is None else {"stored": 103.0}
    return Chain(**({"trigger": TRIGGER, "signed": False, "delivery": delivery, "sent": 100.0} | stored | more))


def test_a_whole_chain_has_every_step_on_its_own_clock_and_nothing_to_remark() -> None:
    found = proof.of_chain(chain(acknowledged=101.1, running=101.6))
    assert [(step.clock, step.what, step.at) for step in found.steps] == [
        ("hub", "issued", 100.0),
        ("hub", "published", 100.0),
        ("hub", "acknowledged", 101.1),
        ("hub", "seen running", 101.6),
        ("node", "received", 101.0),
        ("node", "journaled", None),
        ("node", "started", 101.5),
        ("node", "ended", 102.5),
        ("hub", "reported and stored", 103.0),
    ]
    details = {step.what: step.detail for step in found.steps}
    assert details["issued"] == "by alice, not signed"
    assert details["journaled"] == "as change 5, with its start: one commit, before the command"
    assert details["started"] == "pid 8, supervisor 7, boot b1"
    assert details["ended"] == "succeeded, status 0, after 1s, change 9"
    assert (found.broken, found.missing) == ((), ())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"started": None, "began": None}, "it is said to have succeeded, and no start was journaled"),
        ({"boot": ""}, "it started, and no process answers for it"),
        ({"supervisor": 0}, "it started, and no process answers for it"),
        ({"began": 4}, "it started with change 4, before change 5 put it into the journal"),
        ({"began": None}, "it has a time of start, and no change of the journal started it"),
        ({"change": 4}, "its last change 4 is older than its start"),
        ({"action": "reboot"}, "uptime was ordered, and reboot was run"),
        ({"arguments": {"a": "b"}}, "it was run with other arguments than were ordered"),
    ],
)
def test_what_cannot_have_happened_is_said_in_words(changed: dict[str, Any], said: str) -> None:
    assert proof.of_chain(chain(replace(RUN, **changed))).broken == (said,)


@pytest.mark.parametrize("state", [S.SENT, S.RUNNING, S.EXPIRED, S.REFUSED])
def test_a_delivery_that_contradicts_its_run_is_broken(state: S) -> None:
    said = f"a run that succeeded is stored, and the delivery is {state}"
    assert proof.of_chain(chain(state=state)).broken == (said,)


def test_a_result_without_a_run_is_broken() -> None:
    found = proof.of_chain(chain(None))
    assert (found.broken, found.missing) == (("the delivery is finished, and no run is stored",), ())


@pytest.mark.parametrize(
    ("outcome", "more"),
    [
        (Outcome.SKIPPED, {}),
        (Outcome.CANCELLED, {"cancelled": 101.2, "canceller": "bob"}),
        (Outcome.INTERRUPTED, {}),
        (Outcome.SUCCEEDED, {"shared": "r100000000000000"}),
    ],
)
def test_what_never_started_and_does_not_claim_it_holds(outcome: Outcome, more: dict[str, Any]) -> None:
    run = replace(RUN, outcome=outcome, started=None, began=None, pid=None, **more)
    found = proof.of_chain(chain(run))
    assert (found.broken, found.missing) == ((), ())


def test_a_refusal_holds_when_the_delivery_says_so_too() -> None:
    run = replace(RUN, outcome=Outcome.REFUSED, started=None, began=None, pid=None)
    assert proof.of_chain(chain(run, S.REFUSED)).broken == ()


@pytest.mark.parametrize(
    ("state", "connected", "said"),
    [
        (S.PENDING, False, "the node's part: the delivery is pending; the node is away"),
        (S.RUNNING, True, "the node's part: the delivery is running"),
        (S.LOST, False, "the node's part: the delivery is lost; the node is away"),
        (S.EXPIRED, False, "the node's part: the delivery is expired; the node is away"),
        (S.EXPIRED, True, "the node's part: the delivery is expired"),
        (S.REFUSED, True, "the journal's record: the delivery is refused"),
    ],
)
def test_what_has_not_been_told_is_missing_and_not_broken(state: S, connected: bool, said: str) -> None:  # noqa: FBT001
    found = proof.of_chain(chain(None, state, connected=connected))
    assert (found.broken, found.missing) == ((), (said,))


def test_both_sides_of_a_cancellation_are_shown() -> None:
    run = replace(RUN, outcome=Outcome.CANCELLED, reason="cancelled by bob", cancelled=102.0, canceller="bob")
    given = chain(run)
    found = proof.of_chain(replace(given, delivery=replace(given.delivery, cancelled=101.9, canceller="bob")))
    steps = [(step.clock, step.what, step.at, step.detail) for step in found.steps]
    assert ("hub", "cancelled", 101.9, "by bob") in steps
    assert ("node", "told to stop", 102.0, "by bob") in steps
    assert found.broken == ()


def test_an_older_node_leaves_the_order_of_commits_out() -> None:
    found = proof.of_chain(chain(replace(RUN, admitted=0, began=None)))
    assert found.broken == ()
    assert found.missing == ("the order of the journal's changes: the node's nanoexec is too old to say it",)


@pytest.mark.parametrize(
    ("run", "relayed", "missing"),
    [
        (RUN, 9, ()),
        (RUN, 8, (f"whether it was reported: the hub has confirmed this journal up to change 8{SOON}",)),
        (RUN, None, (f"whether it was reported: the agent has not relayed this journal yet{SOON}",)),
        (
            replace(RUN, outcome=None, ended=None),
            9,
            ("how it ended: it has not, or nobody has looked since its supervisor died",),
        ),
    ],
)
def test_a_node_says_how_far_its_report_has_come(run: Run, relayed: int | None, missing: tuple[str, ...]) -> None:
    found = proof.of_run(run, relayed)
    assert (found.broken, found.missing) == ((), missing)
    assert (found.steps[-1].what == "reported") is (missing == ())
