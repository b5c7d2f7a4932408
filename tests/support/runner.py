"""A node in a scratch directory: configuration, actions, a runner process, and the agent's side of its socket."""

import os
import pwd
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from nanoexec.config import Paths
from nanoexec.model import EVERY_NODE, Cause, Order, Run, Trigger, identifier
from nanoexec.runner.journal import Journal
from nanoexec.runner.process import this_process
from nanoexec.wire import stream
from nanoexec.wire.network import encode_trigger
from nanoexec.wire.runner import Reply, RunnerMessage, Start, Told, decode_reply

ME = pwd.getpwuid(os.geteuid()).pw_name
PATIENCE = 20.0
GATE = "echo $$ >> $LEDGER; while ! test -e $LEDGER.open; do sleep 0.01; done"  # a command that ends when it is let


def until(condition: Callable[[], Any], what: str = "") -> Any:
    """What ``condition`` gives once it is true."""
    deadline = time.monotonic() + PATIENCE
    while not (seen := condition()):
        assert time.monotonic() < deadline, f"never came true: {what or condition}"
        time.sleep(0.005)
    return seen


def make_order(action: str, **fields: Any) -> Order:
    """An unsigned order, a minute to live."""
    now = time.time()
    given = {"id": identifier(os.urandom(10)), "nodes": EVERY_NODE, "issued": now, "expires": now + 60, "by": "alice"}
    return Order(body=encode_trigger(Trigger(action=action, **(given | fields))))


def a_run(**fields: Any) -> Run:
    """A run whose supervisor is this very process."""
    me = this_process()
    run = Run(
        id=identifier(os.urandom(10)),
        action="uptime",
        cause=Cause.TRIGGER,
        by="alice",
        requested=100.0,
        boot=me.boot,
        supervisor=me.pid,
    )
    return replace(run, **fields)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process can open no file."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class Conversation:
    """An open connection to the runner, after one request."""

    def __init__(self, path: Path, message: RunnerMessage | bytes) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(path))
        with suppress(BrokenPipeError):  # a runner that is full answers and hangs up before it was asked
            self._socket.sendall(message if isinstance(message, bytes) else stream.encode(message))

    def next(self) -> Reply | None:
        """The next reply, None when the runner has closed."""
        header = self._exactly(stream.HEADER)
        return decode_reply(self._exactly(stream.length(header))) if header else None

    def run(self) -> Run:
        """The run of the next reply."""
        reply = self.next()
        assert isinstance(reply, Told), reply
        return reply.run

    def rest(self) -> list[Reply]:
        """All replies until the runner closes."""
        replies = []
        while reply := self.next():
            replies.append(reply)
        self.close()
        return replies

    def say_no_more(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                chunk = self._socket.recv(size - len(data))
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                return b""
            data += chunk
        return data


class Node:
    """One scratch root. ``ledger`` is where commands of the tests note that they ran, a line each time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = Paths(root=root)
        self.ledger = root / "ledger"
        self.runner: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._conversations: list[Conversation] = []
        self.paths.actions.mkdir(parents=True)
        self.configure()

    def configure(self, **keys: Any) -> None:
        """Write ``agent.toml``."""
        text = "\n".join(f"{key} = {msgspec.json.encode(value).decode()}" for key, value in keys.items())
        self.paths.agent_config.write_text(f'hub = "localhost"\nexec_user = "{ME}"\n{text}\n')

    def action(self, name: str, *command: str, more: str = "", **keys: Any) -> None:
        """Write a manifest. A single word is a shell script; ``$LEDGER`` in it is the ledger's path."""
        words = ["sh", "-c", command[0].replace("$LEDGER", str(self.ledger))] if len(command) == 1 else list(command)
        given = {"name": name, "command": words, "user": ME} | keys
        text = "\n".join(f"{key} = {msgspec.json.encode(value).decode()}" for key, value in given.items())
        (self.paths.actions / f"{name}.toml").write_text(f"{text}\n{more}\n")

    @property
    def notes(self) -> list[str]:
        """The lines of the ledger."""
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []

    def start(self, *arguments: str, prelude: str = "") -> "subprocess.Popen[str]":
        """A runner that accepts. ``prelude`` is Python that it executes first."""
        code = (
            f"import sys; {prelude or 'pass'}\nfrom nanoexec.runner.__main__ import main\nsys.exit(main(sys.argv[1:]))"
        )
        runner = subprocess.Popen(
            [sys.executable, "-c", code, "--root", str(self.root), *arguments], stderr=subprocess.PIPE, text=True
        )
        self.runner = runner
        threading.Thread(target=self._listen, args=(runner,), daemon=True).start()
        until(lambda: runner.poll() is not None or self._accepts(), "the runner accepts")
        return runner

    def stop(self) -> None:
        """End the runner, if there is one."""
        if self.runner and self.runner.poll() is None:
            self.runner.terminate()
            self.runner.wait(PATIENCE)

    def kill(self) -> None:
        """SIGKILL to the runner's parent alone."""
        assert self.runner
        self.runner.send_signal(signal.SIGKILL)
        self.runner.wait(PATIENCE)

    def logged(self, words: str) -> str:
        """The line of the runner's log with those words, once it is there."""
        return str(
            until(lambda: next((line for line in self._lines if words in line), ""), f"{words} in {self._lines}")
        )

    def let_go(self) -> None:
        """Let those commands end that wait for it (`GATE`)."""
        self.ledger.with_name("ledger.open").touch()

    def end(self) -> None:
        """Leave nothing behind but the directory."""
        self.let_go()
        self.stop()
        for conversation in self._conversations:
            conversation.close()

    def ask(self, message: RunnerMessage | bytes) -> Conversation:
        conversation = Conversation(self.paths.runner_socket, message)
        self._conversations.append(conversation)
        return conversation

    def begin(self, action: str, **fields: Any) -> Conversation:
        """A new order to the runner."""
        return self.ask(Start(order=make_order(action, **fields)))

    def carry_out(self, action: str, **fields: Any) -> Run:
        """A new order to the runner, to its end: the last that is told."""
        replies = self.begin(action, **fields).rest()
        assert replies
        assert isinstance(replies[-1], Told), replies
        return replies[-1].run

    @contextmanager
    def journal(self) -> Iterator[Journal]:
        with Journal.open(self.paths.journal) as journal:
            yield journal

    def find(self, identity: str) -> Run | None:
        with self.journal() as journal:
            return journal.find(identity)

    def ended(self, identity: str) -> Run:
        """The run in the journal, once it has an outcome."""

        def look() -> Run | None:
            run = self.find(identity)
            return run if run and run.outcome else None

        found = until(look, f"run {identity} ends")
        assert isinstance(found, Run)
        return found

    def _listen(self, runner: "subprocess.Popen[str]") -> None:
        assert runner.stderr
        with runner.stderr:
            self._lines.extend(iter(runner.stderr.readline, ""))

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.paths.runner_socket))
            except OSError:
                return False
        return True
