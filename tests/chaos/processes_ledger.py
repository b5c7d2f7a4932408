"""What the commands themselves say that they did, and every promise as a comparison of it with what the hub says.

A command writes a line when it starts and one when it ends, each with O_APPEND and fsync, before anything else can
happen: outside of nanoexec, and on a disk that never fills. Whatever is killed meanwhile, these lines are what was.

What never ran has no line. So whatever is told of it needs its own reason: its time was over, somebody took it back,
another run was in its way for as long as it would wait, or nothing could be started there.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL
from typing import Final

from nanoexec.model import FINAL, Cause, Delivery, DeliveryState, Outcome, Run, Trigger, Value

NOBODY: Final = "-"  # and who has started it, in the place of the id of a run that no trigger caused
# A command of each kind that has ever been the trouble of a scheduler. $1 is the kind, and its parent answers for it.
WORK: Final = r"""#!/bin/sh
id=${NANOEXEC_TRIGGER_ID:--${NANOEXEC_BY%% *}}
say() {
    printf '%s %s %s %s %s %s\n' "$1" "$id" "$NODE" "$$" "$PPID" "$2" >>"$LEDGER" || exit 9
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
COALESCED: Final = "busy"  # an action that coalesces; its command is slow
_LATE: Final = ("deaf",)
_NO_SUCCESS: Final = ("fails", *_LATE)
_SOON: Final = 60.0  # seconds: what lives no longer than that may well expire
_EXACT: Final = 1.0  # seconds: nothing expires so much before its time
_ROUNDED: Final = 0.01  # seconds
_WAITED: Final = re.compile(r"waited \S+ for (?:another run|run (\w+))")
Key = tuple[str, str]  # a run as its command knows it, and the node: see `Line.key` and `key_of`


def timeout_of(action: str) -> float:
    """How many seconds an action may last, and so how long a run of it waits for the one before."""
    return 1.0 if action in _LATE else 120.0


class Line(Value, frozen=True):
    """One line of the ledger. ``id`` is the trigger's, or else `NOBODY` and who has started it; ``supervisor`` is the
    parent of the command when it began.
    """

    what: str
    id: str
    node: str
    pid: int
    supervisor: int
    status: int

    @property
    def triggered(self) -> bool:
        return not self.id.startswith(NOBODY)

    @property
    def key(self) -> Key:
        """A run that no trigger caused has the one process that answers for it."""
        return (self.id if self.triggered else f"{self.id} {self.supervisor}"), self.node


def key_of(run: Run, node: str) -> Key:
    own = f"{NOBODY}{run.by.partition(' ')[0]} {run.supervisor}"
    return (run.id if run.cause is Cause.TRIGGER else own), node


class Told(Value, frozen=True):
    """What the hub's store and the nodes' journals say at the end.

    ``accepted``: the nodes of each trigger that somebody was told is accepted; ``triggers``: these, and all that the
    hub has. ``local``: reported runs that no trigger caused. ``journals``: by id and node. ``over``: when all had come
    to rest.

    What was done: ``stopped`` are triggers that were cancelled, ``starved`` nodes that had no descriptors for a while.
    ``killed`` are processes that were, and those that have tried for long enough to write how their run ended.
    ``reaper`` is the parent of whoever is orphaned.
    """

    accepted: Mapping[str, Sequence[str]] = {}
    triggers: Mapping[str, Trigger] = {}
    deliveries: Mapping[Key, Delivery] = {}
    local: Mapping[Key, Run] = {}
    journals: Mapping[Key, Run] = {}
    killed: frozenset[int] = frozenset()
    stopped: frozenset[str] = frozenset()
    starved: frozenset[str] = frozenset()
    over: float = 0.0
    reaper: int = 0


class Verdict(Value, frozen=True):
    """What does not agree."""

    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    invented: tuple[str, ...] = ()  # said by nanoexec, and nobody did it
    idle: tuple[str, ...] = ()  # nothing was wrong, for nothing was done


def read(ledger: Path) -> list[Line]:
    """The ledger so far."""
    words = [line.split() for line in ledger.read_text().splitlines()] if ledger.exists() else []
    return [Line(what, id_, node, *map(int, numbers)) for what, id_, node, *numbers in words]


def judge(lines: Sequence[Line], told: Told, least: float = 0.6) -> Verdict:
    """Compare. ``least`` is the share that must have succeeded, of what nobody kept from it."""
    comparison = _Comparison(lines, told)
    return Verdict(
        lost=tuple(comparison.lost()),
        doubled=tuple(comparison.doubled()),
        invented=tuple(comparison.invented()),
        idle=tuple(comparison.idle(least)),
    )


class _Comparison:
    """The ledger by run, beside what is told."""

    def __init__(self, lines: Sequence[Line], told: Told) -> None:
        # Killed before its command had begun to speak: nobody knows whose it was. See `_astray`.
        self._strays = [line for line in lines if not line.triggered and line.supervisor == told.reaper]
        ours = [line for line in lines if line not in self._strays]
        self._told = told
        self._begun = Counter(line.key for line in ours if line.what == "start")
        self._ended = {line.key: line for line in ours if line.what == "end"}
        self._runs = {key: each.run for key, each in told.deliveries.items() if each.run} | dict(told.local)

    def lost(self) -> Iterator[str]:
        for id_, nodes in self._told.accepted.items():
            for node in nodes:
                delivery = self._told.deliveries.get((id_, node))
                if delivery is None or delivery.state not in FINAL:
                    yield f"{id_} on {node} is {delivery.state if delivery else 'not known'} for ever"
        for key, delivery in self._told.deliveries.items():
            if self._never_came(delivery):
                yield f"{key} is told as {delivery.state} ({delivery.reason}) at {delivery.updated}, without a reason"
        for key in self._begun.keys() - self._runs.keys():
            delivery = self._told.deliveries.get(key)
            yield f"{key} was started, and the hub has {delivery.state if delivery else 'never heard of it'}"
        yield from self._unsaid()
        yield from self._astray()

    def _never_came(self, delivery: Delivery) -> bool:
        """What is told of a delivery without a run, and needs one, or a reason for having none."""
        match delivery.state:
            case DeliveryState.EXPIRED:
                expires = self._told.triggers[delivery.trigger].expires
                return min(delivery.updated, self._told.over) < expires - _EXACT
            case DeliveryState.CANCELLED:
                return delivery.trigger not in self._told.stopped
            case DeliveryState.FINISHED:
                return delivery.run is None
            case state:
                return state is DeliveryState.LOST

    def _unsaid(self) -> Iterator[str]:
        """What ended by itself is told as it ended, unless something came between its last line and its exit."""
        for key, line in self._ended.items():
            run = self._runs.get(key)
            if run is None:
                continue  # nor is it known that it was started
            elsewhere = run.outcome in {Outcome.INTERRUPTED, Outcome.CANCELLED}  # `_happened` asks why
            killed = run.status == -SIGKILL and line.pid in self._told.killed
            expected = Outcome.FAILED if line.status else Outcome.SUCCEEDED
            if run.outcome is not expected and not (elsewhere or killed):
                yield f"{key} ended with {line.status} and is told as {run.outcome}: {run.reason}"

    def _astray(self) -> Iterator[str]:
        """Each start that nobody can be named for takes one run whose supervisor was killed, and that has no line."""
        runs = [(run, key[1]) for key, run in self._told.local.items() if not self._begun[key]]
        killed = Counter(node for run, node in runs if run.outcome is Outcome.INTERRUPTED and self._happened(run, node))
        for line in self._strays:
            if line.what == "start":
                killed[line.node] -= 1
                if killed[line.node] < 0:
                    yield f"a run by hand (pid {line.pid}) was started on {line.node}, and the hub never heard of it"

    def doubled(self) -> Iterator[str]:
        for (name, node), times in self._begun.items():
            if times > 1:
                yield f"{name} was started {times} times on {node}"

    def invented(self) -> Iterator[str]:
        for key, delivery in self._told.deliveries.items():
            if delivery.state in {DeliveryState.EXPIRED, DeliveryState.CANCELLED} and self._begun[key]:
                yield f"{key} is told as {delivery.state}, and was started"
            if delivery.state is DeliveryState.REFUSED:
                yield f"{key} is told as refused: {delivery.reason}"
        for key, run in self._runs.items():
            said = f"{key} is told as {run.outcome} ({run.reason})"
            mine = self._told.journals.get((run.id, key[1]))
            if mine is None or mine.outcome is not run.outcome:
                yield f"{said}; its journal has {mine.outcome if mine else 'nothing'}"
            if run.started is None and self._begun[key]:
                yield f"{said} before it started, and was started"
            if not self._happened(run, key[1]):
                yield f"{said}, and that did not happen"

    def _happened(self, run: Run, node: str) -> bool:
        key = key_of(run, node)
        match run.outcome:
            case _ if run.shared:
                true = self._shared(run, node)
            case Outcome.SUCCEEDED:
                true = key in self._ended and self._ended[key].status == 0
            case Outcome.FAILED:
                true = self._failed(run, key)
            case Outcome.SKIPPED:
                true = self._waited(run, node)
            case Outcome.TIMED_OUT:
                true = (run.duration or 0.0) >= timeout_of(run.action) - _ROUNDED
            case Outcome.INTERRUPTED:
                true = run.supervisor in self._told.killed
            case _:  # nothing is refused: every node knows what it is asked for
                true = run.outcome is Outcome.CANCELLED and run.id in self._told.stopped
        return true

    def _failed(self, run: Run, key: Key) -> bool:
        if run.pid is None:
            cannot = run.reason.startswith("cannot start ") and key[1] in self._told.starved
            return cannot and not self._begun[key]
        if run.status == -SIGKILL:
            return run.pid in self._told.killed
        return key in self._ended and self._ended[key].status == run.status != 0

    def _waited(self, run: Run, node: str) -> bool:
        """Every action waits for the run before, and gives up only after as long as it may last itself."""
        waited = _WAITED.fullmatch(run.reason)
        long = (run.ended or 0.0) - run.requested >= timeout_of(run.action) - _ROUNDED
        if not waited or not long or self._begun[key_of(run, node)]:
            return False
        before = self._told.journals.get((waited[1], node))
        return waited[1] is None or (before is not None and before.action == run.action)

    def _shared(self, run: Run, node: str) -> bool:
        """It took the outcome of one that began after it was asked for."""
        mine, served = self._told.journals.get((run.id, node)), self._told.journals.get((run.shared or "", node))
        if mine is None or served is None or self._begun[key_of(run, node)]:
            return False
        equal = served.action == run.action == COALESCED and served.outcome is run.outcome
        return equal and (served.began or 0) > mine.admitted and key_of(served, node) in self._runs

    def idle(self, least: float) -> Iterator[str]:
        told = self._told
        if not told.accepted:
            yield "nothing was triggered"
        if not any(times for (name, _), times in self._begun.items() if name in told.triggers):
            yield "no command of a trigger was started"
        able = [(id_, node) for id_, nodes in told.accepted.items() if self._may_succeed(id_) for node in nodes]
        done = [key for key in able if key in self._runs and self._runs[key].outcome is Outcome.SUCCEEDED]
        if len(done) < least * len(able):
            yield f"{len(done)} runs have succeeded, of {len(able)} that were triggered and could"

    def _may_succeed(self, id_: str) -> bool:
        trigger = self._told.triggers[id_]
        short = trigger.expires - trigger.issued < _SOON
        return trigger.action not in _NO_SUCCESS and id_ not in self._told.stopped and not short
