"""A line at the moments that no peer can choose: a message that comes just as nobody wants it any more."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pynng
import pytest

from nanoexec.transport import LinkLostError
from nanoexec.transport.nng.line import Line

pytestmark = pytest.mark.node

SOON = 10.0


@contextlib.asynccontextmanager
async def dialled(socket: Any, url: str) -> Any:
    line = Line(socket, url)
    try:
        line.dial()
        async with asyncio.timeout(SOON):
            await line.connected()
        yield line
    finally:
        line.close("the test is over")


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 3 * SOON))


async def there(publisher: Any) -> None:
    """Until the publisher, too, knows of the line."""
    for _ in range(1000):
        if publisher.pipes:
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def taken_out(line: Line) -> "asyncio.Task[bytes]":
    """A wait whose message has left NNG's queue, and which has not gone on yet."""
    waiting = asyncio.create_task(line.receive())
    while True:
        await asyncio.sleep(0)
        line._read()
        if line._reader is not None and line._reader.done():
            return waiting


def test_a_message_that_came_as_the_wait_was_cancelled_is_the_next_one() -> None:
    async def scene() -> None:
        url = "inproc://line-cancelled"
        with pynng.Pub0(listen=url) as publisher:
            async with dialled(pynng.Sub0(topics=b""), url) as line:
                await there(publisher)
                publisher.send(b"one")
                publisher.send(b"two")
                waiting = await taken_out(line)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert await line.receive() == b"one"
                assert await line.receive() == b"two"

    play(scene)


def test_messages_that_nobody_waits_for_stay_in_order_and_do_not_busy_the_loop() -> None:
    async def scene() -> None:
        url = "inproc://line-burst"
        with pynng.Pub0(listen=url, send_buffer_size=64) as publisher:
            async with dialled(pynng.Sub0(topics=b"", recv_buffer_size=64), url) as line:
                await there(publisher)
                publisher.send(b"0")
                assert await line.receive() == b"0"
                for number in range(1, 30):
                    publisher.send(b"%d" % number)
                await asyncio.sleep(0.2)
                assert not line._watched, "the loop would turn for what nobody takes"
                assert [await line.receive() for _ in range(1, 30)] == [b"%d" % number for number in range(1, 30)]

    play(scene)


def test_an_answer_to_a_question_that_was_given_up_answers_no_other() -> None:
    async def scene() -> None:
        url = "inproc://line-stale"
        with pynng.Rep0(listen=url, recv_timeout=20_000) as replies:
            answering = threading.Thread(target=lambda: [replies.send(b"to " + replies.recv()) for _ in range(2)])
            answering.start()
            async with dialled(pynng.Req0(resend_time=-1), url) as line:
                await line._send(b"one")
                waiting = await taken_out(line)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert await line.ask(b"two", SOON) == b"to two"
            answering.join(SOON)

    play(scene)


def test_whoever_waits_hears_why_a_line_was_closed() -> None:
    async def scene() -> None:
        url = "inproc://line-closed"
        with pynng.Pub0(listen=url):
            async with dialled(pynng.Sub0(topics=b""), url) as line:
                waiting = asyncio.create_task(line.receive())
                await asyncio.sleep(0)
                line.close("because")
                with pytest.raises(LinkLostError, match="because"):
                    await waiting
                with pytest.raises(LinkLostError, match="because"):
                    await line.receive()

    play(scene)
