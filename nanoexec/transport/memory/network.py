"""One hub, any number of nodes, and what is wrong between them."""

import asyncio
from collections.abc import Sequence
from random import Random

from nanoexec.errors import UnavailableError
from nanoexec.transport import Accept, LinkLostError, Notice, Peer, Respond
from nanoexec.transport.memory.ends import MemoryExchange, MemoryLink
from nanoexec.transport.memory.faults import Faults


class MemoryNetwork(Faults):
    """Without faults set, every frame arrives at the loop's next turn."""

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self.exchange: MemoryExchange | None = None

    def hub(self) -> "MemoryHubTransport":
        """The hub's view."""
        return MemoryHubTransport(self)

    def node(self, peer: Peer) -> "MemoryNodeTransport":
        """The view of the node with this name and certificate id."""
        return MemoryNodeTransport(self, peer)

    def sever(self, name: str) -> None:
        """Break a node's connections so that both ends notice, as when a process dies."""
        if self.exchange:
            self.exchange.sever(name)


class MemoryHubTransport:
    """See `HubTransport`."""

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network

    async def serve(self, *, accept: Accept, respond: Respond, notice: Notice) -> MemoryExchange:
        if self._network.exchange and not self._network.exchange.closed:
            raise UnavailableError("memory: the address is in use: is another hub running?")
        self._network.exchange = MemoryExchange(self._network, accept, respond, notice)
        return self._network.exchange


class MemoryNodeTransport:
    """See `NodeTransport`."""

    def __init__(self, network: MemoryNetwork, peer: Peer) -> None:
        self._network = network
        self._peer = peer

    async def dial(self, topics: Sequence[bytes], within: float) -> MemoryLink:
        exchange = self._network.exchange
        if not self._network.reaches(self._peer):
            await asyncio.sleep(within)
            raise LinkLostError(f"memory: no connection within {within:.3g} s")
        if not exchange or exchange.closed:
            raise LinkLostError("memory: no connection: connection refused")
        return exchange.admit(self._peer, topics)
