"""Runs that nobody answers for any more: said to be interrupted, never guessed, never run again."""

import msgspec

from nanoexec.model import Outcome, Run
from nanoexec.runner.journal import Journal, OpenRun
from nanoexec.runner.process import boot_id, lives


def recover(journal: Journal, now: float) -> tuple[Run, ...]:
    """Finish every open run whose supervisor is gone. Raises `StoreError`.

    A supervisor that ends its run at this very moment wins or loses the one transaction that may do it. One that cannot
    be looked at, because no descriptor is left, may live: whoever recovers next will see.
    """
    try:
        boot = boot_id()
        orphans = [open_ for open_ in journal.open_runs() if not lives(open_.supervisor)]
    except OSError:
        return ()
    return tuple(
        journal.finish(
            msgspec.structs.replace(
                orphan.run, ended=now, outcome=Outcome.INTERRUPTED, reason=_what_is_known(orphan, boot)
            )
        )
        for orphan in orphans
    )


def _what_is_known(orphan: OpenRun, boot: str) -> str:
    wish = f", after {orphan.run.canceller} had cancelled it" if orphan.run.canceller else ""
    return _how(orphan.run, boot) + wish


def _how(run: Run, boot: str) -> str:
    if run.boot != boot:
        return (
            "the machine rebooted during the run" if run.started else "the machine rebooted before the command started"
        )
    gone = f"its supervisor (pid {run.supervisor}) is gone"  # killed, or told to end, or it failed: nobody saw
    if not run.started:
        return f"{gone}, and the command was not started"
    command = f"the command (pid {run.pid})" if run.pid else "the command"
    return f"{gone}; {command} may still be running"
