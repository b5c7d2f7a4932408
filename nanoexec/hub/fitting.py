"""What operators ask for, made to fit into one answer: no node can keep the others from being read. Pure."""

from collections.abc import Sequence

from msgspec.structs import replace

from nanoexec.model import Run
from nanoexec.record import HistoryEntry, Lapse, RunReported, TriggerDetail
from nanoexec.wire import stream


def brief(entries: Sequence[HistoryEntry]) -> tuple[HistoryEntry, ...]:
    """As they are if they fit, else with short texts."""
    if 4 * sum(len(entry.reason) + len(entry.by) for entry in entries) <= stream.MAX_MESSAGE // 2:
        return tuple(entries)
    share = stream.MAX_MESSAGE // 4 // 4 // len(entries)  # characters, of four bytes at most
    return tuple(replace(entry, reason=entry.reason[:share], by=entry.by[:share]) for entry in entries)


def terse(lapses: Sequence[Lapse]) -> tuple[Lapse, ...]:
    """As `brief`."""
    if 4 * sum(len(lapse.detail) for lapse in lapses) <= stream.MAX_MESSAGE // 2:
        return tuple(lapses)
    share = stream.MAX_MESSAGE // 2 // 4 // len(lapses)
    return tuple(replace(lapse, detail=lapse.detail[:share]) for lapse in lapses)


def shortened(reports: Sequence[RunReported]) -> tuple[RunReported, ...]:
    """As `within_a_message`."""
    runs = _fitting([each.run for each in reports])
    return tuple(replace(each, run=run) for each, run in zip(reports, runs, strict=True))


def within_a_message(detail: TriggerDetail) -> TriggerDetail:
    """With so little of each run that all of them fit into one answer."""
    runs = iter(_fitting([delivery.run for delivery in detail.deliveries if delivery.run is not None]))
    deliveries = tuple(
        delivery if delivery.run is None else replace(delivery, run=next(runs)) for delivery in detail.deliveries
    )
    return replace(detail, deliveries=deliveries)


def _fitting(runs: Sequence[Run]) -> list[Run]:
    """With outputs that take half a message; each says how much of it was cut. And without the words of their commands
    where these are too many: every run of a trigger has them anew.
    """
    share = stream.MAX_MESSAGE // 2 // max(1, len(runs))
    words = sum(len(word.encode()) for run in runs for word in (*run.command, *run.arguments, *run.arguments.values()))
    if words > stream.MAX_MESSAGE // 8:
        runs = [replace(run, command=(), arguments={}) for run in runs]
    return [replace(run, output=run.output.shortened(share)) for run in runs]
