"""Backups of crontabs that nobody needs any more.

A restore needs none of them: the adopted line itself says what it was. They are for people, so those that a person
could still ask for are kept: of every line that is adopted, whatever is young, and the last few of each crontab.
"""

import calendar
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

from nanoexec.config import Paths
from nanoexec.crontab import records
from nanoexec.crontab.locking import locked
from nanoexec.errors import ConfigError

KEEP_DAYS: Final = 90
KEEP_LAST: Final = 10  # of each crontab
_NAME: Final = re.compile(r"(?P<file>.+)\.(?P<at>\d{8}T\d{6}Z)\.[0-9a-f]{8}")  # see `records.backup_name`


def old(paths: Paths, now: float) -> list[Path]:
    """The backups that may go, oldest first. What does not look like one is none. Raises `ConfigError`."""
    needed = {record.backup for record in records.load(paths)}
    dated = defaultdict(list)
    for name in _names(paths.crontabs):
        if (parts := _NAME.fullmatch(name)) and (at := _moment(parts["at"])) is not None:
            dated[parts["file"]].append((at, name))
    spare = [pair for pairs in dated.values() for pair in sorted(pairs)[:-KEEP_LAST]]
    limit = now - KEEP_DAYS * 86400
    return [paths.crontabs / name for at, name in sorted(spare) if at < limit and name not in needed]


def discard_old(paths: Paths, now: float) -> list[Path]:
    """Delete them; which they were. Raises `ConfigError`, also while another nanoexec changes crontabs."""
    with locked(paths):
        gone = old(paths, now)
        for file in gone:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise ConfigError(f"{file}: cannot delete this backup: {error.strerror}") from None
    return gone


def _names(directory: Path) -> list[str]:
    try:
        return [file.name for file in directory.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{directory}: cannot read the backups of crontabs: {error.strerror}") from None


def _moment(text: str) -> float | None:
    try:
        return float(calendar.timegm(time.strptime(text, "%Y%m%dT%H%M%SZ")))
    except ValueError:
        return None
