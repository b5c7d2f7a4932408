"""What is collected where only a node's libraries are, found out before another environment has to be made for it."""

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]
COLLECT = """
import sys
sys.modules.update(dict.fromkeys(["sqlalchemy", "alembic"]))  # as if they were not there
import pytest
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *sys.argv[1:]]))
"""


def test_without_the_hubs_libraries_every_test_module_that_is_not_the_hubs_alone_is_collected() -> None:
    words = [sys.executable, "-c", COLLECT, "tests/unit", "tests/contract", "tests/integration"]
    ours = os.environ | {"PYTEST_ADDOPTS": ""}  # whoever runs this test may speak of a plugin that is not there
    done = subprocess.run(words, cwd=TOP, env=ours, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
