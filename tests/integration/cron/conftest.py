from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cron import ScheduledNode


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ScheduledNode]:
    """A node whose action ``probe`` takes lines over; whatever is started is ended."""
    made = ScheduledNode(tmp_path)
    yield made
    made.end()
