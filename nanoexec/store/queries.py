"""Reading: rows as the values of ``nanoexec.model`` and ``nanoexec.record``, within the caller's transaction."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
import sqlalchemy as sa

from nanoexec.errors import UsageError
from nanoexec.model import (
    ID_ALPHABET,
    ID_LENGTH,
    ActionOffer,
    Arguments,
    Cause,
    Cursor,
    Delivery,
    DeliveryState,
    Node,
    Order,
    Outcome,
    Output,
    Run,
    Trigger,
    Value,
)
from nanoexec.record import Chain, HistoryEntry, RunReported, Standing, StoredTrigger, TokenMade, TriggerDetail
from nanoexec.store.schema import (
    certificates,
    deliveries,
    is_open,
    is_taken_back,
    is_untold,
    nodes,
    runs,
    tokens,
    triggers,
)

_arguments: Final = msgspec.json.Decoder(Arguments)
_command: Final = msgspec.json.Decoder(tuple[str, ...])
_cursor: Final = msgspec.json.Decoder(Cursor)
_offers: Final = msgspec.json.Decoder(tuple[ActionOffer, ...])
_Value = TypeVar("_Value", bound=Value)
_told: Final = (  # what history says of a run
    *(runs.c[name] for name in ("id", "node", "action", "cause", "by", "outcome", "reason", "started")),
    *(runs.c.duration, runs.c.status, runs.c.changed),
    runs.c.reported.label("at"),
)
_BAD: Final = (Outcome.FAILED.value, Outcome.TIMED_OUT.value, Outcome.INTERRUPTED.value)
_NO_ARGUMENTS: Final = "{}"  # as `changes` writes it
_SHOWN: Final = 4  # how many ids an ambiguous beginning is answered with


def open_triggers(connection: sa.Connection) -> list[StoredTrigger]:
    """Those that were taken back too: their nodes may not have heard of it yet."""
    unfinished = sa.union(*(sa.select(deliveries.c.trigger).where(such) for such in (is_open, is_taken_back)))
    return _stored(connection, unfinished)


def stored_trigger(connection: sa.Connection, id_: str) -> StoredTrigger | None:
    return next(iter(_stored(connection, [id_])), None)


def _stored(connection: sa.Connection, ids: sa.CompoundSelect[Any] | list[str]) -> list[StoredTrigger]:
    states: defaultdict[str, dict[str, DeliveryState]] = defaultdict(dict)
    cancels: defaultdict[str, dict[str, str]] = defaultdict(dict)
    wished: defaultdict[str, float] = defaultdict(float)
    columns = (deliveries.c[name] for name in ("trigger", "node", "state", "canceller", "cancelled"))
    found = sa.select(*columns).where(deliveries.c.trigger.in_(ids))
    for trigger, node, state, canceller, cancelled in connection.execute(found):
        states[trigger][node] = DeliveryState(state)
        if canceller is not None:
            cancels[trigger][node] = canceller
            wished[trigger] = max(wished[trigger], cancelled)
    rows = connection.execute(sa.select(triggers).where(triggers.c.id.in_(ids)).order_by(triggers.c.issued))
    return [
        StoredTrigger(
            trigger=_trigger(row),
            order=Order(row.body, row.signature),
            target=row.target,
            deliveries=states[row.id],
            cancels=cancels[row.id],
            wished=wished[row.id],
        )
        for row in rows
    ]


def roster(connection: sa.Connection) -> list[Node]:
    rows = connection.execute(sa.select(nodes).order_by(nodes.c.name))
    return [
        _value(
            Node,
            row._asdict(),
            actions=_offers.decode(row.actions),
            relayed=_cursor.decode(row.relayed) if row.relayed else Cursor(),
        )
        for row in rows
    ]


def newest(connection: sa.Connection) -> float:
    ends = (sa.select(sa.func.max(column)).scalar_subquery() for column in (triggers.c.issued, runs.c.reported))
    return float(connection.execute(sa.select(sa.func.max(*(sa.func.coalesce(end, 0.0) for end in ends)))).scalar_one())


def keys(connection: sa.Connection) -> dict[str, str]:
    accepted = sa.select(certificates.c.id, certificates.c.node).where(certificates.c.ended.is_(None))
    return {row.id: row.node for row in connection.execute(accepted)}


def usable_tokens(connection: sa.Connection, now: float) -> list[TokenMade]:
    usable = sa.select(tokens).where(tokens.c.expires > now, tokens.c.uses > 0).order_by(tokens.c.expires)
    return [_value(TokenMade, row._asdict()) for row in connection.execute(usable)]


def history(
    connection: sa.Connection, *, node: str | None, action: str | None, since: float | None, limit: int
) -> list[HistoryEntry]:
    """Two walks down an index, newest first, each at most ``limit`` long; then one list of both."""
    if limit < 1:
        return []
    told = (
        sa.select(*_told, deliveries.c.state)
        .outerjoin(deliveries, (deliveries.c.trigger == runs.c.trigger) & (deliveries.c.node == runs.c.node))
        .order_by(runs.c.reported.desc(), runs.c.node, runs.c.id)
    )
    has_run = sa.exists().where(runs.c.node == deliveries.c.node, runs.c.id == deliveries.c.trigger)
    untold = (
        sa.select(
            *(deliveries.c.trigger.label("id"), deliveries.c.node, deliveries.c.state, deliveries.c.reason),
            deliveries.c.updated.label("at"),
            triggers.c.action,
            triggers.c.by,
            sa.literal(Cause.TRIGGER.value).label("cause"),
        )
        .join(triggers, triggers.c.id == deliveries.c.trigger)
        .where(is_untold, ~has_run)
        .order_by(deliveries.c.updated.desc(), deliveries.c.node, deliveries.c.trigger)
    )
    if node is not None:
        told, untold = told.where(runs.c.node == node), untold.where(deliveries.c.node == node)
    if action is not None:
        told, untold = told.where(runs.c.action == action), untold.where(triggers.c.action == action)
    if since is not None:
        told, untold = told.where(runs.c.reported >= since), untold.where(deliveries.c.updated >= since)
    entries = [
        _value(HistoryEntry, row._asdict()) for walk in (told, untold) for row in connection.execute(walk.limit(limit))
    ]
    return sorted(entries, key=lambda entry: (-entry.at, entry.node, entry.id))[:limit]


def standings(connection: sa.Connection, action: str) -> dict[str, Standing]:
    """A seek or two down an index for each node of the roster; one more where the last run did not succeed."""
    plain = runs.c.arguments == _NO_ARGUMENTS
    good = _last_of_each(connection, action, runs.c.outcome == Outcome.SUCCEEDED.value, plain)
    standings = {}
    for node, last in _last_of_each(connection, action).items():
        success = good.get(node)
        failing = None if success and last.id == success.id else _first_failure(connection, last, success)
        standings[node] = Standing(*(_entry(row) if row else None for row in (success, failing, last)))
    return standings


def _last_of_each(connection: sa.Connection, action: str, *such: sa.ColumnElement[bool]) -> dict[str, Any]:
    """By node, its newest run of an action that is ``such``."""
    newest = (
        sa.select(runs.c.id)
        .where(runs.c.node == nodes.c.name, runs.c.action == action, *such)
        .order_by(runs.c.reported.desc(), runs.c.change.desc())
        .limit(1)
        .correlate(nodes)
        .scalar_subquery()
    )
    # An outer join keeps SQLite from beginning with the runs.
    both = nodes.outerjoin(runs, (runs.c.node == nodes.c.name) & (runs.c.id == newest))
    found = connection.execute(sa.select(*_told, runs.c.change).select_from(both))
    return {row.node: row for row in found if row.id is not None}


def _first_failure(connection: sa.Connection, last: Any, success: Any) -> Any:
    """The first run after ``success`` that ended badly; after its beginning, if it never succeeded."""
    bad = sa.select(*_told).where(runs.c.node == last.node, runs.c.action == last.action, runs.c.outcome.in_(_BAD))
    if success:
        bad = bad.where(sa.tuple_(runs.c.reported, runs.c.change) > sa.tuple_(success.at, success.change))
    return connection.execute(bad.order_by(runs.c.reported, runs.c.change).limit(1)).first()


def _entry(row: Any) -> HistoryEntry:
    fields = {name: value for name, value in row._asdict().items() if name in HistoryEntry.__struct_fields__}
    return _value(HistoryEntry, fields)


def trigger_detail(connection: sa.Connection, beginning: str) -> TriggerDetail:
    row = _only(connection, sa.select(triggers), triggers.c.id, beginning, "trigger")
    mine = sa.select(runs).where(runs.c.id == row.id, runs.c.trigger == row.id)
    reported = {found.node: _run(found) for found in connection.execute(mine)}
    ours = sa.select(deliveries).where(deliveries.c.trigger == row.id).order_by(deliveries.c.node)
    found = [_delivery(delivery, reported.get(delivery.node)) for delivery in connection.execute(ours)]
    return TriggerDetail(_trigger(row), row.target, tuple(found))


def trigger_id(connection: sa.Connection, beginning: str) -> str:
    return str(_only_trigger(connection, sa.select(triggers.c.id), beginning).id)


def chain(connection: sa.Connection, beginning: str, node: str) -> Chain:
    row = _only_trigger(connection, sa.select(triggers), beginning)
    ours = sa.select(deliveries).where(deliveries.c.trigger == row.id, deliveries.c.node == node)
    delivery = connection.execute(ours).first()
    if delivery is None:
        raise UsageError(f"trigger {row.id} was not for {node}: `nanoexec show {row.id}` lists its nodes")
    mine = sa.select(runs).where(runs.c.node == node, runs.c.id == row.id, runs.c.trigger == row.id)
    run = connection.execute(mine).first()
    return Chain(
        trigger=_trigger(row),
        signed=bool(row.signature),
        delivery=_delivery(delivery, _run(run) if run else None),
        sent=delivery.sent,
        acknowledged=delivery.acknowledged,
        running=delivery.running,
        stored=run.reported if run else None,
    )


def run_reports(connection: sa.Connection, beginning: str) -> list[RunReported]:
    """A run of which no trigger is known; of a trigger that a restored hub has forgotten there may be several."""
    known = sa.exists().where(triggers.c.id == runs.c.trigger)
    ids = sa.select(runs.c.id).distinct().where(runs.c.trigger.is_(None) | ~known)
    id_ = _only(connection, ids, runs.c.id, beginning, "run").id
    found = connection.execute(sa.select(runs).where(runs.c.id == id_).order_by(runs.c.node))
    return [RunReported(row.node, _run(row), row.reported) for row in found]


def _only_trigger(connection: sa.Connection, rows: sa.Select[Any], beginning: str) -> Any:
    """As `_only`. The history shows runs, too, and whoever has found an id there must not be sent there again."""
    try:
        return _only(connection, rows, triggers.c.id, beginning, "trigger")
    except UsageError as error:
        try:
            found = run_reports(connection, beginning)[0]
        except UsageError:
            raise error from None
    raise UsageError(
        f"run {found.run.id} on {found.node} is of no trigger that this hub knows: only the node itself can stop it, "
        f"and `nanoexec prove {found.run.id}` there tells all there is"
    )


def _only(
    connection: sa.Connection, rows: sa.Select[Any], column: sa.ColumnElement[str], beginning: str, what: str
) -> Any:
    """The one row whose id begins so. A range of ids, not LIKE, is what an index can serve in any collation."""
    if not 0 < len(beginning) <= ID_LENGTH or set(beginning) - set(ID_ALPHABET):
        raise UsageError(f"{beginning!r} cannot begin an id: write up to {ID_LENGTH} of {ID_ALPHABET}")
    least, most = beginning.ljust(ID_LENGTH, ID_ALPHABET[0]), beginning.ljust(ID_LENGTH, ID_ALPHABET[-1])
    found = connection.execute(rows.where(column.between(least, most)).order_by(column).limit(_SHOWN)).all()
    if not found:
        raise UsageError(f"no {what} begins with {beginning!r}: look for its id in the history")
    if len(found) > 1:
        raise UsageError(f"{beginning!r} begins several {what} ids ({', '.join(row.id for row in found)}): write more")
    return found[0]


def _trigger(row: Any) -> Trigger:
    return Trigger(
        row.id,
        row.action,
        row.nodes,
        row.issued,
        row.expires,
        row.by,
        _arguments.decode(row.arguments),
        row.timeout,
        _command.decode(row.command),
    )


def _delivery(row: Any, run: Run | None) -> Delivery:
    fields = {name: value for name, value in row._asdict().items() if name in Delivery.__struct_fields__}
    return _value(Delivery, fields, run=run, canceller=row.canceller or "")


def _run(row: Any) -> Run:
    fields = {name: value for name, value in row._asdict().items() if name in Run.__struct_fields__}
    return _value(
        Run,
        fields,
        arguments=_arguments.decode(row.arguments),
        command=_command.decode(row.command),
        output=Output(row.head, row.tail, row.size),
    )


def _value(kind: type[_Value], fields: Mapping[str, Any], **more: object) -> _Value:
    """Checked like anything from outside; SQLAlchemy's names are not quite `str`."""
    return msgspec.convert({str(name): value for name, value in fields.items()} | more, kind)
