"""How a run went, told from its output and exit status by the rules of its manifest.

The order in which the rules are asked:

1. a line matched ``failed.output``, then the exit status is in ``failed.exit``: failed;
2. the command was killed by a signal: failed;
3. the exit status is in ``changed.exit``: succeeded, and the machine was changed;
4. a line matched ``succeeded.output`` or the exit status is in ``succeeded.exit``: succeeded;
5. anything else: failed.

A line that matches ``changed.output`` says that something was changed, not that all went well: a tool that changed one
thing and then died with a status nobody foresaw has failed. A success without a sign of change is reported as unchanged
when the manifest has rules for change; a failure without one leaves the question open.
"""

import re
import signal
from collections.abc import Callable
from typing import Final

from nanoexec.actions.manifest import Rules
from nanoexec.model import Outcome, Value

LINE_LIMIT: Final = 64 << 10  # bytes of a line that are looked at
_QUOTED: Final = 200


class Verdict(Value, frozen=True):
    """``changed`` is None when the tool does not say. ``reason`` is empty for a success that needs no explaining."""

    outcome: Outcome
    changed: bool | None
    reason: str = ""


class Judge:
    """Reads the whole output of one run as it comes, in chunks of any size, and keeps one line of it at most."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._line = bytearray()
        self._matched: dict[str, str] = {}
        self._sought = {
            kind: tuple(re.compile(pattern).search for pattern in rule.output)
            for kind, rule in (("failed", rules.failed), ("changed", rules.changed), ("succeeded", rules.succeeded))
            if rule.output
        }

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the output. Costs nothing once no rule is left that could still match."""
        if not self._sought:
            return
        first, newline, rest = chunk.partition(b"\n")
        self._line += first[: LINE_LIMIT - len(self._line)]
        if not newline:
            return
        self._end_line()
        complete, newline, last = rest.rpartition(b"\n")
        if newline:
            self._examine(complete)
        self._line += last[:LINE_LIMIT]

    def verdict(self, status: int) -> Verdict:
        """The outcome, once the output has ended. ``status`` is the exit status, or minus the number of the signal that
        killed the command.
        """
        self._end_line()
        rules, said = self._rules, self._matched
        changed = True if "changed" in said or status in rules.changed.exit else None
        if "failed" in said:
            return Verdict(outcome=Outcome.FAILED, changed=changed, reason=f"it said: {said['failed']}")
        if status in rules.failed.exit:
            return Verdict(outcome=Outcome.FAILED, changed=changed, reason=f"exit status {status}")
        if status < 0:
            return Verdict(outcome=Outcome.FAILED, changed=changed, reason=f"killed by {_signal_name(-status)}")
        if rules.changed and changed is None:
            changed = False
        if status in rules.changed.exit or status in rules.succeeded.exit:
            return Verdict(outcome=Outcome.SUCCEEDED, changed=changed)
        if "succeeded" in said:
            return Verdict(outcome=Outcome.SUCCEEDED, changed=changed, reason=f"it said: {said['succeeded']}")
        return Verdict(outcome=Outcome.FAILED, changed=changed or None, reason=f"exit status {status}")

    def _end_line(self) -> None:
        if self._line:
            self._examine(bytes(self._line))
            self._line.clear()

    def _examine(self, lines: bytes) -> None:
        seen = [line[:LINE_LIMIT].removesuffix("\r") for line in lines.decode(errors="replace").split("\n")]
        for kind, searches in tuple(self._sought.items()):
            line = _first_match(searches, seen)
            if line is not None:
                self._matched[kind] = _quoted(line)
                del self._sought[kind]


def _first_match(searches: tuple[Callable[[str], object], ...], lines: list[str]) -> str | None:
    for line in lines:
        for search in searches:  # a loop and no any(): this is what a gigabyte of output goes through
            if search(line):
                return line
    return None


def _quoted(line: str) -> str:
    """A line of foreign output that can stand in a reason and on a terminal."""
    printable = "".join(character if character.isprintable() else " " for character in line[: 4 * _QUOTED]).strip()
    return printable if len(printable) <= _QUOTED else f"{printable[:_QUOTED]}…"


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
