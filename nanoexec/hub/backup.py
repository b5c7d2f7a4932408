"""Keeping a hub in one file, while it serves, and making a hub of that file on another machine.

What a restored hub has forgotten since the backup, its nodes know: each has a journal, goes back in it to what the
hub says it has, and never starts a trigger that is in it. See ``docs/backup.md`` for what that covers and what not.

Root restores in a directory of the hub's account, which may rename whatever is made there, and put a link in its place,
at any moment. So nothing that lies there is opened: SQLite works on the database elsewhere, the small files stay in
memory, and all of it comes in through the descriptors of new files, which are then renamed.
"""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final

from nanoexec.config import HubConfig, Paths, parse_hub
from nanoexec.errors import ConfigError
from nanoexec.files import give_to_owner_of, read_bytes, sync_directory, write_atomically
from nanoexec.hub import archive
from nanoexec.hub.lock import locked
from nanoexec.keys import certificate, credentials
from nanoexec.model import Value
from nanoexec.store import Store, snapshot
from nanoexec.store.faults import faults

_PUBLIC: Final = 0o644
_PRIVATE: Final = 0o600


class Kept(Value, frozen=True):
    """A backup that was made: of which hub, when, how many bytes."""

    file: str
    hub: str
    made: float
    size: int


class Restored(Value, frozen=True):
    """A hub that was made of a backup: how many nodes it knows, and the ids of the triggers that are open in it.

    ``aside`` is where its predecessor's state is, empty if there was none.
    """

    hub: str
    made: float
    nodes: int
    open_triggers: tuple[str, ...]
    aside: str = ""


def back_up(paths: Paths, file: Path, now: float, *, force: bool = False) -> Kept:
    """Write the hub under ``paths`` to ``file``, 0600, whether or not it runs.

    The database is copied as it is at one moment. Raises `ConfigError`, `IdentityError`, `StoreError`; also if ``file``
    exists, unless ``force``.
    """
    _demand_free(file, force=force)
    _config(paths)  # what could not be used could not be restored either
    if not os.path.lexists(paths.hub_store):
        raise ConfigError(f"{paths.hub_store}: not there yet: `nanoexec hub serve` makes it")
    credentials.load_ca(paths.hub_state)
    hub = certificate.describe(credentials.load_hub(paths.hub_state).certificate).name
    small = {name: read_bytes(_place(paths, name), "a part of the hub") for name in archive.SMALL}
    with _beside(file) as directory:
        copy = directory / archive.DATABASE
        snapshot(paths.hub_store, copy)
        archive.write(file, small, copy, hub=hub, made=now)
    return Kept(file=str(file), hub=hub, made=now, size=file.stat().st_size)


def restore(paths: Paths, file: Path, now: float, *, force: bool = False) -> Restored:
    """Make the hub under ``paths`` from a backup.

    Nothing is touched before all of the archive has been read and checked. Join tokens of the backup are void: they may
    have been used since. Raises `ConfigError`, `StoreError`; also where a hub has state, unless ``force``, which puts
    that state aside; `UnavailableError` while one runs.
    """
    state = paths.hub_state
    try:
        for directory, mode in ((state, 0o700), (paths.hub_config.parent, 0o755)):
            directory.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be made: {error.strerror}") from None
    with locked(state), _scratch(state) as directory:
        present = [place for place in _places(paths) if os.path.lexists(place)]
        # A configuration alone, where the package puts one, is no hub; but nobody expects another file to be replaced.
        hub = next((place for place in present if place != paths.hub_config or paths.config), None)
        if hub and not force:
            raise ConfigError(f"{hub}: there is a hub here already: --force puts it aside, and restores")
        database = directory / archive.DATABASE
        manifest, small = archive.extract(file, database)
        nodes, open_triggers = _prepared(database)
        with _copied(database, paths.hub_store) as copy:
            aside = _put_aside(paths, present, now) if present else None
            _put_in_place(paths, copy, small)
    return Restored(manifest.hub, manifest.made, nodes, open_triggers, str(aside) if aside else "")


def _demand_free(file: Path, *, force: bool) -> None:
    try:
        found = file.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{file}: cannot write: {error.strerror or error}") from None
    if not stat.S_ISREG(found):  # neither /dev/stdout, which is a link, nor what it leads to is ours to replace
        raise ConfigError(f"{file}: is not a file, and is not replaced: choose another name")
    if not force:
        raise ConfigError(f"{file}: is already there: choose another name, or replace it with --force")


def _config(paths: Paths) -> HubConfig:
    return parse_hub(read_bytes(paths.hub_config, "the hub's configuration"), paths.hub_config)


def _place(paths: Paths, name: str) -> Path:
    return paths.hub_config if name == archive.CONFIG else paths.hub_state / name


def _places(paths: Paths) -> list[Path]:
    """Every file that a hub has, and what SQLite may have left beside its database."""
    companions = [paths.hub_store.with_name(f"{paths.hub_store.name}{end}") for end in ("-wal", "-shm", "-journal")]
    return [*(_place(paths, name) for name in archive.MEMBERS), *companions]


def _prepared(database: Path) -> tuple[int, tuple[str, ...]]:
    """Bring a database to this version, check it, take the tokens out: how many nodes, which triggers are open."""
    store = Store.open(database)
    try:
        store.check()
        store.forget_tokens()
        nodes = sum(node.revoked is None for node in store.roster())
        open_triggers = tuple(stored.trigger.id for stored in store.open_triggers())
    finally:
        store.close()
    return nodes, open_triggers


def _put_aside(paths: Paths, present: list[Path], now: float) -> Path:
    aside = paths.hub_state / f"before-restore-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}"
    try:
        aside.mkdir(mode=0o700)
        # If it has been replaced since then, it is by a directory of the account's own, or this fails.
        into = os.open(aside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for place in present:
                if place == paths.hub_config:  # may be on another file system, and is replaced in one step
                    _write_anew(place.name, read_bytes(place, "the hub's configuration"), into)
                else:
                    os.rename(place, place.name, dst_dir_fd=into)
        finally:
            os.close(into)
    except OSError as error:
        raise ConfigError(f"{aside}: what was here cannot be put aside: {error.strerror}") from None
    return aside


def _write_anew(name: str, data: bytes, directory: int) -> None:
    """Write a file that must not be there yet, by the descriptor of its directory. Raises `OSError`."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, _PRIVATE, dir_fd=directory), "wb") as out:
        out.write(data)


def _put_in_place(paths: Paths, database: Path, small: Mapping[str, bytes]) -> None:
    """The database first and the keys last: what a crash leaves in between is not taken for a hub."""
    with faults(paths.hub_store):
        database.rename(paths.hub_store)
        sync_directory(paths.hub_state)
    for name in archive.SMALL:
        write_atomically(_place(paths, name), small[name], _PRIVATE if name.endswith(".key") else _PUBLIC)


@contextmanager
def _copied(database: Path, target: Path) -> Iterator[Path]:
    """A copy that only has to be renamed to ``target``, on disk and its directory's owner's; else it goes away.

    A rename from outside would not do: the directory may be a file system of its own. A full disk shows here, before
    anything is touched.
    """
    with faults(target):
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    copy = Path(name)
    try:
        with faults(target), os.fdopen(descriptor, "wb") as out:
            give_to_owner_of(target.parent, out.fileno())
            with os.fdopen(os.open(database, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as source:
                shutil.copyfileobj(source, out)
            out.flush()
            os.fsync(out.fileno())
        yield copy
    finally:
        with suppress(OSError):
            copy.unlink()


def _scratch(state: Path) -> AbstractContextManager[Path]:
    """Where SQLite may work on a database: in ``state``, or where that is somebody else's beside it, among what is
    root's.
    """
    theirs = os.geteuid() == 0 and state.stat().st_uid != 0
    return _beside(state if theirs else state / archive.DATABASE)


@contextmanager
def _beside(file: Path) -> Iterator[Path]:
    """A scratch directory on the file system of ``file``, for its owner only, that goes away with all that is in it."""
    try:
        scratch = tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent)
    except OSError as error:
        raise ConfigError(f"{file}: cannot write: {error.strerror or error}") from None
    with scratch as name:
        yield Path(name)
