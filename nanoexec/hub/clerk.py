"""One question at a time to the core, one commit for many of them, and nobody hears of a decision before it is on disk.

While one group is being written, the next one gathers: the more the hub has to do, the more one fsync covers.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from nanoexec.errors import NanoexecError, StoreError, UnavailableError
from nanoexec.hub.core import Decision, HubCore
from nanoexec.record import Change
from nanoexec.store import Store

GROUP: Final = 500  # decisions in one commit at most, so that no answer waits for ever
_log = logging.getLogger("nanoexec.hub")

Decide = Callable[[HubCore], Decision]
_D = TypeVar("_D", bound=Decision)
_Asked = tuple[Decide, "asyncio.Future[Any]"]  # Any: what the one decides, the other gets


class Clerk:
    """Owns the core. ``revive`` makes it anew from the store; ``committed`` is told of every change that is on disk."""

    def __init__(
        self, store: Store, revive: Callable[[Store], HubCore], committed: Callable[[Sequence[Change]], None]
    ) -> None:
        self._store = store
        self._revive = revive
        self._committed = committed
        self._queue: asyncio.Queue[_Asked] = asyncio.Queue()
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self.core = revive(store)
        self.problem = ""

    async def decide(self, decide: Callable[[HubCore], _D]) -> _D:
        """Let the core decide, and return when the decision is on disk.

        Raises whatever ``decide`` raises, and `UnavailableError` when the decision could not be stored: then nothing
        has happened.
        """
        future: asyncio.Future[_D] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((decide, future))
        return await future

    async def work(self) -> None:
        """Decide and commit, for ever."""
        while True:
            group = [await self._queue.get()]
            while not self._queue.empty() and len(group) < GROUP:
                group.append(self._queue.get_nowait())
            await self._settle(group)

    async def _settle(self, group: Sequence[_Asked]) -> None:
        decided, sound = self._decide(group)
        changes = [change for _, decision in decided for change in decision.changes]
        if not sound or (changes and not await self._commit(changes)):
            try:
                self.core = await asyncio.get_running_loop().run_in_executor(self._writer, self._revive, self._store)
            except StoreError as error:  # nothing can be decided without a memory: the hub ends, and tells who asked
                for _, future in group:
                    _fail(future, UnavailableError(f"the hub cannot read its database, and ends: {error}"))
                raise
            if len(group) > 1:  # one of them may be at fault, and must not spoil the others for ever
                for single in group:
                    await self._settle([single])
            for future, _ in decided:
                _fail(future, UnavailableError(f"the hub cannot write its database: {self.problem}"))
            return
        try:
            self._committed(changes)
        except Exception:  # noqa: BLE001 - what is on disk has happened, whether or not the news could be told
            _log.exception("telling what was stored failed")
        for future, decision in decided:
            if not future.done():
                future.set_result(decision)

    def _decide(self, group: Sequence[_Asked]) -> tuple[list[tuple[asyncio.Future[Any], Decision]], bool]:
        """What the core decides on each, and whether it can be believed: a bug may have left it half changed."""
        decided = []
        sound = True
        for decide, future in group:
            if future.done():
                continue
            try:
                decided.append((future, decide(self.core)))
            except NanoexecError as error:
                _fail(future, error)
            except Exception as error:  # noqa: BLE001 - a bug in one decision must not take the hub down
                _log.exception("decision failed")
                _fail(future, UnavailableError(f"the hub failed to decide: {error!r}"))
                sound = False
        return decided, sound

    async def _commit(self, changes: Sequence[Change]) -> bool:
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._store.commit, changes)
        except StoreError as error:
            if self.problem != str(error):
                _log.error("%s", error)
            self.problem = str(error)
            return False
        self.problem = ""
        return True

    async def purge(self, before: float, tokens_before: float) -> None:
        """Have the store forget what was over before then, and old tokens, a little at a time. Raises `StoreError`.

        In the writer's own thread, where every part waits its turn: of two threads that want to write, SQLite lets the
        one that never pauses win.
        """
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(self._writer, self._store.purge_some, before, tokens_before):
            pass
        while await loop.run_in_executor(self._writer, self._store.shrink_some):
            pass

    def close(self) -> None:
        """Wait for the commit under way."""
        self._writer.shutdown(wait=True)


def _fail(future: asyncio.Future[Any], error: NanoexecError) -> None:
    if not future.done():
        future.set_exception(error)
