"""What a slot must know of configuration and crontabs, read once and remembered while none of those files changes.

Reading them takes a TOML parser and the manifests' rules, longer than all of a skip may. `Plan.current` compares what
stat(2) says of every file that has a part in it. The change time cannot be set by anybody, so a file that was written,
replaced, renamed or given away shows. `nanoexec.run.planning` makes a new plan. The journal's own table keeps it.
"""

# Importing pathlib takes half as long as all of a skip.
# ruff: noqa: PTH116, PTH118, PTH120, PTH208

import os

import nanoexec

JOURNAL = "var/lib/nanoexec/journal/journal.db"  # nanoexec.config.Paths has these too, and needs msgspec;
BEACON = "var/lib/nanoexec/agent/beacon"  # a test compares them
AGENT_CONFIG = "etc/nanoexec/agent.toml"  # joined.toml has no part in a plan: it may say nothing of what runs
ACTIONS = "etc/nanoexec/actions.d"
CRONTAB = "etc/crontab"
CRON_D = "etc/cron.d"
SPOOLS = ("var/spool/cron/crontabs", "var/spool/cron")  # Debian's, cronie's


class Plan:
    """``policy`` and ``silence`` (seconds) as `nanoexec.fallback.decide` wants them. ``lines`` are those by which cron
    starts the action for this user: the schedule, and the whole command as the shell gets it. Of a line in the shadow
    the command is empty: its shell does not wait, and cannot be asked.
    """

    __slots__ = ("lines", "policy", "signature", "silence")

    def __init__(self, signature: str, policy: str, silence: float, lines: list[tuple[str, bytes]]) -> None:
        self.signature = signature
        self.policy = policy
        self.silence = silence
        self.lines = lines

    def __bytes__(self) -> bytes:
        parts = [self.signature.encode(), self.policy.encode(), str(self.silence).encode()]
        for fields, command in self.lines:
            parts += [fields.encode(), command]
        return b"\n".join(parts)

    @classmethod
    def read(cls, data: bytes) -> "Plan":
        """The plan that was remembered as ``data``."""
        signature, policy, silence, *rest = data.split(b"\n")
        lines = [(fields.decode(), command) for fields, command in zip(rest[::2], rest[1::2], strict=True)]
        return cls(signature.decode(), policy.decode(), float(silence), lines)


def key(action: str, user: str) -> str:
    """Under which name a plan is remembered."""
    return f"plan:{action}:{user}"


def signature(root: str, user: str) -> str:
    """What the files look like from outside, and which version of nanoexec looks at them."""
    package = os.path.dirname(nanoexec.__file__)
    shipped = (os.path.join(package, "integrations"), os.path.join(os.path.dirname(package), "integrations"))
    files = [os.path.join(root, AGENT_CONFIG), os.path.join(root, CRONTAB)]
    files += [os.path.join(root, spool, user) for spool in SPOOLS]
    parts = [nanoexec.__version__, *(f"{file!a} {_status(file)}" for file in files)]
    for directory in (*shipped, os.path.join(root, ACTIONS), os.path.join(root, CRON_D)):
        parts += [f"{name!a} {status}" for name, status in sorted(_entries(directory))]
        parts.append("/")
    return " ".join(parts)


def _entries(directory: str) -> list[tuple[str, str]]:
    try:
        return [(name, _status(os.path.join(directory, name))) for name in os.listdir(directory)]
    except FileNotFoundError:
        return []


def _status(file: str) -> str:
    try:
        seen = os.stat(file)
    except OSError as error:
        return str(error.errno)
    return f"{seen.st_ino} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns} {seen.st_mode} {seen.st_uid}"
