"""Hundreds of agents beside a real hub: `nanoexec.agent`'s own service over real TLS, fifty to a process.

A crowd joins by way of the store, as if it had long been there, and its runners are stand-ins that start nothing: each
writes a line to a file of its own the first time that it is given a trigger, and that file is the ledger against which
the hub's history is held. The processes of `crowd_nodes` are apart because whoever has opened an NNG socket must not
fork.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from nanoexec.config import Paths
from nanoexec.keys import ca, credentials
from nanoexec.model import FINAL, Credentials, identifier
from nanoexec.record import NodeJoined
from nanoexec.store import Store
from nanoexec.wire import control, stream
from tests.support.fleet import Fleet, wait_until

AT_ONCE: Final = 50  # agents to a process
HOUR: Final = 3600.0


class Member(msgspec.Struct, frozen=True):
    """A node that has joined, with its keys."""

    name: str
    credentials: Credentials


class Plan(msgspec.Struct, frozen=True):
    """What a process of `crowd_nodes` is told, as JSON in a file."""

    hub: str
    publish_port: int
    report_port: int
    directory: str
    ledger: str
    members: tuple[Member, ...]

    @property
    def urls(self) -> tuple[str, str]:
        return f"tls+tcp://127.0.0.1:{self.publish_port}", f"tls+tcp://127.0.0.1:{self.report_port}"


def enrol(fleet: Fleet, names: Sequence[str]) -> tuple[Member, ...]:
    """Put nodes on the roster of a hub that is down for this, and is up again after it."""
    fleet.hub.stop()
    paths = Paths(root=fleet.root)
    authority, now = credentials.load_ca(paths.hub_state), time.time()
    members, joined = [], []
    for name in names:
        key, id_ = ca.make_node_key(), identifier(os.urandom(10))
        certificate = ca.sign_request(authority, ca.make_request(key, name), name=name, key_id=id_, now=now)
        members.append(Member(name, Credentials(ca=authority.certificate, certificate=certificate, key=key)))
        joined.append(NodeJoined(name=name, key=id_, at=now))
    with contextlib.closing(Store.open(paths.hub_store)) as store:
        store.commit(joined)
    fleet.start_hub()
    return tuple(members)


def plan(fleet: Fleet, members: Sequence[Member], number: int = 0) -> Plan:
    return Plan(
        hub="localhost",
        publish_port=fleet.keys["publish_port"],
        report_port=fleet.keys["report_port"],
        directory=str(fleet.directory),
        ledger=str(fleet.directory / f"crowd{number}.ledger"),
        members=tuple(members),
    )


class Crowd:
    """The processes of all these members; a context manager."""

    def __init__(self, fleet: Fleet, members: Sequence[Member]) -> None:
        self._directory = fleet.directory
        self._plans = [
            plan(fleet, members[start : start + AT_ONCE], start) for start in range(0, len(members), AT_ONCE)
        ]
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        for place, each in enumerate(self._plans):
            file = self._directory / f"crowd{place}.json"
            file.write_bytes(msgspec.json.encode(each))
            with (self._directory / f"crowd{place}.log").open("ab") as log:
                words = [sys.executable, "-m", "tests.chaos.crowd_nodes", str(file)]
                self._processes.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    def starts(self) -> Counter[tuple[str, str]]:
        """How often each (trigger, node) was started, by the runners' own account."""
        lines = [line for each in self._plans for line in _lines(Path(each.ledger))]
        return Counter((trigger, node) for node, trigger in map(str.split, lines))

    def ups(self) -> list[float]:
        """Wall-clock times at which a link came up, in order."""
        return sorted(float(words[2]) for words in self._said() if words[0] == "link" and words[3] == "up")

    def redials(self, since: float) -> list[float]:
        """When each agent that dialled after this wall-clock time first did so, in order."""
        first: dict[str, float] = {}
        for words in self._said():
            if words[0] == "dial" and float(words[2]) >= since:
                first.setdefault(words[1], float(words[2]))
        return sorted(first.values())

    def _said(self) -> list[list[str]]:
        lines = [line.split() for place in range(len(self._plans)) for line in _lines(self._log(place))]
        return [words for words in lines if words[:1] in (["link"], ["dial"])]

    def _log(self, place: int) -> Path:
        return self._directory / f"crowd{place}.log"


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


# What an operator asks, without the cost of a command line for each question


def ask(root: Path, request: control.Request, within: float = 60.0) -> control.Reply:
    """The first reply of the hub whose root this is. Raises `OSError`, `TimeoutError`."""
    with contextlib.closing(replies(root, request, within)) as answers:
        return next(answers)


def replies(root: Path, request: control.Request, within: float) -> Iterator[control.Reply]:
    """Every reply; each must come within so many seconds."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(within)
        connection.connect(str(Paths(root=root).control_socket))
        connection.sendall(stream.encode(request))
        with connection.makefile("rb") as data:
            while header := data.read(stream.HEADER):
                yield control.decode_reply(data.read(stream.length(header)))
    raise ConnectionResetError("the hub hung up")


def submit(root: Path, target: str, *, action: str = "true", **arguments: str) -> control.Accepted:
    """Issue a trigger and do not wait for what comes of it."""
    wanted = control.Wanted(target=target, action=action, lifetime=HOUR, arguments=arguments)
    reply = ask(root, control.Submit(wanted=wanted, watch=False))
    assert isinstance(reply, control.Accepted), reply
    return reply


def round_trip(root: Path, target: str) -> float:
    """Seconds from a wish to the last of its results."""
    began = time.perf_counter()
    wanted = control.Wanted(target=target, action="true", lifetime=HOUR)
    with contextlib.closing(replies(root, control.Submit(wanted=wanted), 60.0)) as answers:
        waiting: set[str] = set()
        for reply in answers:
            if isinstance(reply, control.Accepted):
                waiting = set(reply.nodes)
            else:
                assert isinstance(reply, control.Progress), reply
                waiting -= {delivery.node for delivery in reply.deliveries if delivery.state in FINAL}
            if not waiting:
                break
    return time.perf_counter() - began


def status(root: Path) -> control.Status:
    reply = ask(root, control.AskStatus())
    assert isinstance(reply, control.Status), reply
    return reply


def states(root: Path, trigger: str) -> Counter[str]:
    """How many deliveries of a trigger are in which state."""
    reply = ask(root, control.Show(id=trigger))
    assert isinstance(reply, control.Shown), reply
    assert reply.trigger is not None, reply
    return Counter(str(delivery.state) for delivery in reply.trigger.deliveries)


def wait_connected(root: Path, count: int, within: float) -> None:
    def here() -> bool:
        with contextlib.suppress(OSError):
            return status(root).connected >= count
        return False

    wait_until(here, f"{count} nodes are connected", within, 0.1)


class Pulse:
    """Asks the hub for its status all the time, from a thread: a context manager.

    ``worst`` is the longest that an answer took, in seconds, from the moment that the socket took the question;
    ``unanswered`` are the questions that a hub took and left without an answer: none but when it was killed over them.
    """

    def __init__(self, root: Path, every: float = 0.05) -> None:
        self.took: list[float] = []
        self.unanswered = 0
        self.refused = 0.0  # seconds in which nobody listened
        self._root = root
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def worst(self) -> float:
        return max(self.took, default=0.0)

    def _beat(self) -> None:
        while not self._over.is_set():
            began = time.perf_counter()
            try:
                ask(self._root, control.AskStatus())
            except (ConnectionRefusedError, FileNotFoundError):
                self._over.wait(self._every)
                self.refused += time.perf_counter() - began
                continue
            except OSError:
                self.unanswered += 1
            else:
                self.took.append(time.perf_counter() - began)
            self._over.wait(self._every)


def descriptors(pid: int) -> int:
    """How many a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def pid_of(fleet: Fleet) -> int:
    """The hub's process."""
    assert fleet.hub.process is not None
    return fleet.hub.process.pid


def all_final(root: Path, triggers: Sequence[str]) -> Callable[[], Any]:
    """Whether nothing is open any more; cheap while something is."""
    names = {str(state) for state in FINAL}
    return lambda: status(root).open_deliveries == 0 and all(set(states(root, one)) <= names for one in triggers)
