"""The command of a run, made ready: whose it is, where it starts, what it finds in its environment."""

import os
import pwd
from typing import Final

from nanoexec.actions import Manifest
from nanoexec.errors import RefusedError
from nanoexec.model import Cause, Run, Value

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Account(Value, frozen=True):
    """A user of this machine, as ``getpwnam`` gives it."""

    name: str
    uid: int
    gid: int
    home: str


class Command(Value, frozen=True):
    """``argv`` with the program found for it, and all that its process gets. Durations are in seconds.

    Without an ``account``, user, directory, umask and standard input are those of the process that starts it.
    ``sigpipe`` is False when it is to start with SIGPIPE ignored.
    """

    argv: tuple[str, ...]
    program: str
    environment: dict[str, str]
    timeout: float
    kill_after: float
    account: Account | None = None
    cwd: str | None = None
    sigpipe: bool = True


def account_of(name: str) -> Account:
    """The account of that name. Raises `RefusedError`."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise RefusedError(f"there is no user {name} on this node") from None
    return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid, home=entry.pw_dir)


def prepare(manifest: Manifest, run: Run, timeout: float | None, language: str | None) -> Command:
    """The command of ``run``, whose ``command`` is the bound argv. ``timeout`` may shorten the manifest's.

    The environment is made from nothing, as cron's is. Raises `RefusedError` when this process may not or cannot start
    it.
    """
    account = account_of(manifest.user)
    if account.uid != os.geteuid() != 0:
        who = f"uid {os.geteuid()}"
        raise RefusedError(
            f"action {manifest.name} runs as {manifest.user}, and the runner is {who}: only root may switch"
        )
    environment = {
        "PATH": PATH,
        "HOME": account.home,
        "LOGNAME": account.name,
        "USER": account.name,
        "SHELL": "/bin/sh",
        **({"LANG": language} if language else {}),
        **manifest.env,
        **({"NANOEXEC_TRIGGER_ID": run.id} if run.cause is Cause.TRIGGER else {}),
        "NANOEXEC_ACTION": run.action,
        "NANOEXEC_BY": run.by,
    }
    if not os.path.isdir(manifest.cwd):  # noqa: PTH112 - a tenth of a Path's cost, in a process that was just copied
        raise RefusedError(f"action {manifest.name} starts in {manifest.cwd}, which is not a directory of this node")
    return Command(
        argv=run.command,
        program=_program(run.command[0], environment["PATH"]),
        account=account,
        cwd=manifest.cwd,
        environment=environment,
        timeout=min(manifest.timeout_seconds, timeout or float("inf")),
        kill_after=manifest.kill_after_seconds,
    )


def _program(name: str, path: str) -> str:
    candidates = [name] if "/" in name else [f"{directory}/{name}" for directory in path.split(":")]
    for candidate in candidates:
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):  # noqa: PTH113 - the same
            return candidate
    raise RefusedError(f"there is no program {name} on this node")
