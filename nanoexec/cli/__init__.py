"""The command line: each command parses, calls one function and renders.

`app.program` lists the commands; one module holds the commands of one noun. Errors become exit codes here and nowhere
else. What a command needs is imported when it runs: ``--help`` must not wait for NNG.
"""

import errno
import gc
import os
import sys
from typing import Any, Final

from nanoexec.errors import ExitCode, NanoexecError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def main() -> None:
    """The console script ``nanoexec``."""
    try:
        result = _load()(standalone_mode=False)
        code = result if isinstance(result, int) else ExitCode.OK
        sys.stdout.flush()
    except NanoexecError as error:
        print(f"nanoexec: {_one_line(error)}", file=sys.stderr)
        code = error.exit_code
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        _write_no_more()
        code = ExitCode.UNABLE
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except OSError as error:
        if error.errno not in _FULL:
            raise
        # Everything else that is written has an error of its own: this is our standard output.
        print(f"nanoexec: the output cannot be written: {error.strerror}", file=sys.stderr)
        _write_no_more()
        code = ExitCode.UNABLE
    except Exception as error:  # noqa: BLE001 - see _usage_fault; what it does not know it raises again
        code = _usage_fault(error)
    sys.exit(code)


def _write_no_more() -> None:
    """What is left of the output cannot be flushed at exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _load() -> Any:
    """The command line. Nothing of it is garbage, and looking for some is a twentieth of a cold start."""
    gc.disable()
    from nanoexec.cli.app import program

    app = program(sys.argv[1:])
    gc.freeze()
    gc.enable()
    return app


def _one_line(error: NanoexecError) -> str:
    """What an error says, parts of which may be a stranger's words: they must not drive the operator's terminal."""
    from nanoexec.cli.render import printable

    return printable(str(error))


def _usage_fault(error: Exception) -> int:
    """Show what typer says of a command line that cannot be read; anything else is a bug and stays a traceback.

    Told by shape: typer brings its own copy of click since 0.2x, so there is no class to name for all versions.
    """
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if callable(show) and isinstance(code, int):
        show()
        return code
    if type(error).__name__ == "Abort":
        return ExitCode.INTERRUPTED
    raise error
