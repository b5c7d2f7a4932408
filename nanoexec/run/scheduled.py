"""A slot that is used: the original command, run as cron's shell would have, under the action's lock, into the journal.

The shell that cron started waits meanwhile, and ends as the command does. What the command sees is what it saw before
the line was adopted: cron's shell as its shell (the same program, called by the same name), in a session of its own,
with the environment that cron made, and user, directory, umask, limits and standard input as they are.

Its output passes through as it comes and is kept for the journal. Cron gives one pipe for standard output and error,
and one pipe it stays: the order is that of the command. Where they are two, each goes its own way, and only the journal
mixes them, in the order in which they were read.

A line of a crontab had no time limit, so it has none now, unless the manifest says ``[fallback] timeout``. Waiting for
another run of the action (``on_busy``) is limited by the manifest's ``timeout`` as for any other run. What got the lock
asks once more whether the slot is still needed.
"""

import functools
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from nanoexec.actions import Fallback, Manifest
from nanoexec.catalog import read_catalog
from nanoexec.config import Paths
from nanoexec.crontab.prefix import split
from nanoexec.errors import NanoexecError, UsageError
from nanoexec.model import Cause, Outcome, Run, identifier
from nanoexec.run.local import FORWARDED, TIMED_OUT, exit_status
from nanoexec.run.shell import Shell, Voice
from nanoexec.run.slot import Slot
from nanoexec.runner.command import Command
from nanoexec.runner.execution import Ending, Sink, execute
from nanoexec.runner.journal import Journal
from nanoexec.runner.log import say
from nanoexec.runner.order import Work
from nanoexec.runner.recovery import recover
from nanoexec.runner.supervision import Supervision
from nanoexec.settings import read_agent

_NOT_STARTED: Final = 126  # as a shell says it


def carry_out(slot: Slot, shell: Shell, voice: Voice) -> int:
    """Run the original command of a slot, and tell its shell how it ended. Raises `NanoexecError`: if nothing has been
    said to the shell by then, the shell runs it.
    """
    paths = Paths(root=Path(slot.call.root))
    limit = read_agent(paths).output_limit
    manifest = read_catalog(paths, only=slot.call.action).find(slot.call.action)
    work = _work(slot, shell, manifest)
    with Journal.open(paths.journal) as journal:
        recover(journal, time.time())
        supervision = Supervision(
            journal,
            work,
            locks=paths.locks,
            limit=limit,
            tell=lambda _: None,
            forward=FORWARDED,
            perform=functools.partial(_perform, voice),
            spare=lambda: _spare(slot),
        )
        ended = supervision.carry_out()
    if not voice.responsible:
        voice.end(0 if ended.outcome is Outcome.SKIPPED else exit_status(ended))
    return 0


def make_journal(root: str) -> None:
    """A new journal, so that a slot can look into it. Raises `StoreError`."""
    Journal.open(Paths(root=Path(root)).journal).close()


def _work(slot: Slot, shell: Shell, manifest: Manifest) -> Work:
    parts = split(shell.command)
    if parts is None or parts[0].action != slot.call.action:
        raise UsageError(f"the shell (pid {shell.pid}) runs no line that was adopted by {slot.call.action}")
    original = parts[1]
    run = Run(
        id=identifier(os.urandom(10)),
        action=slot.call.action,
        cause=Cause.SCHEDULE,
        by=slot.user,
        requested=slot.started,
        command=(shell.program, "-c", original.decode(errors="replace")),
    )
    command = Command(
        argv=(shell.program, "-c", os.fsdecode(original)),
        program=shell.program,
        environment=shell.environment(),
        timeout=(manifest.fallback or Fallback()).timeout_seconds,
        kill_after=manifest.kill_after_seconds,
        sigpipe=not shell.ignores(signal.SIGPIPE),
    )
    return Work(run=run, manifest=manifest, command=command)


def _perform(
    voice: Voice,
    command: Command,
    *,
    sinks: Sequence[Sink],
    limit: int,
    lasting: Callable[[int], object],
    forward: Sequence[signal.Signals],
) -> Ending:
    """Execute it, and let the shell know before and after: at no moment would both of us run it."""
    outlets = (1,) if os.path.sameopenfile(1, 2) else (1, 2)
    voice.take_over()
    try:
        ending = execute(
            command,
            sinks=sinks,
            limit=limit,
            lasting=lasting,
            forward=forward,
            outlets=outlets,
            afterwards=True,
        )
    except NanoexecError as error:
        voice.end(_NOT_STARTED)
        say(f"nanoexec-run: {error}")
        raise
    voice.end(TIMED_OUT if ending.timed_out else ending.status)
    return ending


def _spare(slot: Slot) -> str:
    """Why the slot is not needed any more, now that the lock is ours; empty if it is."""
    decision = slot.decide(time.time())
    return "" if decision.run else decision.reason
