"""The program that keeps addresses from dialling, run by a small machine of our own."""

import socket
import struct
from random import Random

import pytest

from nanoexec.transport.nng.syn_filter import CHANCES, MOST, program

SYN, ACK, SYN_ACK, RST = 0x02, 0x10, 0x12, 0x04
UNLUCKY = 1  # what the kernel's dice show; 0 comes through


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def segment(source: bytes, flags: int) -> tuple[bytes, bytes]:
    """The IP header and the TCP header, as far as anybody reads them."""
    tcp = bytes(13) + bytes([flags]) + bytes(6)
    if len(source) == 4:
        return bytes([0x45]) + bytes(11) + source + packed("192.0.2.1"), tcp
    return bytes([0x60]) + bytes(7) + source + packed("2001:db8::1"), tcp


def drops(filter_: bytes, source: str | bytes, flags: int = SYN, dice: int = UNLUCKY) -> bool:
    """What the kernel does with a segment that this filter sees."""
    ip, tcp = segment(packed(source) if isinstance(source, str) else source, flags)
    code = list(struct.iter_unpack("=HBBI", filter_))
    assert len(code) <= 4096, "BPF_MAXINSNS"
    value, memory, at = 0, [0] * 16, 0
    for _ in range(len(code)):  # it only jumps forward
        operation, if_true, if_false, constant = code[at]
        at += 1
        match operation:
            case 0x20 if constant == 0xFFFFF038:
                value = dice
            case 0x20 | 0x30:
                header, offset = (ip, constant - 0xFFF00000) if constant >= 0xFFF00000 else (tcp, constant)
                size = 4 if operation == 0x20 else 1
                assert offset + size <= len(header)
                value = int.from_bytes(header[offset : offset + size], "big")
            case 0x60:
                value = memory[constant]
            case 0x02:
                memory[constant] = value
            case 0x54:
                value &= constant
            case 0x05:
                at += constant
            case 0x15:
                at += if_true if value == constant else if_false
            case 0x06:
                return constant == 0
            case _:
                raise AssertionError(f"no such instruction: {operation:#x}")
    raise AssertionError("it does not end")


@pytest.mark.parametrize("address", ["192.0.2.7", "255.255.255.255", "2001:db8::7", "fe80::7"])
def test_who_is_on_the_list_cannot_dial(address: str) -> None:
    filter_ = program([packed("198.51.100.1"), packed("2001:db8:9::1"), packed(address), packed("203.0.113.9")])
    assert drops(filter_, address)
    assert drops(filter_, "198.51.100.1")
    assert drops(filter_, "203.0.113.9")
    assert drops(filter_, "2001:db8:9::1")


@pytest.mark.parametrize("address", ["192.0.2.8", "193.0.2.7", "2001:db8::8", "2001:db9::7", "2001:db8:0:1::7", "::"])
def test_who_is_not_on_the_list_can(address: str) -> None:
    assert not drops(program([packed("192.0.2.7"), packed("2001:db8::7")]), address)


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
@pytest.mark.parametrize("flags", [ACK, SYN_ACK, RST, ACK | RST, 0x18, 0x11])
def test_what_belongs_to_a_connection_comes_through(address: str, flags: int) -> None:
    assert not drops(program([packed("192.0.2.7"), packed("2001:db8::7")]), address, flags)


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
def test_a_syn_with_flags_that_mean_nothing_yet_is_one_too(address: str) -> None:
    for more in (0x40, 0x80, 0xC0, 0x08, 0x01):  # ECN among them
        assert drops(program([packed("192.0.2.7"), packed("2001:db8::7")]), address, SYN | more)


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
def test_one_dial_in_some_has_a_chance(address: str) -> None:
    filter_ = program([packed("192.0.2.7"), packed("2001:db8::7")])
    assert [dice for dice in range(64) if not drops(filter_, address, dice=dice)] == list(range(0, 64, CHANCES))


def test_nobody_is_on_an_empty_list() -> None:
    for address in ("192.0.2.7", "0.0.0.0", "2001:db8::7", "::"):
        assert not drops(program([]), address)


def test_a_full_list_holds_them_all_and_nobody_else() -> None:
    dice = Random(1)  # noqa: S311 - addresses, not keys
    fours, sixes = ([dice.randbytes(size) for _ in range(2 * MOST)] for size in (4, 16))
    for listed in (fours[:MOST], sixes[:MOST], fours[: MOST // 2] + sixes[: MOST // 2]):
        filter_ = program(listed)
        assert {one for one in fours + sixes if drops(filter_, one)} == set(listed)
