"""A program for the kernel that keeps some addresses from dialling: a socket filter in classic BPF (bpf(4), and Linux's
Documentation/networking/filter.rst).

The kernel asks it about every segment that comes to a socket that listens. It drops most of those that begin a
connection, SYN without ACK, from an address of its list, and nothing else. Accepted sockets inherit it, and no segment
to them is of that kind.

Of those, one in `CHANCES` comes through: the dialler sends it again after 1 s, and so on. Who dials without pause is
held up, and a good node behind the same address gets in after a while.
"""

import struct
from collections.abc import Sequence
from typing import Final

# With as many IPv6 addresses it takes 8 KB in the kernel, and twice that while one replaces another: less than the
# least net.core.optmem_max in use, 20 KiB before Linux 6.7.
MOST: Final = 64
CHANCES: Final = 8  # a power of two

_LOAD: Final = 0x20  # 32 bits into A, from an offset in the packet
_LOAD_BYTE: Final = 0x30
_RECALL: Final = 0x60  # A from the scratch memory
_STORE: Final = 0x02
_AND: Final = 0x54
_EQUAL: Final = 0x15
_JUMP: Final = 0x05
_RETURN: Final = 0x06

_IP: Final = 0xFFF00000  # SKF_NET_OFF; the filter of a TCP socket has its offset 0 at the TCP header
_RANDOM: Final = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM
_FLAGS, _SYN, _SYN_ACK = 13, 0x02, 0x12
_SOURCE4, _SOURCE6 = _IP + 12, _IP + 8

Instruction = tuple[int, int, int, int]  # code, how many to skip if true, if false, and a constant
_PASS: Final = (_RETURN, 0, 0, 0xFFFFFFFF)
_DROP: Final = (_RETURN, 0, 0, 0)


def program(addresses: Sequence[bytes]) -> bytes:
    """What SO_ATTACH_FILTER takes, for at most `MOST` addresses as inet_pton(3) packs them: 4 bytes, or 16."""
    four = _is_one_of_four([address for address in addresses if len(address) == 4])  # noqa: PLR2004 - IPv4
    six = _is_one_of_six([address for address in addresses if len(address) == 16])  # noqa: PLR2004 - IPv6
    instructions = [
        (_LOAD_BYTE, 0, 0, _FLAGS),
        (_AND, 0, 0, _SYN_ACK),
        (_EQUAL, 1, 0, _SYN),
        _PASS,
        (_LOAD, 0, 0, _RANDOM),
        (_AND, 0, 0, CHANCES - 1),
        (_EQUAL, 0, 1, 0),
        _PASS,
        (_LOAD_BYTE, 0, 0, _IP),  # a socket for IPv6 hears IPv4 as well
        (_AND, 0, 0, 0xF0),
        (_EQUAL, 0, 1, 0x60),
        (_JUMP, 0, 0, len(four)),
        *four,
        *six,
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def _is_one_of_four(addresses: list[bytes]) -> list[Instruction]:
    chain = [
        (_EQUAL, len(addresses) - number, 0, int.from_bytes(address, "big")) for number, address in enumerate(addresses)
    ]
    return [(_LOAD, 0, 0, _SOURCE4), *chain, _PASS, _DROP]


def _is_one_of_six(addresses: list[bytes]) -> list[Instruction]:
    """To load from the packet takes the kernel many instructions, from the scratch memory one."""
    loads = [step for word in range(4) for step in ((_LOAD, 0, 0, _SOURCE6 + 4 * word), (_STORE, 0, 0, word))]
    return [*loads, *(step for address in addresses for step in _is(address)), _PASS]


def _is(address: bytes) -> list[Instruction]:
    """Drop if it is this one, else go on behind. The last word first, in which neighbours differ."""
    steps: list[Instruction] = []
    for word, (value,) in reversed(list(enumerate(struct.iter_unpack("!I", address)))):
        steps += [(_RECALL, 0, 0, word), (_EQUAL, 0, 1 + 2 * word, value)]
    return [*steps, _DROP]
