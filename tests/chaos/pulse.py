"""Whether a hub answers its operators throughout, whatever else is going on."""

import os
import statistics
import threading
import time
import types
from functools import partial
from itertools import cycle
from typing import Final, Self

from tests.chaos.account import Account
from tests.chaos.figures import Figures
from tests.chaos.operators import history, status

LONG: Final = os.environ.get("NANOEXEC_CHAOS") == "long"
PROMISED: Final = 1.0  # seconds within which the hub answers its control socket
WORST: Final = PROMISED if LONG else 5 * PROMISED  # that is asserted: in the short form others use the machine, too
USUAL: Final = PROMISED / 4  # half of all answers come within so many


class Pulse:
    """Asks the hub one thing after the other all the time, from a thread; a context manager.

    In turns how it is, what has happened, and that ``target`` run something: it has the first at hand, reads its
    database for the second and writes it for the last.

    ``took`` says of each answer how long it took, in seconds, from the moment that the socket took the question.
    ``unanswered`` are the questions that a hub took and left without an answer: none but when it ended over them.
    ``refused`` are the seconds in which nobody listened.
    """

    def __init__(self, account: Account, target: str, every: float = 0.05) -> None:
        self.took: dict[str, list[float]] = {"status": [], "history": [], "trigger": []}
        self.unanswered = 0
        self.refused = 0.0
        self._questions = {
            "status": partial(status, account.root),
            "history": partial(history, account.root),
            "trigger": partial(account.submit, target),
        }
        self._every = every
        self._fault: BaseException | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._fault is not None and kind is None:
            raise self._fault

    @property
    def worst(self) -> float:
        return max((seconds for each in self.took.values() for seconds in each), default=0.0)

    def judge(self, figures: Figures, *, down: float = 0.0, ends: int = 0, more: float = 0.0) -> None:
        """It has answered throughout but for ``down`` seconds in which there was none, having ended so many times.

        ``more``: seconds that one answer may take beyond what is asked of a hub with which nothing is done.
        """
        said = ", ".join(f"{what} {max(took, default=0.0):.2f} s of {len(took)}" for what, took in self.took.items())
        figures.fact("control socket, worst", f"{said} (promised: {PROMISED:.0f} s)")
        figures.fact("nobody listened for", f"{self.refused:.1f} s")
        assert all(self.took.values()), f"not asked: {said}"
        assert self.worst <= WORST + more, f"worst answers: {said}"
        slow = {what: usual for what, took in self.took.items() if (usual := statistics.median(took)) > USUAL}
        assert slow == {}, f"usually slow: {slow}"
        assert self.unanswered <= ends, f"{self.unanswered} questions were not answered"
        assert self.refused <= (down and down + PROMISED), f"{self.refused:.1f} s without a hub, {down:.1f} were due"

    def _live(self) -> None:
        try:
            self._beat()
        except BaseException as error:  # noqa: BLE001 - told in the thread of the test
            self._fault = error

    def _beat(self) -> None:
        for what in cycle(self.took):
            if self._over.is_set():
                return
            began = time.perf_counter()
            try:
                self._questions[what]()
            except (ConnectionRefusedError, FileNotFoundError):
                self._over.wait(self._every)
                self.refused += time.perf_counter() - began
                continue
            except OSError:
                self.unanswered += 1
            else:
                self.took[what].append(time.perf_counter() - began)
            self._over.wait(self._every)
