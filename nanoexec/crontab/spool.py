"""Users' crontabs: through crontab(1) on a real machine, as files in a scratch directory.

Debian's ``crontab -l`` leaves out the header that ``crontab -`` writes, so that what is listed is what was installed.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nanoexec.config import Paths
from nanoexec.crontab.editing import inside, replace
from nanoexec.crontab.places import MACHINE, SPOOLS, Crontab, judged, spool_fault
from nanoexec.errors import ConfigError
from nanoexec.files import read_regular

_SEARCH: Final = "/usr/bin:/bin:/usr/local/bin"
_TIMEOUT: Final = 60.0  # seconds; crontab(1) may ask a directory server about the user


def user_crontabs(paths: Paths, *, as_they_lie: bool = False) -> Iterator[Crontab]:
    """The crontabs of all users, by name. Who may not list them all sees their own.

    One that cannot be read is ignored, with the reason. ``as_they_lie``: the files themselves, as cron reads them. For
    who looks often: crontab(1) is a process for each user, which may hang, and a line in the log of the machine.
    """
    for file in _files(paths):
        owner, data = file.name, b""
        reason = spool_fault(file, owner, paths) if os.access(file.parent, os.X_OK) else ""
        if not reason:
            try:
                data = _lying(paths, file) if as_they_lie else read(paths, file)
            except ConfigError as error:
                reason = str(error)
        if data or reason:
            yield judged(str(file), data, owner=owner, reason=reason)


def read(paths: Paths, file: Path) -> bytes:
    """The crontab of the user that ``file`` is named after; nothing if there is none. Raises `ConfigError`."""
    if paths.root != MACHINE:
        return _lying(paths, file)
    done = _crontab(file, "-l")
    if done.returncode and b"no crontab for" not in done.stderr:
        raise ConfigError(f"{file}: crontab -l: {_said(done.stderr)}")
    return b"" if done.returncode else done.stdout


def write(paths: Paths, file: Path, before: bytes, after: bytes) -> None:
    """Put ``after`` in the place of ``before``.

    Raises `ConfigError` when the crontab no longer says ``before``, and when crontab(1) refuses it; then it stays as it
    is.
    """
    if paths.root != MACHINE:
        replace(file, paths.root, before, after)
        return
    if read(paths, file) != before:
        raise ConfigError(f"{file}: somebody has edited it meanwhile: nothing was written, try again")
    done = _crontab(file, "-", given=after)
    if done.returncode:
        raise ConfigError(f"{file}: crontab(1) refuses the new one: {_said(done.stderr)}")
    if read(paths, file) != after:
        raise ConfigError(
            f"{file}: crontab(1) has installed other bytes than it was given: see crontab -l -u {file.name}"
        )


def _lying(paths: Paths, file: Path) -> bytes:
    try:
        return read_regular(inside(file, paths.root))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None


def _files(paths: Paths) -> list[Path]:
    found: list[Path] = []
    for directory in SPOOLS:
        try:
            with os.scandir(paths.root / directory) as entries:
                found += sorted(Path(each.path) for each in entries if each.name[0] != "." and not each.is_dir())
        except PermissionError:
            if paths.root == MACHINE and _program():
                return [paths.root / directory / _myself()]
        except OSError:
            continue
    return found


def _crontab(file: Path, word: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = _program()
    if program is None:
        raise ConfigError(f"{file}: crontab(1) is not installed, so nobody reads this crontab")
    whose = [] if file.name == _myself() else ["-u", file.name]  # who is not root may not say -u
    environment = {"PATH": _SEARCH, "LC_ALL": "C"}
    try:
        return subprocess.run(
            [program, *whose, word], input=given, capture_output=True, check=False, timeout=_TIMEOUT, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{file}: cannot use {program}: {error}") from None


def _program() -> str | None:
    return shutil.which("crontab", path=_SEARCH)


def _myself() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _said(stderr: bytes) -> str:
    return stderr.decode(errors="replace").strip().partition("\n")[0] or "it does not say why"
