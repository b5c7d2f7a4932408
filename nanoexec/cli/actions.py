"""``nanoexec actions`` and ``nanoexec run``: what this node can do, without any daemon."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import typer

from nanoexec.cli.options import ARGUMENTS, CONFIG, PLAIN, ROOT, Plain, example, paths
from nanoexec.cli.plain import Commands

if TYPE_CHECKING:
    from nanoexec.actions import Argument, Manifest, Rule

app = Commands(help="The actions that this node knows.")


def register(app: typer.Typer) -> None:
    """Add the command that stands by itself."""
    app.command("run", epilog=example("nanoexec run uptime", "nanoexec run puppet -a noop=true"))(run)


@app.command("list", epilog=example("nanoexec actions list", "nanoexec actions list -o json | jq -r '.[].name'"))
def list_actions(output: Plain = PLAIN, root: Path = ROOT) -> None:
    """Show every action, and whether this machine has what it needs."""
    from nanoexec.catalog import read_catalog
    from nanoexec.cli import render

    catalog = read_catalog(paths(root))
    faulty = {fault.action for fault in catalog.faults}
    if output is Plain.JSON:
        names = [name for name in catalog.sources if name not in catalog.actions]
        broken = [{"name": name, "files": catalog.sources[name], "offered": False} for name in names]
        sound = [_document(manifest, catalog.sources[name]) for name, manifest in catalog.actions.items()]
        render.print_json(render.plain([*sound, *broken]))
        return
    rows = [("ACTION", "OFFERED", "SUMMARY")]
    for name in sorted({*catalog.actions, *catalog.sources, *faulty} - {""}):
        if name in catalog.actions:
            manifest = catalog.actions[name]
            absent = _absent(manifest)
            rows.append((name, f"no: needs {', '.join(absent)}" if absent else "yes", manifest.summary))
        else:
            rows.append((name, "no: faulty", "see `nanoexec actions check`"))
    render.say(*(render.printable(line) for line in render.table(rows)))


@app.command(epilog=example("nanoexec actions show puppet"))
def show(
    name: str = typer.Argument(..., metavar="ACTION", help="Its name."), output: Plain = PLAIN, root: Path = ROOT
) -> None:
    """Show one action as its manifests, merged, make it."""
    from nanoexec.catalog import read_catalog
    from nanoexec.cli import render
    from nanoexec.errors import ConfigError, RefusedError, UsageError

    catalog = read_catalog(paths(root))
    try:
        manifest = catalog.find(name)
    except RefusedError as error:
        faulty = any(fault.action == name for fault in catalog.faults)
        raise (ConfigError if faulty else UsageError)(str(error)) from None
    files = catalog.sources[name]
    if output is Plain.JSON:
        render.print_json(render.plain(_document(manifest, files)))
    else:
        render.say(*(render.printable(line) for line in describe(manifest, files)))


@app.command(epilog=example("nanoexec actions check", "nanoexec actions check --root /srv/image && echo sound"))
def check(output: Plain = PLAIN, root: Path = ROOT) -> None:
    """Read every manifest and report all that is wrong, with file and key. Exit status 1 if anything is."""
    from nanoexec.catalog import read_catalog
    from nanoexec.cli import render
    from nanoexec.errors import ExitCode

    where = paths(root)
    catalog = read_catalog(where)
    faults = [*catalog.faults, *_unusable(catalog, where)]
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
    """Run an action of this node now, as nanoexec-run does: under its lock, into its journal, by whoever is here.

    Exit status: the command's own; 124 timed out, 6 refused or skipped.
    """
    from nanoexec.cli.daemons import become

    become("nanoexec.run", paths(root, config), *(f"--argument={pair}" for pair in arguments), action)


def describe(manifest: "Manifest", files: tuple[str, ...]) -> list[str]:
    """An action for reading."""
    from nanoexec.cli import render

    absent = _absent(manifest)
    facts = {
        "command": shlex.join(manifest.command),
        "requires": ", ".join(manifest.requires),
        "offered": f"no: this machine has no {', '.join(absent)}" if absent else "yes",
        "user": manifest.user,
        "directory": manifest.cwd,
        "environment": " ".join(f"{name}={shlex.quote(value)}" for name, value in manifest.env.items()),
        "timeout": f"{manifest.timeout}, and {manifest.kill_after} more to end",
        "when busy": str(manifest.on_busy),
        "succeeded": _rule(manifest.outcome.succeeded),
        "changed": _rule(manifest.outcome.changed),
        "failed": _rule(manifest.outcome.failed),
        "crontab": manifest.cron.match if manifest.cron else "",
        "homepage": manifest.homepage,
    }
    arguments = [(f"  {name}", _argument(argument)) for name, argument in manifest.arguments.items()]
    return [
        f"{manifest.name}: {manifest.summary}" if manifest.summary else manifest.name,
        *render.table([(key, value) for key, value in facts.items() if value]),
        *(["arguments:", *render.table(arguments)] if arguments else []),
        "from:",
        *(f"  {file}" for file in files),
    ]


def _argument(argument: "Argument") -> str:
    from nanoexec.actions.binding import default_text, expectation

    default = default_text(argument)
    said = (
        expectation(argument),
        "required" if argument.required else "",
        f"{default} unless given" if default is not None else "",
        argument.help,
    )
    return "; ".join(filter(None, said))


def _rule(rule: "Rule") -> str:
    statuses = f"exit {', '.join(map(str, rule.exit))}" if rule.exit else ""
    lines = f"a line matches {' or '.join(rule.output)}" if rule.output else ""
    return "; ".join(filter(None, (statuses, lines)))


def _document(manifest: "Manifest", files: tuple[str, ...]) -> dict[str, object]:
    from nanoexec.cli import render

    absent = _absent(manifest)
    return {**render.plain(manifest), "files": files, "missing": absent, "offered": not absent}


def _absent(manifest: "Manifest") -> tuple[str, ...]:
    """The programs that this machine lacks, looked for where the runner would."""
    from nanoexec.catalog import missing
    from nanoexec.runner.command import PATH

    return missing(manifest, manifest.env.get("PATH", PATH))
