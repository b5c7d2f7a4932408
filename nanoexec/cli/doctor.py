"""``nanoexec doctor``: what is wrong here, and what to do."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nanoexec.cli.options import PLAIN, ROOT, Plain, example, paths

if TYPE_CHECKING:
    from nanoexec.doctor import Finding


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "doctor", epilog=example("nanoexec doctor", "nanoexec doctor -o json | jq '.[] | select(.level == \"FAIL\")'")
    )(doctor)


def doctor(output: Plain = PLAIN, root: Path = ROOT) -> None:
    """Examine this machine, hub or node, stage by stage, and say what to do. Changes nothing.

    Run it as root, on a hub at least as one of its operators: what another user may not look at is skipped.

    Exit status: 1 if a stage failed, or if this user cannot see what matters; else 0.
    """
    from nanoexec.cli import render
    from nanoexec.doctor import Level, examine, unseen
    from nanoexec.errors import ExitCode

    findings = examine(paths(root))
    seen = list(findings) if output is Plain.JSON else list(_shown(findings))
    if output is Plain.JSON:
        render.print_json(render.plain(seen))
    counts = Counter(finding.level for finding in seen)
    render.tell(f"{len(seen)} stages: " + ", ".join(f"{counts[level]} {level}" for level in Level if counts[level]))
    hidden = unseen(seen)
    for side in hidden:
        who = "root or as an operator" if side == "hub" else "root"
        render.tell(f"this user cannot see what matters of the {side}: run this as {who}")
    if counts[Level.FAIL] or hidden:
        raise typer.Exit(ExitCode.UNABLE)


def _shown(findings: "Iterator[Finding]") -> "Iterator[Finding]":
    """Each finding once it has been printed: the next one may take seconds."""
    import sys

    from nanoexec.cli import render

    colour = render.wants_colour(sys.stdout)
    for finding in findings:
        word = {"FAIL": "failed", "warn": "refused", "ok": "succeeded"}.get(finding.level, "")
        level = render.paint(f"{finding.level:4}", word, colour=colour)
        render.say(f"{level}  {finding.side:4}  {finding.stage:11}  {render.printable(finding.detail)}")
        sys.stdout.flush()
        yield finding
