"""Starting another program of nanoexec with the code that this one runs on, wherever that lies.

A Debian package keeps the code in a private directory, which only its launchers in /usr/bin put on ``sys.path``: a new
interpreter would not find it. This file is what such an interpreter is given to run: it knows by its own place where
the rest is. A variable (``PYTHONPATH``) would do too, and be inherited by every command that is ever run.
"""

import runpy
import sys
from pathlib import Path


def command(module: str) -> list[str]:
    """What runs ``module`` as ``python -m`` would: the start of an argv.

    With ``-P``: the directory in which somebody typed a command must not be able to supply a module to root. What this
    interpreter was told not to believe (``-E``: variables, ``-s``: the user's own libraries), that one does not either.
    """
    flags = "E" * bool(sys.flags.ignore_environment) + "s" * bool(sys.flags.no_user_site) + "P"
    return [sys.executable, f"-{flags}", __file__, module]


if __name__ == "__main__":
    place = str(Path(__file__).parents[1])
    if place not in sys.path:
        sys.path.insert(0, place)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
