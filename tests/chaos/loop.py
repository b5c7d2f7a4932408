"""An event loop whose time is made up, with processes in it that can be killed and stopped at any turn.

The services run on it as they are. A timer that is next in line is due at once; what would go to a thread is done
within the loop, after a pause, so that a death fits in before it and after it. Everything that a process has scheduled
carries its `Process` in its context: the loop lets nothing of a dead one happen, as a kernel would.
"""

import asyncio
import contextvars
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar
from random import Random
from typing import Any, Final

from nanoexec.errors import NanoexecError

PROCESS: Final[ContextVar["Process | None"]] = ContextVar("process", default=None)
_Call = tuple[Callable[..., object], tuple[Any, ...], Context]
Connect = Callable[[asyncio.Protocol], asyncio.Transport]


class Process:
    """Something that can die with all that it remembers. ``backlog`` is what waits while it is stopped."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.stopped = False
        self.resumed = 0.0  # when it last went on
        self.backlog: list[_Call] = []
        self._context = contextvars.copy_context()
        self._context.run(PROCESS.set, self)

    def context(self) -> Context:
        """A context that says: this is my doing."""
        return self._context.copy()


class Given:
    """What a process has given to a thread at ``at``, and what is not done yet."""

    def __init__(self, process: Process | None, func: Callable[..., Any], args: tuple[Any, ...], at: float) -> None:
        self.process = process
        self.func = func
        self.args = args
        self.at = at


class _Selector:
    """Where a real loop sleeps, this one lets the time pass."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("nothing is scheduled: nobody would ever wake up")
        self._loop.passes(timeout)
        return []

    def close(self) -> None:
        pass


class _Inbox(asyncio.Protocol):
    """What has come in on a bare socket."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._over = False
        self._news = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._data += data
        self._news.set()

    def eof_received(self) -> bool:
        self._over = True
        self._news.set()
        return False

    async def read(self, size: int) -> bytes:
        """At least one byte, none when the other end has hung up."""
        while not self._data and not self._over:
            self._news.clear()
            await self._news.wait()
        data = bytes(self._data[:size])
        del self._data[:size]
        return data


class VirtualLoop(asyncio.BaseEventLoop):
    """``listeners`` maps paths of unix sockets to what makes a connection; ``faults`` are exceptions nobody caught."""

    def __init__(self, random: Random, latency: float) -> None:
        super().__init__()
        self.listeners: dict[str, Connect] = {}
        self.faults: list[str] = []
        self.latency = latency  # seconds at most before and after what a thread does
        self.given: list[Given] = []  # to threads; what the dead have given stays undone
        self.at_work: Given | None = None
        self._now = 0.0
        self._random = random
        self._selector = _Selector(self)
        self._clock_resolution = 1e-9
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopped: list[Process] = []
        self._stranded: list[_Call] = []  # what the dead had still to do: it must not be left to the garbage collector
        self._sockets: weakref.WeakKeyDictionary[Any, tuple[asyncio.Transport, _Inbox]] = weakref.WeakKeyDictionary()
        self._closing = False
        self.set_exception_handler(self._fault)

    def time(self) -> float:
        return self._now

    def passes(self, seconds: float) -> None:
        """Let time pass. A blocked process can do so, too: others are late then."""
        self._now += max(0.0, seconds)

    def advance(self, seconds: float) -> None:
        """Let everything happen that is due within so many seconds."""
        self.call_at(self._now + seconds, self.stop)
        self.run_forever()

    def kill(self, process: Process) -> None:
        """Nothing of it will happen from now on."""
        process.alive = False

    def stop_process(self, process: Process) -> None:
        """As SIGSTOP does."""
        process.stopped = True
        self._stopped.append(process)

    def resume(self, process: Process) -> None:
        """End a stop: what came up meanwhile happens now."""
        process.stopped = False
        process.resumed = self._now
        backlog, process.backlog = process.backlog, []
        for callback, args, context in backlog:
            self.call_soon(callback, *args, context=context)

    def end(self) -> None:
        """Take everything down, the dead too: no task may be left to the garbage collector."""
        self._closing = True
        self.faults.clear()
        for process in self._stopped:
            self.resume(process)
        for callback, args, context in self._stranded:
            super().call_soon(callback, *args, context=context)
        self.advance(0.0)  # what never began cannot be cancelled without a warning
        for _ in range(5):  # a task that is cancelled may await once more, and has nobody left to wait for
            for task in tuple(self._tasks):
                task.cancel()
            self.advance(1.0)
        self.run_until_complete(self.shutdown_asyncgens())
        self.close()

    # What asyncio calls

    def create_task(self, coro: Coroutine[Any, Any, Any], **how: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        task = super().create_task(coro, **how)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard, context=Context())
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        context = context if context is not None else contextvars.copy_context()
        process = context.get(PROCESS)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        return super().call_soon(self._alive, process, callback, args, context, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        context = context if context is not None else contextvars.copy_context()
        process = context.get(PROCESS)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        return super().call_at(when, self._alive, process, callback, args, context, context=context)

    def run_in_executor(  # type: ignore[override]
        self, _executor: object, func: Callable[..., Any], *args: Any
    ) -> Awaitable[Any]:
        """What a thread would do, done here a little later; its caller hears of it later still."""
        future = self.create_future()
        given = Given(PROCESS.get(), func, args, self._now)
        self.given.append(given)

        def settle(result: Any, error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def work() -> None:
            result, fault = None, None
            self.given.remove(given)
            self.at_work = given
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
                fault = error
            self.at_work = None
            self.call_later(self._random.uniform(0, self.latency), settle, result, fault)

        self.call_later(self._random.uniform(0, self.latency), work)
        return future

    async def create_unix_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], path: object = None, **_: Any
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        connect = self.listeners.get(str(path))
        if connect is None:
            raise ConnectionRefusedError("Connection refused")
        protocol = protocol_factory()
        return connect(protocol), protocol

    async def sock_connect(self, sock: Any, address: Any) -> None:
        inbox = _Inbox()
        transport, _ = await self.create_unix_connection(lambda: inbox, address)
        self._sockets[sock] = transport, inbox

    async def sock_sendall(self, sock: Any, data: Any) -> None:
        self._sockets[sock][0].write(data)

    async def sock_recv(self, sock: Any, nbytes: int) -> bytes:
        return await self._sockets[sock][1].read(nbytes)

    def hung_up(self, transport: asyncio.Transport) -> bool:
        """Whether the bare socket over which this goes has been closed by its process."""
        return any(sock.fileno() < 0 for sock, (used, _) in self._sockets.items() if used is transport)

    def _alive(
        self, process: Process, callback: Callable[..., object], args: tuple[Any, ...], context: Context
    ) -> None:
        if self._closing or (process.alive and not process.stopped):
            callback(*args)
        elif process.alive:
            process.backlog.append((callback, args, context))
        else:
            self._stranded.append((callback, args, context))

    def _fault(self, _: asyncio.AbstractEventLoop, said: dict[str, Any]) -> None:
        """A link that is lost while nobody waits for it any more is no fault; everything else is."""
        error = said.get("exception")
        if not self._closing and not isinstance(error, NanoexecError | asyncio.CancelledError):
            self.faults.append(f"{said.get('message')}: {error!r}")

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass
