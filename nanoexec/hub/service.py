"""The hub as a running service: questions in, decisions out, beacons, the passage of time.

Everything that it touches is handed in, so that it runs the same over real sockets and in the memory of a test.
"""

import asyncio
import contextlib
import functools
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from nanoexec import __version__
from nanoexec.config import HubConfig
from nanoexec.errors import ProtocolError, StoreError, UnavailableError, UsageError
from nanoexec.hub import fitting, overdue
from nanoexec.hub.clerk import Clerk
from nanoexec.hub.core import Answered, Decision, HubCore
from nanoexec.hub.echo import Echo
from nanoexec.hub.joining import Joining
from nanoexec.hub.ledger import Ledger
from nanoexec.hub.roster import Roster
from nanoexec.hub.watch import Watchers
from nanoexec.keys import token
from nanoexec.model import Delivery, Instant, Node, Order, identifier
from nanoexec.record import Change, Lapse, RunReported, StoredTrigger, TokenMade
from nanoexec.store import Store
from nanoexec.transport import Exchange, HubTransport, Peer
from nanoexec.wire import control, network

TICK: Final = 1.0  # seconds
PURGE_EVERY: Final = 3600.0
_DAY: Final = 86400.0
_log = logging.getLogger("nanoexec.hub")
_T = TypeVar("_T")


class Hub:
    """One hub: `start` it, let `control` and `joining` talk to it, `stop` it. ``name`` is that of its certificate."""

    def __init__(
        self,
        config: HubConfig,
        *,
        name: str,
        store: Store,
        transport: HubTransport,
        pin: bytes,
        now: Callable[[], Instant],
    ) -> None:
        self.config = config
        self.name = name
        self.watchers = Watchers()
        self.ports = (config.publish_port, config.report_port)
        self._joining: Joining | None = None
        self._echo: Echo | None = None
        self._store = store
        self._transport = transport
        self._pin = pin
        self._now = now
        self._started = now()
        self._counters: Counter[str] = Counter()
        self._reader = ThreadPoolExecutor(1, "store-reader")
        self.clerk = Clerk(store, self._revive, self._committed)
        self._exchange: Exchange | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def _revive(self, store: Store) -> HubCore:
        """The core as the store has it: at the start, and again if a commit ever fails."""
        ledger = Ledger()
        for stored in store.open_triggers():
            ledger.remember(stored)
        return HubCore(
            epoch=identifier(secrets.token_bytes(10)),
            interval=self.config.beacon_interval,
            groups=self.config.groups,
            roster=Roster(store.roster(), store.tokens(self._now().wall)),
            ledger=ledger,
        )

    def _committed(self, changes: Sequence[Change]) -> None:
        self.count("runs_reported", sum(isinstance(change, RunReported) for change in changes))
        self.watchers.committed(changes)

    @property
    def join_port(self) -> int | None:
        """The port on which machines may join, while any token is outstanding."""
        return self._joining.port if self._joining is not None else None

    # Life

    async def start(self) -> None:
        """Serve nodes. Raises `UnavailableError` when an address is taken."""
        self._exchange = await self._transport.serve(accept=self._accept, respond=self._respond, notice=self._notice)
        self.ports = (
            getattr(self._exchange, "publish_port", self.ports[0]),
            getattr(self._exchange, "report_port", self.ports[1]),
        )
        works = [self.clerk.work, self._beacons, self._ticks, self._purges, self._look_around]
        if self._echo is not None:
            works += [self._echo.listen, functools.partial(self._judge, self._echo)]
        self._tasks += [asyncio.create_task(self._survive(work)) for work in works]

    def let_join(self, joining: Joining) -> None:
        """Have machines let in by this, whenever a token is outstanding. Before `start`."""
        self._joining = joining

    def listen_to_itself(self, echo: Echo) -> None:
        """Have the hub watched by this. Before `start`."""
        self._echo = echo

    async def stop(self) -> None:
        """Stop serving; what was accepted is on disk."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._joining is not None:
            await self._joining.close()
        if self._exchange is not None:
            await self._exchange.close()
        self.clerk.close()
        self._reader.shutdown()

    async def failed(self) -> None:
        """Return only if one of the hub's own loops has ended, which is a bug."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def _survive(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except Exception:
            _log.exception("a loop of the hub has ended")
            raise

    # Nodes

    def _accept(self, peer: Peer) -> bool:
        """Whether this certificate may connect. Called from any thread."""
        return self.clerk.core.roster.accepted.get(peer.key) == peer.name or self._is_own(peer)

    def _is_own(self, peer: Peer) -> bool:
        return self._echo is not None and self._echo.peer == peer

    async def _respond(self, peer: Peer, frame: bytes) -> bytes:
        if self._is_own(peer):  # it is there to listen; a node of the hub's own name has a key of its own
            return network.encode(network.Denied(reason=f"{peer.name} only listens", time=self._now().wall))
        try:
            question = network.decode_question(frame)
        except ProtocolError as error:
            self.count("frames_refused")
            _log.warning("%s: %s", peer.name, error)
            return network.encode(network.Denied(reason=str(error), time=self._now().wall))
        self.count("questions")
        unknown = self.clerk.core.unknown_triggers(question)
        recalled = await self._recall(unknown)

        def ask(core: HubCore) -> Answered[network.Answer]:
            # One that was made anew meanwhile lacks what the one before remembered.
            lost = [id_ for id_ in core.unknown_triggers(question) if id_ not in unknown]
            found = [*recalled, *filter(None, map(self._store.stored_trigger, lost))]
            return core.ask(peer.name, question, self._now(), found)

        decision = await self.clerk.decide(ask)
        await self.publish(decision)
        return network.encode(decision.answer)

    async def _recall(self, triggers: Sequence[str]) -> list[StoredTrigger]:
        """Triggers that are long closed, from the store, because somebody speaks of them."""
        found = [await self._read(functools.partial(self._store.stored_trigger, id_)) for id_ in triggers]
        return [stored for stored in found if stored is not None]

    def _notice(self, peer: Peer, up: bool) -> None:  # noqa: FBT001 - the transport's signature
        """A node that can hear is connected once it has said hello; one that can no longer hear is away at once."""
        roster = self.clerk.core.roster
        if not up and peer.key in roster.accepted and roster.away(peer.name):
            _log.info("%s is away", peer.name)

    async def _beacons(self) -> None:
        while True:
            with contextlib.suppress(UnavailableError):  # the clerk has logged it; the next one tries again
                await self.publish(await self.clerk.decide(lambda core: core.beacon(self._now())))
            await asyncio.sleep(self.config.beacon_interval)

    async def _ticks(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            with contextlib.suppress(UnavailableError):
                decision = await self.clerk.decide(lambda core: core.tick(self._now()))
                for key in decision.disconnect:
                    _log.info("%s is silent, and counts as away", self.clerk.core.roster.accepted.get(key, key))
                await self.publish(decision)
            await self._mind_join_listener()

    async def _judge(self, echo: Echo) -> None:
        """Apart from all that may be stuck, the writer for instance: then no beacon comes, and this must say so."""
        while True:
            await asyncio.sleep(TICK)
            self.count("alarms", echo.judge(self._now()))

    async def _look_around(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self.look_around()

    def look_around(self) -> None:
        """Tell who watches which nodes have come and gone."""
        self.watchers.present(self.clerk.core.roster.connected())

    async def _purges(self) -> None:
        while True:
            try:
                await self.clerk.purge(*await self._horizon())
            except StoreError as error:
                _log.warning("old history stays for now: %s", error)
            await asyncio.sleep(PURGE_EVERY)

    async def _horizon(self) -> tuple[float, float]:
        """Before what history is old, and before what join tokens are. A clock that is years ahead when a hub starts
        must not cost all of the history, so it is old beside what came last, too. A token has nothing but the clock.
        """
        newest, clock = await self._read(self._store.newest), self._now().wall
        kept = self.config.history_days * _DAY
        return min(clock, newest + _DAY) - kept, clock - kept

    async def publish(self, decision: Decision) -> None:
        """Let out what has been decided and stored."""
        if self._exchange is None:
            return
        for key in decision.disconnect:
            self._exchange.disconnect(key)
        for frame in decision.frames:
            await self._exchange.publish(frame)

    # Operators

    def prepare(self, wanted: control.Wanted, by: str) -> control.Prepared:
        """Raises as `HubCore.prepare`."""
        return self.clerk.core.prepared(wanted, by, self._new_id(), self._now())

    async def submit(self, wanted: control.Wanted, by: str) -> Answered[control.Accepted]:
        """Accept a trigger. The caller publishes the decision. Raises as `HubCore.submit`."""
        id_ = self._new_id()
        decision = await self.clerk.decide(lambda core: core.submit(wanted, by, id_, self._now()))
        _log.info("trigger %s: %s:%s by %s", id_, wanted.target, wanted.action, by)
        return decision

    async def issue(self, order: Order, expression: str, by: str) -> Answered[control.Accepted]:
        """Accept a signed trigger. The caller publishes the decision. Raises as `HubCore.issue`."""
        stored = bool(await self._recall([network.decode_trigger(order.body).id]))
        decision = await self.clerk.decide(lambda core: core.issue(order, expression, by, self._now(), stored=stored))
        _log.info("signed trigger for %s by %s", expression, by)
        return decision

    async def cancel(self, request: control.Cancel, by: str) -> Answered[control.Cancelling]:
        """Take a trigger back. The caller publishes the decision. Raises as `HubCore.cancel`."""
        id_ = await self._read(lambda: self._store.trigger_id(request.id))
        recalled = await self._recall([id_])
        news: dict[str, Delivery] = {}  # a run may end in the very commit, before anybody can watch for it

        def note(progress: control.Progress) -> None:
            news.update({delivery.node: replace(delivery, run=None) for delivery in progress.deliveries})

        self.watchers.add(id_, note)
        try:
            decision = await self.clerk.decide(lambda core: core.cancel(id_, by, request.nodes, self._now(), recalled))
        finally:
            self.watchers.remove(id_, note)
        _log.info("trigger %s cancelled%s by %s", id_, f" on {request.nodes}" if request.nodes else "", by)
        deliveries = tuple(news.get(delivery.node, delivery) for delivery in decision.answer.deliveries)
        return replace(decision, answer=replace(decision.answer, deliveries=deliveries))

    async def prove(self, request: control.Prove) -> control.Proof:
        """What the store has of one delivery. Raises `UsageError`."""
        chain = await self._read(lambda: self._store.chain(request.id, request.node))
        known = self.clerk.core.roster.get(request.node)
        if known is not None:
            chain = replace(chain, skew=known.skew, connected=known.connected)
        return control.Proof(chain=chain)

    async def make_token(self, request: control.MakeToken, by: str) -> control.TokenText:
        """A new token; the secret is in the answer and nowhere else."""
        secret = secrets.token_bytes(token.SECRET)
        expires = self._now().wall + request.lifetime
        made = TokenMade(digest=token.digest(secret), expires=expires, uses=request.uses, node=request.node)
        await self.clerk.decide(lambda core: core.add_token(made))
        _log.info("join token for %s (%d uses) by %s", request.node or "any node", request.uses, by)
        await self._mind_join_listener()
        text = token.encode(token.Token(hub=self.name, pin=self._pin, secret=secret))
        return control.TokenText(token=text, expires=expires, join_port=self.join_port or self.config.join_port)

    async def _mind_join_listener(self) -> None:
        if self._joining is not None:
            await self._joining.mind(wanted=self.clerk.core.roster.has_tokens(self._now()))

    def nodes(self) -> tuple[Node, ...]:
        """The roster."""
        return self.clerk.core.roster.nodes()

    async def revoke(self, node: str, by: str) -> control.Done:
        """Shut a node out, at once. Raises `UsageError`."""
        decision = await self.clerk.decide(lambda core: core.revoke(node, self._now()))
        await self.publish(decision)
        _log.info("%s revoked by %s", node, by)
        return control.Done(note="" if decision.changes else f"{node} was revoked before")

    async def history(self, request: control.AskHistory) -> control.History:
        entries = await self._read(
            lambda: self._store.history(
                node=request.node, action=request.action, since=request.since, limit=request.limit
            )
        )
        return control.History(entries=fitting.brief(entries))

    async def overdue(self, request: control.AskOverdue) -> control.Overdue:
        """Where actions are overdue. Raises `UsageError` for an action that no node offers."""
        nodes, action = self.nodes(), request.action
        if action is not None and not overdue.is_offered(action, nodes):
            raise UsageError(f"no node offers the action {action} (`nanoexec nodes show NODE` lists what one offers)")
        found: list[Lapse] = []
        for name in overdue.scheduled(nodes) if action is None else (action,):
            standings = await self._read(functools.partial(self._store.standings, name))
            found += overdue.lapses(name, nodes, standings, self._now().wall)
        return control.Overdue(lapses=fitting.terse(found))

    async def show(self, id_: str) -> control.Shown:
        """Raises `UsageError` when nothing, or more than one thing, begins with ``id_``."""
        return await self._read(lambda: self._show(id_))

    def _show(self, id_: str) -> control.Shown:
        try:
            return control.Shown(trigger=fitting.within_a_message(self._store.trigger(id_)))
        except UsageError as error:
            with contextlib.suppress(UsageError):
                return control.Shown(runs=fitting.shortened(self._store.runs(id_)))
            raise error from None

    def status(self) -> control.Status:
        """The hub in numbers."""
        core = self.clerk.core
        counters = dict(self._counters) | {
            "peers_refused": getattr(self._exchange, "refused", 0),
            "listeners_reopened": getattr(self._exchange, "reopened", 0),
            "addresses_barred": getattr(self._exchange, "barred", 0),
        }
        return control.Status(
            hub=self.name,
            version=__version__,
            epoch=core.epoch,
            started=self._started.wall,
            publish_port=self.ports[0],
            report_port=self.ports[1],
            join_port=self.join_port,
            nodes=len(core.roster.accepted),
            connected=len(core.roster.connected()),
            open_deliveries=core.ledger.open_deliveries(),
            counters=counters,
            problem=self.clerk.problem,
            heard=self._echo.heard if self._echo else None,
            alarm=self._echo.alarm if self._echo else "",
        )

    def count(self, what: str, times: int = 1) -> None:
        """Keep count of something worth watching."""
        self._counters[what] += times

    def _new_id(self) -> str:
        return identifier(secrets.token_bytes(10))

    async def _read(self, read: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, read)
