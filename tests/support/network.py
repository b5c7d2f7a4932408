"""How a network for tests comes and goes: a process holds it, which ends when our end of its standard input closes, be
it because we say so, crash, or are killed.
"""

import subprocess
import types
from collections.abc import Sequence


class Held:
    """What one process holds; a context manager, as soon as there is an ``__enter__`` that calls `hold`."""

    _process: "subprocess.Popen[str] | None" = None

    def hold(self, *words: str) -> None:
        """Start the process and wait until it says ``ready``. Raises `RuntimeError` if it ends instead."""
        # A session of its own: Ctrl-C is for the tests, which then close the input.
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout
        if self._process.stdout.readline() != "ready\n":
            self.close()
            raise RuntimeError("the network did not come up: see standard error for why")

    @property
    def pid(self) -> int:
        """Of the process, as long as it holds anything."""
        assert self._process
        return self._process.pid

    def close(self) -> None:
        """End it. Harmless when done already."""
        if self._process:
            self._process.communicate()  # closes the input; the output ends when all is gone
            self._process = None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


def executed(words: Sequence[str], *arguments: str, said: str = "") -> str:
    """What a command in the network prints; ``said`` is its input.

    :raises RuntimeError: if it fails; with what it said.
    """
    done = subprocess.run([*words, *arguments], capture_output=True, text=True, check=False, input=said)
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode} of {arguments} in the network: {done.stderr.strip()}")
    return done.stdout
