"""Adopted lines on a scratch node: started by a shell as cron starts it, or by a real cron in namespaces of its own."""

import os
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, Self

from nanoexec.crontab.adoption import adopt
from nanoexec.crontab.lines import parse
from nanoexec.model import Run
from tests.support.runner import GATE, ME, Node

REPOSITORY = Path(__file__).parents[2]
EVERY_MINUTE = "* * * * *"
CRON_ENVIRONMENT = {"HOME": "/", "LOGNAME": ME, "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
SPEED = 20  # of cron's clock: a slot every three seconds. Its children have the real time


class ScheduledNode(Node):
    """A scratch node with a ``nanoexec-run`` of its own and one action, ``probe``, taking over lines of one crontab."""

    def __init__(self, root: Path, **keys: Any) -> None:
        super().__init__(root)
        self.launcher = root / "nanoexec-run"
        self.install()
        self.crontab = root / "etc/cron.d/probe"
        self.crontab.parent.mkdir()
        (root / "etc/crontab").touch()
        self.action("probe", "echo triggered >> $LEDGER", **keys)

    def install(self, prelude: str = "") -> None:
        """Put nanoexec-run in its place. ``prelude`` is Python that it executes first."""
        path = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})"
        self.launcher.write_text(f"#!{sys.executable}\n{path}\n{prelude}\nfrom nanoexec.run import main\nmain()\n")
        self.launcher.chmod(0o755)

    def write(self, *commands: str, schedule: str = EVERY_MINUTE, settings: str = "", **how: Any) -> list[bytes]:
        """A crontab of these commands, adopted by ``probe``; gives what cron hands to the shell, line by line."""
        text = settings + "".join(f"{schedule} {ME} {command}\n" for command in commands)
        lines = parse(text.encode(), system=True)
        adopted = [
            adopt(line, "probe", str(self.launcher), root=str(self.root), **how) if line.job else line.raw
            for line in lines
        ]
        self.replace(b"".join(adopted))
        return [line.command for line in parse(b"".join(adopted), system=True) if line.job]

    def replace(self, crontab: bytes) -> None:
        """Put other bytes in the crontab, at once."""
        new = self.crontab.with_name("new.tmp")
        new.write_bytes(crontab)
        new.chmod(0o644)
        new.replace(self.crontab)

    def note(self, more: str = "", **how: Any) -> bytes:
        """A crontab of one line that notes in the ledger that the original ran; gives its command."""
        (command,) = self.write(f"echo original >> {self.ledger}{more}", **how)
        return command

    def gate(self) -> bytes:
        """A crontab of one line that lasts until it is let go; gives its command."""
        (command,) = self.write(GATE.replace("$LEDGER", str(self.ledger)))
        return command

    def begin_local(self) -> "subprocess.Popen[bytes]":
        """Start a run that somebody wants now."""
        return subprocess.Popen([self.launcher, "--root", self.root, "probe"], stderr=subprocess.DEVNULL)

    def local(self) -> Run:
        """A run that somebody wants now, and that succeeds."""
        done = subprocess.run([self.launcher, "--root", self.root, "probe"], check=True, capture_output=True)
        assert done.stderr == b""
        return self.runs()[-1]

    def runs(self) -> list[Run]:
        """All runs, oldest change first."""
        if not self.paths.journal.exists():
            return []
        with self.journal() as journal:
            return list(journal.changes(0, 1000)[0])

    def reasons(self) -> list[str]:
        """Why slots were skipped."""
        return [run.reason for run in self.runs() if run.outcome == "skipped"]


def start_shell(command: bytes, shell: str = "/bin/sh", **keys: Any) -> "subprocess.Popen[bytes]":
    """Start a command as cron does: a session of its own, one pipe for both outputs, next to no environment."""
    given: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "env": CRON_ENVIRONMENT | {"SHELL": shell},
        "cwd": "/",
        "start_new_session": True,
    }
    return subprocess.Popen([shell, "-c", command], **(given | keys))


def from_shell(command: bytes, shell: str = "/bin/sh", **keys: Any) -> tuple[int, bytes]:
    """Exit status and output of a command that cron would have started."""
    given = keys.pop("input", None)
    if given is not None:
        keys["stdin"] = subprocess.PIPE
    with start_shell(command, shell, **keys) as process:
        output, _ = process.communicate(given, timeout=60)
    return process.returncode, output


def why_no_cron() -> str:
    """Why no cron daemon can be started here, empty if one can."""
    if os.geteuid() != 0:
        return "only root can give a cron daemon namespaces of its own"
    lacking = [
        name for name in ("cron", "unshare", "mount") if not shutil.which(name, path=f"{os.defpath}:/usr/sbin:/sbin")
    ]
    return (
        f"not installed: {' '.join([*lacking, *([] if FAKETIME else ['libfaketime'])])}"
        if lacking or not FAKETIME
        else ""
    )


class Cron:
    """Debian's cron over the crontabs of a scratch node; a context manager. Nothing of the machine's own is touched.

    It has its own mounts (crontabs, ``/run``, a sendmail that keeps the mail) and process numbers, and dies with us.
    """

    def __init__(self, node: ScheduledNode) -> None:
        self._directory = node.root / "cron"
        self._directory.mkdir()
        self._mail = self._directory / "mail"
        self._mail.mkdir()
        self._log = self._directory / "log"
        sendmail = self._directory / "sendmail"
        sendmail.write_text(
            f"#!/bin/sh\ncat > {self._mail}/new.$$ && mv {self._mail}/new.$$ {self._mail}/$(date +%s.%N).$$\n"
        )
        sendmail.chmod(0o755)
        (self._directory / "spool/crontabs").mkdir(parents=True)
        (self._directory / "sbin").mkdir()
        (self._directory / "real").mkdir()
        (node.root / "etc/crontab").chmod(0o644)
        script = f"""
            set -e
            cd {self._directory}
            mount --bind {node.root}/etc/crontab /etc/crontab
            mount --bind {node.root}/etc/cron.d /etc/cron.d
            mount --bind spool /var/spool/cron
            mount -t tmpfs tmpfs /run
            mount --bind /usr/sbin real
            for program in real/*; do ln -s $PWD/$program sbin/; done
            ln -sf $PWD/sendmail sbin/sendmail
            mount --bind sbin /usr/sbin
            LD_PRELOAD={FAKETIME} FAKETIME='+0 x{SPEED}' FAKETIME_DONT_FAKE_MONOTONIC=1 exec real/cron -f
        """
        self._words = [
            "unshare",
            "-mpf",
            "--mount-proc",
            "--kill-child",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        assert self._process
        still = self._process.poll()
        self._process.send_signal(signal.SIGKILL)  # and the kernel does the same to cron and all of its children
        self._process.wait()
        assert still is None, self._log.read_text()

    def mails(self) -> list[str]:
        """The bodies of the mails so far, the oldest first."""
        found = sorted(file for file in self._mail.iterdir() if not file.name.startswith("new."))
        return [file.read_text().partition("\n\n")[2] for file in found]
