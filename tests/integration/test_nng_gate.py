"""The gate, when a whole fleet comes at once."""

import itertools

import pynng

from nanoexec.transport import Peer
from nanoexec.transport.nng.gate import CONNECTIONS, Gate
from tests.support.fleet import wait_until

MANY = 300


class Counting(str):
    """A name that counts how often one of its kind is compared."""

    comparisons = 0
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        Counting.comparisons += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_who_comes_is_compared_with_nobody_but_those_of_the_same_certificate_and_nothing_is_kept_of_who_left() -> None:
    numbers = itertools.count()

    def identify(_: object) -> Peer:
        number = next(numbers)
        return Peer(name=Counting(f"web{number}"), key=f"{number:016}")

    gate = Gate(identify, lambda peer: peer.name != "web0", CONNECTIONS)
    Counting.comparisons = 0
    with pynng.Pub0() as publisher:
        gate.guard(publisher)
        publisher.listen("inproc://gate")
        with pynng.Sub0() as nodes:
            for _ in range(MANY):
                nodes.dial("inproc://gate", block=True)
            wait_until(lambda: len(gate._guests) == len(gate._of_key) == MANY - 1, "all but one are in")
        wait_until(lambda: (gate._guests, gate._of_key) == ({}, {}), "all have left")
    assert Counting.comparisons <= MANY  # that of each name with web0
    assert gate.refused == 1
