"""Runs that nobody answers for any more: said to be interrupted, never guessed, never run again."""

import msgspec

from nanoexec.model import Outcome, Run
from nanoexec.runner.journal import Journal, OpenRun
from nanoexec.runner.process import boot_id, lives


def recover(journal: Journal, now: float) -> tuple[Run, ...]:
    """Finish every open run whose supervisor is gone. Raises `StoreError`.

    A supervisor that ends its run at this very moment wins or loses the one transaction that may do it.
    """
    boot = boot_id()
    return tuple(
        journal.finish(
            msgspec.structs.replace(
                orphan.run, ended=now, outcome=Outcome.INTERRUPTED, reason=_what_is_known(orphan, boot)
            )
        )
        for orphan in journal.open_runs()
        if not lives(orphan.supervisor)
    )


def _what_is_known(orphan: OpenRun, boot: str) -> str:
    wish = f", after {orphan.run.canceller} had cancelled it" if orphan.run.canceller else ""
    return _how(orphan.run, boot) + wish


def _how(run: Run, boot: str) -> str:
    if run.boot != boot:
        return (
            "the machine rebooted during the run" if run.started else "the machine rebooted before the command started"
        )
    killed = f"its supervisor (pid {run.supervisor}) was killed"
    if not run.started:
        return f"{killed} before the command started"
    command = f"the command (pid {run.pid})" if run.pid else "the command"
    return f"{killed}; {command} may still be running"
