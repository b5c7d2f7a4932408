"""Writing: a group of `record.Change` values as few statements, within the caller's transaction.

Changes to different tables do not touch each other, so that they are gathered table by table; within a table the order
is kept. That turns a hundred reports with the hundred moves between them into two statements.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from nanoexec.model import Cause, DeliveryState
from nanoexec.record import (
    Change,
    DeliveryCancelled,
    DeliveryMoved,
    NodeHeard,
    NodeJoined,
    NodeRevoked,
    RunReported,
    TokenMade,
    TokenUsed,
    TriggerIssued,
)
from nanoexec.store.schema import certificates, deliveries, nodes, runs, tokens, triggers

Row = dict[str, Any]

_FIRST_TIMES: Final = ("sent", "acknowledged", "running")  # columns named after states
_move: Final = (
    sa.update(deliveries)
    .where(deliveries.c.trigger == sa.bindparam("of_trigger"), deliveries.c.node == sa.bindparam("of_node"))
    .values(
        {name: sa.bindparam(name) for name in ("state", "updated", "reason")}
        | {name: sa.func.coalesce(deliveries.c[name], sa.bindparam(name)) for name in _FIRST_TIMES}
    )
)
_cancel: Final = (
    sa.update(deliveries)
    .where(deliveries.c.trigger == sa.bindparam("of_trigger"), deliveries.c.node == sa.bindparam("of_node"))
    .where(deliveries.c.cancelled.is_(None))
    .values({name: sa.bindparam(name) for name in ("cancelled", "canceller")})
)
_hear: Final = (
    sa.update(nodes)
    .where(nodes.c.name == sa.bindparam("of_name"))
    .values({name: sa.bindparam(name) for name in ("seen", "skew", "version", "actions", "relayed")})
)
_spend: Final = sa.update(tokens).where(tokens.c.digest == sa.bindparam("of_digest")).values(uses=tokens.c.uses - 1)


def apply(connection: sa.Connection, changes: Iterable[Change]) -> None:
    """Write the changes; a later one wins over an earlier one."""
    gathered = sorted(changes, key=lambda change: _TABLE[type(change)])
    for kind, group in groupby(gathered, key=type):
        _WRITE[kind](connection, list(group))


def _issued(connection: sa.Connection, group: Sequence[TriggerIssued]) -> None:
    connection.execute(sa.insert(triggers), [_trigger_row(change) for change in group])
    rows = [
        {
            "trigger": change.trigger.id,
            "node": node,
            "updated": change.trigger.issued,
            "state": state.value,
            "sent": change.trigger.issued if state is DeliveryState.SENT else None,
        }
        for change in group
        for node, state in _first_states(change).items()
    ]
    if rows:
        connection.execute(sa.insert(deliveries).values(reason=""), rows)


def _first_states(change: TriggerIssued) -> dict[str, DeliveryState]:
    return dict.fromkeys(change.nodes, DeliveryState.PENDING) | dict.fromkeys(change.sent, DeliveryState.SENT)


def _moved(connection: sa.Connection, group: Sequence[DeliveryMoved]) -> None:
    rows: list[Row] = [
        {
            "of_trigger": change.trigger,
            "of_node": change.node,
            "state": change.state.value,
            "updated": change.at,
            "reason": change.reason,
        }
        | {name: change.at if change.state == name else None for name in _FIRST_TIMES}
        for change in group
    ]
    connection.execute(_move, rows)


def _cancelled(connection: sa.Connection, group: Sequence[DeliveryCancelled]) -> None:
    rows = [
        {"of_trigger": change.trigger, "of_node": change.node, "cancelled": change.at, "canceller": change.by}
        for change in group
    ]
    connection.execute(_cancel, rows)


def _reported(connection: sa.Connection, group: Sequence[RunReported]) -> None:
    dialect: Any = {"sqlite": sqlite, "postgresql": postgresql}[connection.dialect.name]
    insert = dialect.insert(runs)
    newer = {column.name: insert.excluded[column.name] for column in runs.c if not column.primary_key}
    upsert = insert.on_conflict_do_update(
        index_elements=[runs.c.node, runs.c.id], set_=newer, where=runs.c.change < insert.excluded.change
    )
    connection.execute(upsert, [_run_row(change) for change in group])


def _joined(connection: sa.Connection, group: Sequence[NodeJoined]) -> None:
    for change in group:
        _end_certificates(connection, change.name, change.at, "replaced")
        connection.execute(sa.insert(certificates), {"id": change.key, "node": change.name, "accepted": change.at})
        fresh = {"key": change.key, "joined": change.at, "version": "", "actions": "[]"}
        unknown = {
            "seen": None,
            "skew": None,
            "revoked": None,
            "relayed": None,
        }  # it may be another machine than before
        update = sa.update(nodes).where(nodes.c.name == change.name)
        if not connection.execute(update, fresh | unknown).rowcount:
            connection.execute(sa.insert(nodes), {"name": change.name, **fresh, **unknown})


def _revoked(connection: sa.Connection, group: Sequence[NodeRevoked]) -> None:
    for change in group:
        _end_certificates(connection, change.name, change.at, "revoked")
        connection.execute(sa.update(nodes).where(nodes.c.name == change.name), {"revoked": change.at})


def _heard(connection: sa.Connection, group: Sequence[NodeHeard]) -> None:
    rows = [
        {
            "of_name": change.name,
            "seen": change.seen,
            "skew": change.skew,
            "version": change.version,
            "actions": _json(change.actions),
            "relayed": _json(change.relayed),
        }
        for change in group
    ]
    connection.execute(_hear, rows)


def _made(connection: sa.Connection, group: Sequence[TokenMade]) -> None:
    connection.execute(sa.insert(tokens), [msgspec.structs.asdict(change) for change in group])


def _used(connection: sa.Connection, group: Sequence[TokenUsed]) -> None:
    connection.execute(_spend, [{"of_digest": change.digest} for change in group])


def _end_certificates(connection: sa.Connection, node: str, at: float, ending: str) -> None:
    accepted = sa.update(certificates).where(certificates.c.node == node, certificates.c.ended.is_(None))
    connection.execute(accepted, {"ended": at, "ending": ending})


def _trigger_row(change: TriggerIssued) -> Row:
    row = msgspec.structs.asdict(change.trigger)
    return row | {
        "target": change.target,
        "arguments": _json(change.trigger.arguments),
        "command": _json(change.trigger.command),
        "body": change.order.body,
        "signature": change.order.signature,
    }


def _run_row(change: RunReported) -> Row:
    run = change.run
    row = {name: getattr(run, name) for name in _RUN_FIELDS}
    return row | {
        "node": change.node,
        "reported": change.at,
        "trigger": run.id if run.cause is Cause.TRIGGER else None,
        "cause": run.cause.value,
        "outcome": run.outcome and run.outcome.value,
        "arguments": _json(run.arguments),
        "command": _json(run.command),
        "size": run.output.size,
        "head": run.output.head,
        "tail": run.output.tail,
    }


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


_RUN_FIELDS: Final = (
    *("id", "action", "by", "change", "requested", "started", "ended", "duration"),
    *("reason", "status", "changed", "shared"),
    *("boot", "supervisor", "pid", "admitted", "began", "cancelled", "canceller"),
)
_WRITE: Final[dict[type[Change], Callable[[sa.Connection, Any], None]]] = {
    TriggerIssued: _issued,
    DeliveryMoved: _moved,
    DeliveryCancelled: _cancelled,
    RunReported: _reported,
    NodeJoined: _joined,
    NodeRevoked: _revoked,
    NodeHeard: _heard,
    TokenMade: _made,
    TokenUsed: _used,
}
# What belongs to the same table has the same rank; a trigger comes before its deliveries move.
_TABLE: Final[dict[type[Change], int]] = {
    TriggerIssued: 0,
    DeliveryMoved: 1,
    DeliveryCancelled: 2,
    RunReported: 3,
    NodeJoined: 4,
    NodeRevoked: 4,
    NodeHeard: 4,
    TokenMade: 5,
    TokenUsed: 5,
}
