"""What is done to the processes of a fleet. Each thing that is done is counted, and only if it was.

Everything has something that undoes it, due some time later: nothing is left broken at the end, when all has to come to
rest by itself. What waits for a process to come to a write is counted by the faults' own log, when it has happened.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Final

from tests.chaos import faulty
from tests.chaos.agenda import Agenda
from tests.chaos.figures import Figures
from tests.chaos.fleet_of_processes import ChaosNode, Disk, FaultyService, FleetOfProcesses
from tests.chaos.process_tree import children, hit
from tests.chaos.processes_faults import FaultLog
from tests.chaos.processes_ledger import KINDS
from tests.chaos.processes_people import People

# To which writes a campaign is sure to come soon, and up to the how-manieth time. The others: see processes_writes.
AT_A_NODE: Final = {
    "Journal.admit": 3,
    "Journal.call_off": 1,
    "Journal.finish": 3,
    "Journal.note_cancellation": 1,
    "Journal.note_pid": 1,
    "Journal.prune": 1,
    "Journal.start": 1,
}
AT_THE_HUB: Final = {
    "Store.commit DeliveryCancelled": 1,
    "Store.commit DeliveryMoved": 3,
    "Store.commit NodeHeard": 2,
    "Store.commit RunReported": 3,
    "Store.commit TriggerIssued": 2,
    "Store.purge_some": 1,
}
_NEED_DISKS: Final = {"disk full", "disk full for long", "read-only database"}
_RESPITE: Final = 0.3  # seconds after which whoever died is started again, as systemd does
_AT_THE_HUB: Final = 0.2  # of the faults that may as well be a node's: without it nothing is triggered
# It costs all agents a link, and each time they wait longer for the next, until one has lasted a minute. So there is a
# time for what befalls the hub, and then it is left in peace. Seconds.
_TROUBLE, _PEACE = 15.0, 65.0
_MOST_AT_ONCE: Final = 8
_THERE, _SPARED = 0.8, 4.0  # seconds until who was started anew can be asked for something, and may be killed again
_LONG: Final = 6.0  # seconds; by then a supervisor has only its longest pause left
_AGAIN, _TRIES = 0.1, 20  # seconds between looks whether a node runs something, and how often


class Mischief:
    """Whatever can be done to a fleet; `ways` are all of it, each as often as it shall be drawn."""

    def __init__(self, fleet: FleetOfProcesses, people: People, chance: Random, figures: Figures) -> None:
        self.agenda = Agenda()
        self.starved: set[str] = set()  # nodes that had no descriptors for a while
        self._fleet = fleet
        self._people = people
        self._chance = chance
        self._figures = figures
        self._done: Counter[str] = Counter()
        self._away: set[FaultyService] = set()  # who is down, and will be started by what is due
        self._spared: set[FaultyService] = set()  # who is to come to a write first
        self._hurt: set[Disk] = set()
        self._first_trouble = 0.0  # steady time
        self._hub_was_killed_in: int | None = None  # which of these times

    def ways(self) -> list[Callable[[], bool]]:
        """Each says whether it was done: there may be nobody to whom it could be."""
        often = (*(self._kill_supervisor,) * 4, *(self._die_at_a_write,) * 3, self._err_at_a_write)
        sometimes = (self._kill_hub, self._stop_a_service, self._stop_a_supervisor, self._starve) * 2
        now_and_then = (
            *(self._kill_agent, self._kill_runner, self._kill_orphan, self._kill_by_hand, self._kill_command),
            *(self._restart, self._fill_disk, self._fill_disk_for_long, self._read_only, self._slow_disk),
        )
        return [*often, *sometimes, *now_and_then]

    def missing(self) -> set[str]:
        """Kinds that never happened, and could have. After `tally`."""
        kinds = {
            *("hub killed", "agent killed", "runner killed", "supervisor killed", "orphaned supervisor killed"),
            *("run by hand killed", "command killed", "death at a write", "error at a write", "restart"),
            *("service stopped", "supervisor stopped", "few descriptors", "slow disk", *_NEED_DISKS),
        }
        return {kind for kind in kinds if not self._done[kind]} - (set() if any(self._fleet.disks()) else _NEED_DISKS)

    def tally(self) -> None:
        """Count what had to wait for somebody to come to it, by what the faults' log says that happened."""
        log = FaultLog(self._fleet.fault_lines)
        self._count("death at a write", len(log.dead()))
        self._count("error at a write", len(log.errors()))
        self._count("slow disk", len(log.slowed()))
        self._count("disk full for long", len(log.persisted()))

    def revive(self) -> None:
        """As systemd would: who ended by itself is started again."""
        for service in self._fleet.services():
            if service.pid is None and service not in self._away:
                self._figures.add("restarts")
                self._away.add(service)
                self.agenda.later(_RESPITE, lambda service=service: self._start(service))  # type: ignore[misc]

    def _count(self, kind: str, times: int = 1) -> bool:
        if times:
            self._done[kind] += times
            self._figures.count(kind, times)
        return True

    # Whom

    def _node(self) -> ChaosNode:
        return self._chance.choice(self._fleet.chaos_nodes())

    def _somebody(self) -> FaultyService:
        return self._chance.choice(list(self._fleet.services()))

    def _one_of(self, supervisors: Sequence[int]) -> int | None:
        """As often as not one whose command is there."""
        busy = [pid for pid in supervisors if children(pid)] if self._chance.random() < 0.5 else []
        return self._chance.choice(busy or supervisors) if supervisors else None

    # Kill

    def begin(self, seconds: float) -> None:
        """It will last so long. Of a short time half is left to the nodes: after it hardly anything is triggered."""
        self._first_trouble = time.monotonic() + min(_PEACE, seconds / 2)

    def _trouble(self) -> int | None:
        """Whether it is a time for what befalls the hub, and which."""
        number, into = divmod(time.monotonic() - self._first_trouble, _TROUBLE + _PEACE)
        return int(number) if number >= 0 and into < _TROUBLE else None

    def _picks_hub(self) -> bool:
        return self._trouble() is not None and self._chance.random() < _AT_THE_HUB

    def _kill_hub(self) -> bool:
        """Once each time, and then as often as agents were killed since the last."""
        trouble = self._trouble()
        if trouble is None or trouble == self._hub_was_killed_in or not self._kill("hub killed", self._fleet.hub):
            return False
        self._hub_was_killed_in = trouble
        due = 0.0
        for _ in range(min(self._done["agent killed"] - self._done["hub killed"], _MOST_AT_ONCE)):
            due += self._chance.uniform(1.0, 2.0)
            self.agenda.later(due, lambda: self._kill("hub killed", self._fleet.hub), needed=False)
        return True

    def _kill_agent(self) -> bool:
        return self._kill("agent killed", self._node().agent)

    def _kill_runner(self) -> bool:
        return self._kill("runner killed", self._node().runner)

    def _kill(self, kind: str, service: FaultyService, **environment: str) -> bool:
        """It is started again in a while, at once if it is only to have another environment."""
        if not self._is_there(service):
            return False
        self._away.add(service)
        service.kill()
        down = 0.0 if environment else self._chance.uniform(0.0, 1.5)
        self.agenda.later(down, lambda: self._start(service, **environment))
        return self._count(kind)

    def _is_there(self, service: FaultyService) -> bool:
        """And may end now."""
        return service.pid is not None and service not in self._away | self._spared

    def _start(self, service: FaultyService, **environment: str) -> None:
        self._away.discard(service)
        if service.pid is None:
            service.start(**environment)

    def _kill_supervisor(self) -> bool:
        pid = self._one_of(self._fleet.supervisors())
        if pid is None:
            return False
        return self._kill_process("supervisor killed" if children(pid) else "child of a runner killed", pid)

    def _kill_orphan(self) -> bool:
        """A supervisor that has outlived its runner."""
        busy = [node for node in self._fleet.chaos_nodes() if any(map(children, children(node.runner.pid)))]
        if busy and not self._fleet.orphans():
            self._kill("runner killed", self._chance.choice(busy).runner)
        pid = self._one_of(self._fleet.orphans())
        return pid is not None and self._kill_process("orphaned supervisor killed", pid)

    def _kill_by_hand(self) -> bool:
        pid = self._one_of([process.pid for process in self._fleet.by_hand])
        if pid is None:
            self._people.run_by_hand()  # for the next time
            return False
        return self._kill_process("run by hand killed", pid)

    def _kill_command(self) -> bool:
        commands = self._fleet.commands()
        return bool(commands) and self._kill_process("command killed", self._chance.choice(commands))

    def _kill_process(self, kind: str, pid: int) -> bool:
        self._fleet.killed.add(pid)
        return hit(pid, SIGKILL) and self._count(kind)

    # Stop and starve

    def _restart(self) -> bool:
        service = self._somebody()
        if not self._is_there(service):
            return False
        service.signal(SIGCONT)
        service.stop(SIGTERM)
        service.start()
        return self._count("restart")

    def _stop_a_service(self) -> bool:
        service = self._somebody()
        if not service.signal(SIGSTOP):
            return False
        self.agenda.later(self._chance.uniform(0.2, 3.0), lambda: service.signal(SIGCONT))
        return self._count("service stopped")

    def _stop_a_supervisor(self) -> bool:
        pid = self._one_of([*self._fleet.supervisors(), *(process.pid for process in self._fleet.by_hand)])
        if pid is None or not hit(pid, SIGSTOP):
            return False
        self.agenda.later(self._chance.uniform(0.2, 3.0), lambda: hit(pid, SIGCONT))
        return self._count("supervisor stopped")

    def _starve(self) -> bool:
        """EMFILE, of the very next open or a little later; runners the most, for what they fork has to do without."""
        node = self._node()
        service = self._chance.choice([self._somebody(), node.runner])
        if not service.limit(self._chance.choice([0, 1, 2, 3, 4, 4, 5, 5, 6])):
            return False
        self.starved |= {each.name for each in self._fleet.chaos_nodes() if each.runner is service}
        self.agenda.later(self._chance.uniform(0.2, 2.0), lambda: service.limit(None))
        return self._count("few descriptors")

    # Writes and disks

    def _die_at_a_write(self) -> bool:
        return self._fail_at_a_write(faulty.DIE)

    def _err_at_a_write(self) -> bool:
        return self._fail_at_a_write(faulty.ERROR)

    def _fail_at_a_write(self, how: str) -> bool:
        """The next one of a kind that this process, or a child of it, comes to; and there is a reason to come to it."""
        here = self._fleet.here()
        nodes = [node for node in self._fleet.chaos_nodes() if node.name in here]
        if not nodes:
            return False
        node, hubs = self._chance.choice(nodes), self._picks_hub()
        point, most = self._chance.choice(list((AT_THE_HUB if hubs else AT_A_NODE).items()))
        fault = f"{point}.{self._chance.choice(faulty.WHENS)}:{self._chance.randint(1, most)}:{how}"
        kind, service = ("hub killed", self._fleet.hub) if hubs else ("runner killed", node.runner)
        if not self._kill(kind, service, NANOEXEC_FAULT=fault):
            return False
        self._spared.add(service)
        self.agenda.later(_SPARED, lambda: self._spared.discard(service))
        take_back = point.endswith(("Cancelled", "call_off", "note_cancellation"))
        self.agenda.later(_THERE, lambda: self._lead_there(node, take_back=take_back), needed=False)
        return True

    def _lead_there(self, node: ChaosNode, *, take_back: bool) -> None:
        """One run, and one that waits for it."""
        for id_ in [self._people.submit(node.name, "slow") for _ in range(2)]:
            if id_ and take_back:
                self.agenda.later(0.3, lambda id_=id_: self._people.cancel(id_), needed=False)  # type: ignore[misc]

    def _slow_disk(self) -> bool:
        slow = f"{self._chance.uniform(0.02, 0.3):.3f}"
        if self._picks_hub():
            return self._kill("hub killed", self._fleet.hub, NANOEXEC_FAULT_SLOW=slow)
        return self._kill("runner killed", self._node().runner, NANOEXEC_FAULT_SLOW=slow)

    def _fill_disk(self) -> bool:
        disks = list(self._fleet.disks())
        return bool(disks) and self._fill(self._chance.choice(disks), self._chance.uniform(0.5, 4.0))

    def _fill_disk_for_long(self) -> bool:
        """A node's, and for so long that a supervisor asks again and again; there are runs that will end meanwhile."""
        here = self._fleet.here()
        nodes = [node for node in self._fleet.chaos_nodes() if node.disk and node.name in here]
        nodes = [node for node in nodes if node.disk not in self._hurt]
        if not nodes:
            return False
        node = self._chance.choice(nodes)
        if not all(self._people.submit(node.name, action) for action in KINDS):
            return False
        self._fill_once_busy(node, _TRIES)
        return True

    def _fill_once_busy(self, node: ChaosNode, tries: int) -> None:
        if node.disk and any(map(children, children(node.runner.pid))):
            self._fill(node.disk, _LONG)
        elif tries:
            self.agenda.later(_AGAIN, lambda: self._fill_once_busy(node, tries - 1), needed=False)

    def _fill(self, disk: Disk, seconds: float) -> bool:
        if disk in self._hurt:
            return False
        self._hurt.add(disk)
        for _ in range(2):  # somebody may write meanwhile
            for node in self._fleet.chaos_nodes():
                if node.disk is disk:
                    node.cut_log()
            disk.fill()
        self.agenda.later(seconds, lambda: self._mend(disk, disk.empty))
        return self._count("disk full")

    def _read_only(self) -> bool:
        """The file system of a node, or of the hub, which then cannot start."""
        disks = [disk for disk in self._fleet.disks() if disk not in self._hurt]
        hubs = [disk for disk in disks if disk is self._fleet.hub_disk and self._picks_hub()]
        nodes = [disk for disk in disks if disk is not self._fleet.hub_disk]
        if not (hubs or nodes):
            return False
        disk = self._chance.choice(hubs or nodes)
        if disk is self._fleet.hub_disk and not self._kill("hub killed", self._fleet.hub):
            return False
        if not disk.read_only():
            return False
        self._hurt.add(disk)
        self.agenda.later(self._chance.uniform(0.5, 3.0), lambda: self._mend(disk, disk.writable))
        return self._count("read-only database")

    def _mend(self, disk: Disk, mend: Callable[[], object]) -> None:
        self._hurt.discard(disk)
        mend()
