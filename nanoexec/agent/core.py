"""What the agent decides. Pure: frames, answers and the present moment in; questions, hand-overs and notes out.

The doorbell (PUB) may ring twice or not at all. What counts is the conversation: hello tells the hub that this node is
here, and its answer offers whatever the hub believes the node does not have. A gap in the sequence, a new epoch or a
new connection makes the agent say hello at once; otherwise it does so once a beacon interval, as its heartbeat.
"""

from collections.abc import Callable
from typing import Final

from nanoexec import __version__
from nanoexec.agent.cancels import Cancels
from nanoexec.agent.handover import Due, Handovers
from nanoexec.agent.hub_time import HubTime
from nanoexec.agent.outbox import Outbox
from nanoexec.errors import ConfigError, ProtocolError, RefusedError, TargetError, UnavailableError
from nanoexec.model import ActionOffer, Cursor, DeliveryState, Instant, Order, Run, Value
from nanoexec.target import contains
from nanoexec.wire import network, runner

SILENT_AFTER: Final = 2.5  # beacon intervals without a beacon until the hub counts as gone
RECHECK: Final = 30.0  # seconds between two looks at the journal while a run is known to be under way
ANSWER_WITHIN: Final = 25.0  # seconds; with an interval until the next hello, a mute link is noticed within 45
AGAIN: Final = 1.0  # seconds between two hellos when the hub has more to offer, or must say what time it is
SOON: Final = 2 * AGAIN  # before an order may have expired: one of two hellos is then asked within the last second
READ_RUNS: Final = 100


class Note(Value, frozen=True):
    """Something for the log and, under ``count``, for the statistics."""

    count: str
    text: str


class AgentCore:
    """The agent's memory. ``verify`` raises `RefusedError` for an order that this node does not trust, and
    `ConfigError` when it cannot judge. Both refuse the order.
    """

    def __init__(self, *, name: str, verify: Callable[[Order], None], cursor: Cursor) -> None:
        self.name = name
        self.outbox = Outbox(cursor)
        self.hub_time = HubTime()  # it alone decides about expiry
        self.handovers = Handovers()
        self.cancels = Cancels()
        self.notes: list[Note] = []
        self._verify = verify
        self._actions: tuple[ActionOffer, ...] = ()
        self._actions_news = True
        self._epoch = ""
        self._sequence = 0
        self._interval = 15.0
        self._asked = 0.0  # steady time of the last question
        self._asking = False  # whether an answer is awaited before anything is called expired
        self._greeted = -AGAIN  # steady time of the last hello
        self._beacon = 0.0  # steady time of the last one
        self._hello_at: float | None = None
        self._welcomed = False
        self._journal_news = True
        self._reading: Cursor | None = None  # after this, while the runner is asked for what comes then
        self._unread = False
        self._under_way: set[str] = set()
        self._recheck_at = 0.0

    # The link

    def connected(self, now: Instant) -> None:
        """A link is up: say hello, then relay what has gathered."""
        self._hello_at = now.steady
        self._beacon = now.steady
        self._actions_news = True
        self._journal_news = True

    def disconnected(self) -> None:
        """The link is gone."""
        self._hello_at = None
        self._welcomed = False
        self._asking = False
        self.outbox.forget()

    @property
    def welcomed(self) -> bool:
        """Whether the hub has answered hello on this link."""
        return self._welcomed

    def hub_is_silent(self, now: Instant) -> bool:
        """Whether the link looks dead: no beacon for two and a half intervals."""
        return now.steady - self._beacon > SILENT_AFTER * self._interval

    def heard(self, data: bytes, now: Instant) -> None:
        """A published frame came in."""
        try:
            message = network.decode_published(data)
        except ProtocolError as error:
            self._note("frames_refused", str(error))
            return
        self.hub_time.published(message.time, now.steady)
        expected = self._sequence
        if isinstance(message, network.Beacon):
            self._beacon = now.steady
            self._interval = message.interval
        elif isinstance(message, network.Publication) and data.startswith(network.TOPIC_ALL):
            expected += 1
        if message.epoch != self._epoch or message.sequence > expected:
            self._hello_at = now.steady if self._hello_at is None else min(self._hello_at, now.steady)
        self._epoch = message.epoch
        self._sequence = message.sequence
        if isinstance(message, network.Publication) and self.hub_time.known:  # else hello will bring it
            self._take(message.offer, message.time, now)
        elif isinstance(message, network.Cancellation):
            self._cancel(message)

    # What the hub must hear

    def question(self, now: Instant) -> network.Question | None:
        """What to ask or tell next, if anything."""
        question = self._next_question(now)
        self._asked, self._asking = now.steady, question is not None
        return question

    def _next_question(self, now: Instant) -> network.Question | None:
        if self._hello_at is not None and self._hello_at <= now.steady:
            self._greeted = now.steady
            return network.Hello(
                version=__version__,
                time=now.wall,
                actions=self._actions if self._actions_news else None,
                epoch=self._epoch,
                sequence=self._sequence,
                cursor=self.outbox.cursor,
            )
        return self.outbox.question() if self._welcomed else None

    def answered(self, question: network.Question, data: bytes, now: Instant) -> None:
        """What the hub said to it.

        Raises `ProtocolError` when that makes no sense, `UnavailableError` when it comes too late: the link is of no
        use then.
        """
        answer = network.decode_answer(data)
        if now.steady - self._asked > ANSWER_WITHIN:  # this machine slept: how old the answer is, nobody knows
            raise UnavailableError(f"the hub's answer was read {now.steady - self._asked:.0f} s after it was asked for")
        self.hub_time.answered(answer.time, self._asked, now.steady)
        self._asking = False
        if isinstance(question, network.Hello):
            if not isinstance(answer, network.Welcome):
                reason = answer.reason if isinstance(answer, network.Denied) else "it answers with something else"
                raise ProtocolError(f"the hub does not welcome {self.name}: {reason}")
            self._welcome(question, answer, now)
            return
        if isinstance(answer, network.Denied):
            self._note("messages_denied", f"the hub will not take a message: {answer.reason}")
        self.outbox.answered(question, answer)

    def unsayable(self, question: network.Question, reason: str, now: Instant) -> None:
        """A message that no frame can hold: it is given up, as if the hub had denied it."""
        self._asking = False
        self._note("messages_denied", f"a message cannot be sent: {reason}")
        self.outbox.answered(question, network.Denied(reason=reason, time=now.wall))

    def _welcome(self, hello: network.Hello, answer: network.Welcome, now: Instant) -> None:
        if answer.node != self.name:
            raise ProtocolError(f"the hub knows this node as {answer.node}: set name = {answer.node!r} in agent.toml")
        self._welcomed = True
        self._epoch, self._sequence, self._interval = answer.epoch, answer.sequence, answer.interval
        if answer.cursor and answer.epoch != self.outbox.cursor.epoch:
            self.outbox.agree(answer.epoch, answer.cursor)
            self._journal_news = True
        if hello.actions == self._actions:
            self._actions_news = False
        pause = 0.0 if self._actions_news else AGAIN if answer.more else answer.interval
        self._hello_at = now.steady + pause
        for offer in answer.offers:
            self._take(offer, answer.time, now)

    def _take(self, offer: network.Offer, shown: float, now: Instant) -> None:
        """An order came in. It is verified before it is read, and read before it is believed to be for this node.

        ``shown``: the hub's clock when the hub sent it.
        """
        if offer.id in self.handovers:
            return
        try:
            self._verify(offer.order)
        except (
            RefusedError,
            ConfigError,
        ) as error:  # a fault in the node's own signers is for the operator to see, too
            self._note("orders_refused", f"trigger {offer.id}: {error}")
            self.outbox.ack(network.Ack(trigger=offer.id, state=DeliveryState.REFUSED, reason=str(error)))
            return
        try:
            trigger = network.decode_trigger(offer.order.body)
            mine = contains(trigger.nodes, self.name)
        except (ProtocolError, TargetError) as error:
            self._note("frames_refused", str(error))
            return
        if trigger.id != offer.id:
            self._note("frames_refused", f"trigger {offer.id} names itself {trigger.id}")
            return
        if not mine:
            return
        self.outbox.forget_stored(trigger.id)
        late = trigger.expires <= self.hub_time.earliest(now.steady)
        self.handovers.take(offer, trigger, "it had expired when it came" if late else "")
        if late and trigger.expires > shown and self._hello_at is not None:
            self._hello_at = now.steady  # it waited, or the hub's clock was set back: only the hub knows
            self._asking = True
        if late:
            self._give_up(now)

    def _cancel(self, wish: network.Cancellation) -> None:
        """A trigger is taken back. Obeyed without a signature: it can only keep something from running."""
        try:
            if not contains(wish.nodes, self.name):
                return
        except TargetError as error:
            self._note("frames_refused", str(error))
            return
        self.handovers.drop(wish.trigger)
        self.outbox.forget_stored(wish.trigger)  # the hub would not ask if it had the report
        self.cancels.take(
            runner.Cancel(
                trigger=wish.trigger, action=wish.action, expires=wish.expires, issuer=wish.issuer, by=wish.by
            )
        )

    # The runner

    def told(self, run: Run) -> None:
        """The runner tells a run as its journal has it."""
        self.handovers.done(run.id)
        if run.outcome is not None:
            self._under_way.discard(run.id)
            self.outbox.add(run)
            return
        self._under_way.add(run.id)
        state = DeliveryState.ACKNOWLEDGED if run.started is None else DeliveryState.RUNNING
        self.outbox.ack(network.Ack(trigger=run.id, state=state, started=run.started))

    def rejected(self, trigger: str, reason: str, now: Instant, *, final: bool) -> None:
        """The runner will not take an order, now or ever."""
        self._note("orders_refused", f"trigger {trigger}: {reason}")
        if final:
            self.handovers.done(trigger)
            self.outbox.ack(network.Ack(trigger=trigger, state=DeliveryState.REFUSED, reason=reason))
        else:
            self.handovers.failed(trigger, reason, now.steady)

    def cancel_rejected(self, trigger: str, reason: str, now: Instant, *, final: bool) -> None:
        """The runner could not take a trigger back, now or ever. The hub goes on asking all the same."""
        self._note("cancels_refused", f"trigger {trigger} cannot be cancelled: {reason}")
        if final:
            self.cancels.done(trigger)
        else:
            self.cancels.failed(trigger, now.steady)

    def described(self, actions: tuple[ActionOffer, ...]) -> None:
        """What this node offers; the hub is told if it has changed."""
        if actions != self._actions:
            self._actions = actions
            self._actions_news = True
            if self._hello_at is not None:
                self._hello_at = 0.0

    def journal_moved(self) -> None:
        """The journal's change time has moved: somebody ran something."""
        self._journal_news = True

    def changes_wanted(self, now: Instant) -> runner.Changes | None:
        """Which part of the journal to ask the runner for, if any. The caller brings `changed` or `changes_failed`."""
        if (self._under_way or self._unread) and now.steady >= self._recheck_at:
            self._journal_news = True
        if not (self._welcomed and self._journal_news) or self._reading or self.outbox.reading:
            return None
        self._journal_news = False
        self._reading = self.outbox.cursor
        self._unread = False
        self._recheck_at = now.steady + RECHECK
        cursor = self.outbox.cursor
        return runner.Changes(journal=cursor.journal, after=cursor.change, limit=READ_RUNS)

    def changed(self, reply: runner.Changed) -> None:
        """The part of the journal that was asked for."""
        asked, self._reading = self._reading, None
        if not self._welcomed:
            return
        if asked != self.outbox.cursor:  # a new epoch has set it back meanwhile: this part comes later
            self._journal_news = True
            return
        if reply.more:
            self._journal_news = True
        if reply.journal != self.outbox.cursor.journal:
            self.outbox.cursor = Cursor(journal=reply.journal, epoch=self.outbox.cursor.epoch)
        for run in reply.runs:
            if run.outcome is not None:
                self._under_way.discard(run.id)
            else:
                self._under_way.add(run.id)
        self.outbox.batch(reply.journal, reply.runs)

    def changes_failed(self, reason: str, now: Instant) -> None:
        """The journal could not be read: try again with the next recheck."""
        self._reading = None
        self._unread = True
        self._recheck_at = now.steady + RECHECK
        self._note("journal_unread", f"the journal cannot be relayed for now: {reason}")

    # Time

    def orders_due(self, now: Instant) -> list[Due]:
        """Orders to hand over now. Any time may have passed since the last tick: what has expired is given up first."""
        self.tick(now)
        return self.handovers.due(now.steady, self.hub_time.latest(now.steady))

    def tick(self, now: Instant) -> None:
        """Give up orders that expired before the runner took them; to be called once a second.

        The hub's clock may have been set since it last answered. So it is asked while orders are about to expire, or
        may just have done so.
        """
        self._give_up(now)
        earliest, latest = self.hub_time.earliest(now.steady), self.hub_time.latest(now.steady)
        if self._hello_at is not None and self.handovers.in_doubt(earliest, latest + SOON):
            self._hello_at = min(self._hello_at, max(now.steady, self._greeted + AGAIN))

    def _give_up(self, now: Instant) -> None:
        """Tell the hub what has expired even by its earliest possible time.

        Not while its answer or its welcome is awaited, which may set that right: nobody would hear of it sooner.
        """
        if not self._welcomed or self._asking:
            return
        for late in self.handovers.expired(self.hub_time.earliest(now.steady)):
            reason = late.problem or "the runner did not take it in time"
            self.outbox.ack(network.Ack(trigger=late.trigger.id, state=DeliveryState.EXPIRED, reason=reason))

    def _note(self, count: str, text: str) -> None:
        self.notes.append(Note(count=count, text=text))
