"""However changes are gathered into groups, the store holds the same."""

import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanoexec.model import ActionOffer, DeliveryState
from nanoexec.record import Change, NodeHeard, NodeJoined, NodeRevoked, TokenMade, TokenUsed
from nanoexec.store import Store
from tests.integration.store.records import identifier, issued, local, moved, triggered

NODES = ("web1", "web2", "db1")
TABLES = ("triggers", "deliveries", "runs", "nodes", "certificates", "tokens")


KINDS = ("issue", "move", "report", "local", "join", "revoke", "hear", "token", "use")
seeds = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from(NODES), st.integers(0, 3), st.sampled_from(DeliveryState)),
    max_size=30,
)


def _history(seed: list[tuple[str, str, int, DeliveryState]]) -> list[Change]:
    """Changes as a hub could decide them: ids are new, and nothing happens to what was not there before."""
    changes: list[Change] = [issued("first", *NODES), TokenMade("first", 60.0, 9)]
    trigger, token = "first", "first"
    for number, (kind, node, choice, state) in enumerate(seed):
        at, name, text = float(number), f"{number:03}", f"reason {number}"
        if kind == "issue":
            trigger = name
        elif kind == "token":
            token = name
        possible: dict[str, Change] = {
            "issue": issued(name, *NODES[: choice or 1], at=at),
            "move": moved(trigger, node, state, at, text),
            "report": triggered(trigger, node, at, change=choice, reason=text),
            "local": local("abc"[choice % 3], node, at, change=choice, reason=text),
            "join": NodeJoined(node, identifier(name), at),
            "revoke": NodeRevoked(node, at),
            "hear": NodeHeard(node, at, 0.5, text, (ActionOffer(f"a{number}"),)),
            "token": TokenMade(name, at + 60, 1 + choice),
            "use": TokenUsed(token),
        }
        changes.append(possible[kind])
    return changes


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=seeds, data=st.data())
def test_the_content_does_not_depend_on_how_changes_are_grouped(
    fresh_database: Path, seed: list[tuple[str, str, int, DeliveryState]], data: st.DataObject
) -> None:
    changes = _history(seed)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(changes)))) | {0, len(changes)})
    groups = [changes[start:end] for start, end in pairwise(cuts)]
    singly = _content(fresh_database, [[change] for change in changes])
    assert _content(fresh_database, groups) == singly
    assert _content(fresh_database, [changes]) == singly


def _content(fresh: Path, groups: list[list[Change]]) -> dict[str, list[tuple[object, ...]]]:
    with tempfile.TemporaryDirectory() as directory:
        store = Store.open(Path(shutil.copy(fresh, Path(directory) / "hub.db")))
        try:
            for group in groups:
                store.commit(group)
            with store._read() as connection:
                return {
                    table: sorted(map(tuple, connection.exec_driver_sql(f"SELECT * FROM {table}")), key=repr)  # noqa: S608 - our own names
                    for table in TABLES
                }
        finally:
            store.close()
