"""A fleet whose processes may be failed: each can be killed, stopped, starved, and started to die at a write to choose.

Whatever it starts, and whatever that starts and leaves behind, is a descendant of this process, which is their reaper:
so that at the end it can be said that nothing is left.
"""

import contextlib
import itertools
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

from nanoexec.cli.ask import HubConnection
from nanoexec.config import Paths
from nanoexec.errors import NanoexecError
from nanoexec.wire import control
from tests.chaos import processes_ledger
from tests.chaos.process_tree import children, command_line, descendants, hit, reap_orphans, stands_still
from tests.support.fleet import Fleet, FleetNode, Service, answers, wait_until, whoami

REPOSITORY: Final = Path(__file__).parents[2]
STARTING: Final = 90.0  # seconds for all of a large fleet to be there, on a busy machine
_PATIENCE: Final = 2.0  # seconds for an answer of the hub
_NODE_DISK: Final = "24m"
_HUB_DISK: Final = "256m"  # a hub keeps all that twenty nodes do in ten minutes: 25 MB by then
_MANY: Final = 4  # joining at once
_HASTE: Final = 20.0  # times: a supervisor comes to its longest pause after 71 s, and a disk is to be full for longer


class FaultyService(Service):
    """A daemon behind `faulty`."""

    def __init__(self, words: Sequence[str], log: Path, faults: Path) -> None:
        super().__init__(["tests.chaos.faulty", *words], log)
        self.faults = faults

    def start(self, **environment: str) -> None:
        self.reap()
        super().start(**launched(self.faults), **environment)

    @property
    def pid(self) -> int | None:
        """Of the process, while it is there."""
        return self.process.pid if self.process and self.process.poll() is None else None

    def reap(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            self.process = None

    def signal(self, number: signal.Signals) -> bool:
        """Whether there was somebody to whom it made a difference."""
        return self.pid is not None and hit(self.pid, number)

    def limit(self, descriptors: int | None) -> bool:
        """How many more it may open from now on; None for as many as it likes. False if it is not there."""
        pid = self.pid
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
            now = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()) + 1
            soft = hard if descriptors is None else min(hard, now + descriptors)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
            return True
        return False


class Disk:
    """A small disk of its own for a directory that is still empty, ``size`` as in tmpfs(5); a context manager."""

    def __init__(self, directory: Path, size: str) -> None:
        self.directory = directory
        self._size = size
        self._filling = directory / "filling"

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={self._size}", "tmpfs", str(self.directory))
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.directory)], check=True)

    def fill(self) -> None:
        """Not a byte is left."""
        with self._filling.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * (1 << 16))
        with self._filling.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0")

    def empty(self) -> None:
        self._filling.unlink(missing_ok=True)

    def read_only(self) -> bool:
        """Make it so, if nobody has a file open for writing."""
        return _mount("-o", "remount,ro", str(self.directory), check=False)

    def writable(self) -> None:
        _mount("-o", "remount,rw", str(self.directory))


def _mount(*words: str, check: bool = True) -> bool:
    return subprocess.run(["mount", *words], check=check, capture_output=True).returncode == 0


class ChaosNode(FleetNode):
    """A node with the commands of the ledger as its actions."""

    def __init__(self, fleet: "FleetOfProcesses", name: str) -> None:
        super().__init__(fleet, name)
        faults = fleet.faults
        directory = fleet.directory
        self.runner = FaultyService(self.runner.words, directory / f"{name}.runner.log", faults)
        self.agent = FaultyService(self.agent.words, directory / f"{name}.agent.log", faults)
        self.disk: Disk | None = None
        environment = {"LEDGER": str(fleet.ledger), "NODE": name, "BYTES": str(fleet.loud)}
        for kind in (*processes_ledger.KINDS, processes_ledger.COALESCED):
            command = ["/bin/sh", str(fleet.work), "slow" if kind == processes_ledger.COALESCED else kind]
            lines = [
                f"command = {json.dumps(command)}",
                f"user = {json.dumps(whoami())}",
                f"on_busy = {json.dumps('coalesce' if kind == processes_ledger.COALESCED else 'wait')}",
                f'timeout = "{processes_ledger.timeout_of(kind):.0f}s"',
                'kill_after = "1s"',
                "[env]",
                *(f"{key} = {json.dumps(value)}" for key, value in environment.items()),
            ]
            self.action(kind, "\n".join(lines) + "\n")

    @property
    def socket(self) -> Path:
        return self.root / "run/nanoexec/runner.sock"

    def cut_log(self) -> None:
        """Take the room that the journal's log has in reserve: on a full disk, runs could be written there for long."""
        with contextlib.suppress(sqlite3.Error), contextlib.closing(self._open_journal()) as journal:
            journal.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _open_journal(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.journal}?mode=rw", uri=True, timeout=1.0)


class FleetOfProcesses(Fleet):
    """Hub and nodes, each a process of its own, under this process as their reaper.

    ``disks``: how many of the nodes, besides the hub, have a disk of their own; ``loud`` is how many bytes the command
    prints that prints much. It needs root for the disks.
    """

    def __init__(self, *, loud: int, disks: int, **hub_keys: Any) -> None:
        super().__init__(**hub_keys)
        self.faults = self.directory / "faults"
        self.ledger = self.directory / "ledger"
        self.work = self.directory / "work"
        self.loud = loud
        self.paths = Paths(root=self.root)
        self.hub = FaultyService(self.hub.words, self.directory / "hub.log", self.faults)
        self.hub_disk: Disk | None = None
        self.killed: set[int] = set()
        self.by_hand: list[subprocess.Popen[bytes]] = []  # what we have started ourselves, and wait for
        self._persons = itertools.count(1)
        self._disks = disks
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        reap_orphans(True)
        self._stack.callback(reap_orphans, False)  # the last thing of all
        self.work.write_text(processes_ledger.WORK)
        self.ledger.touch()
        if self._disks:
            self.hub_disk = self._stack.enter_context(Disk(self.root / "var/lib/nanoexec", _HUB_DISK))
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        with self._stack:
            for service in self.services():
                service.signal(signal.SIGCONT)
                service.limit(None)
            with contextlib.suppress(OSError):
                for disk in self.disks():
                    disk.writable()
                    disk.empty()
            try:
                super().__exit__(kind, value, trace)
            finally:
                for pid in descendants():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                self.reap()
        shutil.rmtree(self.directory, ignore_errors=True)  # what was mounted is not

    def disks(self) -> Iterator[Disk]:
        if self.hub_disk:
            yield self.hub_disk
        for node in self.chaos_nodes():
            if node.disk:
                yield node.disk

    def chaos_nodes(self) -> list[ChaosNode]:
        return [node for node in self.nodes.values() if isinstance(node, ChaosNode)]

    def services(self) -> Iterator[FaultyService]:
        for service in (self.hub, *(each for node in self.nodes.values() for each in (node.runner, node.agent))):
            if isinstance(service, FaultyService):
                yield service

    def gather(self, *names: str) -> None:
        """Join these nodes, several at once, and start them; wait until the hub has their actions."""
        token = self.run("hub", "token", "--uses", str(len(names))).stdout.strip()
        for batch in (names[start : start + _MANY] for start in range(0, len(names), _MANY)):
            joining = [self._join(name, token) for name in batch]
            for process in joining:
                said = process.communicate()[0]
                assert process.returncode == 0, said
        nodes = [node for node in self.chaos_nodes() if node.name in names]
        for node in nodes:
            node.runner.start()
        for node in nodes:
            wait_until(lambda socket=node.socket: answers(socket), f"{node.name}'s runner listens")  # type: ignore[misc]
            node.agent.start()
        self.wait_here(*names)

    def _join(self, name: str, token: str) -> "subprocess.Popen[str]":
        node = self.nodes[name] = ChaosNode(self, name)
        if len(list(self.disks())) <= self._disks and self._disks:
            node.disk = self._stack.enter_context(Disk(node.root / "var/lib/nanoexec", _NODE_DISK))
        words = ["agent", "join", "--root", str(node.root), f"localhost:{self.join_port}", token, "--name", name]
        process = subprocess.Popen(
            [sys.executable, "-m", "nanoexec", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        node.config.parent.mkdir(parents=True, exist_ok=True)
        if not node.config.exists():
            node.config.write_text(f'user = "{whoami()}"\n')
        return process

    def ask(self, request: control.Request) -> control.Reply | None:
        """What the hub answers; None if it is not there, says no, takes too long, or was stopped."""
        if self.hub.pid is None or stands_still(self.hub.pid):  # only we can let it go on
            return None
        try:
            with HubConnection(self.paths) as hub:
                hub.send(request)
                return hub.receive(_PATIENCE)
        except NanoexecError:
            return None

    def here(self) -> set[str]:
        """Nodes that are connected and have said what they offer."""
        listed = self.ask(control.ListNodes())
        nodes = listed.nodes if isinstance(listed, control.NodeList) else ()
        return {node.name for node in nodes if node.connected and node.actions}

    def wait_here(self, *names: str) -> None:
        """Until the hub has heard what they offer."""
        wait_until(lambda: set(names) <= self.here(), f"{len(names)} nodes are here", within=STARTING, every=0.1)

    def run_by_hand(self, node: ChaosNode, action: str, **environment: str) -> "subprocess.Popen[bytes]":
        """What a person at the keyboard does, each time another one, behind sudo(8) as far as we are root."""
        words = ["-m", "tests.chaos.faulty", "nanoexec.run", "--root", str(node.root), action]
        environment |= launched(self.faults) | {"SUDO_USER": f"person{next(self._persons)}"}
        with (self.directory / f"{node.name}.hand.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | environment,
                start_new_session=True,
            )
        self.by_hand.append(process)
        return process

    def supervisors(self) -> list[int]:
        """The children of all runners, also of those that are no more."""
        return [child for node in self.chaos_nodes() for child in children(node.runner.pid)] + self.orphans()

    def orphans(self) -> list[int]:
        """Supervisors whose runner has gone: they are ours now."""
        known = {service.process.pid for service in self.services() if service.process}
        left = set(children(os.getpid())) - known
        return [pid for pid in left if " nanoexec.runner " in command_line(pid)]

    def commands(self) -> list[int]:
        """What somebody supervises."""
        supervisors = [*self.supervisors(), *(process.pid for process in self.by_hand)]
        below = [child for pid in supervisors for child in children(pid)]
        return [pid for pid in below if str(self.work) in command_line(pid)]

    def reap(self) -> None:
        """Bury what was left to us. Only what is no service: they have somebody who waits for them."""
        self.by_hand = [process for process in self.by_hand if process.poll() is None]
        known = {service.process.pid for service in self.services() if service.process}
        known |= {process.pid for process in self.by_hand}
        for pid in set(children(os.getpid())) - known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def left(self) -> dict[int, str]:
        """Descendants that are no service, by pid, with their command lines."""
        self.reap()
        known = {service.pid for service in self.services()}
        return {pid: command_line(pid) for pid in descendants() if pid not in known and command_line(pid)}

    def fault_lines(self, what: str) -> list[list[str]]:
        """The lines of the faults' log that begin so, without that word."""
        text = self.faults.read_text() if self.faults.exists() else ""
        return [line.split(" ")[1:] for line in text.splitlines() if line.startswith(f"{what} ")]


def launched(faults: Path) -> dict[str, str]:
    """What every process behind `faulty` has in its environment."""
    return {"PYTHONPATH": str(REPOSITORY), "NANOEXEC_FAULT_LOG": str(faults), "NANOEXEC_FAULT_HASTE": str(_HASTE)}
