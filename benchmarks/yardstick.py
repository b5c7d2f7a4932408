"""The least that could do the work: PUB to N processes that spawn ``true`` and PUSH back. No TLS, no roster, no record.

``python -m benchmarks.yardstick follow PUBLISH PUSH`` is one of the N processes, ``… ask URL`` the least command that
an operator could type: it starts, asks the publisher for a round, and ends when it says that all have answered.
"""

import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Self

import pynng

from tests.support.fleet import free_ports

SETTLE = 1.0  # seconds until every subscription has arrived


def follow(publish: str, push: str) -> None:
    """Wait for a frame, spawn, answer; for ever."""
    with pynng.Sub0(topics=b"") as orders, pynng.Push0() as answers:
        orders.dial(publish, block=False)
        answers.dial(push, block=False)
        while True:
            orders.recv()
            answers.send(bytes([subprocess.run(["true"], check=False).returncode]))


def ask(url: str) -> None:
    """Ask for one round and wait until it is over."""
    with pynng.Req0(dial=url, recv_timeout=30_000) as request:
        request.send(b"go")
        request.recv()


class Yardstick:
    """A publisher, which is this process, and N followers; a context manager."""

    def __init__(self, nodes: int) -> None:
        ports = free_ports(3)
        self._urls = [f"tcp://127.0.0.1:{port}" for port in ports]
        self._nodes = nodes
        self._orders = pynng.Pub0(listen=self._urls[0])
        self._answers = pynng.Pull0(listen=self._urls[1], recv_timeout=30_000)
        self._wishes = pynng.Rep0(listen=self._urls[2], recv_timeout=30_000)
        self._followers = [self._start("follow", *self._urls[:2]) for _ in range(nodes)]

    def __enter__(self) -> Self:
        while len(self._orders.pipes) < self._nodes or len(self._answers.pipes) < self._nodes:
            time.sleep(0.05)
        time.sleep(SETTLE)
        return self

    def round(self) -> float:
        """Seconds from the frame to the last answer."""
        began = time.perf_counter()
        self._orders.send(b"go")
        for _ in range(self._nodes):
            assert self._answers.recv() == b"\0"
        return time.perf_counter() - began

    def cold_round(self) -> float:
        """Seconds from starting a command that asks for a round to that command's end."""
        began = time.perf_counter()
        with self._start("ask", self._urls[2]) as command:
            self._wishes.recv()
            self.round()
            self._wishes.send(b"done")
        assert command.returncode == 0
        return time.perf_counter() - began

    def _start(self, *words: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-m", "benchmarks.yardstick", *words], cwd=Path(__file__).parents[1])

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        for follower in self._followers:
            follower.kill()
        for follower in self._followers:
            follower.wait()
        self._orders.close()
        self._answers.close()
        self._wishes.close()


if __name__ == "__main__":
    {"follow": follow, "ask": ask}[sys.argv[1]](*sys.argv[2:])
