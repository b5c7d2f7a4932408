"""``nanoexec overdue``: where has too long passed without a success?"""

from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from nanoexec.cli.options import PLAIN, ROOT, Plain, example, paths

if TYPE_CHECKING:
    from nanoexec.record import Lapse


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("overdue", epilog=example("nanoexec overdue", "nanoexec overdue slaughter -o json | jq -r '.[].node'"))(
        overdue
    )


def overdue(
    action: Optional[str] = typer.Argument(
        None, metavar="ACTION", help="Only this one, whether or not any node has a schedule for it."
    ),
    output: Plain = PLAIN,
    root: Path = ROOT,
) -> None:
    """Show nodes whose fallback schedule has passed without a success, and why.

    Exit status: 3 if there are any.
    """
    from nanoexec.cli import render, words
    from nanoexec.cli.ask import ask
    from nanoexec.errors import ExitCode
    from nanoexec.wire.control import AskOverdue, Overdue

    reply = ask(paths(root), AskOverdue(action=words.action_name(action) if action else None))
    lapses = reply.lapses if isinstance(reply, Overdue) else ()
    if output is Plain.JSON:
        render.print_json(render.plain(lapses))
    elif lapses:
        render.say(*render.table([("NODE", "ACTION", "LAST SUCCESS", "EVERY", "WHY"), *map(_row, lapses)]))
    else:
        render.tell(f"{action or 'nothing'} is overdue{' nowhere' if action else ''}")
    if lapses:
        raise typer.Exit(ExitCode.RUN_FAILED)


def _row(lapse: "Lapse") -> tuple[str, ...]:
    from nanoexec.cli.render import moment
    from nanoexec.duration import format_duration

    every = "-" if lapse.interval is None else format_duration(lapse.interval)
    since = "" if lapse.since is None else f" since {moment(lapse.since)}"
    detail = f": {lapse.detail}" if lapse.detail else ""
    return lapse.node, lapse.action, moment(lapse.succeeded), every, f"{lapse.why}{since}{detail}"
