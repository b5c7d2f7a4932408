"""The runner's socket: handed over by systemd, or bound here."""

import fcntl
import os
import pwd
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from nanoexec.errors import ConfigError, UnavailableError

_FIRST: Final = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)
_LONGEST: Final = 107  # bytes of sun_path without its NUL, unix(7)
_BACKLOG: Final = 512
_MODE: Final = 0o660


def inherited(environment: Mapping[str, str]) -> socket.socket | None:
    """The socket that systemd has opened for this very process, None if it has not. Raises `ConfigError`."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = environment.get("LISTEN_FDS")
    if count != "1":
        raise ConfigError(f"systemd hands over {count} sockets: nanoexec-runner.socket must have one ListenStream")
    try:
        listener = socket.socket(fileno=_FIRST)
        listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ConfigError(f"systemd hands over no socket: {error.strerror}") from None
    if (listener.family, listener.type) != (socket.AF_UNIX, socket.SOCK_STREAM) or not listening:
        raise ConfigError("systemd hands over a socket that is not a listening Unix stream: check ListenStream")
    listener.set_inheritable(False)
    return listener


def bind(path: Path, user: str) -> socket.socket:
    """A listening socket at ``path`` for us and the group of ``user``. One whose runner has gone is replaced.

    Raises `UnavailableError` if a runner is already there, or the path cannot be used.
    """
    length = len(os.fsencode(path))
    if length > _LONGEST:
        raise UnavailableError(
            f"{path}: a socket's path has at most {_LONGEST} bytes, this has {length}: shorten --root"
        )
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UnavailableError(f"{path}: cannot make the runner's socket: {error.strerror}") from None
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)  # of two that start at once, one sees the other
        _make_way(path)
        return _bind(path, user)
    except OSError as error:
        raise UnavailableError(f"{path}: cannot make the runner's socket: {error.strerror}") from None
    finally:
        os.close(directory)


def _bind(path: Path, user: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~_MODE)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    with suppress(KeyError, PermissionError):  # no such user yet, or we are not root: then only we may call
        os.chown(path, -1, pwd.getpwnam(user).pw_gid)
    listener.listen(_BACKLOG)
    return listener


def _make_way(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UnavailableError(f"{path}: something that is not a socket is in the way: move it")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:  # its backlog is full: somebody lives there, and is busy
            pass
    raise UnavailableError(f"{path}: a runner is already running here")
