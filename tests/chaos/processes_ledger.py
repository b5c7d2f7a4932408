"""What the commands themselves say that they did, and every promise as a comparison of it with what the hub says.

A command writes a line when it starts and one when it ends, each with O_APPEND and fsync, before anything else can
happen: outside of nanoexec, and on a disk that never fills. Whatever is killed meanwhile, these lines are what was.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from nanoexec.model import FINAL, Cause, Delivery, DeliveryState, Outcome, Run, Value

NOBODY: Final = "-"  # in the place of the id of a run that no trigger caused
# A command of each kind that has ever been the trouble of a scheduler. $1 is the kind.
WORK: Final = r"""#!/bin/sh
say() {
    printf '%s %s %s %s %s\n' "$1" "${NANOEXEC_TRIGGER_ID:--}" "$NODE" "$$" "$2" >>"$LEDGER" || exit 9
    sync -d "$LEDGER" || exit 9
}
say start 0
status=0
case $1 in
    plain) echo done ;;
    fails) status=3 ;;
    slow) sleep 0.5 ;;
    forks) (sleep 2; echo from behind) & ;;
    deaf) trap '' TERM; for _ in $(seq 75); do sleep 0.2; done ;; # to its own end only if nobody is there to kill it
    loud) head -c "$BYTES" /dev/zero ;;
    silent) exec >&- 2>&-; sleep 0.3 ;;
    zombie) sh -c 'true & exec sleep 0.4' ;;
esac
say end $status
exit $status
"""
KINDS: Final = ("plain", "fails", "slow", "forks", "deaf", "loud", "silent", "zombie")
_LATE: Final = ("deaf",)
COALESCED: Final = "busy"  # an action that coalesces; its command is slow


class Line(Value, frozen=True):
    """One line of the ledger. ``id`` is the trigger's."""

    what: str
    id: str
    node: str
    pid: int
    status: int


class Told(Value, frozen=True):
    """What the hub's store and the nodes' journals say at the end, by trigger and node.

    ``accepted``: the nodes of each trigger that somebody was told is accepted. ``local``: reported runs that no trigger
    caused, by node and pid of the command. ``killed``: processes that were killed, or told that the disk failed.
    ``stopped``: triggers that were cancelled.
    """

    accepted: Mapping[str, Sequence[str]]
    deliveries: Mapping[tuple[str, str], Delivery]
    local: Mapping[tuple[str, int], Run]
    journals: Mapping[tuple[str, str], Run]
    killed: frozenset[int]
    stopped: frozenset[str]


class Verdict(Value, frozen=True):
    """What does not agree."""

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    invented: tuple[str, ...]  # said by nanoexec, and nobody did it


def read(ledger: Path) -> list[Line]:
    """The ledger so far."""
    words = [line.split() for line in ledger.read_text().splitlines()] if ledger.exists() else []
    return [Line(what, id_, node, int(pid), int(status)) for what, id_, node, pid, status in words]


def judge(lines: Sequence[Line], told: Told) -> Verdict:
    """Compare."""
    begun = Counter((line.id, line.node) for line in lines if line.what == "start" and line.id != NOBODY)
    ended = {(line.id, line.node): line.status for line in lines if line.what == "end" and line.id != NOBODY}
    alone = {(line.node, line.pid): line.status for line in lines if line.what == "end" and line.id == NOBODY}
    doubled = [f"{id_} was started {times} times on {node}" for (id_, node), times in begun.items() if times > 1]
    return Verdict(
        lost=(*_open(told), *_unsaid(ended, told), *_unsaid_locally(alone, told)),
        doubled=tuple(doubled),
        invented=tuple(_invented(begun, ended, alone, told)),
    )


def _open(told: Told) -> Iterator[str]:
    for id_, nodes in told.accepted.items():
        for node in nodes:
            delivery = told.deliveries.get((id_, node))
            if delivery is None or delivery.state not in FINAL:
                yield f"{id_} on {node} is {delivery.state if delivery else 'not known'} for ever"


def _unsaid(ended: Mapping[tuple[str, str], int], told: Told) -> Iterator[str]:
    """What ended by itself is told as it ended, unless whoever watched it was killed."""
    for key, status in ended.items():
        delivery = told.deliveries.get(key)
        run = delivery.run if delivery else None
        if run is None:
            yield f"{key} ended with {status}, and the hub has {delivery.state if delivery else 'never heard of it'}"
            continue
        excused = run.outcome is Outcome.INTERRUPTED and run.supervisor in told.killed
        stopped = run.outcome is Outcome.CANCELLED and run.id in told.stopped  # it came between line and exit
        expected = Outcome.FAILED if status else Outcome.SUCCEEDED
        if run.outcome is not expected and not excused and not stopped:
            yield f"{key} ended with {status} and is told as {run.outcome}: {run.reason}"


def _unsaid_locally(alone: Mapping[tuple[str, int], int], told: Told) -> Iterator[str]:
    """The same for what cron or a person started. If the supervisor was killed, its pid may be known to nobody."""
    orphans = {node for (node, _), run in told.local.items() if run.outcome is Outcome.INTERRUPTED}
    for key, status in alone.items():
        run = told.local.get(key)
        if run is None and key[0] not in orphans:
            yield f"{key} ended with {status}, and the hub has never heard of it"
        elif run and run.outcome not in (Outcome.FAILED if status else Outcome.SUCCEEDED, Outcome.INTERRUPTED):
            yield f"{key} ended with {status} and is told as {run.outcome}"


def _invented(
    begun: Mapping[tuple[str, str], int],
    ended: Mapping[tuple[str, str], int],
    alone: Mapping[tuple[str, int], int],
    told: Told,
) -> Iterator[str]:
    for key, delivery in told.deliveries.items():
        if delivery.state is DeliveryState.EXPIRED and begun.get(key):
            yield f"{key} is told as expired, and was started"
        if delivery.state is DeliveryState.REFUSED and not delivery.run:
            yield f"{key} is told as refused: {delivery.reason}"
        if delivery.run:
            said = f"{key} is told as {delivery.run.outcome} ({delivery.run.reason})"
            mine = told.journals.get((delivery.run.id, key[1]))
            if mine is None or mine.outcome is not delivery.run.outcome:
                yield f"{said}; its journal has {mine.outcome if mine else 'nothing'}"
            if not _happened(delivery.run, key[1], begun, ended, alone, told):
                yield f"{said}, and that did not happen"
    for (node, pid), run in told.local.items():
        claims = run.outcome is Outcome.SUCCEEDED and run.cause is Cause.LOCAL and not run.shared
        if claims and alone.get((node, pid)) != 0:
            yield f"{run.id} of {node} is told as succeeded, and the ledger lacks it"


def _happened(  # noqa: PLR0917 - all that there is to compare
    run: Run,
    node: str,
    begun: Mapping[tuple[str, str], int],
    ended: Mapping[tuple[str, str], int],
    alone: Mapping[tuple[str, int], int],
    told: Told,
) -> bool:
    key = (run.id, node)
    match run.outcome:
        case Outcome.SUCCEEDED:
            return _succeeded(run, node, ended, alone, told)
        case Outcome.FAILED:
            return ended.get(key) != 0
        case Outcome.SKIPPED:
            return not begun.get(key)
        case Outcome.INTERRUPTED:
            return run.supervisor in told.killed
        case Outcome.CANCELLED:
            return run.id in told.stopped
        case _:  # nothing is refused: every node knows what it is asked for
            return run.outcome is Outcome.TIMED_OUT and run.action in _LATE


def _succeeded(
    run: Run,
    node: str,
    ended: Mapping[tuple[str, str], int],
    alone: Mapping[tuple[str, int], int],
    told: Told,
) -> bool:
    if not run.shared:
        return ended.get((run.id, node)) == 0
    served_by = told.journals.get((run.shared, node))
    if served_by is None:
        return False
    if served_by.cause is Cause.TRIGGER:
        return ended.get((run.shared, node)) == 0
    return alone.get((node, served_by.pid or 0)) == 0
