"""What comes together in one commit, and what a commit that fails takes along: the service, its store a real one."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nanoexec.config import HubConfig
from nanoexec.hub.clerk import Clerk
from nanoexec.hub.control import ControlSocket, read_message
from nanoexec.hub.core import Decision, HubCore
from nanoexec.hub.service import Hub
from nanoexec.hub.watch import AT_ONCE
from nanoexec.model import ActionOffer, Cause, Delivery, DeliveryState, Instant, Order, Outcome, Output, Trigger
from nanoexec.record import DeliveryMoved, NodeHeard, NodeJoined, RunReported, TokenMade, TriggerDetail, TriggerIssued
from nanoexec.store import Store
from nanoexec.transport import Peer
from nanoexec.transport.memory import MemoryNetwork
from nanoexec.wire import control, network, stream
from tests.unit.hub.made import START, ack, at, hello, id_of, issued, key_of, run, submit, wanted
from tests.unit.hub.test_clerk import WatchedStore

S = DeliveryState
DAY = 86400.0
WEB1 = Peer(name="web1", key=key_of("web1"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WatchedStore]:
    opened = WatchedStore.open(tmp_path / "hub.db")
    opened.commit([NodeJoined(name="web1", key=WEB1.key, at=START)])
    yield opened
    opened.free.set()
    opened.close()


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> Instant:
        return at(self.seconds)


def serving(
    store: WatchedStore, use: Callable[[Hub, Clock], Awaitable[None]], seconds: float = 0.0, **config: Any
) -> None:
    """Let ``use`` ask a hub that serves, whose clock stands so many seconds after `START`."""

    async def scenario() -> None:
        clock = Clock()
        clock.seconds = seconds
        memory = MemoryNetwork(random.Random(1))  # noqa: S311 - a test
        hub = Hub(HubConfig(**config), name="hub", store=store, transport=memory.hub(), pin=b"", now=clock)
        try:
            await hub.start()
            async with asyncio.timeout(60):
                await use(hub, clock)
        finally:
            store.free.set()
            await hub.stop()

    asyncio.run(scenario())


async def together(store: WatchedStore, hub: Hub, *asks: Callable[[], Awaitable[Any]]) -> list[Any]:
    """What is asked in this order while a commit is on its way: all of it goes into the next one."""
    store.free.clear()
    store.waiting.clear()
    first = asyncio.ensure_future(hub.clerk.decide(lambda core: submit(core, "first", lifetime=900.0)))
    await asyncio.to_thread(store.waiting.wait, 60)
    asked = []
    for number, ask in enumerate(asks, 1):
        asked.append(asyncio.ensure_future(ask()))
        while hub.clerk._queue.qsize() < number:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
    store.free.set()
    await first
    return await asyncio.gather(*asked, return_exceptions=True)


def said(hub: Hub, message: network.Report) -> Callable[[], Awaitable[bytes]]:
    return lambda: hub._respond(WEB1, network.encode(message))


def state(store: Store) -> DeliveryState:
    (delivery,) = store.trigger(id_of("t1")).deliveries
    return delivery.state


def test_who_cancels_hears_of_a_run_that_ends_in_the_very_commit(store: WatchedStore) -> None:
    async def use(hub: Hub, _: Clock) -> None:
        await hub.clerk.decide(submit)
        await hub.clerk.decide(lambda core: ack(core, "web1", S.RUNNING))
        cancel = control.Cancel(id=id_of("t1"))
        cancelling, _answer = await together(
            store, hub, lambda: hub.cancel(cancel, "root"), said(hub, network.Report(runs=(run(),)))
        )
        (delivery,) = cancelling.answer.deliveries
        assert (delivery.state, delivery.run) == (S.FINISHED, None), "nobody would ever be told that it has ended"

    serving(store, use)
    assert state(store) is S.FINISHED


def test_late_news_that_meets_a_failing_commit_still_replaces_what_the_hub_had_concluded(store: WatchedStore) -> None:
    def bad(core: HubCore) -> Decision:
        """What no database takes."""
        return Decision(changes=(issued(submit(core, "bad")),) * 2)

    async def use(hub: Hub, clock: Clock) -> None:
        await hub.clerk.decide(submit)
        clock.seconds = 61.0
        await hub.clerk.decide(lambda core: core.tick(clock()))
        assert state(store) is S.EXPIRED
        before = hub.clerk.core
        late = said(hub, network.Report(runs=(run(),)))
        _, answer = await together(store, hub, lambda: hub.clerk.decide(bad), late)
        assert isinstance(network.decode_answer(answer), network.Received)
        assert hub.clerk.core is not before

    serving(store, use)
    assert state(store) is S.FINISHED


@pytest.mark.parametrize(("script", "nodes"), [(60_000, 300), (2_000, 5_000), (100, 10)])
def test_what_is_shown_of_a_long_command_on_many_nodes_fits_into_one_message(
    monkeypatch: pytest.MonkeyPatch, store: WatchedStore, script: int, nodes: int
) -> None:
    command = ("sh", "-c", "x" * script)
    ended = run(command=command, output=Output(b"y" * 4000, b"", 4000))
    deliveries = [Delivery(id_of("t1"), f"web{n}", S.FINISHED, START, run=ended) for n in range(nodes)]
    trigger = Trigger(id_of("t1"), "exec", "ALL", START, START + 60, "root", command=command)
    detail = TriggerDetail(trigger, "ALL", tuple(deliveries))
    monkeypatch.setattr(store, "trigger", lambda _: detail)

    async def use(hub: Hub, _: Clock) -> None:
        shown = await hub.show(id_of("t1"))
        stream.encode(shown)
        assert shown.trigger is not None
        assert shown.trigger.trigger.command == command
        assert (shown.trigger.deliveries == detail.deliveries) == (nodes == 10), "what fits is shown whole"

    serving(store, use)


@pytest.mark.parametrize("size", [100, 20_000])
def test_names_of_arguments_count_as_the_words_of_a_command_do(
    monkeypatch: pytest.MonkeyPatch, store: WatchedStore, size: int
) -> None:
    ended = run(arguments={"x" * size: "on"})
    deliveries = [Delivery(id_of("t1"), f"web{n}", S.FINISHED, START, run=ended) for n in range(1000)]
    trigger = Trigger(id_of("t1"), "uptime", "ALL", START, START + 60, "root")
    detail = TriggerDetail(trigger, "ALL", tuple(deliveries))
    monkeypatch.setattr(store, "trigger", lambda _: detail)

    async def use(hub: Hub, _: Clock) -> None:
        shown = await hub.show(id_of("t1"))
        stream.encode(shown)
        assert shown.trigger is not None
        assert (shown.trigger.deliveries == detail.deliveries) == (size == 100), "what fits is shown whole"

    serving(store, use)


@pytest.mark.parametrize(("actions", "kept"), [(1000, 1000), (1, 4000)])
def test_what_one_node_says_of_all_its_actions_leaves_room_for_what_is_overdue_on_others(
    store: WatchedStore, actions: int, kept: int
) -> None:
    said = "\N{GRINNING FACE}" * 4000  # as long as a reason may be
    store.commit([NodeJoined(name="web2", key=key_of("web2"), at=START)])
    for node, count in (("web1", actions), ("web2", 60)):
        names = [f"{node}-{number}" for number in range(count)]
        offers = tuple(ActionOffer(name=name, interval=3600.0) for name in names)
        failed = {"cause": Cause.LOCAL, "outcome": Outcome.FAILED, "reason": said}
        runs = [run(f"{node}r{number:04}", action=name, **failed) for number, name in enumerate(names)]
        store.commit([NodeHeard(node, START + 1000, 0.0, "1", offers)])
        store.commit([RunReported(node=node, run=each, at=START) for each in runs])

    async def use(hub: Hub, _: Clock) -> None:
        found = await hub.overdue(control.AskOverdue())
        stream.encode(found)
        assert len(found.lapses) == actions + 60
        assert min(len(lapse.detail) for lapse in found.lapses) >= kept

    serving(store, use, seconds=4000.0)


def test_who_watches_hears_of_a_node_that_leaves_right_after_it_was_called_present(
    monkeypatch: pytest.MonkeyPatch, store: WatchedStore, tmp_path: Path
) -> None:
    """However seldom the hub looks around: the node had come after it looked last."""
    monkeypatch.setattr("nanoexec.hub.service.TICK", 3600.0)

    async def use(hub: Hub, _: Clock) -> None:
        door = ControlSocket(hub)
        await door.open(tmp_path / "control.sock", None)
        hello(hub.clerk.core, "web1")
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control.sock")
        writer.write(stream.encode(control.Submit(wanted=wanted("web1"), watch=True)))
        accepted = control.decode_reply(await read_message(reader))
        assert isinstance(accepted, control.Accepted)
        assert accepted.away == ()
        hub.clerk.core.roster.away("web1")
        hub.look_around()
        assert control.decode_reply(await read_message(reader)) == control.Progress(away=("web1",))
        writer.close()
        await door.close()

    serving(store, use)


def test_who_watches_and_does_not_read_is_hung_up_before_the_hub_keeps_much_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, store: WatchedStore, tmp_path: Path
) -> None:
    monkeypatch.setattr("nanoexec.hub.control.UNREAD", 100_000)
    path = tmp_path / "control.sock"

    async def use(hub: Hub, _: Clock) -> None:
        door = ControlSocket(hub)
        await door.open(path, None)
        reader, writer = await asyncio.open_unix_connection(path, limit=1)  # reads no more than it is asked for
        writer.write(stream.encode(control.Submit(wanted=wanted("web1"), watch=True)))
        accepted = control.decode_reply(await read_message(reader))
        assert isinstance(accepted, control.Accepted)
        news = DeliveryMoved(accepted.trigger.id, "web1", S.RUNNING, START, reason="x" * 1000)
        for _ in range(20):
            hub.watchers.committed([news] * 7 * AT_ONCE)  # that is told in seven parts
            await asyncio.sleep(0)
        (said,) = caplog.messages
        assert said.endswith(f"watches trigger {accepted.trigger.id} and does not read: hung up")
        heard = 0
        with contextlib.suppress(ConnectionError):
            while more := await reader.read(1 << 20):
                heard += len(more)
        assert heard < 1_000_000, "what the kernel had taken"
        writer.close()
        await door.close()

    with caplog.at_level("WARNING"):
        serving(store, use)


@pytest.mark.parametrize(("last", "kept"), [(1.0, True), (40.0, False)])
def test_a_clock_that_is_years_ahead_at_the_start_does_not_cost_the_history(
    monkeypatch: pytest.MonkeyPatch, store: WatchedStore, last: float, *, kept: bool
) -> None:
    """Of thirty days: what is old is told by the clock, and by what came last."""
    trigger = Trigger(id_of("t1"), "uptime", "ALL", START, START + 60, "root")
    store.commit(
        [
            TriggerIssued(trigger, Order(network.encode_trigger(trigger)), "ALL", ("web1",)),
            DeliveryMoved(trigger.id, "web1", S.EXPIRED, START + 60),
            RunReported(node="web1", run=run("r1", cause=Cause.LOCAL), at=START + last * DAY),
        ]
    )
    purged_at(3650, monkeypatch, store)
    assert (store.stored_trigger(trigger.id) is not None) == kept


def test_a_hub_where_nothing_happens_forgets_old_tokens_all_the_same(
    monkeypatch: pytest.MonkeyPatch, store: WatchedStore
) -> None:
    store.commit([TokenMade("a" * 64, START + 69 * DAY, 1), TokenMade("b" * 64, START + 71 * DAY, 1)])
    purged_at(100, monkeypatch, store)
    assert [token.digest[0] for token in store.tokens(START)] == ["b"]


def purged_at(days: int, monkeypatch: pytest.MonkeyPatch, store: WatchedStore) -> None:
    """Let a hub that keeps thirty days of history purge once, so many days after `START`."""
    purge, purged = Clerk.purge, asyncio.Event()

    async def told(clerk: Clerk, *before: float) -> None:
        await purge(clerk, *before)
        purged.set()

    monkeypatch.setattr(Clerk, "purge", told)

    async def use(_hub: Hub, _clock: Clock) -> None:
        await purged.wait()

    serving(store, use, seconds=days * DAY, history_days=30)
