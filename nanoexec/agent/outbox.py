"""What the hub must still hear, and how far the journal has been relayed. Pure.

The journal is the record; this is only the way from it to the hub. Runs come in twice: told by the runner as they
happen, and read from the journal after the cursor. A run that the hub has heard of in its present state is not said
again, and the cursor moves only past runs that the hub has stored. Whatever is lost here with the process is read from
the journal again.
"""

from typing import Final

from nanoexec.model import MAX_RUNS, Cursor, DeliveryState, Run
from nanoexec.wire.network import Ack, Answer, Denied, Question, Report

REPORT_SIZE: Final = 256 << 10  # bytes of one report, but at least one run
# Bytes of everything in a run but its output, command and arguments; and no report has more than `MAX_RUNS`.
_RUN_SIZE: Final = REPORT_SIZE // MAX_RUNS
REMEMBERED: Final = 1000  # runs that are known to be stored at the hub


class Outbox:
    """Acks and runs that wait to be said."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self._acks: dict[str, Ack] = {}
        self._runs: dict[str, Run] = {}
        self._stored: dict[str, int] = {}  # run id -> change that the hub has
        self._awaited: set[str] = set()  # runs of the batch read last that the hub has not stored yet
        self._batch: Cursor | None = None
        self._one_by_one = False

    def ack(self, ack: Ack) -> None:
        """Say this of a trigger, unless its report is waiting, which says more."""
        if ack.trigger not in self._runs:
            self._acks[ack.trigger] = ack

    def add(self, run: Run) -> None:
        """Report a run that has an outcome, unless newer news of it is known or waiting."""
        waiting = self._runs.get(run.id)
        if self._stored.get(run.id, 0) < run.change and (waiting is None or waiting.change < run.change):
            self._runs[run.id] = run
            self._acks.pop(run.id, None)

    def forget_stored(self, run: str) -> None:
        """The hub offers this trigger, so it cannot have its report: say it again when it comes."""
        self._stored.pop(run, None)

    def batch(self, journal: str, runs: tuple[Run, ...]) -> None:
        """Runs read from the journal after the cursor, in the order of their changes."""
        for run in runs:
            if run.outcome is not None:
                self.add(run)
            elif run.started is not None and run.cause == "trigger":
                self.ack(Ack(trigger=run.id, state=DeliveryState.RUNNING, started=run.started))
        change = runs[-1].change if runs else self.cursor.change
        self._batch = Cursor(journal=journal, change=change, epoch=self.cursor.epoch)
        self._awaited = {run.id for run in runs if run.id in self._runs}
        self._advance()

    def agree(self, epoch: str, stored: Cursor) -> None:
        """The hub has begun a new epoch, and has ``stored`` so much: relay anew from there.

        Its database may have been put back to an earlier state. What was said since then is said again; if nothing was
        lost, the hub has it and nothing changes.
        """
        change = min(self.cursor.change, stored.change) if stored.journal == self.cursor.journal else 0
        self.cursor = Cursor(journal=self.cursor.journal, change=change, epoch=epoch)
        self._stored.clear()
        self._awaited.clear()
        self._batch = None

    @property
    def reading(self) -> bool:
        """Whether a batch is still on its way to the hub: read no further before it is."""
        return self._batch is not None

    def question(self) -> Question | None:
        """What to say next."""
        if self._acks:
            return next(iter(self._acks.values()))
        size = 0
        chosen: list[Run] = []
        for run in self._runs.values():
            size += _size(run)
            if chosen and (size > REPORT_SIZE or self._one_by_one):
                break
            chosen.append(run)
        return Report(runs=tuple(chosen)) if chosen else None

    def answered(self, question: Question, answer: Answer) -> None:
        """The hub has heard it, or will never want it (denied); a denied report is split to find the run at fault."""
        match question:
            case Ack() if self._acks.get(question.trigger) == question:
                del self._acks[question.trigger]
            case Report():
                if isinstance(answer, Denied) and len(question.runs) > 1:
                    self._one_by_one = True
                    return
                for run in question.runs:
                    self._settle(run)
                self._advance()

    def forget(self) -> None:
        """The link is gone: what was not said is read from the journal again, or offered again by the hub."""
        self._acks.clear()
        self._runs.clear()
        self._awaited.clear()
        self._batch = None
        self._one_by_one = False

    def _settle(self, run: Run) -> None:
        self._stored[run.id] = run.change
        while len(self._stored) > REMEMBERED:
            del self._stored[next(iter(self._stored))]
        if run.id in self._runs and self._runs[run.id].change <= run.change:
            del self._runs[run.id]
            self._awaited.discard(run.id)
        self._one_by_one = self._one_by_one and bool(self._runs)

    def _advance(self) -> None:
        if self._batch is not None and not self._awaited:
            self.cursor, self._batch = self._batch, None


def _size(run: Run) -> int:
    """How many bytes a run takes in a report: rather too many than too few, in the longest spelling of UTF-8."""
    texts = (run.by, run.reason, *run.command, *run.arguments, *run.arguments.values())
    return _RUN_SIZE + len(run.output.head) + len(run.output.tail) + 4 * sum(map(len, texts))
