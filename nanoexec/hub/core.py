"""What the hub decides. Pure: a question and the present moment in, a `Decision` out.

The order of things is the promise. A decision is committed before its answer is given or its frames are published, and
questions are decided one at a time, so the core's memory and the store never tell different stories: if a commit fails,
the whole core is thrown away and made again from the store, as after a restart.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Generic, TypeVar

from nanoexec import target
from nanoexec.errors import NoTargetError, RefusedError, UsageError
from nanoexec.hub.ledger import Entry, Ledger, unsettled
from nanoexec.hub.roster import Roster
from nanoexec.model import (
    EVERY_NODE,
    EXEC,
    MAX_ORDER,
    Cause,
    Delivery,
    DeliveryState,
    Instant,
    Order,
    Outcome,
    Run,
    Trigger,
    Value,
)
from nanoexec.record import Change, RunReported, StoredTrigger, TokenMade, TriggerIssued
from nanoexec.wire import network
from nanoexec.wire.control import Accepted, Cancelling, Prepared, Wanted

SILENT_AFTER: Final = 2.5  # beacon intervals without a word until a node counts as away
OFFERS_AT_ONCE: Final = 512 << 10  # bytes of orders in one welcome
CANCELLED_AT_ONCE: Final = 1000  # nodes in one frame: whatever their names, a node reads a set of so many
ISSUED_WITHIN: Final = 600.0  # seconds between preparing a trigger and issuing it, signed
_A_co = TypeVar("_A_co", covariant=True)

_ACKS: Final = frozenset(
    {DeliveryState.ACKNOWLEDGED, DeliveryState.RUNNING, DeliveryState.EXPIRED, DeliveryState.REFUSED}
)


class Decision(Value, frozen=True):
    """``changes`` to commit; then ``frames`` to publish, certificate ids to ``disconnect``."""

    changes: tuple[Change, ...] = ()
    frames: tuple[bytes, ...] = ()
    disconnect: tuple[str, ...] = ()


class Answered(Decision, Generic[_A_co], frozen=True, kw_only=True):
    """A decision with an ``answer``, to give when the changes are on disk."""

    answer: _A_co


class HubCore:
    """The hub's memory between two questions: roster, ledger, epoch, sequence."""

    def __init__(
        self, *, epoch: str, interval: float, groups: Mapping[str, str], roster: Roster, ledger: Ledger
    ) -> None:
        self.epoch = epoch
        self.sequence = 0
        self.interval = interval
        self.roster = roster
        self.ledger = ledger
        self._groups = groups

    # Questions from nodes

    def ask(
        self, node: str, question: network.Question, now: Instant, recalled: Sequence[StoredTrigger] = ()
    ) -> Answered[network.Answer]:
        """Answer a node that the transport has let in under this name.

        ``recalled``: what the store has of `unknown_triggers`.
        """
        for stored in recalled:
            self.ledger.remember(stored)
        known = self.roster.get(node)
        if known is None or known.revoked is not None:
            return Answered(answer=network.Denied(reason=f"{node} is not on the roster", time=now.wall))
        self.roster.touch(node, now)
        match question:
            case network.Hello():
                return self._hello(node, question, now)
            case network.Ack():
                return self._ack(node, question, now)
            case network.Report():
                return self._report(node, question, now)
            case network.Bye():
                self.roster.away(node)
                return Answered(answer=network.Received(time=now.wall))

    def unknown_triggers(self, question: network.Question) -> list[str]:
        """Triggers that a question speaks of and that are not in memory: fetch them from the store first."""
        match question:
            case network.Ack():
                ids = [question.trigger]
            case network.Report():
                ids = [run.id for run in question.runs if run.cause is Cause.TRIGGER]
            case _:
                ids = []
        return [id_ for id_ in ids if not self.ledger.keep(id_)]

    def _hello(self, node: str, hello: network.Hello, now: Instant) -> Answered[network.Answer]:
        # Only what was agreed on with this very memory says what the store has: see docs/adr/0021.
        agreed = hello.cursor if hello.cursor and hello.cursor.epoch == self.epoch else None
        changes = self.roster.hello(node, hello, now, agreed)
        offers: list[network.Offer] = []
        size, more = 0, False
        for entry in self.ledger.waiting_for(node):
            if entry.trigger.expires <= now.wall:
                continue
            size += len(entry.order.body)
            if offers and size > OFFERS_AT_ONCE:
                more = True
                break
            offers.append(network.Offer(id=entry.trigger.id, order=entry.order))
            changes += self._sent(entry, node, now)
        welcome = network.Welcome(
            node=node,
            epoch=self.epoch,
            sequence=self.sequence,
            time=now.wall,
            interval=self.interval,
            offers=tuple(offers),
            more=more,
            cursor=self.roster.relayed(node) if hello.cursor else None,
        )
        cancels = [
            frame for entry in self.ledger.cancelled_for(node) for frame in self._cancel_again(entry, (node,), now)
        ]
        return Answered(changes=tuple(changes), answer=welcome, frames=tuple(cancels))

    def _ack(self, node: str, ack: network.Ack, now: Instant) -> Answered[network.Answer]:
        if ack.state not in _ACKS:
            return Answered(answer=network.Denied(reason=f"an ack cannot say {ack.state}", time=now.wall))
        changes = self.ledger.move(ack.trigger, node, ack.state, now.wall, ack.reason)
        return Answered(changes=tuple(changes), answer=network.Received(time=now.wall))

    def _report(self, node: str, report: network.Report, now: Instant) -> Answered[network.Answer]:
        for run in report.runs:  # all of them before anything moves: what is denied has not happened
            if run.outcome is None:
                return Answered(answer=network.Denied(reason=f"run {run.id} has not ended", time=now.wall))
        changes: list[Change] = []
        for run in report.runs:
            changes.append(RunReported(node=node, run=run, at=now.wall))
            if run.cause is Cause.TRIGGER:
                changes += self.ledger.move(run.id, node, _state_of(run), now.wall, run.reason)
        return Answered(changes=tuple(changes), answer=network.Received(time=now.wall))

    # Wishes of operators

    def prepare(self, wanted: Wanted, by: str, id_: str, now: Instant) -> tuple[Trigger, tuple[str, ...]]:
        """The trigger that this wish would become, and the names in it that are on no roster.

        Raises `TargetError`, `NoTargetError`, `UsageError`.
        """
        if (wanted.action == EXEC) != bool(wanted.command):
            raise UsageError(f"the action {EXEC!r} takes a command, and no other action does")
        found = target.resolve(wanted.target, self.roster.names(), self._groups)
        trigger = Trigger(
            id=id_,
            action=wanted.action,
            nodes=EVERY_NODE if wanted.target == EVERY_NODE else target.fold(found.nodes),
            issued=now.wall,
            expires=now.wall + wanted.lifetime,
            by=by,
            arguments=wanted.arguments,
            timeout=wanted.timeout,
            command=wanted.command,
        )
        size = len(network.encode_trigger(trigger))
        if size > MAX_ORDER:  # nodes would refuse every frame that carries it
            raise UsageError(f"the trigger has {size} bytes, at most {MAX_ORDER}: shorten its arguments or its target")
        return trigger, found.unknown

    def prepared(self, wanted: Wanted, by: str, id_: str, now: Instant) -> Prepared:
        """The exact bytes to sign. Raises as `prepare`."""
        trigger, unknown = self.prepare(wanted, by, id_, now)
        return Prepared(body=network.encode_trigger(trigger), unknown=unknown)

    def submit(self, wanted: Wanted, by: str, id_: str, now: Instant) -> Answered[Accepted]:
        """Issue a trigger. Raises as `prepare`."""
        trigger, unknown = self.prepare(wanted, by, id_, now)
        return self._issue(trigger, Order(body=network.encode_trigger(trigger)), wanted.target, unknown, now)

    def issue(
        self, order: Order, expression: str, by: str, now: Instant, *, stored: bool = False
    ) -> Answered[Accepted]:
        """Issue the exact bytes that an operator signed; ``stored`` says that the store has this trigger already.

        Raises `ProtocolError`, `RefusedError`, `NoTargetError`.
        """
        trigger = network.decode_trigger(order.body)
        if trigger.by != by:
            raise RefusedError(f"trigger {trigger.id} says that {trigger.by} issues it, but it is {by} who asks")
        if not now.wall - ISSUED_WITHIN <= trigger.issued <= now.wall + 1 or trigger.expires <= now.wall:
            raise RefusedError(f"trigger {trigger.id} was not prepared just now: prepare and sign it anew")
        if stored or self.ledger.get(trigger.id) is not None:
            raise RefusedError(f"trigger {trigger.id} has been issued already")
        return self._issue(trigger, order, expression, (), now)

    def _issue(
        self, trigger: Trigger, order: Order, expression: str, unknown: tuple[str, ...], now: Instant
    ) -> Answered[Accepted]:
        """Store it, then publish it: once to ALL, or to the one node that it is for."""
        nodes = target.members(trigger.nodes, self.roster.names())
        here = tuple(node for node in nodes if self.roster.is_connected(node))
        away = tuple(node for node in nodes if not self.roster.is_connected(node))
        states = dict.fromkeys(here, DeliveryState.SENT) | dict.fromkeys(away, DeliveryState.PENDING)
        stored = StoredTrigger(trigger=trigger, order=order, target=expression, deliveries=states)
        entry = self.ledger.remember(stored)
        for node in here:
            self.ledger.schedule_retry(trigger.id, node, now.steady)
        frames: tuple[bytes, ...] = ()
        if here:
            topic = network.topic_of(nodes[0]) if len(nodes) == 1 else network.TOPIC_ALL
            self.sequence += topic == network.TOPIC_ALL
            frames = (self._frame(topic, entry, now),)
        return Answered(
            changes=(TriggerIssued(trigger=trigger, order=order, target=expression, nodes=nodes, sent=here),),
            answer=Accepted(trigger=trigger, nodes=nodes, away=away, unknown=unknown),
            frames=frames,
        )

    def cancel(
        self, trigger: str, by: str, nodes: str | None, now: Instant, recalled: Sequence[StoredTrigger] = ()
    ) -> Answered[Cancelling]:
        """Take a trigger back, on all of its nodes or on those that ``nodes`` means.

        What was never sent is cancelled at once. The other nodes are asked, and have the last word, also of what has
        expired or is lost as far as the hub knows.
        Raises `UsageError`, `TargetError`, `NoTargetError`.
        """
        for stored in recalled:
            self.ledger.remember(stored)
        entry = self.ledger.keep(trigger)
        if entry is None:
            raise UsageError(f"there is no trigger {trigger}: look for its id in the history")
        try:
            found = target.resolve(nodes or EVERY_NODE, tuple(entry.deliveries), self._groups)
        except NoTargetError:
            raise NoTargetError(
                f"target {nodes!r} matches no node of trigger {trigger} (`nanoexec show {trigger}` lists them)"
            ) from None
        over = tuple(node for node in found.nodes if not unsettled(entry.deliveries[node]))
        changes: list[Change] = []
        for node in found.nodes:
            changes += self.ledger.cancel(trigger, node, by, now.wall)
        asked = [node for node in found.nodes if node in entry.cancels]
        here = [node for node in asked if self.roster.is_connected(node)]
        away = tuple(node for node in asked if not self.roster.is_connected(node))
        for node in away:
            changes += self.ledger.withdraw(trigger, node, now.wall)
        deliveries = tuple(
            Delivery(trigger=trigger, node=node, state=entry.deliveries[node], updated=now.wall) for node in found.nodes
        )
        return Answered(
            changes=tuple(changes),
            answer=Cancelling(
                trigger=entry.trigger, deliveries=deliveries, away=away, over=over, unknown=found.unknown
            ),
            frames=tuple(self._cancel_again(entry, here, now)),
        )

    def revoke(self, node: str, now: Instant) -> Decision:
        """Shut a node out: its deliveries are lost, its connections cut. Raises `UsageError` for an unknown name."""
        known = self.roster.get(node)
        if known is None:
            raise UsageError(f"no node {node} has ever joined (`nanoexec nodes list`)")
        changes = self.roster.revoke(node, now)
        for trigger in self.ledger.open_of(node):
            changes += self.ledger.move(trigger, node, DeliveryState.LOST, now.wall, "the node was revoked")
        return Decision(changes=tuple(changes), disconnect=(known.key,))

    def add_token(self, token: TokenMade) -> Decision:
        return Decision(changes=tuple(self.roster.add_token(token)))

    def join(self, digest: str, node: str, key: str, now: Instant) -> Decision:
        """A machine with this token's secret joins. Raises `IdentityError`, `RefusedError`."""
        self.roster.check_token(digest, node, now)
        before = self.roster.get(node)
        changes = self.roster.join(digest, node, key, now)
        return Decision(changes=tuple(changes), disconnect=(before.key,) if before else ())

    # Time

    def tick(self, now: Instant) -> Decision:
        """What is due: expiries, nodes that fell silent, offers to repeat."""
        changes = self.ledger.end_overdue(now.wall)
        self.ledger.forget_closed(now.steady)
        silent = self.roster.silent(now, SILENT_AFTER * self.interval)
        for lost in silent:
            self.roster.away(lost.name)
        frames = []
        cancels: dict[str, tuple[Entry, dict[str, None]]] = {}
        for entry, node in self.ledger.due_retries(now.steady):
            here = self.roster.is_connected(node)
            if node in entry.cancels and here:
                cancels.setdefault(entry.trigger.id, (entry, {}))[1][node] = None
            elif node in entry.cancels:
                changes += self.ledger.withdraw(entry.trigger.id, node, now.wall)
                self.ledger.forget_retry(entry.trigger.id, node)  # it hears of it when it returns
            elif here:
                self.ledger.schedule_retry(entry.trigger.id, node, now.steady)
                frames.append(self._frame(network.topic_of(node), entry, now))
            else:
                self.ledger.forget_retry(entry.trigger.id, node)  # it is offered everything when it returns
        for entry, nodes in cancels.values():
            frames += self._cancel_again(entry, tuple(nodes), now)
        # A silent node's connections are cut: NNG can miss that a peer has gone, and only this ends such a connection.
        return Decision(changes=tuple(changes), frames=tuple(frames), disconnect=tuple(lost.key for lost in silent))

    def beacon(self, now: Instant) -> Decision:
        """The frame that says the hub is here."""
        beacon = network.Beacon(epoch=self.epoch, sequence=self.sequence, time=now.wall, interval=self.interval)
        return Decision(frames=(network.publish(network.TOPIC_HUB, beacon),))

    def _sent(self, entry: Entry, node: str, now: Instant) -> Sequence[Change]:
        self.ledger.schedule_retry(entry.trigger.id, node, now.steady)
        return self.ledger.move(entry.trigger.id, node, DeliveryState.SENT, now.wall)

    def _cancel_again(self, entry: Entry, nodes: Sequence[str], now: Instant) -> list[bytes]:
        """The frames that ask these nodes to take a trigger back, apart for each who asked; others will follow."""
        frames = []
        for by in sorted({entry.cancels[node] for node in nodes}):
            group = [node for node in nodes if entry.cancels[node] == by]
            for node in group:
                self.ledger.schedule_retry(entry.trigger.id, node, now.steady)
            parts = (group[start : start + CANCELLED_AT_ONCE] for start in range(0, len(group), CANCELLED_AT_ONCE))
            frames += [self._cancellation(entry, part, by, now) for part in parts]
        return frames

    def _cancellation(self, entry: Entry, nodes: Sequence[str], by: str, now: Instant) -> bytes:
        wish = network.Cancellation(
            epoch=self.epoch,
            sequence=self.sequence,
            time=now.wall,
            trigger=entry.trigger.id,
            action=entry.trigger.action,
            nodes=target.fold(nodes),
            expires=entry.trigger.expires,
            issuer=entry.trigger.by,
            by=by,
        )
        return network.publish(network.topic_of(nodes[0]) if len(nodes) == 1 else network.TOPIC_ALL, wish)

    def _frame(self, topic: bytes, entry: Entry, now: Instant) -> bytes:
        offer = network.Offer(id=entry.trigger.id, order=entry.order)
        return network.publish(
            topic, network.Publication(epoch=self.epoch, sequence=self.sequence, time=now.wall, offer=offer)
        )


def _state_of(run: Run) -> DeliveryState:
    return DeliveryState.REFUSED if run.outcome is Outcome.REFUSED else DeliveryState.FINISHED
