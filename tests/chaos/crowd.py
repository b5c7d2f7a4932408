"""Hundreds of agents beside a real hub: `nanoexec.agent`'s own service over real TLS, fifty to a process.

A crowd joins by way of the store, as if it had long been there, and its runners are stand-ins that start nothing: each
writes a line to a file of its own the first time that it is given a trigger, and that file is the ledger against which
the hub's history is held. The processes of `crowd_nodes` are apart because whoever has opened an NNG socket must not
fork.
"""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from nanoexec.agent.service import LAST_BACKOFF
from nanoexec.config import Paths
from nanoexec.keys import ca, credentials
from nanoexec.model import Credentials, identifier
from nanoexec.record import NodeJoined
from nanoexec.store import Store
from tests.chaos.companion import Companion
from tests.support.fleet import Fleet

AT_ONCE: Final = 50  # agents to a process


class Member(msgspec.Struct, frozen=True):
    """A node that has joined, with its keys."""

    name: str
    credentials: Credentials


class Plan(msgspec.Struct, frozen=True):
    """What a process of `crowd_nodes` is told, as JSON in a file. ``patience``: the seconds that a pause may last."""

    hub: str
    publish_port: int
    report_port: int
    directory: str
    ledger: str
    members: tuple[Member, ...]
    patience: float = LAST_BACKOFF

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


def plan(
    fleet: Fleet,
    members: Sequence[Member],
    name: str = "crowd",
    *,
    ports: tuple[int, int] | None = None,
    patience: float = LAST_BACKOFF,
) -> Plan:
    """``ports`` are those of a way to the hub, if it is not the straight one."""
    publish, report = ports or (fleet.keys["publish_port"], fleet.keys["report_port"])
    return Plan(
        hub="localhost",
        publish_port=publish,
        report_port=report,
        directory=str(fleet.directory),
        ledger=str(fleet.directory / f"{name}.ledger"),
        members=tuple(members),
        patience=patience,
    )


class Crowd:
    """The processes of all these members; a context manager. ``name`` is for their files, all the rest for `plan`."""

    def __init__(self, fleet: Fleet, members: Sequence[Member], name: str = "crowd", **way: Any) -> None:
        self._directory = fleet.directory
        self._plans = {
            f"{name}{start}": plan(fleet, members[start : start + AT_ONCE], f"{name}{start}", **way)
            for start in range(0, len(members), AT_ONCE)
        }
        self._processes: list[Companion] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for part, each in self._plans.items():
                file = self._directory / f"{part}.json"
                file.write_bytes(msgspec.json.encode(each))
                with self._log(part).open("ab") as log:
                    process = Companion("tests.chaos.crowd_nodes", str(file), output=log)
                stack.callback(process.end)
                self._processes.append(process)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def starts(self) -> Counter[tuple[str, str]]:
        """How often each (trigger, node) was started, by the runners' own account."""
        lines = [line for each in self._plans.values() for line in _lines(Path(each.ledger))]
        return Counter((trigger, node) for node, trigger in map(str.split, lines))

    def ups(self) -> list[float]:
        """Wall-clock times at which a link came up, in order."""
        return sorted(float(words[2]) for words in self._said() if words[0] == "link" and words[3] == "up")

    def breaks(self) -> list[str]:
        """Whose link went down after it had been up, as often as that."""
        up, broken = set(), []
        for _, name, _, how in (words for words in self._said() if words[0] == "link"):
            if how == "up":
                up.add(name)
            elif name in up:
                broken.append(name)
        return broken

    def redials(self, since: float) -> list[float]:
        """When each agent that dialled after this wall-clock time first did so, in order."""
        first: dict[str, float] = {}
        for words in self._said():
            if words[0] == "dial" and float(words[2]) >= since:
                first.setdefault(words[1], float(words[2]))
        return sorted(first.values())

    def _said(self) -> list[list[str]]:
        lines = [line.split() for part in self._plans for line in _lines(self._log(part))]
        return [words for words in lines if words[:1] in (["link"], ["dial"])]

    def _log(self, part: str) -> Path:
        return self._directory / f"{part}.log"


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def pid_of(fleet: Fleet) -> int:
    """The hub's process."""
    assert fleet.hub.process is not None
    return fleet.hub.process.pid
