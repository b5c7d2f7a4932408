"""Every write of journal and store, each with a death right before it and right after it.

For each point there is something here that makes a process come to it. A point that `faulty` finds in the source and
that has nothing here is a write that was added and not thought of: the tests fail with its name.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from nanoexec.wire import control
from tests.chaos import faulty
from tests.chaos.fleet_of_processes import ChaosNode, FleetOfProcesses, launched
from tests.chaos.processes_people import People
from tests.support.cron import ScheduledNode, from_shell
from tests.support.fleet import answers, free_ports, wait_until

DYING: Final = 60.0  # seconds within which a process has come to its point
AGAIN: Final = 1.0  # seconds after which it is provoked again: a race may have been lost
_PRELUDE: Final = "from tests.chaos.faulty import install; install()"


class Writes:
    """Dies at each write of a fleet that has one node. The comparison with the ledger is the campaign's."""

    def __init__(self, fleet: FleetOfProcesses, people: People) -> None:
        self._fleet = fleet
        self._people = people
        (self._node,) = fleet.chaos_nodes()
        self._fresh = 0
        hub, runner = self._at_the_hub, self._at_the_runner
        self._ways: dict[str, Callable[[str], None]] = {
            "Glance.note_skip": self._at_a_slot,
            "Glance.remember": self._at_a_slot,
            "Journal.admit": runner(self._plain),
            "Journal.call_off": runner(self._cancel_what_waits),
            "Journal.finish": runner(self._plain),
            "Journal.note_cancellation": runner(self._cancel_what_runs),
            "Journal.note_pid": runner(self._slow),
            "Journal.open": self._at_a_new_journal,
            "Journal.prune": runner(lambda: None),
            "Journal.start": runner(self._two_slow),
            "Store.commit DeliveryCancelled": hub(self._cancel_what_runs),
            "Store.commit DeliveryMoved": hub(self._plain),
            "Store.commit NodeHeard": hub(self._come_anew),
            "Store.commit NodeJoined": hub(self._join),
            "Store.commit NodeRevoked": hub(self._revoke),
            "Store.commit RunReported": hub(self._plain),
            "Store.commit TokenMade": hub(lambda: fleet.ask(control.MakeToken(lifetime=60.0))),
            "Store.commit TokenUsed": hub(self._join),
            "Store.commit TriggerIssued": hub(self._plain),
            "Store.forget_tokens": self._at_a_restore,
            "Store.purge_some": hub(lambda: None),
            "prepare": self._at_a_new_hub,
        }

    def die(self, point: str, when: str) -> None:
        """Have a process die there, and all come back."""
        assert point in self._ways, f"nothing here makes a process come to {point}: a new write? add what leads to it"
        self._ways[point](f"{point}.{when}")

    # Where

    def _at_the_hub(self, provoke: Callable[[], Any]) -> Callable[[str], None]:
        def die(point: str) -> None:
            self._fleet.hub.stop()
            self._fleet.hub.start(NANOEXEC_FAULT=f"{point}:1")
            self._until_dead(point, provoke)
            wait_until(lambda: self._fleet.hub.pid is None, f"the hub is dead at {point}")
            self._fleet.start_hub()
            self._fleet.wait_here("node1")

        return die

    def _at_the_runner(self, provoke: Callable[[], Any]) -> Callable[[str], None]:
        def die(point: str) -> None:
            self._restart(self._node, NANOEXEC_FAULT=f"{point}:1")
            self._until_dead(point, provoke)
            self._restart(self._node)

        return die

    def _restart(self, node: ChaosNode, **environment: str) -> None:
        node.runner.stop()
        node.runner.start(**environment)
        wait_until(lambda: answers(node.socket), f"{node.name}'s runner listens")

    def _until_dead(self, point: str, provoke: Callable[[], Any]) -> None:
        end = time.monotonic() + DYING
        again = 0.0
        while not self._has_died(point):
            now = time.monotonic()
            assert now < end, f"nobody came to {point}"
            if now >= again:
                provoke()
                again = time.monotonic() + AGAIN
            time.sleep(0.02)

    def _has_died(self, point: str) -> bool:
        return any(" ".join(rest) == point for _, *rest in self._fleet.fault_lines("dead"))

    # What leads there

    def _plain(self) -> None:
        self._people.submit("node1", "plain")

    def _slow(self) -> None:
        self._people.submit("node1", "slow")

    def _two_slow(self) -> None:
        self._slow()
        self._slow()

    def _cancel_what_runs(self) -> None:
        id_ = self._people.submit("node1", "slow")
        if id_ and self._seen(id_):
            self._people.cancel(id_)

    def _cancel_what_waits(self) -> None:
        self._slow()
        id_ = self._people.submit("node1", "slow")
        if id_ and self._seen(id_):
            self._people.cancel(id_)

    def _seen(self, id_: str) -> bool:
        """Whether the node has it, in a while."""
        end = time.monotonic() + AGAIN
        while time.monotonic() < end:
            shown = self._fleet.ask(control.Show(id=id_))
            if isinstance(shown, control.Shown) and shown.trigger:
                (delivery,) = shown.trigger.deliveries
                if delivery.state in ("acknowledged", "running"):
                    return True
            time.sleep(0.02)
        return False

    def _come_anew(self) -> None:
        self._node.agent.stop()
        self._node.agent.start()

    def _join(self) -> None:
        """A machine that will never be a target. If the hub dies it tries again, with a token of its own."""
        self._fresh += 1
        name = f"fresh{self._fresh}"
        made = self._fleet.ask(control.MakeToken(lifetime=600.0, node=name))
        if isinstance(made, control.TokenText):
            root = self._fleet.directory / name
            self._fleet.run(
                "agent",
                "join",
                f"localhost:{self._fleet.join_port}",
                made.token,
                "--name",
                name,
                root=root,
                check=False,
            )

    def _revoke(self) -> None:
        self._join()
        self._fleet.ask(control.Revoke(node=f"fresh{self._fresh}"))

    # On scratch machines

    def _at_a_new_journal(self, point: str) -> None:
        root = self._scratch()
        node = ScheduledNode(root)
        for count in (1, 2):  # the tables, the id
            words = [sys.executable, "-m", "tests.chaos.faulty", "nanoexec.run", "--root", str(root), "probe"]
            assert self._run(words, NANOEXEC_FAULT=f"{point}:{count}").returncode == -signal.SIGKILL
            assert node.notes == [], "nothing runs that is not in the journal"
        node.local()
        assert node.notes == ["triggered"]

    def _at_a_slot(self, point: str) -> None:
        """Whatever happens before it has decided: the shell runs the original, once."""
        node = ScheduledNode(self._scratch())
        node.install(_PRELUDE)
        command = node.note()
        node.local()
        environment = self._environment(NANOEXEC_FAULT=f"{point}:1")
        from_shell(command, env=environment | {"SHELL": "/bin/sh", "LOGNAME": "root", "PATH": "/usr/bin:/bin"})
        assert self._has_died(point)
        assert node.notes == ["triggered", "original"]
        from_shell(command)
        assert node.notes == ["triggered", "original"], "this one is skipped"

    def _at_a_restore(self, point: str) -> None:
        fleet, root = self._fleet, self._scratch()
        backup = root / "backup"
        fleet.run("hub", "backup", str(backup))
        words = [
            sys.executable,
            "-m",
            "tests.chaos.faulty",
            "nanoexec",
            "hub",
            "restore",
            "--root",
            str(root),
            str(backup),
        ]
        assert self._run(words, NANOEXEC_FAULT=f"{point}:1").returncode == -signal.SIGKILL
        fleet.run("hub", "restore", str(backup), root=root)

    def _at_a_new_hub(self, point: str) -> None:
        root = self._scratch()
        self._fleet.run("hub", "init", "--name", "localhost", root=root)
        publish, report, join = free_ports(3)
        (root / "etc/nanoexec/hub.toml").write_text(
            f'bind = "127.0.0.1"\npublish_port = {publish}\nreport_port = {report}\njoin_port = {join}\n'
        )
        words = [sys.executable, "-m", "tests.chaos.faulty", "nanoexec.hub", "--root", str(root)]
        assert self._run(words, NANOEXEC_FAULT=f"{point}:1").returncode == -signal.SIGKILL
        process = subprocess.Popen(words, env=self._environment(), stderr=subprocess.DEVNULL)
        self._fleet.by_hand.append(process)
        try:
            wait_until(lambda: answers(root / "run/nanoexec/hub/control.sock"), "the new hub answers")
        finally:
            process.terminate()
            status = process.wait()
        assert status == 0

    def _scratch(self) -> Path:
        self._fresh += 1
        root = self._fleet.directory / f"s{self._fresh}"
        root.mkdir()
        return root

    def _run(self, words: list[str], **environment: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(words, env=self._environment(**environment), capture_output=True, timeout=60, check=False)

    def _environment(self, **more: str) -> dict[str, str]:
        return os.environ | launched(self._fleet.faults) | more


def all_deaths() -> list[tuple[str, str]]:
    """Each point, before and after."""
    return [(point, when) for point in sorted(faulty.points()) for when in faulty.WHENS]
