"""What starts a tool by the clock without a crontab: run-parts directories, anacron, systemd timers. Only read.

Nothing here can be adopted, so it is told with advice. Drop-ins of systemd units are not followed.
"""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nanoexec.config import Paths
from nanoexec.crontab.commands import Claims
from nanoexec.crontab.editing import inside
from nanoexec.crontab.lines import parse
from nanoexec.errors import ConfigError
from nanoexec.files import read_regular
from nanoexec.model import Value

_PERIODS: Final = {
    "hourly": "--every 1h",
    "daily": "--every 1d",
    "weekly": "--every 7d",
    "monthly": "'30 3 1 * *'",
}
_RUN_PARTS_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")  # run-parts(8)
_UNITS: Final = ("etc/systemd/system", "usr/lib/systemd/system")  # the first has precedence
_ANACRON_COLUMNS: Final = 4  # period, delay, name, command; anacrontab(5)
_MAX_SCRIPT: Final = 1 << 20
_EXEC_PREFIXES: Final = "@-:+!|"  # systemd.service(5)


class Elsewhere(Value, frozen=True):
    """A tool that is started by the clock in a way that cannot be adopted. ``kind`` is script, anacron or timer."""

    file: str
    kind: str
    text: str
    action: str
    advice: str


def elsewhere(paths: Paths, claims: Claims) -> Iterator[Elsewhere]:
    """Everything outside of crontabs that runs the tool of an action."""
    yield from _scripts(paths, claims)
    yield from _anacron(paths, claims)
    yield from _timers(paths, claims)


def _scripts(paths: Paths, claims: Claims) -> Iterator[Elsewhere]:
    for period, instead in _PERIODS.items():
        for file in _entries(paths.root / f"etc/cron.{period}"):
            if not _RUN_PARTS_NAME.fullmatch(file.name) or not os.access(file, os.X_OK):
                continue
            for line in _text(file, paths).replace("\\\n", " ").splitlines():
                if action := _runs(line.strip(), claims):
                    advice = f"nanoexec cron schedule {action} {instead}, then chmod -x {file}"
                    yield Elsewhere(str(file), "script", line.strip(), action, advice)
                    break


def _anacron(paths: Paths, claims: Claims) -> Iterator[Elsewhere]:
    file = paths.root / "etc/anacrontab"
    for line in _text(file, paths).splitlines():
        columns = line.split(None, _ANACRON_COLUMNS - 1)
        command = columns[-1] if len(columns) == _ANACRON_COLUMNS and not line.startswith("#") else ""
        if action := _runs(command, claims):
            advice = f"nanoexec cron schedule {action}, then take the line out"
            yield Elsewhere(str(file), "anacron", line, action, advice)


def _timers(paths: Paths, claims: Claims) -> Iterator[Elsewhere]:
    seen = set()
    for directory in _UNITS:
        for timer in _entries(paths.root / directory):
            if timer.suffix != ".timer" or timer.name in seen:
                continue
            seen.add(timer.name)
            settings = _settings(timer, paths)
            service = (settings.get("Unit") or [f"{timer.stem}.service"])[-1]
            for command in _service(service, paths).get("ExecStart", []):
                if action := _runs(_as_shell(command), claims):
                    advice = f"nanoexec cron schedule {action}, then systemctl disable --now {timer.name}"
                    yield Elsewhere(str(timer), "timer", command, action, advice)
                    break


def _service(name: str, paths: Paths) -> dict[str, list[str]]:
    for directory in _UNITS:
        file = paths.root / directory / name
        if "/" not in name and os.path.lexists(file):
            return _settings(file, paths)
    return {}


def _settings(unit: Path, paths: Paths) -> dict[str, list[str]]:
    """The assignments of a unit file, whatever their section; an empty one takes back those before it."""
    found: dict[str, list[str]] = {}
    for line in _text(unit, paths).replace("\\\n", " ").splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or key.startswith(("#", ";", "[")):
            continue
        values = found.setdefault(key.strip(), [])
        if value.strip():
            values.append(value.strip())
        else:
            values.clear()
    return found


def _as_shell(command: str) -> str:
    """A command line of systemd, as a shell would have it: no operators, and what begins it is not part of the path."""
    try:
        return shlex.join(shlex.split(command.lstrip(_EXEC_PREFIXES)))
    except ValueError:  # a quote that does not end
        return ""


def _runs(command: str, claims: Claims) -> str:
    """The action whose tool a shell command runs; empty for none."""
    if not command or command.startswith("#"):
        return ""
    line = b"* * * * * root " + command.replace("%", "\\%").encode(errors="surrogateescape") + b"\n"
    found = claims.verdict(parse(line, system=True)[0], any_user=True)
    return found.action if found.taken else ""


def _text(file: Path, paths: Paths) -> str:
    """A file to look into; nothing if it is not one, too large to be a script, or out of the root."""
    try:
        inside(file, paths.root)
        if file.stat().st_size > _MAX_SCRIPT:
            return ""
        return read_regular(file).decode(errors="replace")
    except (OSError, ConfigError):
        return ""


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []
