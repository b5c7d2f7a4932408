"""A real fleet in a scratch directory: hub, agents and runners as processes on loopback, with mutual TLS."""

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

DEADLINE = 20.0  # seconds that a condition may take on a busy machine
ENDING = 10.0  # seconds that a daemon may take to end
LEASH = ("setpriv", "--pdeathsig", "KILL", "--")  # a daemon does not outlive the tests, whatever ends them


def wait_until(condition: Callable[[], Any], what: str, within: float = DEADLINE, every: float = 0.02) -> Any:
    """The first true value of ``condition``; an assertion error that says ``what`` when it never came.

    ``within`` and ``every``, how often it is asked, are seconds.
    """
    end = time.monotonic() + within
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(every)
    raise AssertionError(f"waited {within:.0f} s in vain: {what}")


def whoami() -> str:
    """The name of the user that runs the tests."""
    return pwd.getpwuid(os.geteuid()).pw_name


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def answers(path: Path) -> bool:
    """Whether anybody listens on this unix socket; a dead daemon may have left it behind."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def outcomes(deliveries: dict[str, dict[str, Any]]) -> dict[str, str]:
    """How each node's run ended; the delivery's state where there is no run."""
    return {node: (d["run"] or {}).get("outcome") or d["state"] for node, d in deliveries.items()}


def assert_one_line(done: "subprocess.CompletedProcess[str]", status: int, *said: str) -> str:
    """A command that ended with this status and said why, in one line that holds all of ``said``; the line."""
    lines = done.stderr.splitlines()
    ended = (done.returncode, len(lines), done.stdout)
    assert ended == (status, 1, ""), f"{done.returncode}\n{done.stdout}{done.stderr}"
    assert [part for part in said if part not in lines[0]] == [], lines[0]
    return lines[0]


class Service:
    """One daemon: its process, its log, its beginning and end. ``before`` is put before its command."""

    before: Sequence[str] = ()

    def __init__(self, words: list[str], log: Path) -> None:
        self.words = words
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.before, *LEASH, sys.executable, "-m", *self.words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | environment,
                start_new_session=True,
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int | None:
        """Send a signal and wait for the end. Returns the exit status; None if it was not running.

        One that was stopped goes on, and so hears the signal. Whatever happens here, it has ended after this.
        """
        if self.process is None:
            return None
        process, self.process = self.process, None
        try:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            return process.wait(ENDING)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.words} did not end at {number.name}:\n{self.text()}") from None
        finally:  # also if whoever waits here has lost patience
            process.kill()
            process.wait()

    def kill(self) -> None:
        """As if the power went."""
        self.stop(signal.SIGKILL)

    def text(self) -> str:
        """What it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class FleetNode:
    """One node: a root directory, a runner and an agent."""

    def __init__(self, fleet: "Fleet", name: str) -> None:
        self.name = name
        self.root = fleet.directory / name
        self.runner = Service(["nanoexec.runner", "--root", str(self.root)], fleet.directory / f"{name}.runner.log")
        self.agent = Service(["nanoexec.agent", "--root", str(self.root)], fleet.directory / f"{name}.agent.log")

    @property
    def config(self) -> Path:
        return self.root / "etc/nanoexec/agent.toml"

    @property
    def journal(self) -> Path:
        return self.root / "var/lib/nanoexec/journal/journal.db"

    def action(self, name: str, manifest: str) -> None:
        """Write a manifest of this node's own; the ``name`` key is added."""
        directory = self.root / "etc/nanoexec/actions.d"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{name}.toml").write_text(f'name = "{name}"\n{manifest}')

    def set(self, **keys: Any) -> None:
        """Put keys before the rest of agent.toml, in the place of earlier ones; a service reads it when it starts."""
        rest = [line for line in self.config.read_text().splitlines() if line.partition("=")[0].strip() not in keys]
        self.config.write_text("\n".join([*(f"{key} = {json.dumps(value)}" for key, value in keys.items()), *rest, ""]))

    def start(self) -> None:
        self.runner.start()
        wait_until(lambda: answers(self.root / "run/nanoexec/runner.sock"), f"{self.name}'s runner listens")
        self.agent.start()

    def stop(self) -> None:
        try:
            self.agent.stop()
        finally:
            self.runner.stop()


class Fleet:
    """A hub and its nodes; a context manager that leaves nothing behind."""

    def __init__(self, **hub_keys: Any) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="nx"))  # short: a unix socket's path has 107 bytes
        self.root = self.directory / "hub"
        self.nodes: dict[str, FleetNode] = {}
        self.hub = Service(["nanoexec.hub", "--root", str(self.root)], self.directory / "hub.log")
        publish, report, self.join_port = free_ports(3)
        self.keys: dict[str, Any] = {
            "bind": "127.0.0.1",
            "publish_port": publish,
            "report_port": report,
            "join_port": self.join_port,
            "beacon_interval": 1.0,
        } | hub_keys

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.push(self)
            self.run("hub", "init", "--name", "localhost")
            self.configure()
            self.start_hub()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if kind is not None:
            for log in sorted(self.directory.glob("*.log")):
                sys.stdout.write(f"==> {log.name}\n{log.read_text(errors='replace')[-4000:]}\n")
        with contextlib.ExitStack() as ends:
            ends.callback(shutil.rmtree, self.directory, ignore_errors=True)
            for stop in (self.hub.stop, *(node.stop for node in self.nodes.values())):
                ends.callback(_ended, stop, failing=kind is not None)

    def configure(self) -> None:
        """Write hub.toml from ``keys``."""
        lines = [f"{key} = {json.dumps(value)}" for key, value in self.keys.items()]
        (self.root / "etc/nanoexec/hub.toml").write_text("\n".join(lines) + "\n")

    def start_hub(self) -> None:
        self.hub.start()
        wait_until(self._hub_answers, "the hub answers")

    def _hub_answers(self) -> bool:
        assert self.hub.process is not None
        assert self.hub.process.poll() is None, f"the hub ended:\n{self.hub.text()}"
        return answers(self.root / "run/nanoexec/hub/control.sock")

    def add(self, *names: str) -> None:
        """Join and start nodes, and wait until the hub has their actions."""
        if not names:
            return
        token = self.run("hub", "token", "--uses", str(len(names))).stdout.strip()
        for name in names:
            node = self.nodes[name] = FleetNode(self, name)
            self.run("agent", "join", f"localhost:{self.join_port}", token, "--name", name, root=node.root)
            if not node.config.exists():
                node.config.write_text("# the administrator's own\n")
            node.start()
        for name in names:
            self.wait_connected(name)

    def wait_connected(self, *names: str) -> None:
        wait_until(lambda: set(names) <= self.connected(), f"{names} connected, with actions")

    def connected(self) -> set[str]:
        """Nodes that are here and have said what they offer."""
        return {node["name"] for node in self.nodes_listed() if node.get("connected") and node.get("actions")}

    def nodes_listed(self) -> list[dict[str, Any]]:
        """The roster."""
        return list(json.loads(self.run("nodes", "list", "-o", "json").stdout))

    def run(self, *words: str, root: Path | None = None, check: bool = True, **options: Any) -> Any:
        """A command line, to its end, as text."""
        # `--root` goes behind the command's name: `exec TARGET -- COMMAND` takes all that follows.
        place = 2 if words[0] in {"hub", "agent", "nodes", "actions", "cron"} else 1
        words = (*words[:place], "--root", str(root or self.root), *words[place:])
        done = subprocess.run(
            [sys.executable, "-m", "nanoexec", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,
        )
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def trigger(self, what: str, *words: str, status: int | None = 0) -> dict[str, dict[str, Any]]:
        """Trigger and wait; the deliveries by node. ``status``: the exit status expected, None for any."""
        done = self.run("trigger", what, "-o", "json", *words, check=False)
        assert status in (None, done.returncode), f"{what}: {done.returncode}\n{done.stdout}{done.stderr}"
        document = json.loads(done.stdout)
        return {delivery["node"]: delivery for delivery in document["deliveries"]}

    def issue(self, what: str, *words: str) -> str:
        """Trigger without waiting; the id."""
        return str(json.loads(self.run("trigger", what, "--no-wait", "-o", "json", *words).stdout)["trigger"])

    def shown(self, trigger: str) -> dict[str, dict[str, Any]]:
        """The deliveries of a trigger as the hub has them now, by node."""
        document = json.loads(self.run("show", trigger, "-o", "json").stdout)
        return {delivery["node"]: delivery for delivery in document["deliveries"]}

    def history(self, *words: str) -> list[dict[str, Any]]:
        """What ran, newest first."""
        return list(json.loads(self.run("history", "-o", "json", *words).stdout))

    def status(self) -> dict[str, Any]:
        """The hub in numbers."""
        return dict(json.loads(self.run("hub", "status", "-o", "json").stdout))

    def wait_state(self, trigger: str, node: str, *states: str) -> dict[str, Any]:
        return wait_until(
            lambda: (found := self.shown(trigger)[node])["state"] in states and found, f"{node} to be {states}"
        )


def _ended(stop: Callable[[], object], *, failing: bool) -> None:
    """Stop something. That it did not end by itself is said aside if a test is ``failing`` for a reason of its own."""
    try:
        stop()
    except AssertionError as error:
        if not failing:
            raise
        sys.stdout.write(f"{error}\n")


@contextlib.contextmanager
def fleet_of(*names: str, **hub_keys: Any) -> Iterator[Fleet]:
    """A running fleet with these nodes."""
    with Fleet(**hub_keys) as fleet:
        fleet.add(*names)
        yield fleet
