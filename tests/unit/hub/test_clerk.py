"""Nobody hears of a decision before it is on disk; the store is a real one."""

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nanoexec.errors import UnavailableError, UsageError
from nanoexec.hub.clerk import GROUP, Clerk
from nanoexec.hub.core import Answered, Decision, HubCore
from nanoexec.hub.ledger import Ledger
from nanoexec.hub.roster import Roster
from nanoexec.model import DeliveryState
from nanoexec.record import Change, NodeJoined, TokenMade
from nanoexec.store import Store
from nanoexec.wire import network
from nanoexec.wire.control import Accepted
from tests.unit.hub.made import START, at, hello, id_of, key_of, moves, report, submit


class WatchedStore(Store):
    """The real store, which says when it has committed, and can be held back before it does."""

    def __init__(self, *known: Any) -> None:
        super().__init__(*known)
        self.groups: list[Sequence[Change]] = []
        self.log: list[str] = []
        self.free = threading.Event()
        self.free.set()
        self.waiting = threading.Event()

    def commit(self, group: Sequence[Change]) -> None:
        self.waiting.set()
        assert self.free.wait(60)
        super().commit(group)
        self.groups.append(group)
        self.log.append("stored")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with three nodes. Making one takes half a second, copying it nothing."""
    path = tmp_path_factory.mktemp("fresh") / "hub.db"
    store = Store.open(path)
    store.commit([NodeJoined(name=name, key=key_of(name), at=START) for name in ("web1", "web2", "web3")])
    store.close()
    return path


@pytest.fixture
def store(fresh: Path, tmp_path: Path) -> Iterator[WatchedStore]:
    opened = WatchedStore.open(Path(shutil.copy(fresh, tmp_path / "hub.db")))
    yield opened
    opened.free.set()
    opened.close()


def revive(store: Store) -> HubCore:
    ledger = Ledger()
    for stored in store.open_triggers():
        ledger.remember(stored)
    return HubCore(
        epoch=os.urandom(4).hex(),
        interval=15.0,
        groups={},
        roster=Roster(store.roster(), store.tokens(START)),
        ledger=ledger,
    )


def working(store: WatchedStore, use: Callable[[Clerk], Awaitable[None]]) -> None:
    """Let a clerk work on this store while ``use`` asks it."""

    async def run() -> None:
        clerk = Clerk(store, revive, lambda _: store.log.append("told"))
        work = asyncio.create_task(clerk.work())
        try:
            async with asyncio.timeout(60):
                await use(clerk)
            assert not work.done()
        finally:
            store.free.set()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            clerk.close()

    asyncio.run(run())


def issue(text: str, target: str = "ALL") -> Callable[[HubCore], Answered[Accepted]]:
    return lambda core: submit(core, text, target)


def issue_twice(text: str) -> Callable[[HubCore], Decision]:
    """What no database takes: the same trigger again, past the core's own check."""
    return lambda core: Decision(changes=submit(core, text).changes * 2)


def stored(store: Store) -> set[str]:
    return {found.trigger.id for found in store.open_triggers()}


async def held(store: WatchedStore, clerk: Clerk, *decides: Callable[[HubCore], Decision]) -> list[Any]:
    """Everything that is asked while one commit is on its way; then that one goes on. Gives results and errors."""
    store.free.clear()
    store.waiting.clear()
    first = asyncio.ensure_future(clerk.decide(lambda core: core.add_token(TokenMade("f" * 64, START + 9, 1))))
    await asyncio.to_thread(store.waiting.wait, 60)
    asked = [asyncio.ensure_future(clerk.decide(decide)) for decide in decides]
    await asyncio.sleep(0)  # each of them has now been put into the queue
    assert not any(future.done() for future in (first, *asked))
    store.free.set()
    await first
    return await asyncio.gather(*asked, return_exceptions=True)


def test_an_answer_is_given_and_told_only_after_the_commit(store: WatchedStore) -> None:
    async def use(clerk: Clerk) -> None:
        decision = await clerk.decide(issue("t1"))
        store.log.append("answered")
        assert decision.answer.trigger.id == id_of("t1")
        assert store.log == ["stored", "told", "answered"]

    working(store, use)
    assert stored(store) == {id_of("t1")}


def test_while_the_disk_is_slow_nobody_is_answered(store: WatchedStore) -> None:
    async def use(clerk: Clerk) -> None:
        store.free.clear()
        asked = asyncio.ensure_future(clerk.decide(issue("t1")))
        await asyncio.to_thread(store.waiting.wait, 60)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not asked.done()
        assert store.log == []
        store.free.set()
        await asked

    working(store, use)


def test_what_gathers_during_one_commit_is_one_commit_and_told_once(store: WatchedStore) -> None:
    async def use(clerk: Clerk) -> None:
        results = await held(store, clerk, *(issue(f"t{number}") for number in range(10)))
        assert [result.answer.trigger.id for result in results] == [id_of(f"t{number}") for number in range(10)]

    working(store, use)
    assert [len(group) for group in store.groups] == [1, 10]
    assert store.log == ["stored", "told"] * 2
    assert len(stored(store)) == 10


def test_a_group_has_a_limit_so_that_no_answer_waits_for_ever(store: WatchedStore) -> None:
    async def use(clerk: Clerk) -> None:
        await held(store, clerk, *(issue(f"t{number:03}") for number in range(GROUP + 1)))

    working(store, use)
    assert [len(group) for group in store.groups] == [1, GROUP, 1]


def test_what_changes_nothing_is_answered_without_a_commit(store: WatchedStore) -> None:
    async def use(clerk: Clerk) -> None:
        decision = await clerk.decide(lambda core: core.ask("web1", network.Bye(), at(0)))
        assert isinstance(decision.answer, network.Received)

    working(store, use)
    assert store.groups == []


def test_a_refusal_reaches_the_one_who_asked_and_nobody_else(store: WatchedStore) -> None:
    async def use(clerk: Clerk) -> None:
        refused, accepted = await held(store, clerk, lambda core: core.revoke("ghost", at(0)), issue("t1"))
        assert isinstance(refused, UsageError)
        assert accepted.answer.trigger.id == id_of("t1")
        before = clerk.core
        await clerk.decide(issue("t2"))
        assert clerk.core is before

    working(store, use)


def test_what_could_not_be_stored_has_not_happened_and_the_next_decision_works(store: WatchedStore) -> None:
    async def use(clerk: Clerk) -> None:
        hello(clerk.core, "web1")
        epoch = clerk.core.epoch
        with pytest.raises(UnavailableError, match=r"the hub cannot write its database: .*hub\.db: "):
            await clerk.decide(issue_twice("t1"))
        assert clerk.problem
        assert clerk.core.ledger.open_deliveries() == 0
        assert clerk.core.epoch != epoch
        assert not hello(clerk.core, "web1", 1.0).offers
        assert store.log == []
        await clerk.decide(issue("t1"))
        assert clerk.problem == ""
        assert clerk.core.ledger.open_deliveries() == 3

    working(store, use)
    assert stored(store) == {id_of("t1")}


def test_one_decision_that_cannot_be_stored_does_not_spoil_its_group(store: WatchedStore) -> None:
    async def use(clerk: Clerk) -> None:
        first, bad, last = await held(store, clerk, issue("t1"), issue_twice("t2"), issue("t3"))
        assert isinstance(bad, UnavailableError)
        assert [first.answer.trigger.id, last.answer.trigger.id] == [id_of("t1"), id_of("t3")]
        assert clerk.core.ledger.open_deliveries() == 6

    working(store, use)
    assert stored(store) == {id_of("t1"), id_of("t3")}


def test_a_bug_in_one_decision_hurts_no_other_and_leaves_no_half_truth(
    store: WatchedStore, caplog: pytest.LogCaptureFixture
) -> None:
    def half_done(core: HubCore) -> Decision:
        submit(core, "ghost")
        raise ZeroDivisionError

    async def use(clerk: Clerk) -> None:
        first, bug, last = await held(store, clerk, issue("t1"), half_done, issue("t3"))
        assert isinstance(bug, UnavailableError)
        assert "ZeroDivisionError" in str(bug)
        assert [first.answer.trigger.id, last.answer.trigger.id] == [id_of("t1"), id_of("t3")]
        assert {offer.id for offer in hello(clerk.core, "web1", 1.0).offers} == {id_of("t1"), id_of("t3")}

    working(store, use)
    assert stored(store) == {id_of("t1"), id_of("t3")}
    assert "decision failed" in caplog.text


def test_one_who_no_longer_waits_holds_nobody_up(store: WatchedStore) -> None:
    async def use(clerk: Clerk) -> None:
        store.free.clear()
        gone = asyncio.ensure_future(clerk.decide(issue("t1")))
        await asyncio.to_thread(store.waiting.wait, 60)
        gone.cancel()
        store.free.set()
        await clerk.decide(issue("t2"))

    working(store, use)
    assert stored(store) == {id_of("t1"), id_of("t2")}


def test_news_that_cannot_be_told_keeps_nobody_from_the_answer(
    store: WatchedStore, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> Answered[Accepted]:
        def choke(_: Sequence[Change]) -> None:
            raise ZeroDivisionError

        clerk = Clerk(store, revive, choke)
        work = asyncio.create_task(clerk.work())
        try:
            return await asyncio.wait_for(clerk.decide(issue("t1")), 30)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            clerk.close()

    assert asyncio.run(run()).answer.trigger.id == id_of("t1")
    assert "telling what was stored failed" in caplog.text


def test_a_hub_that_starts_again_knows_what_it_had_accepted(store: WatchedStore) -> None:
    async def use(clerk: Clerk) -> None:
        await clerk.decide(issue("t1", "web[1-2]"))
        await clerk.decide(lambda core: report(core, "web1"))

    working(store, use)
    core = revive(store)
    assert core.ledger.open_deliveries() == 1
    assert hello(core, "web1", 3.0).offers == ()
    assert [offer.id for offer in hello(core, "web2", 3.0).offers] == [id_of("t1")]
    assert moves(report(core, "web2").changes) == {"web2": DeliveryState.FINISHED}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk that is small enough to fill")
def test_a_full_disk_stops_what_changes_something_until_there_is_room_again(fresh: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if (mounted := subprocess.run(mount, check=False, capture_output=True, text=True)).returncode:
        pytest.skip(f"this machine lets nobody mount a tmpfs: {mounted.stderr.strip()}")
    try:
        store = WatchedStore.open(Path(shutil.copy(fresh, disk / "hub.db")))
        ballast = disk / "ballast"

        async def use(clerk: Clerk) -> None:
            await clerk.decide(issue("t1"))
            with pytest.raises(OSError, match="No space"):
                ballast.write_bytes(bytes(4 << 20))
            failed = await asyncio.gather(
                *(
                    clerk.decide(lambda core, n=n: submit(core, f"big{n}", arguments={"a": "x" * 60_000}))
                    for n in "abc"
                ),
                return_exceptions=True,
            )
            assert all(isinstance(error, UnavailableError) for error in failed)
            assert "the disk is full: make room" in str(failed[0])
            assert "the disk is full" in clerk.problem
            assert clerk.core.ledger.open_deliveries() == 3
            bye = await clerk.decide(lambda core: core.ask("web1", network.Bye(), at(0)))
            assert isinstance(bye.answer, network.Received)
            ballast.unlink()
            await clerk.decide(issue("t2"))
            assert clerk.problem == ""

        try:
            working(store, use)
            assert stored(store) == {id_of("t1"), id_of("t2")}
        finally:
            store.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
