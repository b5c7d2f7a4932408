"""How this node stands: what it can tell by itself, from its files and its runner. `examine` says whether it is well.

Every part is looked at by itself: what this user may not see, or what is not there, is said in `NodeStatus.unknown`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from nanoexec import settings
from nanoexec.agent import link
from nanoexec.agent.identity import host_name
from nanoexec.agent.link import LinkState
from nanoexec.catalog import read_catalog
from nanoexec.config import Paths
from nanoexec.crontab import status as crontab
from nanoexec.doctor import local
from nanoexec.errors import ConfigError, NanoexecError, StoreError
from nanoexec.fallback import AHEAD, Policy
from nanoexec.files import read_regular
from nanoexec.keys.credentials import NODE_CERTIFICATE
from nanoexec.model import Cursor, Run, Value
from nanoexec.runner.glance import Glance
from nanoexec.runner.journal import Journal
from nanoexec.schedule import local as local_zone
from nanoexec.wire import runner

LAST: Final = 5  # runs that are shown
_T = TypeVar("_T")


class Fallback(Value, frozen=True):
    """A fallback line and its next slot: whether it would run if that were now, and why. ``next`` is None at reboot."""

    action: str
    schedule: str
    policy: Policy
    next: float | None
    runs: bool
    why: str


class NodeStatus(Value, frozen=True):
    """What is known of a node; None where it is not. Times are the node's clock.

    ``hub`` is its address, empty if none is set. ``agent``: whether it runs. ``heard`` is when the hub was last heard,
    ``silent`` whether that is longer ago than ``hub_silent_after`` (seconds). ``waiting``: runs that the hub has not
    stored, as far as the agent has noted: it does so some seconds later.
    """

    name: str | None = None
    joined: bool | None = None
    hub: str | None = None
    agent: bool | None = None
    link: LinkState | None = None
    heard: float | None = None
    silent: bool | None = None
    hub_silent_after: float | None = None
    runner: bool | None = None
    open_runs: tuple[Run, ...] | None = None
    last_runs: tuple[Run, ...] | None = None
    waiting: int | None = None
    fallbacks: tuple[Fallback, ...] | None = None
    unknown: tuple[str, ...] = ()


def node_status(paths: Paths, now: float) -> NodeStatus:
    """Look at everything. Changes nothing, raises nothing."""
    unknown: list[str] = []

    def known(look: Callable[[], _T]) -> _T | None:
        try:
            return look()
        except NanoexecError as error:
            unknown.append(str(error))
        except OSError as error:
            unknown.append(f"{error.filename}: {error.strerror}")
        return None

    config = known(lambda: settings.read_agent(paths))
    name, hub = (config.name or host_name(), config.hub or "") if config else (None, None)
    if config is None and (decided := known(lambda: settings.read_joined(paths))):
        name, hub = decided.name, decided.hub
    certified = known(lambda: _is_there(paths.agent_state / NODE_CERTIFICATE))
    state = known(lambda: link.read(paths.link))
    heard, seen = known(lambda: (link.heard(paths.beacon), True)) or (None, False)
    silent = is_silent(heard, config.hub_silent_after, now) if seen and config else None
    past = known(lambda: _past(paths))
    return NodeStatus(
        name=name,
        joined=_joined(hub, certified=certified),
        hub=hub,
        agent=known(lambda: link.runs(state.agent)) if state else None,
        link=state,
        heard=heard,
        silent=silent,
        hub_silent_after=config.hub_silent_after if config else None,
        runner=known(lambda: _runner_answers(paths)),
        open_runs=past[0] if past else None,
        last_runs=past[1] if past else None,
        waiting=past[2] if past else None,
        fallbacks=known(lambda: _fallbacks(paths, silent=silent, now=now)) if past else None,
        unknown=tuple(dict.fromkeys(unknown)),
    )


def is_silent(heard: float | None, after: float, now: float) -> bool:
    """As a slot of a crontab judges it: see `nanoexec.fallback.decide`."""
    return heard is None or not now - after < heard <= now + AHEAD


def outlook(policy: Policy, *, satisfied: bool, silent: bool) -> tuple[bool, str]:
    """Whether a slot that came now would run, and why."""
    if policy in (Policy.ALWAYS, Policy.NEVER):
        return policy is Policy.ALWAYS, f"policy {policy}"
    if satisfied:
        return False, "a run since the last slot has succeeded"
    if policy is Policy.HUB_SILENT:
        return silent, "the hub is silent" if silent else "the hub is heard"
    return True, "no run since the last slot has succeeded"


def _joined(hub: str | None, *, certified: bool | None) -> bool | None:
    """Joining leaves a certificate, and where the hub is. None: neither is known to be missing, or both to be there."""
    if hub == "" or certified is False:
        return False
    return None if hub is None or certified is None else True


def _is_there(file: Path) -> bool:
    try:
        file.stat()
    except FileNotFoundError:
        return False
    return True


def _runner_answers(paths: Paths) -> bool:
    """Raises `UnavailableError` where nobody can say."""
    try:
        runner.decode_reply(local.ask(paths.runner_socket, runner.Describe()))
    except local.NotThereError:
        return False
    except local.HungUpError:
        raise local.NotAllowedError(
            f"{paths.runner_socket}: the runner listens to root and to the agent only"
        ) from None
    return True


def _past(paths: Paths) -> tuple[tuple[Run, ...], tuple[Run, ...], int]:
    """Open runs, last runs, and how many the hub has yet to hear of."""
    if not _is_there(paths.journal):
        return (), (), 0
    if os.geteuid() not in (0, paths.journal.stat().st_uid):
        raise StoreError(f"{paths.journal}: only its owner knows what has run on this node: try as root")
    with Journal.open(paths.journal) as journal:
        cursor = _cursor(paths)
        after = cursor.change if cursor.journal == journal.id else 0
        opened = tuple(each.run for each in journal.open_runs())
        return opened, journal.latest(LAST), journal.waiting(after)


def _cursor(paths: Paths) -> Cursor:
    if not _is_there(paths.cursor):
        return Cursor()
    try:
        return msgspec.json.decode(read_regular(paths.cursor), type=Cursor)
    except PermissionError as error:
        raise ConfigError(f"{paths.cursor}: cannot read how far the journal is relayed: {error.strerror}") from None
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError):
        return Cursor()


def _fallbacks(paths: Paths, *, silent: bool | None, now: float) -> tuple[Fallback, ...]:
    """``silent`` is None without a configuration: then a slot cannot decide either, and the original command runs."""
    catalog = read_catalog(paths)
    glance = Glance(str(paths.journal)) if _is_there(paths.journal) else None
    runs = {action: glance.starts(action, 0.0) for action in catalog.actions} if glance else {}
    found = []
    for line in crontab.status(paths, catalog, runs, now=now, zone=local_zone):
        if line.number:
            runs_now, why = True, "what agent.toml says is not known, so nothing is skipped"
            if silent is not None:
                runs_now, why = outlook(line.policy, satisfied=line.satisfied, silent=silent)
            found.append(Fallback(line.action, line.schedule, line.policy, line.next, runs_now, why))
    return tuple(found)
