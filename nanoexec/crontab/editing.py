"""One crontab file, replaced so that whoever looks sees the old bytes or the new ones.

The new file is written beside the old one under a name that no cron reads (it begins with a dot), gets its owner, mode,
ACL, SELinux context and other extended attributes, and takes its place by one rename. A writer killed in between leaves
at most that temporary file, which the next one removes.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from nanoexec.errors import ConfigError

_BESIDE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SECOND: Final = 1_000_000_000  # ns


def inside(file: Path, root: Path) -> Path:
    """The file itself, behind whatever symbolic links lead to it. Raises `ConfigError` if they lead out of the root."""
    try:
        real = file.resolve(strict=True)
        top = root.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: links that go round, before Python 3.13
        raise ConfigError(f"{file}: cannot be reached: {getattr(error, 'strerror', None) or error}") from None
    if not real.is_relative_to(top):
        raise ConfigError(f"{file}: a symbolic link leads out of {root}, to {real}: it is left alone")
    return real


def replace(file: Path, root: Path, before: bytes, after: bytes) -> None:
    """Put ``after`` in the place of ``before``, durably. A symbolic link stays one: what it points to is replaced.

    Raises `ConfigError` when the file leads out of the root, is not a regular file, cannot be written, or no longer
    says ``before``; then it stays as it is.
    """
    real = inside(file, root)
    with _faults(file), _opened(real.parent, os.O_RDONLY | os.O_DIRECTORY) as directory:
        # Not opened for writing, and not waiting for the writer of a FIFO.
        with _opened(real.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, directory) as old:
            check(file, old, before)
            beside = f".{real.name}.nanoexec"
            with suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=directory)
            try:
                with _opened(beside, _BESIDE, directory) as new:
                    _write(new, after)
                    _dress(old, new)
                    os.fsync(new)
                check(file, old, before)
                _check_place(file, old, os.stat(real.name, dir_fd=directory, follow_symlinks=False))
                os.rename(beside, real.name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                with suppress(OSError):
                    os.unlink(beside, dir_fd=directory)
                raise
        os.fsync(directory)


def check(file: Path, descriptor: int, before: bytes) -> None:
    """Raise `ConfigError` unless the open file is a regular one and says ``before``."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{file}: not a regular file: it is left alone")
    if os.pread(descriptor, max(status.st_size, len(before)) + 1, 0) != before:
        raise _edited(file)


def _check_place(file: Path, descriptor: int, found: os.stat_result) -> None:
    """Raise `ConfigError` if another file has taken the place of the open one."""
    if not os.path.samestat(os.fstat(descriptor), found):
        raise _edited(file)


def _edited(file: Path) -> ConfigError:
    return ConfigError(f"{file}: somebody has edited it meanwhile: nothing was written, try again")


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _dress(old: int, new: int) -> None:
    """Give the new file what the old one has besides its content."""
    worn, status = os.fstat(old), os.fstat(new)
    if (worn.st_uid, worn.st_gid) != (status.st_uid, status.st_gid):
        os.fchown(new, worn.st_uid, worn.st_gid)
    os.fchmod(new, stat.S_IMODE(worn.st_mode))
    wanted, present = _attributes(old), _attributes(new)
    for name, value in wanted.items():
        if present.get(name) != value:
            os.setxattr(new, name, value)
    for name in present.keys() - wanted.keys():
        if not name.startswith("security."):  # the label that the system's policy gives to a new file stays
            os.removexattr(new, name)
    if status.st_mtime_ns // _SECOND <= worn.st_mtime_ns // _SECOND:  # cron tells a change by the second
        later = worn.st_mtime_ns + _SECOND
        os.utime(new, ns=(later, later))


def _attributes(descriptor: int) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(descriptor, name) for name in os.listxattr(descriptor)}
    except OSError:  # a file system without them
        return {}


@contextmanager
def _opened(path: Path | str, flags: int, directory: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _faults(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{file}: cannot be changed: {error.strerror or error}") from None
