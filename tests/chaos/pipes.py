"""Both ends of a connection between an agent and its runner."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nanoexec.wire import stream
from tests.chaos.loop import PROCESS

if TYPE_CHECKING:
    from tests.chaos.node import Node


class Pipe(asyncio.Transport):
    """The agent's end of a connection to the runner."""

    def __init__(self, node: "Node", protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.hung_up = False
        self.since: float | None = None  # of an order: when its agent has asked what the hub's clock shows
        self._node = node
        self._protocol = protocol
        self._process = PROCESS.get()
        self._asked = b""
        self._over = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._asked += bytes(data)
        body = self._asked[stream.HEADER :]
        if len(self._asked) >= stream.HEADER and len(body) == stream.length(self._asked[: stream.HEADER]):
            self._node.world.in_nobodys_name(self._node.call, self, self._asked)

    def deliver(self, data: bytes) -> None:
        """The other end has sent something."""
        self._later(lambda: None if self._over else self._protocol.data_received(data))

    def end(self) -> None:
        """The other end has hung up."""
        self._later(self._end)

    def close(self) -> None:
        self.hung_up = True
        self._later(self._end)

    def is_closing(self) -> bool:
        return self.hung_up or self._over or self._node.world.loop.hung_up(self)

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        return default

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._protocol.eof_received()
            self._protocol.connection_lost(None)

    def _later(self, what: Callable[[], object]) -> None:
        context = self._process.context() if self._process is not None else None
        self._node.world.loop.call_soon(what, context=context)


class Socket:
    """The child's end, as far as a child uses a socket."""

    def __init__(self, pipe: Pipe, request: bytes) -> None:
        self._pipe = pipe
        self._request = request

    def settimeout(self, seconds: float) -> None:
        """Nothing here takes time."""

    def recv(self, size: int) -> bytes:
        data, self._request = self._request[:size], self._request[size:]
        return data

    def sendall(self, data: bytes) -> None:
        if self.gone():
            raise BrokenPipeError
        self._pipe.deliver(data)

    def gone(self) -> bool:
        """Whether the agent has closed its end, or is no more."""
        return self._pipe.is_closing()
