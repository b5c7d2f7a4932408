"""The proxy of the network campaign does what it is told: otherwise its faults would prove nothing."""

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.chaos.proxy import Proxy
from tests.support.fleet import free_ports, wait_until

MOMENT = 0.3  # seconds in which nothing may come
DELAY = 0.2
TURNS = 8  # of so many pauses of up to DELAY, drawn at random, the sum is less than one DELAY once in 40,000 times
SEGMENTS = 152  # where TCP_INFO says how many have come with data: tcpi_data_segs_in, linux/tcp.h


def read(end: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer if it hangs up before."""
    data = b""
    while len(data) < size and (part := end.recv(size - len(data))):
        data += part
    return data


def segments(end: socket.socket) -> int:
    """In how many pieces the data of a connection has come."""
    said = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int(struct.unpack_from("I", said, SEGMENTS)[0])


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


def test_a_delay_holds_up_each_piece_and_changes_no_byte(way: Way) -> None:
    way.proxy.tell(f"delay {DELAY}")
    began = time.monotonic()
    for number in range(TURNS // 2):
        way.passes(bytes([number]) * 256)
    assert time.monotonic() - began > DELAY


def test_crumbs_are_small_and_change_no_byte_and_no_order(way: Way) -> None:
    whole = bytes(range(256))
    before = segments(way.far)
    way.passes(whole)
    assert segments(way.far) == before + 1
    way.proxy.tell("crumble")
    way.passes(whole)
    assert segments(way.far) > before + 1 + len(whole) / 7 / 3  # of seven bytes each; the kernel may put some together


@pytest.mark.parametrize("line", ["hold", "delay 0.01", "crumble", "truncate"])
def test_it_says_how_many_connections_have_felt_what_it_was_told_to_do(way: Way, line: str) -> None:
    assert way.proxy.tell(line) == 0  # nothing has come through meanwhile
    way.near.sendall(b"z" * 1000)
    wait_until(lambda: way.proxy.tell(line) == 1, f"{line} hits the one there is")
    assert way.proxy.tell("pass") == 0


def test_a_reset_says_how_many_connections_it_has_broken(way: Way) -> None:
    assert way.proxy.tell("reset") == 1
    assert way.proxy.tell("pass") == 0


def test_a_proxy_that_does_not_understand_says_so(way: Way) -> None:
    with pytest.raises(RuntimeError, match="'dance'"):
        way.proxy.tell("dance")
