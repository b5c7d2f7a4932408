"""The crontabs of a machine, as its cron finds them: those that it reads, and those that it ignores, with the reason.

What is ignored follows Debian's cron 3.0pl1 (cron(8); database.c and user.c of its source package): file names, owners,
modes, hard links, a missing last newline, and any line that it cannot read, for then it ignores the whole file. cronie
is more forgiving; a file that one of the two ignores is left alone.
"""

import os
import pwd
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nanoexec.config import Paths
from nanoexec.crontab.editing import inside
from nanoexec.crontab.lines import Kind, Line, parse
from nanoexec.errors import ConfigError
from nanoexec.files import read_regular
from nanoexec.model import Value

MACHINE: Final = Path("/")
OWN_FILE: Final = "etc/cron.d/nanoexec"  # wholly ours; see `nanoexec.crontab.own`
SPOOLS: Final = ("var/spool/cron/crontabs", "var/spool/cron")  # Debian's, cronie's
MAX_LINES: Final = 10_000  # Debian's cron ignores a crontab with more
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_PRIVATE: Final = 0o600


class Crontab(Value, frozen=True):
    """A crontab and its lines.

    ``owner`` is whose it is; empty for a system crontab, whose jobs name their user. ``ignored`` says why cron does not
    read it, empty if it does. ``listed`` is the whole file as `nanoexec.crontab.lines.parse` gives it.
    """

    file: str
    data: bytes
    lines: tuple[Line, ...]
    owner: str = ""
    ignored: str = ""


def system_crontabs(paths: Paths) -> Iterator[Crontab]:
    """``/etc/crontab``, and the files of ``/etc/cron.d`` by name.

    Of files whose names cron does not read, only those with a job in them, such as ``puppet.dpkg-old``.
    """
    keeper = _keeper(paths)
    directory = paths.root / "etc/cron.d"
    for file in (paths.root / "etc/crontab", *_entries(directory)):
        if not os.path.lexists(file) or (file.is_dir() and not file.is_symlink()):
            continue
        badly_named = file.parent == directory and not _NAME.fullmatch(file.name)
        data, reason = _read(file, paths.root, keeper)
        crontab = judged(str(file), data, reason=reason, known=paths.root == MACHINE)
        if not badly_named:
            yield crontab
        elif any(line.job for line in crontab.lines):
            yield Crontab(crontab.file, data, crontab.lines, ignored="its name has more than letters, digits, - and _")


def judged(file: str, data: bytes, *, owner: str = "", reason: str = "", known: bool = False) -> Crontab:
    """A crontab of these bytes. ``reason`` is why cron ignores the file, as far as that is known already.

    ``known``: users are those of this machine, and cron ignores a file that names another.
    """
    lines = parse(data, system=not owner)
    return Crontab(file, data, lines, owner, reason or _fault(lines, known=known))


def spool_fault(file: Path, owner: str, paths: Paths) -> str:
    """Why cron ignores the file of a user's crontab, whatever is in it; empty if it does not."""
    try:
        status = file.lstat()
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    user, mode = _uid(owner), stat.S_IMODE(status.st_mode)
    faults = (
        (user is None and paths.root == MACHINE, f"there is no user {owner}"),
        (stat.S_ISLNK(status.st_mode), "it is a symbolic link"),
        (not stat.S_ISREG(status.st_mode), "it is not a regular file"),
        (status.st_uid not in (user, _keeper(paths)), f"it belongs neither to {owner} nor to root"),
        (mode != _PRIVATE, f"its mode is {mode:04o}, and cron wants 0600"),
    )
    return next((reason for fault, reason in faults if fault), _links(status))


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _keeper(paths: Paths) -> int:
    """Who stands for root: in a scratch directory, whoever made it."""
    return 0 if paths.root == MACHINE else paths.root.stat().st_uid


def _read(file: Path, root: Path, keeper: int) -> tuple[bytes, str]:
    """The content of a system crontab, and why cron ignores it."""
    try:
        link = file.lstat()
        inside(file, root)
        status = file.stat()
        data = read_regular(file)
    except ConfigError as error:
        return b"", str(error).partition(": ")[2]
    except OSError as error:
        return b"", f"it cannot be read: {error.strerror}"
    if link.st_uid != keeper and stat.S_ISLNK(link.st_mode):
        return data, "it is a symbolic link that does not belong to root"
    if status.st_uid != keeper:
        return data, "it does not belong to root"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return data, f"others than root may write it (mode {stat.S_IMODE(status.st_mode):04o})"
    return data, _links(status)


def _links(status: os.stat_result) -> str:
    return "" if status.st_nlink == 1 else f"it has {status.st_nlink} hard links"


def _fault(lines: tuple[Line, ...], *, known: bool) -> str:
    if len(lines) > MAX_LINES:
        return f"it has {len(lines)} lines, and cron reads {MAX_LINES}"
    strangers = (
        {user for user in {line.user for line in lines if line.job} if user and _uid(user) is None} if known else ()
    )
    for line in lines:
        if line.kind is Kind.INVALID:
            return f"line {line.number}: {line.fault}"
        if line.user in strangers:
            return f"line {line.number}: there is no user {line.user}"
    return ""


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        return None
