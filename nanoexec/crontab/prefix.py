r"""What stands before the command of an adopted line, so that ``nanoexec-run`` decides and the command stays as it was.

    17 * * * * root [ ! -x RUN ] || { eval "$(RUN --scheduled ACTION 3>&1 >&4 4>&-)"; } 4>&1; ORIGINAL

Cron hands all of it to the shell. ``nanoexec-run`` finds ORIGINAL in the command line of the shell that called it
(``/proc/PPID/cmdline``, where cron has made ``%`` of ``\%``), and speaks to that shell on descriptor 3, a pipe:

- It writes nothing: the shell goes on to ORIGINAL. So it is when RUN cannot start, breaks before it decides, or has not
  written for lack of a journal. If RUN is gone (the package is removed, cron.d files stay) not even a message is seen.
- It writes ``exit `` at once when it takes responsibility, before the command starts, and the status at the end. The
  shell reads to the end of the pipe and ends with that status. If RUN is killed in between, ``exit`` stands alone: the
  shell ends with a failure, and nothing has run twice.
- It writes ``exit 0`` to skip.

Standard output is descriptor 4 outside and 1 inside, so that MAILTO works; input, environment, directory, user and
umask pass through. Descriptor 3 must not reach the command, or the shell waits for what the command leaves behind.

    17 * * * * root (RUN --scheduled ACTION --shadow </dev/null >/dev/null 2>&1 &); ORIGINAL

In the shadow, RUN only notes what it would have done. It runs beside ORIGINAL, as a child of init: nothing that it
does, not even hanging, changes what ORIGINAL reads, prints, waits for or returns.

Both prefixes leave ``$?`` at 0 as a new shell has it, hold no ``%``, and mean the same to dash, bash, mksh, zsh and
BusyBox (tried). Little is imported here: this is on the path of every slot of a crontab.
"""

import re
from typing import Final

from nanoexec.errors import UsageError
from nanoexec.model import Value

_PLAIN: Final = "/[A-Za-z0-9/._+@:,=-]+"  # what means itself to the shell, and to cron
_CALL: Final = rf"(?P<run>{_PLAIN})(?: --root (?P<root>{_PLAIN}))? --scheduled (?P<action>[a-z][a-z0-9._-]{{0,62}})"
_LIVE: Final = rf'\[ ! -x (?P<there>{_PLAIN}) \] \|\| {{ eval "\$\({_CALL} 3>&1 >&4 4>&-\)"; }} 4>&1; '
_SHADOW: Final = rf"\({_CALL} --shadow </dev/null >/dev/null 2>&1 &\); "


class Prefix(Value, frozen=True):
    """The call of ``nanoexec-run`` that a line makes. ``root`` is empty on a real machine."""

    action: str
    run: str
    root: str = ""
    shadow: bool = False

    def __bytes__(self) -> bytes:
        """As it stands in the crontab. Raises `UsageError` when a path would need quotes."""
        for path in (self.run, self.root):
            if path and not re.fullmatch(_PLAIN, path):
                raise UsageError(f"{path!r} cannot stand in a crontab: expected an absolute path of {_PLAIN[2:-2]}")
        call = f"{self.run}{' --root ' + self.root if self.root else ''} --scheduled {self.action}"
        if self.shadow:
            return f"({call} --shadow </dev/null >/dev/null 2>&1 &); ".encode()
        return f'[ ! -x {self.run} ] || {{ eval "$({call} 3>&1 >&4 4>&-)"; }} 4>&1; '.encode()


def split(command: bytes) -> tuple[Prefix, bytes] | None:
    """The prefix of a command and what stands behind it; None if it has none, or one changed by hand.

    For ``nanoexec-run`` and for crontabs alike: ``command`` may still be escaped for cron.
    """
    for pattern, shadow in ((_LIVE, False), (_SHADOW, True)):
        match = re.match(pattern.encode(), command)
        if match and (shadow or match["there"] == match["run"]):
            root = (match["root"] or b"").decode()
            prefix = Prefix(match["action"].decode(), match["run"].decode(), root, shadow)
            return prefix, command[match.end() :]
    return None
