"""What is collected, and how signals are.

The hub's own tests need the hub's libraries, which a node does not have.
"""

import importlib.util
import signal

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


def pytest_configure() -> None:
    """Have nothing that the tests start ignore a signal because they run in the background or under nohup(1).

    What is ignored stays ignored in a new process, and what has a handler does not.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
