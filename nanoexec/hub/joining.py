"""Letting a machine in: it shows a token's secret and a request made with its own key, and gets a certificate."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from nanoexec.errors import NanoexecError
from nanoexec.hub.clerk import Clerk
from nanoexec.hub.core import Decision
from nanoexec.keys import token
from nanoexec.model import Instant, identifier
from nanoexec.wire import network

LINGER: Final = 3.0  # seconds that the listener outlives its last answer: closing would cut off one on its way
_log = logging.getLogger("nanoexec.hub")


class Listener(Protocol):
    """An open join listener."""

    port: int

    async def close(self) -> None: ...


Sign = Callable[[str, str, str], str]  # request PEM, node name, certificate id -> certificate PEM
Listen = Callable[[Callable[[bytes], Awaitable[bytes]]], Awaitable[Listener]]


class Joining:
    """Answers the join listener, and opens and closes it.

    ``sign`` issues a certificate; ``ca`` is the hub's own as PEM, which anybody may see; ``welcome`` gives what a
    machine that joined must know: the hub's name and its two ports.
    """

    def __init__(
        self,
        clerk: Clerk,
        *,
        listen: Listen,
        sign: Sign,
        ca: str,
        welcome: Callable[[], tuple[str, int, int]],
        publish: Callable[[Decision], Awaitable[None]],
        now: Callable[[], Instant],
    ) -> None:
        self._clerk = clerk
        self._listen = listen
        self._sign = sign
        self._ca = ca
        self._welcome = welcome
        self._publish = publish
        self._now = now
        self._listener: Listener | None = None
        self._answering = 0
        self._answered = float("-inf")  # steady time

    @property
    def port(self) -> int | None:
        return self._listener.port if self._listener else None

    async def mind(self, *, wanted: bool) -> None:
        """Open the listener if it is wanted, close it if not. A port that is taken is logged and tried again."""
        if wanted and self._listener is None:
            try:
                self._listener = await self._listen(self.respond)
            except NanoexecError as error:
                _log.error("nobody can join: %s", error)
            else:
                _log.info("machines may join on port %d", self._listener.port)
        elif not wanted and self._listener is not None and not self._lingers():
            await self.close()
            _log.info("no token is outstanding: nobody may join")

    async def close(self) -> None:
        """Close the listener at once."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.close()

    def _lingers(self) -> bool:
        """Whether somebody may still wait for an answer: the one who has just used up the last token, above all."""
        return self._answering > 0 or self._now().steady - self._answered < LINGER

    async def respond(self, frame: bytes) -> bytes:
        """The answer to one frame. Never raises: what is wrong is denied and logged."""
        self._answering += 1
        try:
            question = network.decode_join_question(frame)
            if isinstance(question, network.CaRequest):
                return network.encode(network.CaAnswer(certificate=self._ca))
            return network.encode(await self._join(question))
        except NanoexecError as error:
            _log.warning("join refused: %s", error)
            return network.encode(network.Denied(reason=str(error), time=self._now().wall))
        finally:
            self._answering -= 1
            self._answered = self._now().steady

    async def _join(self, request: network.JoinRequest) -> network.JoinAnswer:
        digest = token.digest(request.secret)
        key = identifier(secrets.token_bytes(10))
        # The cheap check comes before the signature, and again inside the decision, where it is final.
        self._clerk.core.roster.check_token(digest, request.name, self._now())
        certificate = await asyncio.to_thread(self._sign, request.request, request.name, key)
        await self._publish(await self._clerk.decide(lambda core: core.join(digest, request.name, key, self._now())))
        _log.info("%s joined with key %s", request.name, key)
        hub, publish_port, report_port = self._welcome()
        return network.JoinAnswer(certificate=certificate, hub=hub, publish_port=publish_port, report_port=report_port)
