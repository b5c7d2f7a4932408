"""The TCP sockets of this process as the kernel has them: NNG does not hand out their descriptors."""

import contextlib
import os
import socket
import struct
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

_ANY: Final = 1 << 16  # descriptors to look at when there is none left to list them with
_ESTABLISHED: Final = 1  # TCP_ESTABLISHED, the first byte of TCP_INFO, tcp(7)
_DEAD: Final = 7  # TCP_CLOSE
_LISTENS: Final = 10  # TCP_LISTEN
_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h; Python's socket module does not have them
_SO_DETACH_FILTER: Final = 27
_INSTRUCTION: Final = 8  # bytes


class Connection(NamedTuple):
    """One that was up. NNG may close it at any moment, and its descriptor then belong to something else."""

    descriptor: int
    inode: int

    @property
    def broken(self) -> bool:
        """Whether it is still open here, and the kernel no longer has it up."""
        try:
            return os.fstat(self.descriptor).st_ino == self.inode and not _port(self.descriptor, _ESTABLISHED)
        except OSError:  # NNG has closed it
            return False


def connection(port: int) -> Connection | None:
    """The one that is up at this local port."""
    for descriptor, its in _in_state(_ESTABLISHED, _descriptors()):
        if its == port:
            with contextlib.suppress(OSError):  # closed by now
                return Connection(descriptor, os.fstat(descriptor).st_ino)
    return None


def dead_connections(most: int) -> defaultdict[int, set[int]]:
    """The TCP sockets of this process that are closed: their inodes by local port, none if all are at most ``most``."""
    dead: defaultdict[int, set[int]] = defaultdict(set)
    descriptors = _descriptors()
    if len(descriptors) > most:
        for descriptor, port in _in_state(_DEAD, descriptors):
            with contextlib.suppress(OSError):  # closed by now
                dead[port].add(os.fstat(descriptor).st_ino)
    return dead


def listening(port: int) -> list[int]:
    """The descriptors of the sockets that listen on a port."""
    return [descriptor for descriptor, its in _in_state(_LISTENS, _descriptors()) if its == port]


def attach(descriptor: int, program: bytes) -> None:
    """Have a socket filtered by this program (see `syn_filter`), by none if it is empty. Raises `OSError`."""
    socket_ = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=descriptor)
    try:
        if program:
            code = array("B", program)
            address, size = code.buffer_info()
            fprog = struct.pack("HP", size // _INSTRUCTION, address)  # struct sock_fprog
            socket_.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
        else:
            with contextlib.suppress(FileNotFoundError):  # there is none
                socket_.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    finally:
        socket_.detach()


def _descriptors() -> list[int] | range:
    try:
        with os.scandir("/proc/self/fd") as entries:
            return [int(entry.name) for entry in entries]
    except OSError:  # there is no descriptor left
        return range(_ANY)


def _in_state(state: int, descriptors: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Those that are TCP sockets in this state, with their local port."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # no TCP socket, or closed by now
            if port := _port(descriptor, state):
                yield descriptor, port


def _port(descriptor: int, state: int) -> int:
    """The local port of a TCP socket in this state, 0 of one in another. Raises `OSError` for anything else."""
    looked_at = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=descriptor)
    try:
        found = looked_at.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == state
        return int(looked_at.getsockname()[1]) if found else 0
    finally:
        looked_at.detach()  # it is NNG's to close
