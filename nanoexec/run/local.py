"""``nanoexec-run ACTION``: an action that a person, or a script, wants now.

The same lock, journal and execution as for a triggered run, without the runner, the agent or the network.
"""

import functools
import os
import pwd
import re
import select
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from nanoexec.actions import parse_pairs
from nanoexec.catalog import read_catalog
from nanoexec.config import AgentConfig, Paths
from nanoexec.errors import ConfigError, ExitCode, NanoexecError, StoreError, UsageError
from nanoexec.model import Cause, Outcome, Run, Value, identifier
from nanoexec.runner.execution import execute
from nanoexec.runner.journal import Journal
from nanoexec.runner.log import say
from nanoexec.runner.order import Work, work
from nanoexec.runner.recovery import recover
from nanoexec.runner.supervision import Supervision
from nanoexec.settings import read_agent

HELP: Final = """\
Usage: nanoexec-run [OPTIONS] ACTION

Run an action of this node now, under its lock and into its journal, and pass its output and exit status through.

Options:
  -a, --argument KEY=VALUE  An argument of the action; may be repeated.
      --root DIR            Where etc/, var/ and run/ are (default /).
      --config FILE         The node's configuration (default etc/nanoexec/agent.toml under the root).
      --scheduled           ACTION is due by the crontab line that calls this (nanoexec cron adopt makes such lines).
      --shadow              With --scheduled: run nothing, only note what would have been done.
  -h, --help                Show this and exit.

Exit status: the command's own; 128+N if signal N ended it; 124 timed out; 6 refused, or skipped because another run
took too long; 2 usage; 1 the run could not be journaled, and did not start.

Example: apply the Puppet catalog of one environment, and see what it would change:
  nanoexec-run puppet -a environment=staging -a noop=true
"""
TIMED_OUT: Final = 124  # as timeout(1) says it
_SIGNAL: Final = 128  # as a shell says it
_PATIENCE: Final = 1.0  # seconds that our words wait for whoever reads them
FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Wish(Value, frozen=True):
    """What the command line asks for."""

    action: str
    arguments: dict[str, str] = msgspec.field(default_factory=dict)
    root: str = "/"
    config: str = ""
    help: bool = False


def run_local(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Carry out what the command line says; the exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback for Ctrl-C before the command runs
    try:
        wish = parse(arguments)
        if wish.help:
            os.write(1, HELP.encode())
            return ExitCode.OK
        ended = _carry_out(wish, environment)
    except NanoexecError as error:
        _say(str(error))
        return error.exit_code
    if ended.outcome is not Outcome.SUCCEEDED:
        _say(f"{ended.action}: {ended.outcome}: {ended.reason} (run {ended.id})")
    return exit_status(ended)


def parse(arguments: Sequence[str]) -> Wish:
    """A command line. Raises `UsageError`. By hand: getopt brings gettext and locale, 3 ms of each crontab slot."""
    wants_help, actions, pairs = False, [], []
    values = {"--root": "/", "--config": ""}
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if word in ("-h", "--help"):
            wants_help = True
        elif name in ("-a", "--argument", *values):
            value = value if equals else next(words, "")
            if not value:
                raise UsageError(f"{name} needs a value: try nanoexec-run --help")
            if name in values:
                values[name] = value
            else:
                pairs.append(value)
        elif word.startswith("-"):
            raise UsageError(f"unknown option {word}: try nanoexec-run --help")
        else:
            actions.append(word)
    if wants_help:
        return Wish(action="", help=True)
    if len(actions) != 1:
        raise UsageError(f"expected one ACTION, got {' '.join(actions) or 'none'}: try nanoexec-run --help")
    return Wish(action=actions[0], arguments=parse_pairs(pairs), root=values["--root"], config=values["--config"])


def exit_status(ended: Run) -> int:
    """What the shell sees of a run: what the command said, unless it did not say it or said 0 and yet failed."""
    if ended.outcome is Outcome.TIMED_OUT:
        return TIMED_OUT
    if ended.outcome in (Outcome.REFUSED, Outcome.SKIPPED):
        return ExitCode.REFUSED
    if ended.outcome is Outcome.SUCCEEDED and (ended.shared or ended.status is None):
        return ExitCode.OK
    if ended.status is None or (ended.status == 0 and ended.outcome is not Outcome.SUCCEEDED):
        return ExitCode.UNABLE
    return ended.status if ended.status >= 0 else _SIGNAL - ended.status


def caller(uid: int, environment: Mapping[str, str]) -> str:
    """Who asks: the user, and behind sudo(8) the one who used it."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    behind = environment.get("SUDO_USER", "")
    return f"{behind} via sudo" if uid == 0 and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,99}", behind) else name


def _carry_out(wish: Wish, environment: Mapping[str, str]) -> Run:
    paths = Paths(root=Path(wish.root).absolute(), config=Path(wish.config).absolute() if wish.config else None)
    limit = _config(paths).output_limit
    planned = _plan(wish, paths, environment)
    check_owner(paths.journal)
    with Journal.open(paths.journal) as journal:
        recover(journal, time.time())
        supervision = Supervision(
            journal,
            planned,
            locks=paths.locks,
            limit=limit,
            tell=_tell_of_waiting,
            forward=FORWARDED,
            perform=functools.partial(execute, outlets=(1,)),
        )
        return supervision.carry_out()


def _plan(wish: Wish, paths: Paths, environment: Mapping[str, str]) -> Work:
    asked = Run(
        id=identifier(os.urandom(10)),
        action=wish.action,
        cause=Cause.LOCAL,
        by=caller(os.getuid(), environment),
        requested=time.time(),
        arguments=wish.arguments,
    )
    catalog = read_catalog(paths, only=wish.action)
    if wish.action not in catalog.actions:
        catalog = read_catalog(paths)  # to name those that there are
    return work(asked, catalog.find(wish.action), environment.get("LANG"))


def _config(paths: Paths) -> AgentConfig:
    """The configuration, or the defaults: work that is due must not wait for a slip in a file to be mended."""
    try:
        return read_agent(paths)
    except ConfigError as error:
        _say(f"{error}: going on with the defaults")
        return AgentConfig()


def check_owner(journal: Path) -> None:
    """Raises `StoreError` for a user who could not write the journal: whose runs they are, the journal must know."""
    try:
        owner = journal.stat().st_uid
    except OSError:
        return  # there is none yet, or opening it will say why it cannot be reached
    if os.geteuid() not in (0, owner):
        raise StoreError(f"{journal}: only its owner (uid {owner}) runs actions on this node: use sudo nanoexec-run")


def _tell_of_waiting(known: Run) -> None:
    if not known.started:
        _say(f"{known.action}: waiting for the run before it to end (run {known.id})")


def _say(line: str) -> None:
    """Unless a full pipe or a stopped terminal takes nothing for a while: journal and exit status say it too."""
    poller = select.poll()
    poller.register(2, select.POLLOUT)
    if poller.poll(_PATIENCE * 1000):
        say(f"nanoexec-run: {line}")
