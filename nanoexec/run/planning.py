"""A plan made anew, from configuration, manifests and crontabs."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from nanoexec.actions import Fallback
from nanoexec.catalog import read_catalog
from nanoexec.config import Paths
from nanoexec.crontab.adoption import adopted
from nanoexec.crontab.lines import Line, parse
from nanoexec.crontab.places import system_crontabs
from nanoexec.errors import UsageError
from nanoexec.files import read_regular
from nanoexec.run.plan import SPOOLS, Plan
from nanoexec.schedule import Schedule
from nanoexec.settings import read_agent


def make_plan(root: str, action: str, user: str, signature: str) -> Plan:
    """The plan for ``action`` and ``user``. Raises `ConfigError` and `RefusedError`: then nothing can be decided."""
    paths = Paths(root=Path(root))
    silence = read_agent(paths).hub_silent_after
    policy = (read_catalog(paths, only=action).find(action).fallback or Fallback()).policy
    return Plan(signature, policy, silence, list(dict.fromkeys(_adopted(paths, action, user))))


def _adopted(paths: Paths, action: str, user: str) -> Iterator[tuple[str, bytes]]:
    """Schedule and command of each line that was adopted by ``action``, and that cron starts for ``user``."""
    for line in _lines(paths, user):
        known = adopted(line)
        if known and known.action == action and _fires(line.schedule):
            yield line.schedule, b"" if known.shadow else line.command


def _lines(paths: Paths, user: str) -> Iterator[Line]:
    """A user's own crontab is read as it lies there: crontab(1) would be another process, which may hang."""
    for crontab in system_crontabs(paths):
        for line in () if crontab.ignored else crontab.lines:
            if line.user == user:
                yield line
    for spool in SPOOLS:
        with suppress(OSError):
            yield from parse(read_regular(paths.root / spool / user), system=False)


def _fires(fields: str) -> bool:
    try:
        Schedule.parse(fields)
    except UsageError:
        return False
    return True
