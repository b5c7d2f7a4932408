"""A process of the tests beside the fleet: a module of theirs, which ends when our end of its standard input closes, be
it because we say so, crash, or are killed.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

ENDING: Final = 60.0  # seconds that it may take to end, on a busy machine
_REPOSITORY: Final = Path(__file__).parents[2]


def with_tests() -> dict[str, str]:
    """The environment, in which the modules of the tests can be found from any directory."""
    return dict(os.environ) | {"PYTHONPATH": str(_REPOSITORY)}


class Companion:
    """``before`` is put before its command, ``output`` takes what it prints: without, `hear` does."""

    def __init__(self, *words: str, before: Sequence[str] = (), output: IO[bytes] | None = None) -> None:
        # A session of its own: Ctrl-C is for the tests, which then close the input.
        self._process = subprocess.Popen(
            [*before, sys.executable, "-m", *words],
            stdin=subprocess.PIPE,
            stdout=output or subprocess.PIPE,
            stderr=output,
            text=True,
            env=with_tests(),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def say(self, line: str) -> None:
        """A line for its standard input."""
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """The next line that it prints, empty if it has ended."""
        assert self._process.stdout
        return self._process.stdout.readline()

    def end(self) -> tuple[int, str]:
        """Have it end: its exit status, and what it has printed that nobody has heard. Whatever happens here, it has
        ended after this.

        :raises subprocess.TimeoutExpired: if it had to be killed.
        """
        with self._process:  # waits, and closes what is open between us
            try:
                out, _ = self._process.communicate(timeout=ENDING)  # closes its input
            finally:
                self._process.kill()
            return self._process.returncode, out or ""
