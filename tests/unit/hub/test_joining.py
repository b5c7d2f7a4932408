"""When the join listener is open: while a token is outstanding, and until the last answer has surely arrived."""

import asyncio
from typing import Any, cast

from nanoexec.errors import RefusedError
from nanoexec.hub.joining import LINGER, Joining
from nanoexec.model import Instant
from nanoexec.wire import network


class Listener:
    """An open one, in memory."""

    port = 4446
    closed = False

    async def close(self) -> None:
        self.closed = True


class Place:
    """A `Joining` at a time of our choice, to which nobody shows a token."""

    def __init__(self) -> None:
        self.steady = 1000.0
        self.listener = Listener()
        self.joining = Joining(
            cast("Any", None),
            listen=self._listen,
            sign=lambda *_: "",
            ca="PEM",
            welcome=lambda: ("hub", 1, 2),
            publish=cast("Any", None),
            now=lambda: Instant(wall=0.0, steady=self.steady),
        )

    async def _listen(self, _: object) -> Listener:
        return self.listener


def test_a_listener_whose_token_has_expired_unused_is_closed_at_once() -> None:
    async def scene() -> None:
        place = Place()
        await place.joining.mind(wanted=True)
        assert place.joining.port == 4446
        await place.joining.mind(wanted=False)
        assert (place.joining.port, place.listener.closed) == (None, True)

    asyncio.run(scene())


def test_it_outlives_its_last_answer_which_closing_would_cut_off() -> None:
    async def scene() -> None:
        place = Place()
        await place.joining.mind(wanted=True)
        await place.joining.respond(network.encode(network.CaRequest()))
        for later in (0.0, LINGER - 0.1):
            place.steady = 1000.0 + later
            await place.joining.mind(wanted=False)
            assert not place.listener.closed
        await place.joining.respond(b"rubbish")  # whatever is asked is answered
        place.steady += LINGER - 0.1
        await place.joining.mind(wanted=False)
        assert not place.listener.closed
        place.steady += 0.2
        await place.joining.mind(wanted=False)
        assert place.listener.closed

    asyncio.run(scene())


def test_it_is_not_closed_before_somebody_who_has_asked_is_answered() -> None:
    async def scene() -> None:
        place = Place()
        await place.joining.mind(wanted=True)
        release = asyncio.Event()

        async def slow(_: object) -> network.JoinAnswer:
            await release.wait()
            raise RefusedError("no such token")

        place.joining._join = slow  # type: ignore[method-assign]
        request = network.JoinRequest(name="web1", secret=b"s" * 16, request="PEM")
        asked = asyncio.create_task(place.joining.respond(network.encode(request)))
        await asyncio.sleep(0)
        place.steady += 100
        await place.joining.mind(wanted=False)
        assert not place.listener.closed
        release.set()
        assert isinstance(network.decode_join_reply(await asked), network.Denied)

    asyncio.run(scene())


def test_a_hub_that_ends_closes_it_at_once() -> None:
    async def scene() -> None:
        place = Place()
        await place.joining.mind(wanted=True)
        await place.joining.respond(network.encode(network.CaRequest()))
        await place.joining.close()
        assert place.listener.closed

    asyncio.run(scene())
