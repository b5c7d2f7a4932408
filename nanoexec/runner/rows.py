"""A run as a row of the journal."""

from typing import Any

import msgspec

from nanoexec.model import MAX_REASON, Cause, Outcome, Output, Run
from nanoexec.runner.tables import RUN


def row_of(run: Run) -> dict[str, Any]:
    """The columns `GIVEN` of a run."""
    return {
        "id": run.id,
        "action": run.action,
        "cause": run.cause,
        "by": run.by,
        "requested": run.requested,
        "arguments": arguments_text(run),
        "command": command_text(run),
        "boot": run.boot,
        "supervisor": run.supervisor,
        "pid": run.pid,
        "started": run.started,
        "ended": run.ended,
        "duration": run.duration,
        "outcome": run.outcome,
        "reason": run.reason[:MAX_REASON],
        "status": run.status,
        "changed": run.changed,
        "shared": run.shared,
        "size": run.output.size,
        "head": run.output.head,
        "tail": run.output.tail,
    }


def run_of(row: tuple[Any, ...]) -> Run:
    """The run in the columns `RUN`. Raises `ValueError` or `TypeError` for what no run can be."""
    fields = dict(zip(RUN, row, strict=True))
    output = Output(head=fields.pop("head"), tail=fields.pop("tail"), size=fields.pop("size"))
    fields["arguments"] = msgspec.json.decode(fields["arguments"], type=dict[str, str])
    fields["command"] = msgspec.json.decode(fields["command"], type=tuple[str, ...])
    fields["cause"] = Cause(fields["cause"])
    fields["outcome"] = None if fields["outcome"] is None else Outcome(fields["outcome"])
    fields["changed"] = None if fields["changed"] is None else bool(fields["changed"])
    return Run(**fields, output=output)


def arguments_text(run: Run) -> str:
    """How arguments are stored, and compared."""
    return msgspec.json.encode(dict(sorted(run.arguments.items()))).decode()


def command_text(run: Run) -> str:
    """How a command is stored, and compared."""
    return msgspec.json.encode(run.command).decode()
