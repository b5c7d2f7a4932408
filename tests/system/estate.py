"""A hub and three nodes that run the packages as built for their suites, and what tests ask of them.

The nodes offer the action ``mark``, whose command writes the ledger: one line for each start, on the disk before
anything else happens. What nanoexec tells of runs is compared with that.
"""

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from tests.support.fleet import wait_until
from tests.system.machines import Machine

KEPT: Final = "estate"  # the name of the disks' copies
OFTEN: Final = 0.2  # seconds between two questions to the hub: each is a process
PATIENCE: Final = 120.0  # seconds until a node that was cut off is back: it dials anew after a pause that grows
INSTALL_WITHIN: Final = 300.0
LEDGER: Final = "/srv/ledger"
CRONTAB: Final = "/etc/cron.d/mark"
GATE: Final = "/srv/gate"
MARK: Final = f"""#!/bin/sh
# A line for this start; then, with an argument, wait until there is a file of that name.
echo "${{NANOEXEC_TRIGGER_ID:-original}}" >> {LEDGER}
sync {LEDGER}
[ $# -eq 0 ] || until [ -e "$1" ]; do sleep 0.1; done
echo "marked${{1:+ and waited}}"
"""
MANIFEST: Final = """\
name = "mark"
command = ["/usr/local/bin/mark"]
on_busy = "wait"
[arguments.until]
argv = ["{}"]
"""
INSTALL: Final = ("apt-get", "install", "-y", "-q", "--no-install-recommends")
# Executed on a node, as its root.
JOURNAL: Final = """
import json, sqlite3
journal = sqlite3.connect("/var/lib/nanoexec/journal/journal.db")
journal.row_factory = sqlite3.Row
columns = "id, action, cause, started, ended, outcome, reason"
runs = [dict(row) for row in journal.execute(f"SELECT {columns} FROM runs ORDER BY admitted")]
(whole,) = journal.execute("PRAGMA integrity_check").fetchone()
print(json.dumps({"runs": runs, "integrity": whole}))
"""


class Estate:
    """The four machines. ``hub`` is one of them, ``nodes`` are the others by name."""

    def __init__(self, machines: Iterable[Machine]) -> None:
        self.machines = {machine.name: machine for machine in machines}
        self.hub = self.machines["hub"]
        self.nodes = {name: machine for name, machine in self.machines.items() if name != "hub"}

    def build(self, packages: dict[str, Sequence[Path]]) -> None:
        """Install everything on machines that are as new, join the nodes, and keep the disks; ``packages`` by machine.

        The machines are off afterwards.
        """
        each(self.machines.values(), Machine.fresh)
        each(self.machines.values(), lambda machine: install(machine, packages[machine.name]))
        # Nodes that vanish are noticed in three intervals.
        self.hub.put("beacon_interval = 2.0\n" + self.hub.get("/etc/nanoexec/hub.toml"), "/etc/nanoexec/hub.toml")
        self.hub.run("nanoexec", "hub", "init", "--name", "hub")
        self.wait_hub()
        token = self.hub.run("nanoexec", "hub", "token", "--uses", str(len(self.nodes)))
        for node in self.nodes.values():
            node.put(MARK, "/usr/local/bin/mark", mode=0o755)
            node.put(MANIFEST, "/etc/nanoexec/actions.d/mark.toml")
            node.put("", LEDGER)
            node.run("nanoexec", "agent", "join", "hub:4446", "-", stdin=token)
        self.wait_connected(*self.nodes)
        each(self.machines.values(), lambda machine: machine.keep(KEPT))

    def restore(self) -> None:
        """Boot all machines from the disks as ``build`` has kept them, and wait until the nodes are at the hub."""
        self.hub.fresh(KEPT)
        self.wait_hub()  # first: a node that dials a hub which is not there yet gives up after 10 s
        each(self.nodes.values(), lambda node: node.fresh(KEPT))
        self.wait_connected(*self.nodes)

    def wait_hub(self) -> None:
        """Wait until the hub answers its operators, and hears itself: before that the doctor has a warning for it."""

        def hears_itself() -> bool:
            done = self.hub.attempt("nanoexec", "hub", "status", "-o", "json")
            return done.returncode == 0 and json.loads(done.stdout)["heard"] is not None

        wait_until(hears_itself, "the hub", PATIENCE, OFTEN)

    def roster(self) -> dict[str, Any]:
        """The nodes as the hub has them, by name; none while it does not answer."""
        done = self.hub.attempt("nanoexec", "nodes", "list", "-o", "json")
        return {node["name"]: node for node in json.loads(done.stdout)} if done.returncode == 0 else {}

    def connected(self) -> set[str]:
        """Nodes that are at the hub and have said what they offer."""
        return {name for name, node in self.roster().items() if node.get("connected") and node.get("actions")}

    def wait_connected(self, *names: str) -> None:
        """Wait until these nodes are at the hub."""
        wait_until(lambda: set(names) <= self.connected(), f"{names} are at the hub", PATIENCE, OFTEN)

    def wait_away(self, name: str) -> None:
        """Wait until the hub has noticed that a node has gone."""
        wait_until(lambda: name not in self.connected(), f"the hub misses {name}", PATIENCE, OFTEN)

    def trigger(self, what: str, *words: str, status: int = 0) -> dict[str, Any]:
        """Trigger and wait; the deliveries by node."""
        said = self.hub.run("nanoexec", "trigger", what, "-o", "json", *words, status=status, timeout=PATIENCE)
        return {delivery["node"]: delivery for delivery in json.loads(said)["deliveries"]}

    def issue(self, what: str, *words: str) -> str:
        """Trigger without waiting; the id."""
        return str(json.loads(self.hub.run("nanoexec", "trigger", what, "--no-wait", "-o", "json", *words))["trigger"])

    def shown(self, trigger: str) -> dict[str, Any]:
        """The deliveries of a trigger as the hub has them now, by node."""
        document = json.loads(self.hub.run("nanoexec", "show", trigger, "-o", "json"))
        return {delivery["node"]: delivery for delivery in document["deliveries"]}

    def wait_state(self, trigger: str, state: str, *nodes: str) -> dict[str, Any]:
        """Wait until the deliveries to these nodes (all of them unless named) are in a state; gives them."""

        def reached() -> dict[str, Any]:
            found = self.shown(trigger)
            wanted = {node: found[node] for node in nodes or found}
            return wanted if all(delivery["state"] == state for delivery in wanted.values()) else {}

        return dict(wait_until(reached, f"{trigger} is {state} on {nodes or 'all nodes'}", PATIENCE, OFTEN))

    def history(self, *words: str) -> list[dict[str, Any]]:
        """What ran, newest first."""
        return list(json.loads(self.hub.run("nanoexec", "history", "-o", "json", *words)))


def each(machines: Iterable[Machine], work: Any) -> None:
    """Do the same on several machines at once."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(work, machines))


def install(machine: Machine, packages: Sequence[Path], *options: str) -> None:
    """Install packages: a hub's on the hub, an agent's on a node."""
    role = "nanoexec-hub" if machine.name == "hub" else "nanoexec-agent"
    wanted = [path for path in packages if path.name.split("_")[0] in {"nanoexec", role}]
    for path in wanted:
        machine.put(path, f"/srv/packages/{path.name}")
    names = [f"/srv/packages/{path.name}" for path in wanted]
    machine.run(*INSTALL, *options, *names, timeout=INSTALL_WITHIN)


def ledger(node: Machine) -> list[str]:
    """The starts of ``mark`` on a node: the ids of triggers, or ``original`` for a line of a crontab."""
    return node.get(LEDGER).split()


def adopt_line(node: Machine) -> None:
    """Give a node a crontab line that marks each minute, taken over by the action; no slot comes before that."""
    node.run("systemctl", "stop", "cron")
    node.put("* * * * * root /usr/local/bin/mark\n", CRONTAB)
    node.run("nanoexec", "cron", "adopt", "--line", f"{CRONTAB}:1", "mark", "--yes")
    assert "nanoexec-run --scheduled mark" in node.get(CRONTAB)


def journal(node: Machine) -> dict[str, Any]:
    """The ``runs`` of a node's journal, oldest first, and what SQLite says of its ``integrity``."""
    return dict(json.loads(node.run("python3", "-c", JOURNAL)))


def outcomes(deliveries: dict[str, Any]) -> dict[str, str]:
    """How each node's run ended; the delivery's state where there is no run."""
    return {node: (d.get("run") or {}).get("outcome") or d["state"] for node, d in deliveries.items()}
