"""Small files, read with a clear error and written so that a crash leaves the old or the new one, never a third."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from nanoexec.errors import ConfigError


def read_bytes(path: Path, what: str) -> bytes:
    """The file's content. Raises `ConfigError`, which names it and says ``what`` was wanted."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read {what}: {error.strerror or error}") from None


def read_regular(file: Path) -> bytes:
    """The content of a regular file. Raises `OSError`; opens nothing else."""
    with open_regular(file) as opened:
        return opened.read()


def open_regular(file: Path) -> BinaryIO:
    """A regular file, to be read. Raises `OSError`, without having opened anything else.

    For what somebody else may have put there: opening a FIFO waits for its writer, and a device does what it is for.
    """
    found = os.open(file, os.O_PATH | os.O_CLOEXEC)  # open(2): it says which file that is, and does not open it
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(0, "not a regular file")
        return open(f"/proc/self/fd/{found}", "rb")  # noqa: PTH123 - the very same, whatever the path leads to by now
    finally:
        os.close(found)


def write_atomically(path: Path, data: bytes, mode: int) -> None:
    """Write through a temporary file in the same directory: fsync, rename, fsync the directory.

    Run as root, the file gets the owner of its directory: what the agent must read is made for the agent. Raises
    `ConfigError`.
    """
    import tempfile  # noqa: PLC0415 - a megabyte, which the runner and every crontab slot would pay for reading a file

    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise ConfigError(f"{path}: cannot write: {error.strerror or error}") from None
    temporary: Path | None = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            give_to_owner_of(path.parent, file.fileno())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
        temporary = None
        sync_directory(path.parent)
    except OSError as error:
        raise ConfigError(f"{path}: cannot write: {error.strerror or error}") from None
    finally:
        if temporary:
            temporary.unlink()


def demand_writable(directory: Path) -> None:
    """Raise `ConfigError` unless this user may make files in ``directory``, or the directory where it is missing."""
    place = directory
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ConfigError(f"{directory}: cannot write: {place} is not a directory")
    if not os.access(place, os.W_OK | os.X_OK):
        why = "the file system is read-only" if os.geteuid() == 0 else "this user may not: try as root"
        raise ConfigError(f"{directory}: cannot write: {why}")


def sync_directory(path: Path) -> None:
    """Make a rename in ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give_to_owner_of(directory: Path, descriptor: int) -> None:
    """What root makes in somebody's directory is to be theirs. Raises `OSError`."""
    owner = directory.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
