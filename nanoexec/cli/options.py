"""Options that several commands share, each worded once."""

import enum
from pathlib import Path
from typing import Any, Final

import typer

from nanoexec.config import Paths


class Format(enum.StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"


class Plain(enum.StrEnum):
    """How lists are printed."""

    TEXT = "text"
    JSON = "json"


ROOT: Final[Any] = typer.Option(
    Path("/"), "--root", envvar="NANOEXEC_ROOT", metavar="DIR", help="Everything lies under DIR instead of /."
)
CONFIG: Final[Any] = typer.Option(None, "--config", metavar="FILE", help="Read this configuration file instead.")
OUTPUT: Final[Any] = typer.Option(Format.TEXT, "-o", "--output", help="How to print.")
PLAIN: Final[Any] = typer.Option(Plain.TEXT, "-o", "--output", help="How to print.")
ARGUMENTS: Final[Any] = typer.Option(
    [], "-a", "--argument", metavar="KEY=VALUE", help="An argument of the action; may be given again."
)


def example(*lines: str) -> str:
    """The end of a help text: worked examples, kept as they are."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def paths(root: Path, config: Path | None = None) -> Paths:
    """Where everything is, from the two options."""
    return Paths(root=root.absolute(), config=config.absolute() if config else None)
