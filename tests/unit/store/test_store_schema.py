"""The schema: the same as the migrations lead to, portable, and indexed for what is asked of it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from nanoexec.model import Cause, DeliveryState, Outcome
from nanoexec.record import DeliveryCancelled, NodeHeard, NodeJoined, NodeRevoked, TokenMade, TokenUsed
from nanoexec.store import Store, changes, purging
from nanoexec.store.opening import OURS
from nanoexec.store.schema import METADATA
from tests.integration.store.records import identifier, issued, local, moved, triggered

EVERY_CHANGE = (
    issued("a", "web1", "web2"),
    moved("a", "web1", DeliveryState.SENT),
    DeliveryCancelled(identifier("a"), "web1", "bob", 1.0),
    triggered("a", "web1"),
    local("b", "web2"),
    NodeJoined("web1", identifier("k"), 1.0),
    NodeHeard("web1", 2.0, 0.1, "1.0", ()),
    NodeRevoked("web1", 3.0),
    TokenMade("d" * 64, 9.0, 1),
    TokenUsed("d" * 64),
)


def test_the_version_that_is_opened_is_the_last_migration_and_there_is_one_line_of_them() -> None:
    config = Config()
    config.set_main_option("script_location", str(OURS.directory))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [OURS.head]
    assert all(script.revision.isdecimal() and len(script.revision) == 4 for script in scripts.walk_revisions())


def test_the_migrations_lead_to_exactly_this_schema(tmp_path: Path) -> None:
    Store.open(tmp_path / "hub.db").close()
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        METADATA.create_all(connection)
        wanted = set(connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").all())
    engine.dispose()
    with closing(sqlite3.connect(tmp_path / "hub.db")) as connection:
        made = set(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    assert {(name, _plain(sql)) for name, sql in made if name != "alembic_version"} == {
        (name, _plain(sql)) for name, sql in wanted
    }


def _plain(sql: str) -> str:
    return " ".join(sql.split()).replace("deliveries.state", "state").replace('"', "")


def test_alembic_finds_nothing_to_add(tmp_path: Path) -> None:
    Store.open(tmp_path / "hub.db").close()
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'hub.db'}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_the_schema_compiles_for_postgresql() -> None:
    dialect: Any = postgresql.dialect()  # type: ignore[no-untyped-call]
    ddl = "\n".join(str(CreateTable(table).compile(dialect=dialect)) for table in METADATA.sorted_tables)
    indexes = [
        str(CreateIndex(index).compile(dialect=dialect))
        for table in METADATA.tables.values()
        for index in table.indexes
    ]
    assert "DOUBLE PRECISION" in ddl
    assert "BYTEA" in ddl
    assert "BOOLEAN" in ddl
    assert sum("WHERE" in index for index in indexes) == 4


def test_what_is_written_compiles_for_postgresql() -> None:
    dialect: Any = postgresql.dialect()  # type: ignore[no-untyped-call]
    written: list[str] = []

    def compiled(statement: Any, parameters: Any) -> SimpleNamespace:
        names = list(parameters[0] if isinstance(parameters, list) else parameters or ())
        written.append(str(statement.compile(dialect=dialect, column_keys=names)))
        return SimpleNamespace(rowcount=0)

    changes.apply(sa.create_mock_engine("postgresql://", compiled), EVERY_CHANGE)  # type: ignore[arg-type]
    for statement in purging.batches(50.0):
        compiled(statement, None)
    assert sum("ON CONFLICT (node, id) DO UPDATE" in sql for sql in written) == 1
    assert {sql.split()[0] for sql in written} == {"INSERT", "UPDATE", "DELETE"}


@pytest.fixture
def plans(tmp_path: Path) -> Iterator[tuple[Store, list[str]]]:
    """A store, and how SQLite goes about each statement that it is asked."""
    store = Store.open(tmp_path / "hub.db")
    steps: list[str] = []

    @sa.event.listens_for(store._engine, "before_cursor_execute")
    def explain(connection: sa.Connection, _: object, sql: str, parameters: Any, *more: Any) -> None:
        if not sql.startswith("BEGIN"):
            raw = connection.connection.cursor()
            several = more[-1]  # the last of SQLAlchemy's arguments says so
            raw.execute(f"EXPLAIN QUERY PLAN {sql}", parameters[0] if several else parameters)
            steps.extend(row[3] for row in raw.fetchall())
            raw.close()

    yield store, steps
    store.close()


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({}, {"ix_runs_reported", "ix_deliveries_untold"}),
        ({"since": 5.0}, {"ix_runs_reported", "ix_deliveries_untold"}),
        ({"node": "web1"}, {"ix_runs_node", "ix_deliveries_untold_node"}),
        ({"action": "slaughter"}, {"ix_runs_action", "ix_deliveries_untold"}),
    ],
)
def test_history_walks_an_index(plans: tuple[Store, list[str]], wanted: dict[str, Any], index: set[str]) -> None:
    store, steps = plans
    store.history(limit=9, **wanted)
    assert index <= {word for step in steps for word in step.split()}
    assert [step for step in steps if _reads_a_whole_table(step) or step == "USE TEMP B-TREE FOR ORDER BY"] == []


def test_no_other_question_reads_a_whole_table_either(plans: tuple[Store, list[str]]) -> None:
    store, steps = plans
    store.open_triggers()
    store.commit(EVERY_CHANGE)
    store.trigger("a")
    store.trigger_id("a")
    store.chain("a", "web1")
    store.runs("b")
    store.purge(50.0)
    assert any("ix_deliveries_open" in step for step in steps)
    small = {"SCAN nodes", "SCAN tokens", "SCAN certificates"}
    assert [step for step in steps if _reads_a_whole_table(step) and step not in small] == []


def _reads_a_whole_table(step: str) -> bool:
    return step.startswith("SCAN ") and "USING" not in step


@pytest.mark.parametrize("words", [DeliveryState, Outcome, Cause])
def test_every_word_fits_its_column(words: type[DeliveryState | Outcome | Cause]) -> None:
    assert max(map(len, words)) <= 16
