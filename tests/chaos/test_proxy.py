"""The proxy of the network campaign does what it is told: otherwise its faults would prove nothing."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.chaos.proxy import Proxy
from tests.support.fleet import free_ports

MOMENT = 0.3  # seconds in which nothing may come


def read(end: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer if it hangs up before."""
    data = b""
    while len(data) < size and (part := end.recv(size - len(data))):
        data += part
    return data


class Way:
    """One connection through the proxy, both ends in hand."""

    def __init__(self) -> None:
        outer, inner = free_ports(2)
        with ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", inner)))
            self.proxy = stack.enter_context(Proxy([], "127.0.0.1", (outer, inner)))
            self.near = stack.enter_context(socket.create_connection(("127.0.0.1", outer), timeout=10))
            self.far = stack.enter_context(listener.accept()[0])
            self.far.settimeout(10)
            self.passes(b"up")  # the proxy knows of it: both ends are connected a moment before
            self.close = stack.pop_all().close

    def passes(self, data: bytes) -> None:
        """What goes in comes out, either way."""
        for one, other in ((self.near, self.far), (self.far, self.near)):
            one.sendall(data)
            assert read(other, len(data)) == data


@pytest.fixture
def way() -> Iterator[Way]:
    made = Way()
    yield made
    made.close()


def test_everything_passes_unless_told_otherwise(way: Way) -> None:
    way.passes(b"x" * 100_000)


def test_a_reset_reaches_both_ends(way: Way) -> None:
    way.proxy.tell("reset")
    for end in (way.near, way.far):
        with pytest.raises(ConnectionResetError):
            end.recv(1)


def test_a_truncated_connection_ends_within_what_comes_next(way: Way) -> None:
    way.passes(b"whole")
    way.proxy.tell("truncate")
    way.near.sendall(b"y" * 1000)
    received = read(way.far, 1000)
    assert len(received) < 1000
    assert received == b"y" * len(received)


def test_what_is_held_is_taken_and_comes_when_all_may_pass_again(way: Way) -> None:
    way.proxy.tell("hold")
    way.near.sendall(b"later")
    way.far.settimeout(MOMENT)
    with pytest.raises(TimeoutError):
        way.far.recv(1)
    way.proxy.tell("pass")
    way.far.settimeout(10)
    assert read(way.far, 5) == b"later"


@pytest.mark.parametrize("line", ["delay 0.05", "crumble"])
def test_delays_and_crumbs_change_no_byte_and_no_order(way: Way, line: str) -> None:
    way.proxy.tell(line)
    way.passes(bytes(range(256)))


def test_a_proxy_that_does_not_understand_says_so(way: Way) -> None:
    with pytest.raises(RuntimeError, match="'dance'"):
        way.proxy.tell("dance")
