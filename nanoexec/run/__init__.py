"""``nanoexec-run``: one action, here and now, as cron and people start it.

`local` is what a person asks for, `scheduled` what the line of a crontab does. Which of the two it is, is told before
anything else is imported: a slot that is skipped must cost little more than a bare interpreter (see `slot`).
"""

import os
import sys


def main() -> None:
    """The console script. Ends at once: all is on disk, and there is nothing for the interpreter to tidy up."""
    words = sys.argv[1:]
    if "--scheduled" in words:
        from nanoexec.run.slot import run_slot

        code = run_slot(words)
    else:
        from nanoexec.run.local import run_local

        code = run_local(words, os.environ)
    os._exit(code)
