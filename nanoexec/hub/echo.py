"""The hub hears itself: it subscribes to its own beacon, through its own listener and the network, as a node does.

A hub whose publisher is stuck still answers its control socket and its nodes' questions: nobody but a subscriber can
tell. It comes with a certificate of its own, made at each start and kept in memory alone, which is admitted beside the
roster and may listen, not speak.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import Final

from nanoexec.errors import NanoexecError, ProtocolError
from nanoexec.keys import ca
from nanoexec.keys.credentials import Authority
from nanoexec.model import Credentials, Instant, identifier
from nanoexec.transport import NodeTransport, Peer
from nanoexec.wire import network

DEAF_AFTER: Final = 2.5  # beacon intervals without hearing one's own beacon
DIAL_WITHIN: Final = 10.0  # seconds
LONGEST_PAUSE: Final = 5.0  # seconds between two tries to connect
_log = logging.getLogger("nanoexec.hub")


def ear(authority: Authority, hub: str) -> tuple[Peer, Credentials]:
    """A new identity to listen with. Raises `IdentityError` if the authority cannot sign."""
    key, key_id = ca.make_node_key(), identifier(secrets.token_bytes(10))
    request = ca.make_request(key, hub)
    certificate = ca.sign_request(authority, request, name=hub, key_id=key_id, now=time.time())
    return Peer(name=hub, key=key_id), Credentials(ca=authority.certificate, certificate=certificate, key=key)


class Echo:
    """Listens as ``peer`` over what ``transport`` gives, for beacons that come every ``interval`` seconds.

    ``alarm`` says what is wrong, and is empty while nothing is; ``heard`` is when a beacon last came back.
    """

    def __init__(
        self, peer: Peer, transport: Callable[[], NodeTransport], *, interval: float, now: Callable[[], Instant]
    ) -> None:
        self.peer = peer
        self.alarm = ""
        self.heard: float | None = None
        self._transport = transport
        self._interval = interval
        self._now = now
        self._since = now().steady
        self._why = ""

    async def listen(self) -> None:
        """Connect and listen, for ever. What is silent is dialled anew: it may be this one connection."""
        while True:
            try:
                await self._listen()
            except TimeoutError:
                self._why = "the connection is up, and nothing comes"
            except (NanoexecError, OSError) as error:
                self._why = str(error)
            await asyncio.sleep(min(self._interval, LONGEST_PAUSE))

    def judge(self, now: Instant) -> bool:
        """Raise the alarm, or end it. Returns whether it was raised just now."""
        deaf = now.steady - self._since > DEAF_AFTER * self._interval
        if deaf and not self.alarm:
            self.alarm = f"its own beacon does not come back: {self._why or 'nothing was heard yet'}"
            _log.error("the hub cannot be heard: %s; nodes hear of triggers late or never", self.alarm)
            return True
        if self.alarm and not deaf:
            self.alarm = ""
            _log.warning("the hub is heard again")
        return False

    async def _listen(self) -> None:
        link = await self._transport().dial((network.TOPIC_HUB,), DIAL_WITHIN)
        try:
            while True:
                async with asyncio.timeout(DEAF_AFTER * self._interval):
                    frame = await link.receive()
                if isinstance(network.decode_published(frame), network.Beacon):
                    now = self._now()
                    self.heard, self._since, self._why = now.wall, now.steady, ""
        except ProtocolError as error:
            raise ProtocolError(f"something else is heard: {error}") from None
        finally:
            await link.close()
