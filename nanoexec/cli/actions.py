"""``nanoexec actions`` and ``nanoexec run``: what this node can do, without any daemon."""

from pathlib import Path
from typing import Optional

import typer

from nanoexec.cli.options import ARGUMENTS, CONFIG, PLAIN, ROOT, Plain, example, paths
from nanoexec.cli.plain import Commands

app = Commands(
    help="The actions that this node knows.", epilog=example("nanoexec actions list", "nanoexec actions check")
)


def register(app: typer.Typer) -> None:
    """Add the command that stands by itself."""
    app.command("run", epilog=example("nanoexec run uptime", "nanoexec run puppet -a noop=true"))(run)


@app.command("list", epilog=example("nanoexec actions list", "nanoexec actions list -o json | jq -r '.[].name'"))
def list_actions(output: Plain = PLAIN, root: Path = ROOT) -> None:
    """Show every action, and whether this machine has what it needs."""
    from nanoexec.catalog import read_catalog
    from nanoexec.cli import render
    from nanoexec.cli.manifest import absent, document

    catalog = read_catalog(paths(root))
    names = sorted({*catalog.sources, *(fault.action for fault in catalog.faults if fault.action)})
    if output is Plain.JSON:
        render.print_json([document(catalog, name) for name in names])
        return
    rows = [("ACTION", "OFFERED", "SUMMARY")]
    for name in names:
        manifest = catalog.actions.get(name)
        if manifest is None:
            rows.append((name, "no: faulty", "see `nanoexec actions check`"))
        else:
            lacking = absent(manifest)
            rows.append((name, f"no: needs {', '.join(lacking)}" if lacking else "yes", manifest.summary))
    render.say(*render.table(rows))


@app.command(epilog=example("nanoexec actions show puppet"))
def show(
    name: str = typer.Argument(..., metavar="ACTION", help="Its name."), output: Plain = PLAIN, root: Path = ROOT
) -> None:
    """Show one action as its manifests, merged, make it."""
    from nanoexec.catalog import read_catalog
    from nanoexec.cli import render
    from nanoexec.cli.manifest import describe, document
    from nanoexec.errors import ConfigError, RefusedError, UsageError

    catalog = read_catalog(paths(root))
    try:
        manifest = catalog.find(name)
    except RefusedError as error:
        faulty = any(fault.action == name for fault in catalog.faults)
        raise (ConfigError if faulty else UsageError)(str(error)) from None
    if output is Plain.JSON:
        render.print_json(document(catalog, name))
    else:
        render.say(*(render.printable(line) for line in describe(manifest, catalog.sources[name])))


@app.command(epilog=example("nanoexec actions check", "nanoexec actions check --root /srv/image && echo sound"))
def check(output: Plain = PLAIN, root: Path = ROOT) -> None:
    """Read every manifest and report all that is wrong, with file and key. Exit status 1 if anything is."""
    from nanoexec.catalog import read_catalog
    from nanoexec.cli import render
    from nanoexec.cli.manifest import unusable
    from nanoexec.errors import ExitCode

    where = paths(root)
    catalog = read_catalog(where)
    faults = [*catalog.faults, *unusable(catalog, where)]
    if output is Plain.JSON:
        render.print_json(render.plain(faults))
    elif faults:
        render.say(*(render.printable(str(fault)) for fault in faults))
    else:
        render.say(f"{len(catalog.actions)} actions, no faults")
    if faults:
        raise typer.Exit(ExitCode.UNABLE)


def run(
    action: str = typer.Argument(..., metavar="ACTION", help="Its name."),
    arguments: list[str] = ARGUMENTS,
    root: Path = ROOT,
    config: Optional[Path] = CONFIG,
) -> None:
    """Run an action of this node now, as nanoexec-run does.

    Exit status: the command's own; 124 timed out, 6 refused or skipped.
    """
    from nanoexec.cli.daemons import become

    become("nanoexec.run", paths(root, config), *(f"--argument={pair}" for pair in arguments), action)
