"""What is kept of a command's output: the first bytes, the last bytes, and the count of all."""

from nanoexec.model import Output


class Capture:
    """Takes any amount of output in memory that never exceeds about twice ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._head_limit = limit // 2
        self._tail_limit = limit - self._head_limit
        self._head = b""
        self._tail = bytearray()
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the output."""
        self._size += len(chunk)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            chunk = chunk[room:]
        if len(chunk) >= self._tail_limit:
            self._tail[:] = chunk[-self._tail_limit :]
        else:
            self._tail += chunk
            if len(self._tail) > 2 * self._tail_limit:  # trimmed now and then, not for each line
                del self._tail[: -self._tail_limit]

    def output(self) -> Output:
        """What was kept so far."""
        return Output(head=self._head, tail=bytes(self._tail[-self._tail_limit :]), size=self._size)
