"""Real nodes among a crowd: their commands write down that they have started, as a crowd's stand-ins do."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.support.fleet import FleetNode


def teach(node: FleetNode, action: str = "true", script: str = "true") -> None:
    """Give a node that has joined an action that does this, and its agent the news."""
    words = ["/bin/sh", "-c", f"echo $NANOEXEC_TRIGGER_ID >> {_ledger(node)}; {script}"]
    node.action(action, f'command = {words}\non_busy = "wait"\n')  # each for itself: the ledger counts them
    node.agent.stop()  # it asks the runner for its actions when it starts
    node.agent.start()


def starts(nodes: Iterable[FleetNode]) -> Counter[tuple[str, str]]:
    """How often each (trigger, node) was started, by the commands' own account."""
    lines = [(line, node.name) for node in nodes for line in _ledger(node).read_text().split()]
    return Counter(lines)


def _ledger(node: FleetNode) -> Path:
    return node.root / "ledger"
