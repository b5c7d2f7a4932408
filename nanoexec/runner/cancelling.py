"""Taking a trigger back on the node: it never starts, or it is stopped by the process that answers for it.

One commit decides each time, so that a cancellation and a start cannot both win:

* An id that the journal does not have is admitted and called off. Should its order still come, the journal has it.
* A run that waits for its turn is called off. Its supervisor cannot start it any more, and is sent home.
* A run that has started gets a note of who wants it stopped, then its supervisor the signal. Saying it again sends the
  signal again, which changes nothing: the first note stays.
* What has ended stays as it is.
"""

import signal

from nanoexec.errors import RefusedError
from nanoexec.model import Cause, Run
from nanoexec.runner.journal import Journal
from nanoexec.runner.process import Process, lives, send_signal, this_process
from nanoexec.runner.stopping import STOP
from nanoexec.wire.runner import Cancel


def cancel(journal: Journal, wish: Cancel, now: float) -> Run:
    """Carry the wish out as far as that can be done at once; gives the run as the journal has it then.

    Raises `StoreError`, and `RefusedError` for a run that no trigger caused or whose supervisor cannot be told.
    """
    me = this_process()
    run = Run(
        id=wish.trigger,
        action=wish.action,
        cause=Cause.TRIGGER,
        by=wish.issuer,
        requested=now,
        boot=me.boot,
        supervisor=me.pid,
    )
    known = journal.admit(run, me.ticks, wish.expires) or run
    if known.cause is not Cause.TRIGGER:
        raise RefusedError(f"run {known.id} of {known.action} was not triggered: only its own node can stop it")
    supervisor = journal.supervisor(known.id)
    if journal.call_off(known.id, by=wish.by, at=now):
        if supervisor and supervisor.pid != me.pid:
            send_signal(supervisor, signal.SIGTERM)  # it waits for a lock that it no longer needs
    elif supervisor:
        journal.note_cancellation(known.id, by=wish.by, at=now)
        if not send_signal(supervisor, STOP, only_if_caught=True):
            _explain(journal, supervisor, known)
    return journal.find(known.id) or known


def _explain(journal: Journal, supervisor: Process, run: Run) -> None:
    """It has ended meanwhile, or died, as `recover` will say; or it cannot hear."""
    latest = journal.find(run.id)
    if latest and latest.outcome is None and lives(supervisor):
        raise RefusedError(
            f"run {run.id} of {run.action} cannot be stopped: its supervisor (pid {supervisor.pid}) was started by an"
            " older nanoexec, which does not know how"
        )
