"""Made-up changes for the tests of the store: short to write, complete enough to be stored."""

from typing import Any

from nanoexec.model import Cause, DeliveryState, Order, Outcome, Output, Run, Trigger
from nanoexec.record import DeliveryMoved, RunReported, TriggerIssued


def identifier(text: str) -> str:
    """An id that begins with ``text``."""
    return text.ljust(16, "0")


def issued(text: str, *nodes: str, at: float = 100.0, action: str = "slaughter", **more: Any) -> TriggerIssued:
    trigger = Trigger(identifier(text), action, "ALL", at, at + 60, "root", **more)
    return TriggerIssued(trigger, Order(b"body of " + text.encode(), b"signature"), "ALL", nodes)


def moved(text: str, node: str, state: DeliveryState, at: float = 101.0, reason: str = "") -> DeliveryMoved:
    return DeliveryMoved(identifier(text), node, state, at, reason)


def triggered(text: str, node: str, at: float = 102.0, action: str = "slaughter", **more: Any) -> RunReported:
    return RunReported(node, run(text, action, Cause.TRIGGER, **more), at)


def local(text: str, node: str, at: float = 102.0, action: str = "slaughter", **more: Any) -> RunReported:
    return RunReported(node, run(text, action, Cause.LOCAL, **more), at)


def run(text: str, action: str, cause: Cause, **more: Any) -> Run:
    known: dict[str, Any] = {
        "change": 1,
        "started": 99.0,
        "ended": 99.5,
        "duration": 0.5,
        "outcome": Outcome.SUCCEEDED,
        "status": 0,
        "output": Output(b"done\n", b"", 5),
    }
    return Run(identifier(text), action, cause, "root", 98.0, **(known | more))
