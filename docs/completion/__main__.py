"""``python -m docs.completion``: write the completion scripts anew. ``--check`` only says what is out of date."""

import sys
from pathlib import Path

from docs.completion import bash, fish, values, zsh
from docs.man.__main__ import run_options
from docs.man.commands import tree


def scripts() -> dict[Path, str]:
    """Every script, by its file."""
    here, root, run = Path(__file__).parent, tree(), values.as_command(run_options())
    return {
        here / "nanoexec.bash": bash.script(root, run),
        here / "_nanoexec": zsh.script(root, run),
        here / "nanoexec.fish": fish.script(root, run),
    }


def main() -> int:
    """Write every script that has changed, or with ``--check`` name it. The exit status."""
    late = {file: text for file, text in scripts().items() if not file.exists() or file.read_text() != text}
    for file, text in late.items():
        print(file.name)
        if "--check" not in sys.argv:
            file.write_text(text)
    return int(bool(late) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
