"""Whatever a database, a library or the file system says, as one line that names the file and what to do."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from nanoexec.errors import StoreError

# Primary result codes, https://sqlite.org/rescode.html
_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked: end that one, then try again",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: check that it is a file and that this user may read and write it",
    sqlite3.SQLITE_CORRUPT: "is damaged: restore a backup",
    sqlite3.SQLITE_FULL: "the disk is full: make room, nothing of this change was stored",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write: look at the kernel's log",
    sqlite3.SQLITE_NOTADB: "is not a database: restore a backup, or move the file away to begin anew",
    sqlite3.SQLITE_READONLY: "cannot be written: check owner and mode of the file and of its directory",
}


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """Raises `StoreError` for everything that can go wrong inside with the database at ``path``."""
    try:
        yield
    except DBAPIError as error:
        raise StoreError(f"{path}: {_plain(error.orig or error)}") from error
    except (sqlite3.Error, SQLAlchemyError) as error:
        raise StoreError(f"{path}: {_plain(error)}") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error
    except (OverflowError, ValueError, msgspec.MsgspecError) as error:
        raise StoreError(f"{path}: a value cannot be stored or read back: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What an error says first; libraries add lines of SQL and links to it."""
    return str(error).partition("\n")[0].rstrip(". ") or type(error).__name__


def _plain(error: BaseException) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    return _ADVICE.get(primary, first_line(error)) if primary is not None else first_line(error)
