"""An action for people and for programs, and what this machine lacks to run it."""

import pwd
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from nanoexec.actions import Argument, Catalog, Fault, Manifest, Rule
from nanoexec.actions.binding import default_text, expectation
from nanoexec.catalog import missing
from nanoexec.cli import render
from nanoexec.config import Paths
from nanoexec.runner.command import PATH


def absent(manifest: Manifest) -> tuple[str, ...]:
    """The programs that this machine does not have, looked for where the runner would."""
    return missing(manifest, manifest.env.get("PATH", PATH))


def describe(manifest: Manifest, files: Sequence[str]) -> list[str]:
    """An action, merged from ``files``, for reading."""
    lacking = absent(manifest)
    facts = {
        "command": shlex.join(manifest.command),
        "requires": ", ".join(manifest.requires),
        "offered": f"no: this machine has no {', '.join(lacking)}" if lacking else "yes",
        "user": manifest.user,
        "directory": manifest.cwd,
        "environment": " ".join(f"{name}={shlex.quote(value)}" for name, value in manifest.env.items()),
        "timeout": f"{manifest.timeout}, then {manifest.kill_after} to end by itself",
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


def document(catalog: Catalog, name: str) -> dict[str, Any]:
    """An action for programs; one with a fault has its faults instead of a manifest."""
    files = list(catalog.sources.get(name, ()))
    manifest = catalog.actions.get(name)
    if manifest is None:
        faults = [str(fault) for fault in catalog.faults if fault.action == name]
        return {"name": name, "offered": False, "files": files, "faults": faults}
    lacking = list(absent(manifest))
    whole: dict[str, Any] = render.plain(manifest)
    return whole | {"offered": not lacking, "missing": lacking, "files": files}


def unusable(catalog: Catalog, paths: Paths) -> Iterator[Fault]:
    """What is wrong with an action here though its manifest is sound: no such user, or a program that is not there.

    A missing program is a fault only where the node's administrator wrote the action and did not say, by ``requires``,
    that some nodes lack it.
    """
    for name, manifest in catalog.actions.items():
        lacking, files = absent(manifest), catalog.sources[name]
        own = all(file.startswith(f"{paths.actions}/") for file in files)
        program = manifest.command[0]
        if own and program in lacking and program not in manifest.requires:
            message = f"there is no program {program} on this machine; if that is meant, add it to requires"
            yield Fault(file=files[-1], key="command", message=message, action=name)
        if not lacking and not _is_user(manifest.user):
            yield Fault(file=files[-1], key="user", message=f"there is no user {manifest.user} here", action=name)


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _argument(argument: Argument) -> str:
    default = default_text(argument)
    said = (
        expectation(argument),
        "required" if argument.required else "",
        f"{default} unless given" if default is not None else "",
        argument.help,
    )
    return "; ".join(filter(None, said))


def _rule(rule: Rule) -> str:
    statuses = f"exit {', '.join(map(str, rule.exit))}" if rule.exit else ""
    lines = f"a line matches {' or '.join(rule.output)}" if rule.output else ""
    return "; ".join(filter(None, (statuses, lines)))
