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

    Exit status: 0 unless a stage failed.
    """
    from nanoexec.cli import render
    from nanoexec.doctor import Level, examine
    from nanoexec.errors import ExitCode

    findings = examine(paths(root))
    seen = list(findings) if output is Plain.JSON else list(_shown(findings))
    if output is Plain.JSON:
        render.print_json(render.plain(seen))
    counts = Counter(finding.level for finding in seen)
    render.tell(f"{len(seen)} stages: " + ", ".join(f"{counts[level]} {level}" for level in Level if counts[level]))
    if counts[Level.FAIL]:
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
