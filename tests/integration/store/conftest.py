"""One open store in a scratch directory. Alembic makes it once a session; each test gets a copy of the file."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoexec.store import Store


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fresh") / "hub.db"
    Store.open(path).close()
    return path


@pytest.fixture
def store_path(fresh_database: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(fresh_database, tmp_path / "hub.db"))


@pytest.fixture
def store(store_path: Path) -> Iterator[Store]:
    opened = Store.open(store_path)
    yield opened
    opened.close()
