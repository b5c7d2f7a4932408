"""Which nodes have not done in time what their schedules promise, and why. Pure: roster and history in, lapses out.

When an action is overdue
-------------------------
A node says with each action that it offers how far apart the slots of its fallback schedule are at most: the interval.
Counted from the start of the last success, the next one has as long as this:

=======================  =======================  ============================================================
the last success         it may take until        because
=======================  =======================  ============================================================
a scheduled run          one interval later       the next slot runs it again
triggered, or by hand    two intervals later      it spares the next slot, and the one after that runs again
none in the history      one interval after the   nothing is known before; a schedule that is younger than its
                         node joined              interval counts as overdue until its first slot
=======================  =======================  ============================================================

and then as long as that success took, and `SLACK`. A node without a schedule is judged by the longest interval that any
other node has for the action. Where no node has one, nothing makes it run: each node that offers it is a lapse.

Why it is overdue
-----------------
The first of these that holds: the node has been away for longer than the interval; a run has failed since the last
success; the last run was refused; it was skipped; the node is away; it has no schedule; else it is here, and silent.

The clock of a node may be off: a start is put into the hub's time by the node's present skew, and never after the run
was reported.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from nanoexec.model import ActionOffer, Cause, Node, Outcome
from nanoexec.record import HistoryEntry, Lapse, Standing, Why

SLACK: Final = 120.0  # seconds: cron starts within its minute, and the agent tells what it finds in the journal
_SAID: Final = {Outcome.REFUSED: Why.REFUSED, Outcome.SKIPPED: Why.SKIPPED}


def scheduled(nodes: Iterable[Node]) -> tuple[str, ...]:
    """The actions that some node has a schedule for, by name."""
    return tuple(
        sorted(
            {
                offer.name
                for node in nodes
                if node.revoked is None
                for offer in node.actions
                if offer.interval is not None
            }
        )
    )


def is_offered(action: str, nodes: Iterable[Node]) -> bool:
    """Whether any node offers the action."""
    return any(node.revoked is None and _offer(node, action) for node in nodes)


def lapses(action: str, nodes: Iterable[Node], standings: Mapping[str, Standing], now: float) -> list[Lapse]:
    """Where the action is overdue, by node name. A node that neither offers it nor ever ran it owes nothing."""
    concerned = sorted(
        (node for node in nodes if node.revoked is None and (_offer(node, action) or node.name in standings)),
        key=lambda node: node.name,
    )
    usual = max((interval for node in concerned if (interval := _interval(node, action)) is not None), default=None)
    found = (_lapse(action, node, standings.get(node.name, Standing()), usual, now) for node in concerned)
    return [lapse for lapse in found if lapse]


def _lapse(action: str, node: Node, standing: Standing, usual: float | None, now: float) -> Lapse | None:
    own = _interval(node, action)
    interval = usual if own is None else own
    success = standing.succeeded
    if interval is not None and now <= _due(node, success, interval):
        return None
    why, since, detail = _reason(action, node, standing, interval, now)
    return Lapse(
        node=node.name,
        action=action,
        why=why,
        since=since,
        detail=detail,
        succeeded=_start(node, success) if success else None,
        interval=interval,
    )


def _due(node: Node, success: HistoryEntry | None, interval: float) -> float:
    if success is None:
        return node.joined + interval + SLACK
    intervals = 1 if success.cause is Cause.SCHEDULE else 2
    return _start(node, success) + intervals * interval + (success.duration or 0.0) + SLACK


def _reason(
    action: str, node: Node, standing: Standing, interval: float | None, now: float
) -> tuple[Why, float | None, str]:
    """Why, since when, and what the node said of it."""
    away = None if node.connected else node.joined if node.seen is None else node.seen
    if away is not None and interval is not None and now - away > interval:
        return Why.OFFLINE, away, ""
    if told := _told(node, standing):
        return told
    if away is not None:
        return Why.OFFLINE, away, ""
    if (offer := _offer(node, action)) is None:
        return Why.UNSCHEDULED, None, "the node does not offer it any more"
    return (Why.UNSCHEDULED if offer.interval is None else Why.SILENT), None, ""


def _told(node: Node, standing: Standing) -> tuple[Why, float, str] | None:
    """What the runs since the last success say."""
    latest = standing.latest
    if latest is None:
        return None
    if standing.failing:
        return Why.FAILING, _start(node, standing.failing), standing.failing.reason
    why = _SAID.get(latest.outcome) if latest.outcome else None
    return (why, latest.at, latest.reason) if why else None


def _start(node: Node, entry: HistoryEntry) -> float:
    """When a run started, by the hub's clock."""
    return entry.at if entry.started is None else min(entry.at, entry.started - (node.skew or 0.0))


def _offer(node: Node, action: str) -> ActionOffer | None:
    return next((offer for offer in node.actions if offer.name == action), None)


def _interval(node: Node, action: str) -> float | None:
    offer = _offer(node, action)
    return offer.interval if offer else None
