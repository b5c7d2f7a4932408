"""What a service logs as an error, or with an exception, is a fault of the product, unless the world has meant it.

Services catch what must not end them, and only log it. Without somebody who listens, a model would see nothing of it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_MEANT: Final = ("disk is full",)
_format: Final = logging.Formatter()


class Ear(logging.Handler):
    """Adds to ``faults`` what nobody has meant."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__()
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.ERROR and not record.exc_info:
            return
        said = _format.format(record)
        if not any(meant in said for meant in _MEANT):
            self._faults.append(f"{record.name} says: {said}")


@contextmanager
def listening(faults: list[str]) -> Iterator[None]:
    """Listen to all logs, alone: thousands of warnings that are meant would only fill the memory of others."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, [Ear(faults)]
    try:
        yield
    finally:
        root.handlers = before
