"""``nanoexec trigger`` and ``nanoexec exec``: run something on nodes now."""

from pathlib import Path
from typing import Optional

import typer

from nanoexec.cli.options import ARGUMENTS, OUTPUT, ROOT, Format, example, paths
from nanoexec.config import Paths
from nanoexec.model import EXEC

_EXPIRES = typer.Option(
    "1h", "--expires", metavar="DURATION", help="Nodes that are away get it until then; 30d at most."
)
_TIMEOUT = typer.Option(
    None, "--timeout", metavar="DURATION", help="Stop it after this; a node's own manifest may stop it earlier."
)
_NO_WAIT = typer.Option(False, "--no-wait", help="Print the trigger's id and return.")
_SIGN = typer.Option(
    None, "--sign", metavar="KEYFILE", help="Sign with this key, for nodes that run only signed triggers."
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "trigger",
        epilog=example(
            "nanoexec trigger ALL:uptime",
            "nanoexec trigger 'web[01-20],!web07:puppet' -a tags=nginx --timeout 10m",
            "nanoexec trigger @db:backup --expires 12h --no-wait",
        ),
    )(trigger)
    app.command(
        "exec",
        context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
        epilog=example(
            "nanoexec exec 'web*' -- systemctl is-active nginx",
            "nanoexec exec db1 -- sh -c 'df -h | tail -3'",
        ),
    )(execute)


def trigger(
    what: str = typer.Argument(..., metavar="TARGET:ACTION", help="Which nodes, and what."),
    arguments: list[str] = ARGUMENTS,
    expires: str = _EXPIRES,
    timeout: Optional[str] = _TIMEOUT,
    no_wait: bool = _NO_WAIT,
    sign: Optional[Path] = _SIGN,
    output: Format = OUTPUT,
    root: Path = ROOT,
) -> None:
    """Run a named action on nodes now, and show every result.

    Exit status: 0 all succeeded, 3 some failed, 4 some did not answer, 5 no node matched, 6 refused.
    """
    from nanoexec.target import split_trigger

    target, action = split_trigger(what)
    _issue(paths(root), target, action, _pairs(arguments), (), expires, timeout, sign, output, wait=not no_wait)


def execute(
    target: str = typer.Argument(..., metavar="TARGET", help="ALL, names, web[01-20], web*, @group."),
    command: list[str] = typer.Argument(..., metavar="-- COMMAND...", help="A program and its arguments; no shell."),
    expires: str = _EXPIRES,
    timeout: Optional[str] = _TIMEOUT,
    no_wait: bool = _NO_WAIT,
    sign: Optional[Path] = _SIGN,
    output: Format = OUTPUT,
    root: Path = ROOT,
) -> None:
    """Run an ad-hoc command on nodes. A node refuses unless its own agent.toml says allow_exec = true.

    It gets ten minutes at most.
    """
    from nanoexec.errors import UsageError

    words = tuple(command[1:] if command[0] == "--" else command)
    if words and words[0].startswith("-"):  # else `exec ALL --sign KEY -- id` would send the command --sign, unsigned
        raise UsageError(
            f"{words[0]} stands where the command begins: options come before the target: "
            "nanoexec exec [OPTIONS] TARGET -- COMMAND"
        )
    _issue(paths(root), target, EXEC, {}, words, expires, timeout, sign, output, wait=not no_wait)


def _pairs(arguments: list[str]) -> dict[str, str]:
    if not arguments:
        return {}
    from nanoexec.actions import parse_pairs

    return parse_pairs(arguments)


def _issue(
    where: Paths,
    target: str,
    action: str,
    arguments: dict[str, str],
    command: tuple[str, ...],
    expires: str,
    timeout: str | None,
    sign: Path | None,
    output: Format,
    *,
    wait: bool,
) -> None:
    import msgspec

    from nanoexec.cli import wait as waiting
    from nanoexec.cli import words
    from nanoexec.duration import parse_duration
    from nanoexec.errors import UsageError
    from nanoexec.wire.control import Submit, Wanted

    wish = {
        "target": target,
        "action": words.action_name(action),
        "lifetime": words.lifetime("--expires", expires),
        "arguments": arguments,
        "command": command,
        "timeout": parse_duration(timeout) if timeout else None,
    }
    try:
        wanted = msgspec.convert(wish, Wanted)
    except msgspec.ValidationError as error:
        raise UsageError(f"{target}:{action} cannot be triggered: {str(error).replace('`', '')}") from None
    if sign:
        from nanoexec.cli.signed import signed

        raise typer.Exit(waiting.issue(where, signed(where, wanted, sign, watch=wait), output, wait=wait))
    request = Submit(wanted=wanted, watch=wait)
    raise typer.Exit(waiting.issue(where, request, output, wait=wait))
