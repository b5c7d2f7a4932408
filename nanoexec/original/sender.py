"""The sender of the original's wire: is there for a moment, publishes one frame, and is gone.

The original slept 100 ms and hoped. Here the publisher waits until subscribers are on its own list, and closes only
when the kernel has the frame of each: NNG's close drops what the kernel has not accepted yet.
"""

import threading
import time
from collections.abc import Iterator
from typing import Any, Final, TextIO

from nanoexec.errors import UnavailableError
from nanoexec.original.frame import check_address, compose_frame

SETTLE: Final = 0.3  # seconds: three rounds of listeners that redial every 100 ms, as nanomsg and `listen` do
_POLL: Final = 0.01  # seconds


def send(
    url: str,
    message: str,
    *,
    out: TextIO,
    subscribers: int | None = None,
    within: float = 10.0,
    settle: float = SETTLE,
) -> int:
    """Publish ``HOST:COMMAND`` once at ``url``; return how many subscribers it went to, whether it is for them or not.

    Waits at most ``within`` seconds for ``subscribers`` (one unless given) and until none has come for ``settle``
    seconds, then as long again for the slowest to take the frame. Sends nothing when too few come. Raises `UsageError`
    and `UnavailableError`.
    """
    check_address(url)
    frame = compose_frame(message)
    import pynng

    wanted = max(1, subscribers or 0)
    arrivals = Arrivals()
    with pynng.Pub0() as socket:
        socket.add_post_pipe_connect_cb(lambda pipe: arrivals.come(pipe.id))
        socket.add_post_pipe_remove_cb(lambda pipe: arrivals.go(pipe.id))
        try:
            socket.listen(url)
        except pynng.AddressInUse:
            raise UnavailableError(f"cannot listen on {url}: the port is in use") from None
        except pynng.NNGException as error:
            raise UnavailableError(f"cannot listen on {url}: {str(error).lower()}") from None
        present = arrivals.wait(wanted, within, settle)
        if len(present) < wanted:
            came = f"only {len(present)} of {wanted} subscribers" if present else "nobody"
            raise UnavailableError(f"{came} came to {url} within {within:g} seconds; nothing was sent")
        socket.send(frame)
        reached = _drain(socket, arrivals, present, within)
    missed = len(present - reached)
    if not reached:
        raise UnavailableError(f"{missed} came to {url}, and none took the frame")
    out.write(f"sent to {len(reached)} subscriber{'s' if len(reached) > 1 else ''}")
    out.write(f"; {missed} came and did not take it\n" if missed else "\n")
    out.flush()
    return len(reached)


class Arrivals:
    """Which subscribers are connected: told by NNG's threads, waited for by ours."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pipes: set[int] = set()
        self._fresh = False

    def come(self, pipe: int) -> None:
        with self._changed:
            self._pipes.add(pipe)
            self._fresh = True
            self._changed.notify_all()

    def go(self, pipe: int) -> None:
        with self._changed:
            self._pipes.discard(pipe)

    def present(self) -> frozenset[int]:
        with self._changed:
            return frozenset(self._pipes)

    def wait(self, wanted: int, within: float, settle: float) -> frozenset[int]:
        """Who is there once ``wanted`` are and nobody new came for ``settle`` seconds, or when ``within`` is over."""
        deadline = time.monotonic() + within
        with self._changed:
            while (left := deadline - time.monotonic()) > 0:
                self._fresh = False
                if not self._changed.wait_for(lambda: self._fresh, min(settle, left)) and len(self._pipes) >= wanted:
                    break
            return frozenset(self._pipes)


def _drain(socket: Any, arrivals: Arrivals, expected: frozenset[int], within: float) -> set[int]:
    """Whose frame the kernel has. Waits for those of ``expected`` that are still there, at most ``within`` seconds."""
    deadline = time.monotonic() + within
    reached = _sent(socket)
    while (expected & arrivals.present()) - reached and time.monotonic() < deadline:
        time.sleep(_POLL)  # NNG counts, and has no event for it
        reached |= _sent(socket)
    return reached


def _sent(socket: Any) -> set[int]:
    """The pipes of this socket that have handed a whole message to the kernel: ``tx_msgs`` in NNG's statistics."""
    from pynng import ffi, lib

    def children(stat: Any) -> Iterator[tuple[bytes, Any]]:
        child = lib.nng_stat_child(stat)
        while child:
            yield ffi.string(lib.nng_stat_name(child)), child
            child = lib.nng_stat_next(child)

    root = ffi.new("nng_stat **")
    if lib.nng_stats_get(root):
        return set()
    try:
        pipes = [
            {key: lib.nng_stat_value(stat) for key, stat in children(child)}
            for name, child in children(root[0])
            if name == b"pipe"
        ]
    finally:
        lib.nng_stats_free(root[0])
    mine = lib.nng_socket_id(socket.socket)
    return {pipe[b"id"] for pipe in pipes if pipe[b"socket"] == mine and pipe[b"tx_msgs"]}
