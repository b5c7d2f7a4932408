"""A hub in one file: a plain tar of its configuration, its keys and its database, with a manifest before them.

    manifest.json   what this is, of which hub, when; name, size and SHA-256 of each of the others
    hub.toml  ca.crt  ca.key  hub.crt  hub.key
    hub.db          last, for it may be large

It is read strictly: these members, in this order, regular files, with these sizes and sums, and nothing after them.
Whoever has the file can be the hub, so it is its owner's alone.
"""

import hashlib
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Final

import msgspec

from nanoexec import __version__
from nanoexec.errors import ConfigError
from nanoexec.files import sync_directory
from nanoexec.model import Count, NodeName, Value

FORMAT: Final = "nanoexec hub backup"
VERSION: Final = 1
MANIFEST: Final = "manifest.json"
CONFIG: Final = "hub.toml"
DATABASE: Final = "hub.db"
SMALL: Final = (CONFIG, "ca.crt", "ca.key", "hub.crt", "hub.key")
MEMBERS: Final = (*SMALL, DATABASE)
_SMALL_SIZE: Final = 1 << 20  # bytes; none of the small ones comes near it
_CHUNK: Final = 1 << 20
_MODE: Final = 0o600


class Member(Value, frozen=True):
    """One file of the archive; ``sha256`` is in hex."""

    name: str
    size: Count
    sha256: str


class Manifest(Value, frozen=True):
    """What an archive says of itself. ``made`` is when its database was copied, ``by`` the version of nanoexec."""

    format: str
    version: int
    hub: NodeName
    made: float
    by: str
    members: tuple[Member, ...]


class _Head(msgspec.Struct, frozen=True):
    """What is read first, and of any version."""

    format: str
    version: int


def write(file: Path, small: Mapping[str, bytes], database: Path, *, hub: str, made: float) -> Manifest:
    """Write an archive, which appears under its name whole or not at all. Raises `ConfigError`."""
    with _faults(file):
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # for its owner only
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as out, database.open("rb") as source:
                members = [
                    *(Member(each, len(small[each]), hashlib.sha256(small[each]).hexdigest()) for each in SMALL),
                    Member(DATABASE, database.stat().st_size, hashlib.file_digest(source, "sha256").hexdigest()),
                ]
                source.seek(0)
                manifest = Manifest(FORMAT, VERSION, hub, made, __version__, tuple(members))
                with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
                    _add(tar, MANIFEST, BytesIO(text := msgspec.json.format(msgspec.json.encode(manifest))), len(text))
                    for member in members:
                        data = source if member.name == DATABASE else BytesIO(small[member.name])
                        _add(tar, member.name, data, member.size)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(file.parent)
    return manifest


def extract(file: Path, database: Path) -> tuple[Manifest, dict[str, bytes]]:
    """Check all of an archive: what it says of itself, and its small files. ``database`` is made, for its owner only.

    Raises `ConfigError` for an archive that is damaged, newer, or something else.
    """
    small: dict[str, bytes] = {}
    with _faults(file):
        if not stat.S_ISREG(file.stat().st_mode):  # a FIFO would be waited for
            raise ConfigError(f"{file}: is not a file: name what `nanoexec hub backup` wrote")
        with file.open("rb") as source, _opened(file, source) as tar:
            manifest = _manifest(file, tar)
            for member in manifest.members:
                if member.name == DATABASE:
                    found = _extract(file, tar, member, database)
                else:
                    small[member.name] = _data(file, tar, member.name, member.size)
                    found = hashlib.sha256(small[member.name]).hexdigest()
                if found != member.sha256:
                    raise ConfigError(f"{file}: damaged: {member.name} is not as it was when the backup was made")
            if tar.next() is not None:
                raise ConfigError(f"{file}: damaged: something follows {MEMBERS[-1]}")
    return manifest, small


def _add(tar: tarfile.TarFile, name: str, data: IO[bytes], size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, _MODE
    tar.addfile(info, data)


@contextmanager
def _opened(file: Path, source: IO[bytes]) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(fileobj=source, mode="r:") as tar:
            yield tar
    except tarfile.TarError as error:
        raise ConfigError(f"{file}: damaged, or not a backup of a hub: {error}") from None


def _manifest(file: Path, tar: tarfile.TarFile) -> Manifest:
    text = _data(file, tar, MANIFEST, None)
    try:
        head = msgspec.json.decode(text, type=_Head)
        if head.format != FORMAT:
            raise ConfigError(f"{file}: is not a backup of a hub")
        if head.version != VERSION:
            raise ConfigError(
                f"{file}: its format is {head.version}, this nanoexec knows {VERSION}: use the nanoexec that made it"
            )
        manifest = msgspec.json.decode(text, type=Manifest)
    except (UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{file}: damaged, or not a backup of a hub: {MANIFEST}: {error}") from None
    if tuple(member.name for member in manifest.members) != MEMBERS:
        raise ConfigError(f"{file}: damaged: {MANIFEST} does not name {', '.join(MEMBERS)}")
    return manifest


def _extract(file: Path, tar: tarfile.TarFile, member: Member, target: Path) -> str:
    """Write a member to a new file: its SHA-256."""
    found = hashlib.sha256()
    descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, _MODE)
    with os.fdopen(descriptor, "wb") as out:
        for chunk in _chunks(_member(file, tar, member.name, member.size)):
            found.update(chunk)
            out.write(chunk)
    return found.hexdigest()


def _data(file: Path, tar: tarfile.TarFile, name: str, size: int | None) -> bytes:
    """The next member, which must be this small file."""
    return b"".join(_chunks(_member(file, tar, name, size, _SMALL_SIZE)))


def _member(file: Path, tar: tarfile.TarFile, name: str, size: int | None, limit: int | None = None) -> IO[bytes]:
    """The next member, which must be this file, of this size if it is known."""
    info = tar.next()
    if info is None or info.name != name or not info.isreg() or (data := tar.extractfile(info)) is None:
        raise ConfigError(f"{file}: damaged, or not a backup of a hub: expected {name}, found {_called(info)}")
    if (size is not None and info.size != size) or (limit is not None and info.size > limit):
        raise ConfigError(f"{file}: damaged: {name} has {info.size} bytes")
    return data


def _called(info: tarfile.TarInfo | None) -> str:
    return "its end" if info is None else ascii(info.name)


def _chunks(data: IO[bytes]) -> Iterator[bytes]:
    while chunk := data.read(_CHUNK):
        yield chunk


@contextmanager
def _faults(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = f"{error.filename}: " if error.filename and str(error.filename) != str(file) else ""
        raise ConfigError(f"{file}: {name}{error.strerror or error}") from None
