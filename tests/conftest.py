"""What is collected: the hub's own tests need the hub's libraries, which a node does not have."""

import importlib.util

from tests.chaos.figures import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]  # the campaigns of tests/chaos end with their figures

HUB_ONLY = [
    "integration/store",
    "integration/test_backup.py",
    "integration/test_bad_state.py",
    "integration/test_echo.py",
    "unit/hub/test_clerk.py",
    "unit/hub/test_joining.py",
    "unit/hub/test_service.py",
    "unit/store",
    "unit/test_documents.py",
]

collect_ignore = [] if importlib.util.find_spec("sqlalchemy") else HUB_ONLY
