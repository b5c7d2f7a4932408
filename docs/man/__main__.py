"""``python -m docs.man``: write the generated parts of the man pages anew. ``--check`` only says what is out of date.

A part stands between ``.. generated: WHAT`` and ``.. end generated``; all else in a page is written by hand. The pages
are kept with what is generated, so that a package needs nothing but rst2man to build them.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from docs.man.commands import Command, Option, tree
from docs.man.keys import keys
from nanoexec.run.local import HELP

PAGES: Final = sorted(Path(__file__).parent.glob("*.rst"))
# Said once on a page and not again for each command.
COMMON: Final = ("--root", "--help")
_PART: Final = re.compile(r"^(\.\. generated: (.+)\n)(?:.*\n)*?(\.\. end generated)$", re.MULTILINE)


def main() -> int:
    """Write every page that has changed, or with ``--check`` name it. The exit status."""
    late = [page for page in PAGES if renewed(text := page.read_text()) != text]
    for page in late:
        print(page.name)
        if "--check" not in sys.argv:
            page.write_text(renewed(page.read_text()))
    return int(bool(late) and "--check" in sys.argv)


def renewed(page: str) -> str:
    """The page with its generated parts as they should be. Raises `ValueError` for a part that nobody can make."""
    return _PART.sub(lambda found: f"{found[1]}\n{part(found[2])}\n\n{found[3]}", page)


def part(what: str) -> str:
    """What ``.. generated: WHAT`` stands for."""
    kind, *names = what.split()
    root = tree()
    if kind == "options":
        return "\n".join(_options(common(root)))
    if kind == "commands":
        return "\n".join(line for name in names for each in _named(root, name) for line in _command(each))
    if kind == "all-commands-but":
        return "\n".join(line for each in root.within if each.words[0] not in names for line in _command(each))
    if kind == "keys":
        return "\n".join(line for name in names for line in _keys(name))
    if kind == "nanoexec-run":
        return "\n".join(_options(run_options()))
    raise ValueError(f"{what}: expected options, commands, all-commands-but, keys or nanoexec-run")


def common(root: Command) -> tuple[Option, ...]:
    """The options of ``nanoexec`` itself, and those that its commands share."""
    shared = {option.names: option for command in root.all() for option in command.options if _is_common(option)}
    return tuple({option.names: option for option in (*root.options, *shared.values())}.values())


def run_options() -> tuple[Option, ...]:
    """The options of ``nanoexec-run``, which has no typer: its help text is all there is."""
    (block,) = re.findall(r"^Options:\n((?:  .*\n)+)", HELP, re.MULTILINE)
    rows = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in block.splitlines()]
    found = []
    for left, words in rows:
        *names, last = left.split(", ")
        name, _, value = last.partition(" ")
        found.append(Option(names=(*names, name), value=value, help=words))
    return tuple(found)


def text(words: str) -> str:
    """Plain words as reStructuredText: what stands in backticks is literal, all else means itself."""
    pieces = re.split(r"``?([^`]+)``?", words)
    return "".join(
        f"``{piece}``" if place % 2 else re.sub(r"([\\*|_])", r"\\\1", piece) for place, piece in enumerate(pieces)
    )


def _named(root: Command, name: str) -> tuple[Command, ...]:
    found = tuple(each for each in root.within if each.words == (name,))
    if not found:
        raise ValueError(f"there is no command {name}")
    return found


def _command(command: Command) -> Iterator[str]:
    """A heading for each command that can be given; a group only lends its words."""
    if command.within:
        for each in command.within:
            yield from _command(each)
        return
    name = " ".join(command.words)
    arguments = "".join(f" *{text(argument.shown)}*" for argument in command.arguments)
    yield from (name, "-" * len(name), "", f"**nanoexec {name}** [*OPTIONS*]{arguments}", "")
    for paragraph in command.help:
        yield from (text(paragraph), "")
    for argument in command.arguments:
        yield from (f"*{text(argument.shown)}*", f"    {text(argument.help)}", "")
    yield from _options(tuple(option for option in command.options if not _is_common(option)))
    if command.examples:
        yield from ("For example::", "", *(f"    {line}" for line in command.examples), "")


def _is_common(option: Option) -> bool:
    return any(name in COMMON for name in option.names)


def _options(options: tuple[Option, ...]) -> Iterator[str]:
    for option in options:
        value = f" *{text(option.value)}*" if option.value else ""
        yield from (", ".join(f"**{name}**" for name in option.names) + value, f"    {text(option.help)}", "")


def _keys(table: str) -> Iterator[str]:
    for key in keys(table):
        given = "; required" if key.required else f"; default ``{key.default}``" if key.default else ""
        yield from (f"**{key.name}**", f"    {key.words}", "", f"    {key.kind[:1].upper()}{key.kind[1:]}{given}.", "")


if __name__ == "__main__":
    sys.exit(main())
