"""Help as plain text with every typer: the one that Debian 12 has (0.7) would pour the examples into one paragraph."""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class _Command(TyperCommand):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        super(TyperCommand, self).format_help(ctx, formatter)  # click's own: typer's asks only later for no markup


class _Group(TyperGroup):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        super(TyperGroup, self).format_help(ctx, formatter)


class Commands(typer.Typer):
    """A `typer.Typer` whose commands show their help as it was written. Without a subcommand it shows its own."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=_Group, no_args_is_help=True, rich_markup_mode=None, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """See `typer.Typer.command`."""
        return super().command(name, cls=_Command, **settings)
