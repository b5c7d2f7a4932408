"""The manifests on disk: reads the shipped directory and the node's own; keeps the catalog while nothing changes."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nanoexec.actions import Catalog, Fault, Manifest, Source, merge
from nanoexec.actions.layers import SUFFIX, named_after
from nanoexec.config import Paths
from nanoexec.errors import UnavailableError

_PASSING: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # they say nothing of the file
Signature = list[tuple[str, int, int, int, int]]


def shipped_directory() -> Path:
    """Where the integrations are: beside the installed package's modules, else at the top of the source tree."""
    package = Path(__file__).parent
    installed = package / "integrations"
    return installed if installed.is_dir() else package.parent / "integrations"


def read_catalog(paths: Paths, shipped: Path | None = None, *, only: str | None = None) -> Catalog:
    """The actions of this node. A directory that is missing is empty; whatever cannot be read is a fault.

    ``shipped`` is the lower layer, `shipped_directory` when None. With ``only``, no other action is checked. Raises
    `UnavailableError` if there is no descriptor or memory to read with: no action is unknown for that.
    """
    faults: list[Fault] = []
    layers = [list(_sources(directory, faults)) for directory in _directories(paths, shipped)]
    return merge(layers, faults, only)


def missing(manifest: Manifest, search: str) -> tuple[str, ...]:
    """Which of the programs that an action needs this machine does not have. ``search`` is as in ``$PATH``."""
    wanted = dict.fromkeys((*manifest.requires, manifest.command[0]))
    return tuple(program for program in wanted if not _found(program, search))


class CatalogCache:
    """The catalog for a long-lived process: `current` reads the files again only once their status has changed."""

    def __init__(self, paths: Paths, shipped: Path | None = None) -> None:
        self._paths = paths
        self._shipped = shipped_directory() if shipped is None else shipped
        self._directories = _directories(paths, self._shipped)
        self._read: tuple[Signature, Catalog] | None = None

    def current(self) -> Catalog:
        """The catalog as the files are now. Raises `UnavailableError` as `read_catalog` does."""
        # The signature is taken before the files are read: a change in between is seen the next time.
        seen = _signature(self._directories)
        if self._read is None or self._read[0] != seen:
            self._read = seen, read_catalog(self._paths, self._shipped)
        return self._read[1]


def _directories(paths: Paths, shipped: Path | None) -> tuple[str, str]:
    return str(shipped_directory() if shipped is None else shipped), str(paths.actions)


def _sources(directory: str, faults: list[Fault]) -> Iterator[Source]:
    try:
        names = _manifests(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        _refuse_to_guess(directory, error)
        faults.append(Fault(file=directory, key="", message=f"cannot read this directory: {error.strerror}"))
        return
    for name in names:
        file = f"{directory}/{name}"
        read = _read(file)
        if isinstance(read, bytes):
            yield Source(file=file, data=read)
        else:
            faults.append(Fault(file=file, key="", message=read, action=named_after(file)))


def _read(file: str) -> bytes | str:
    """The content of a manifest, or why it is not read."""
    try:
        mode = os.stat(file).st_mode  # noqa: PTH116 - a Path for each file would double the cost
        if not stat.S_ISREG(mode):  # opening a FIFO would wait for its writer
            return "a manifest must be a regular file"
        if mode & stat.S_IWOTH:
            return "everybody can write this file, and root would run what it says: chmod o-w"
        with open(file, "rb") as opened:  # noqa: PTH123 - the same
            return opened.read()
    except OSError as error:
        _refuse_to_guess(file, error)
        return f"cannot read this manifest: {error.strerror}"


def _refuse_to_guess(file: str, error: OSError) -> None:
    """Raises `UnavailableError` for what will have passed when somebody tries again."""
    if error.errno in _PASSING:
        raise UnavailableError(f"{file}: cannot read the actions: {error.strerror}") from None


def _signature(directories: tuple[str, ...]) -> Signature:
    """What `stat` says of every manifest. The change time also moves when owner or mode does, and nobody can set it."""
    signature: Signature = []
    for directory in directories:
        try:
            with os.scandir(directory) as entries:
                signature += [_status(entry) for entry in entries if _is_manifest(entry.name)]
        except OSError as error:
            _refuse_to_guess(directory, error)
            signature.append((directory, error.errno or 0, 0, 0, 0))
    signature.sort()
    return signature


def _status(entry: os.DirEntry[str]) -> tuple[str, int, int, int, int]:
    try:
        status = entry.stat()
    except OSError as error:
        return entry.path, error.errno or 0, 0, 0, 0
    return entry.path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_manifest(name: str) -> bool:
    return name.endswith(SUFFIX) and name[0] != "."


def _manifests(directory: str) -> list[str]:
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if _is_manifest(entry.name))


def _found(program: str, search: str) -> bool:
    if program.startswith("/"):
        return _is_executable(program)
    return any(_is_executable(f"{directory}/{program}") for directory in search.split(":") if directory)


def _is_executable(file: str) -> bool:
    return os.path.isfile(file) and os.access(file, os.X_OK)  # noqa: PTH113 - the same
