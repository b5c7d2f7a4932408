"""What a campaign counts, and the table that it ends with.

A test keeps its `Figures` and hands them to pytest with ``figures.record(record_property)``: so they travel from the
workers of xdist to the terminal, where `pytest_terminal_summary` (taken up in ``tests/conftest.py``) prints one table a
campaign.
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

_PROPERTY: Final = "figures"
# Of these the reader wants to know first; the others follow in the order in which they came up.
_FIRST: Final = ("examples", "steps", "triggers", "deliveries", "starts", "lost", "doubled")
_ALWAYS: Final = ("lost", "doubled")  # told also by a campaign that has not counted them: a 0 would say that it has


class Figures:
    """Counts by name. Faults are counted apart: what was done to the system, by kind."""

    def __init__(self, campaign: str, **first: str) -> None:
        self.campaign = campaign
        self._facts = dict(first)
        self._counts: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._began = time.monotonic()

    def count(self, fault: str, times: int = 1) -> None:
        """A fault was injected."""
        self._faults[fault] += times

    def add(self, what: str, times: int = 1) -> None:
        """Something happened that is no fault of ours. What has been counted and was not there: ``times`` 0."""
        self._counts[what] += times

    def fact(self, what: str, value: str) -> None:
        """Something to say that is not a sum: a ratio, a slope, a seed."""
        self._facts[what] = value

    def lines(self) -> list[str]:
        """The table."""
        order = {name: place for place, name in enumerate(_FIRST)}
        counts = dict.fromkeys(_ALWAYS, "not counted") | {name: f"{times:,}" for name, times in self._counts.items()}
        faults = ", ".join(f"{kind} {times}" for kind, times in self._faults.most_common())
        rows = sorted(counts.items(), key=lambda item: order.get(item[0], len(order)))
        rows += [("faults injected", f"{self._faults.total():,}{f' ({faults})' if faults else ''}")]
        rows += list(self._facts.items())
        rows += [("seconds", f"{time.monotonic() - self._began:.1f}")]
        width = max(len(name) for name, _ in rows)
        return [self.campaign, *(f"  {name:{width}}  {value}" for name, value in rows)]

    def record(self, record_property: Callable[[str, Any], None]) -> None:
        """Have the table printed when all tests are over."""
        record_property(_PROPERTY, self.lines())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the tables of all campaigns that ran, whatever came of them."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    tables = [
        value for report in reports for name, value in getattr(report, "user_properties", ()) if name == _PROPERTY
    ]
    if tables:
        terminalreporter.section("campaigns")
    for table in tables:
        for line in table:
            terminalreporter.write_line(line)
