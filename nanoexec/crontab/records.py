"""What nanoexec knows of the lines it has taken over, and the backups of every crontab before it was changed.

``adoptions.json`` is written before a crontab is, and again after: a record without its line is left by a crash or by
somebody's edit, and says so. Restoring needs neither records nor backups; they tell what a person has changed since.
"""

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from nanoexec.config import Paths
from nanoexec.crontab.adoption import adopted, restore, tampered
from nanoexec.crontab.lines import Line
from nanoexec.errors import ConfigError
from nanoexec.files import write_atomically
from nanoexec.model import ActionName, Value


class Adoption(Value, frozen=True):
    """A line that was taken over. ``original`` is the whole line before, ``backup`` the name of the file's copy."""

    file: str
    action: ActionName
    original: bytes
    at: float
    backup: str
    owner: str = ""


class Pairing(Value, frozen=True):
    """An adopted line and its record, None if it has none. ``edited``: somebody has changed the line since."""

    line: Line
    action: str
    record: Adoption | None
    edited: bool = False


class Paired(Value, frozen=True):
    """The adopted lines of one crontab.

    ``lost`` are records of it whose line is no longer there, ``damaged`` lines that call nanoexec-run in words that are
    not those of an adoption.
    """

    lines: tuple[Pairing, ...]
    lost: tuple[Adoption, ...]
    damaged: tuple[Line, ...]


def load(paths: Paths) -> tuple[Adoption, ...]:
    """The records of this machine. Raises `ConfigError`."""
    file = _index(paths)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"{file}: cannot read the record of adopted lines: {error.strerror}") from None
    try:
        return msgspec.json.decode(data, type=tuple[Adoption, ...])
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        advice = "move it away; lines can be restored without it"
        raise ConfigError(f"{file}: not a record of adopted lines ({error}): {advice}") from None


def save(paths: Paths, adoptions: Iterable[Adoption]) -> None:
    """Replace the records. Raises `ConfigError`."""
    _prepare(paths)
    write_atomically(_index(paths), msgspec.json.format(msgspec.json.encode(list(adoptions))) + b"\n", 0o600)


def backup_name(file: str, data: bytes, at: float) -> str:
    """Where the copy of a crontab goes: by its path, the time (UTC) and its content."""
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    return f"{file.strip('/').replace('/', '+')}.{when}.{hashlib.sha256(data).hexdigest()[:8]}"


def back_up(paths: Paths, name: str, data: bytes) -> None:
    """Keep a copy of a crontab. Raises `ConfigError`."""
    _prepare(paths)
    write_atomically(paths.crontabs / name, data, 0o600)


def pair(lines: Iterable[Line], records: Iterable[Adoption]) -> Paired:
    """Adopted lines and their records, for one crontab: those that agree first, then those of the same action."""
    left = list(records)
    found: list[tuple[Line, str]] = []
    damaged = []
    for line in lines:
        if known := adopted(line):
            found.append((line, known.action))
        elif tampered(line):
            damaged.append(line)
    pairings: dict[int, Pairing] = {}
    for edited in (False, True):
        for line, action in found:
            if line.number in pairings:
                continue
            was = restore(line)
            record = next((r for r in left if r.action == action and (edited or r.original == was)), None)
            if record:
                left.remove(record)
                pairings[line.number] = Pairing(line, action, record, edited)
    paired = tuple(pairings.get(line.number) or Pairing(line, action, None) for line, action in found)
    return Paired(paired, tuple(left), tuple(damaged))


def _index(paths: Paths) -> Path:
    return paths.crontabs / "adoptions.json"


def _prepare(paths: Paths) -> None:
    try:
        paths.crontabs.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{paths.crontabs}: cannot be made: {error.strerror}") from None
