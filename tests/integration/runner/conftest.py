from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runner import Node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node without a runner as yet; whatever is started is ended."""
    made = Node(tmp_path)
    yield made
    made.end()
