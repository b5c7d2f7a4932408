"""Whether a run happened as it is told: the chain from order to stored result, and where it does not hold. Pure.

Two clocks and one count stand behind a chain. The hub's clock dates what the hub did, the node's what the node did, and
nothing is concluded from comparing them. What came first on a node is said by the changes of its journal, each of which
is on disk before the next thing happens.
"""

from typing import Final, Literal

from nanoexec.duration import format_duration
from nanoexec.model import DeliveryState, Outcome, Run, Value
from nanoexec.record import Chain

# The hub may have it already: the agent notes how far the journal is relayed only once it has read that far itself.
_SOON: Final = "; of a run that has just ended it may be known in a few seconds"
_RAN: Final = frozenset({Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMED_OUT})


class Step(Value, frozen=True):
    """One link: what happened, on whose clock, when (None: that is not dated)."""

    what: str
    clock: Literal["hub", "node"]
    at: float | None = None
    detail: str = ""


class Proof(Value, frozen=True):
    """``broken``: what cannot have happened as it is told. ``missing``: what is not known, or not yet."""

    steps: tuple[Step, ...]
    broken: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def of_chain(chain: Chain) -> Proof:
    """What the hub can show of a trigger on one node."""
    trigger, delivery, run = chain.trigger, chain.delivery, chain.delivery.run
    signed = "signed" if chain.signed else "not signed"
    dated = (
        ("issued", trigger.issued, f"by {trigger.by}, {signed}"),
        ("published", chain.sent, "while the node was connected"),
        ("acknowledged", chain.acknowledged, "the node had it in its journal"),
        ("seen running", chain.running, ""),
        ("cancelled", delivery.cancelled, f"by {delivery.canceller}"),
    )
    first = [Step(what=what, clock="hub", at=at, detail=said) for what, at, said in dated if at is not None]
    if run is None:
        return Proof(steps=tuple(first), broken=_unreported(chain), missing=_awaited(chain))
    stored = Step(what="reported and stored", clock="hub", at=chain.stored, detail=str(delivery.state))
    broken = [*_of_journal(run), *_of_store(chain, run)]
    return Proof(steps=(*first, *_steps(run), stored), broken=tuple(broken), missing=_unsaid(run))


def of_run(run: Run, relayed: int | None) -> Proof:
    """What a node can show of a run. ``relayed`` is the change up to which the hub has confirmed, None if unknown."""
    steps = _steps(run)
    missing = list(_unsaid(run))
    if run.outcome is None:
        missing.append("how it ended: it has not, or nobody has looked since its supervisor died")
    elif relayed is None:
        missing.append(f"whether it was reported: the agent has not relayed this journal yet{_SOON}")
    elif relayed < run.change:
        missing.append(f"whether it was reported: the hub has confirmed this journal up to change {relayed}{_SOON}")
    else:
        said = f"the hub has confirmed this journal up to change {relayed}"
        steps = (*steps, Step(what="reported", clock="node", detail=said))
    return Proof(steps=steps, broken=tuple(_of_journal(run)), missing=tuple(missing))


def _steps(run: Run) -> tuple[Step, ...]:
    journaled = f"as change {run.admitted}" if run.admitted else ""
    if run.began is not None and run.began == run.admitted:
        journaled += ", with its start: one commit, before the command"
    process = f"pid {run.pid}, " if run.pid else ""
    steps = [
        Step(what="received", clock="node", at=run.requested),
        Step(what="journaled", clock="node", detail=journaled),
    ]
    if run.started is not None:
        said = f"{process}supervisor {run.supervisor}, boot {run.boot or 'unknown'}"
        steps.append(Step(what="started", clock="node", at=run.started, detail=said))
    if run.cancelled is not None:
        steps.append(Step(what="told to stop", clock="node", at=run.cancelled, detail=f"by {run.canceller}"))
    if run.outcome is not None:
        steps.append(Step(what="ended", clock="node", at=run.ended, detail=_ending(run)))
    return tuple(steps)


def _ending(run: Run) -> str:
    took = f"after {format_duration(run.duration)}" if run.duration is not None else ""
    status = f"status {run.status}" if run.status is not None else ""
    reason = "" if run.reason == f"exit {status}" else run.reason
    return ", ".join(part for part in (str(run.outcome), reason, status, took, f"change {run.change}") if part)


def _of_journal(run: Run) -> list[str]:
    """What a journal that was kept as promised cannot say."""
    broken = []
    if run.outcome in _RAN and run.shared is None:
        if run.started is None:
            broken.append(f"it is said to have {_verb(run.outcome)}, and no start was journaled")
        elif not run.boot or not run.supervisor:
            broken.append("it started, and no process answers for it")
    if run.began is not None and run.began < run.admitted:
        broken.append(f"it started with change {run.began}, before change {run.admitted} put it into the journal")
    if run.admitted and run.began is None and run.started is not None:
        broken.append("it has a time of start, and no change of the journal started it")
    if run.outcome is not None and run.change < (run.began or run.admitted):
        broken.append(f"its last change {run.change} is older than its start")
    return broken


def _of_store(chain: Chain, run: Run) -> list[str]:
    """Where the run is not that of the order, or the delivery not that of the run."""
    trigger, broken = chain.trigger, []
    if run.action != trigger.action:
        broken.append(f"{trigger.action} was ordered, and {run.action} was run")
    if run.arguments != trigger.arguments and run.started is not None:
        broken.append("it was run with other arguments than were ordered")
    wanted = DeliveryState.REFUSED if run.outcome is Outcome.REFUSED else DeliveryState.FINISHED
    if chain.delivery.state is not wanted:
        broken.append(f"a run that {_verb(run.outcome)} is stored, and the delivery is {chain.delivery.state}")
    return broken


def _unreported(chain: Chain) -> tuple[str, ...]:
    if chain.delivery.state is DeliveryState.FINISHED:
        return (f"the delivery is {chain.delivery.state}, and no run is stored",)
    return ()


def _awaited(chain: Chain) -> tuple[str, ...]:
    state, why = chain.delivery.state, chain.delivery.reason
    if state is DeliveryState.FINISHED:
        return ()
    said = f"the delivery is {state}{f' ({why})' if why else ''}{'' if chain.connected else '; the node is away'}"
    if state is DeliveryState.REFUSED:
        return (f"the journal's record: {said}",)
    return (f"the node's part: {said}",)


def _unsaid(run: Run) -> tuple[str, ...]:
    return () if run.admitted else ("the order of the journal's changes: the node's nanoexec is too old to say it",)


def _verb(outcome: Outcome | None) -> str:
    if outcome is None:
        return "not ended"
    verbs = {Outcome.TIMED_OUT: "timed out", Outcome.INTERRUPTED: "been interrupted"}
    return verbs.get(outcome, str(outcome))
