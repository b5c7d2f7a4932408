"""How frames travel between the hub and its nodes: one contract, several implementations.

`nng` is the real one (mutual TLS); `memory` joins both ends in one process and can drop, delay, reorder and partition.
Both pass ``tests/contract/test_transport.py``. The transport knows who a peer is, from its verified certificate, and
asks ``accept`` before that peer can say or hear anything. It does not know what the frames mean, and it never dials
again by itself: whoever uses a link decides when to try the next one.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from nanoexec.errors import UnavailableError
from nanoexec.model import NodeName, Value


class Peer(Value, frozen=True):
    """A node as its verified certificate names it. ``key`` is the certificate's id, new each time a node joins."""

    name: NodeName
    key: str


LOST: Final = "the connection was lost"  # how a `LinkLostError` ends if it was up and the other end hung up


class LinkLostError(UnavailableError):
    """The connection to the hub is gone, or an answer did not come in time: close the link and dial anew."""


Accept = Callable[[Peer], bool]  # may be called from any thread; must not block
Respond = Callable[[Peer, bytes], Awaitable[bytes]]  # called on the event loop; many at once
Notice = Callable[[Peer, bool], None]  # called on the event loop: this peer can now hear (True), or no longer (False)


class Exchange(Protocol):
    """The hub's side, serving."""

    async def publish(self, frame: bytes) -> None:
        """Send to every accepted peer whose topics the frame begins with. Never waits for a peer; may drop."""

    def disconnect(self, key: str) -> None:
        """Close every connection of the peer with this certificate id, now."""

    async def close(self) -> None:
        """Stop serving and close every connection. May be called twice."""


class Link(Protocol):
    """A node's side, connected."""

    async def receive(self) -> bytes:
        """The next frame of my topics, topic included. Raises `LinkLostError`."""

    async def request(self, frame: bytes, within: float) -> bytes:
        """Ask the hub and wait at most ``within`` seconds for its answer. One at a time. Raises `LinkLostError`."""

    async def close(self) -> None:
        """Close both connections. May be called twice."""


class HubTransport(Protocol):
    """Makes exchanges; holds addresses and credentials."""

    async def serve(self, *, accept: Accept, respond: Respond, notice: Notice) -> Exchange:
        """Listen. Raises `UnavailableError` naming the address when it is in use."""


class NodeTransport(Protocol):
    """Makes links; holds addresses and credentials."""

    async def dial(self, topics: Sequence[bytes], within: float) -> Link:
        """Connect both ways within ``within`` seconds. Raises `LinkLostError`."""
