"""``python -m nanoexec.runner [--root DIR] [--config FILE]``: the privileged service of a node."""

import os
import pwd
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import nanoexec.runner.lean  # noqa: F401 - before anything else imports msgspec
from nanoexec.config import AgentConfig, Paths
from nanoexec.errors import NanoexecError, UsageError
from nanoexec.runner.listening import bind, inherited
from nanoexec.runner.log import say
from nanoexec.runner.server import RELOAD, Server
from nanoexec.settings import read_agent


def main(arguments: Sequence[str]) -> int:
    """Serve until told to stop; the exit status."""
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, RELOAD)  # else one that comes while we start would end us
        paths = _paths(arguments)
        config = _read(paths)
        _take_groups()
        listener = inherited(os.environ)
        idle = listener is not None  # systemd starts us again when somebody calls
        listener = listener or bind(paths.runner_socket, config.user)
        Server(listener, paths, config, lambda: _read(paths), _verify, idle=idle).run()
    except NanoexecError as error:
        say(str(error))
        return error.exit_code
    return 0


def _paths(arguments: Sequence[str]) -> Paths:
    given: dict[str, Path] = {}
    for option, value in zip(arguments[::2], (*arguments[1::2], ""), strict=False):
        if option not in ("--root", "--config") or not value:
            raise UsageError(f"nanoexec.runner: expected --root DIR and --config FILE, got {option} {value}".rstrip())
        given[option] = Path(value).absolute()
    return Paths(root=given.get("--root", Path("/")), config=given.get("--config"))


def _take_groups() -> None:
    """Have root's supplementary groups, and so root's actions, as under cron: systemd starts us with none."""
    if os.geteuid() == 0:
        with suppress(KeyError, OSError):  # a machine without /etc/passwd, a namespace that allows no groups
            root = pwd.getpwuid(0)
            os.initgroups(root.pw_name, root.pw_gid)


def _read(paths: Paths) -> AgentConfig:
    config = read_agent(paths)
    if config.signers:
        import nanoexec.keys.signing  # noqa: F401, PLC0415 - only a node that verifies pays for it, and then once
    return config


def _verify(signers: Sequence[str], body: bytes, signature: bytes) -> None:
    from nanoexec.keys.signing import verify  # noqa: PLC0415 - the same

    verify(signers, body, signature)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
