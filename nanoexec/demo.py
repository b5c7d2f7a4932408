"""A hub and some nodes on one machine: real processes, real mutual TLS, the whole main job, and nothing left behind.

Everything is done as an operator would do it, by commands, in directories that stand for machines. This module only
starts processes, waits for what they say of themselves, and tells the story.
"""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TextIO

from nanoexec import launch
from nanoexec.config import Paths
from nanoexec.errors import ExitCode, NanoexecError, UnavailableError

HUB: Final = "localhost"
ACTION: Final = "uptime"
PATIENCE: Final = 30.0  # seconds for anything to happen; on an idle machine the whole demo takes about five
STOP_WITHIN: Final = 5.0  # seconds for a daemon to stop before it is killed
LOOK_EVERY: Final = 0.02
LOG_TAIL: Final = 12  # lines
_SOCKET_LIMIT: Final = 107  # bytes of a socket's path, unix(7)
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


class Daemon:
    """A process that serves until it is stopped. What it says goes into ``log``."""

    def __init__(self, name: str, words: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            # A session of its own: Ctrl-C is for the demo, which then stops its daemons in order.
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
            )

    def stop(self) -> None:
        """Ask it to end, and see to it. One that has ended is no error."""
        self.process.terminate()
        try:
            self.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def tail(self) -> list[str]:
        """The last lines that it said."""
        return self.log.read_text(errors="replace").splitlines()[-LOG_TAIL:]


class Stage:
    """A scratch directory with one directory for each machine, and the daemons that run there. ``out`` hears of it."""

    def __init__(self, root: Path, out: TextIO) -> None:
        self.root = root
        self.hub = Paths(root=root / "hub")
        self._out = out
        self._daemons: list[Daemon] = []
        self._environment = os.environ | {"NANOEXEC_ROOT": str(self.hub.root)}

    def node(self, name: str) -> Paths:
        """Where a node's files are."""
        return Paths(root=self.root / name)

    def say(self, *lines: str) -> None:
        """Tell the story, at once."""
        for line in lines:
            print(line, file=self._out)
        self._out.flush()

    def start(self, name: str, module: str, *words: str) -> Daemon:
        """Start a daemon."""
        log = self.root / f"{name.replace(' ', '-')}.log"
        daemon = Daemon(name, [*launch.command(module), *words], log, self._environment)
        self._daemons.append(daemon)
        return daemon

    def stop(self, *daemons: Daemon) -> None:
        """Stop some daemons; they are expected to be gone from now on."""
        self._daemons = [daemon for daemon in self._daemons if daemon not in daemons]
        for daemon in daemons:
            daemon.stop()

    def close(self) -> None:
        """Stop every daemon, all at the same time."""
        for daemon in self._daemons:
            daemon.process.terminate()
        self.stop(*self._daemons)

    def show(self, *words: str, expected: ExitCode = ExitCode.OK) -> None:
        """Run a command before the spectator's eyes. Raises `UnavailableError` when it ends otherwise than expected."""
        self.say(f"   $ nanoexec {' '.join(words)}")
        ended = subprocess.run(_command(*words), stdin=subprocess.DEVNULL, env=self._environment, check=False)
        if ended.returncode != expected:
            raise UnavailableError(f"nanoexec {words[0]}: exit status {ended.returncode}, expected {expected:d}")

    def do(self, *lines: Sequence[str]) -> list[str]:
        """Run commands behind the scene, all at once; gives what each printed. Raises `UnavailableError`."""
        printed = []
        with ExitStack() as stack:
            running = [stack.enter_context(self._behind_the_scene(words)) for words in lines]
            for words, process in zip(lines, running, strict=True):
                try:
                    output, complaint = process.communicate(timeout=PATIENCE)
                except subprocess.TimeoutExpired:
                    raise UnavailableError(f"nanoexec {words[0]}: no end within {PATIENCE:.0f} s") from None
                if process.returncode:
                    raise UnavailableError(f"nanoexec {words[0]}: {complaint.strip() or process.returncode}")
                printed.append(output)
        return printed

    def ask(self, *words: str) -> Any:
        """What a command answers in JSON."""
        return json.loads(self.do([*words, "-o", "json"])[0])

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        """Wait until it is ``done``. Raises `UnavailableError` when that takes too long, or when a daemon ends."""
        until = time.monotonic() + PATIENCE
        while not done():
            for daemon in self._daemons:
                if daemon.process.poll() is not None:
                    raise UnavailableError(f"{daemon.name} has ended with exit status {daemon.process.returncode}")
            if time.monotonic() > until:
                raise UnavailableError(f"{what}: not within {PATIENCE:.0f} s")
            time.sleep(LOOK_EVERY)

    def post_mortem(self) -> None:
        """Show the end of every daemon's log."""
        for daemon in self._daemons:
            self.say("", f"-- {daemon.name} ({daemon.log})", *(f"   {line}" for line in daemon.tail()))

    @contextmanager
    def _behind_the_scene(self, words: Sequence[str]) -> Iterator["subprocess.Popen[str]"]:
        process = subprocess.Popen(
            _command(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )
        with process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise


def run(nodes: int, *, keep: bool, out: TextIO) -> None:
    """Play the demo with so many nodes; with ``keep``, leave the directory for a look. SIGTERM ends it like Ctrl-C.

    Raises `UnavailableError` when something does not happen as it should, after showing the end of every log.
    """
    for number in _ENDING:
        signal.signal(number, signal.default_int_handler)
    if shutil.which(ACTION) is None:
        raise UnavailableError(f"there is no program {ACTION} on this machine (on Debian, the package procps has it)")
    root = Path(tempfile.mkdtemp(prefix="nx-"))
    stage = Stage(root, out)
    try:
        _check_room(stage)
        _play(stage, [f"node{number}" for number in range(1, nodes + 1)])
    except NanoexecError:
        stage.post_mortem()
        raise
    finally:
        for number in (signal.SIGINT, *_ENDING):
            signal.signal(number, signal.SIG_IGN)  # tidying up takes a moment, and must not be cut short
        stage.close()
        _leave(stage, keep=keep)


def _play(stage: Stage, names: Sequence[str]) -> None:
    began = time.monotonic()
    everyone = f"{len(names)} nodes" if len(names) > 1 else "1 node"
    stage.say(f"nanoexec demo: a hub and {everyone} on this machine, in {stage.root}", "")

    stage.say("1. The hub: a certificate authority, a certificate, two ports on loopback.")
    _open_hub(stage)
    stage.say("2. The nodes join with a token: each makes its own key, the hub signs it.")
    _join(stage, names)
    stage.say("3. Each node starts a runner, which executes, and an agent, which listens.")
    agents = _start_nodes(stage, names)
    stage.say("", "4. The main job: one named action, on every node, now.")
    stage.show("trigger", f"ALL:{ACTION}")

    away = names[-1]
    stage.say("", f"5. The agent of {away} is stopped, and the action is triggered again.")
    stage.stop(agents[away])
    stage.wait(f"{away} is away", lambda: away not in _connected(stage))
    stage.show("trigger", f"ALL:{ACTION}", expected=ExitCode.NO_ANSWER)

    trigger = _last_of(stage, away)["id"]
    stage.say("", f"6. {away} returns. It is offered what it has missed, and catches up.")
    _start_agent(stage, away)
    stage.wait(f"{away} has caught up", lambda: _last_of(stage, away).get("outcome") is not None)
    stage.show("show", trigger)
    _check_history(stage, names)
    stage.say(
        "", f"Every node ran both triggers, each exactly once. The demo took {time.monotonic() - began:.1f} seconds."
    )


def _open_hub(stage: Stage) -> None:
    stage.hub.etc.mkdir(parents=True)
    ports = "publish_port = 0\nreport_port = 0\njoin_port = 0\n"  # 0: any that is free
    stage.hub.hub_config.write_text(f'bind = "127.0.0.1"\n{ports}')
    stage.do(["hub", "init", "--name", HUB])
    stage.start("hub", "nanoexec", "hub", "serve")
    stage.wait("the hub serves", lambda: _answers(stage.hub.control_socket))


def _join(stage: Stage, names: Sequence[str]) -> None:
    ticket = stage.ask("hub", "token", "--uses", str(len(names)))
    where = f"127.0.0.1:{ticket['join_port']}"
    stage.do(
        *(
            ["agent", "join", where, ticket["token"], "--name", name, "--root", str(stage.node(name).root)]
            for name in names
        )
    )


def _start_nodes(stage: Stage, names: Sequence[str]) -> dict[str, Daemon]:
    for name in names:
        if os.geteuid() != 0:
            _run_as_myself(stage.node(name))
        stage.start(f"runner of {name}", "nanoexec.runner", "--root", str(stage.node(name).root))
    stage.wait("the runners serve", lambda: all(_answers(stage.node(name).runner_socket) for name in names))
    agents = {name: _start_agent(stage, name) for name in names}
    stage.wait("the nodes are connected", lambda: _connected(stage) == set(names))
    return agents


def _start_agent(stage: Stage, name: str) -> Daemon:
    return stage.start(f"agent of {name}", "nanoexec", "agent", "serve", "--root", str(stage.node(name).root))


def _run_as_myself(node: Paths) -> None:
    """The shipped action runs as nobody, and only root may switch: this node's own manifest says otherwise."""
    me = pwd.getpwuid(os.geteuid()).pw_name
    node.actions.mkdir(parents=True)
    (node.actions / f"{ACTION}.toml").write_text(f'name = "{ACTION}"\nuser = "{me}"\n')
    node.agent_config.write_text(f'user = "{me}"\n')


def _answers(path: Path) -> bool:
    """Whether somebody listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(OSError):
        probe.connect(str(path))
        return True
    return False


def _connected(stage: Stage) -> set[str]:
    """The nodes that are here and have told their actions."""
    return {node["name"] for node in stage.ask("nodes", "list") if node.get("connected") and node.get("actions")}


def _last_of(stage: Stage, node: str) -> dict[str, Any]:
    entries: list[dict[str, Any]] = stage.ask("history", "--node", node, "--limit", "1")
    return entries[0]


def _check_history(stage: Stage, names: Sequence[str]) -> None:
    """Two runs a node, no more and no fewer, each succeeded. Raises `UnavailableError`."""
    entries = stage.ask("history", "--action", ACTION, "--limit", "1000")
    ran = sorted(entry["node"] for entry in entries if entry.get("outcome") == "succeeded")
    if ran != sorted([*names, *names]) or len(entries) != len(ran):
        raise UnavailableError(f"the history says otherwise than it should: {entries}")


def _check_room(stage: Stage) -> None:
    """Raises `UnavailableError` when the temporary directory's name is too long for sockets."""
    sockets = (stage.node("node99").runner_socket, stage.hub.control_socket)
    if max(len(os.fsencode(path)) for path in sockets) > _SOCKET_LIMIT:
        raise UnavailableError(f"{stage.root}: too long a name for Unix sockets: set TMPDIR=/tmp")


def _command(*words: str) -> list[str]:
    return [*launch.command("nanoexec"), *words]


def _leave(stage: Stage, *, keep: bool) -> None:
    if keep:
        stage.say(f"Kept: {stage.root} (NANOEXEC_ROOT={stage.hub.root} for the hub's commands).")
        return
    # A run that was cut short has a supervisor of its own, which may be writing its last record at this moment.
    until = time.monotonic() + STOP_WITHIN
    while stage.root.exists() and time.monotonic() < until:
        shutil.rmtree(stage.root, ignore_errors=True)
