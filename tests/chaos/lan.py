"""A network of its own for a campaign: a namespace for the hub, one for each node, and a bridge between them.

One process holds it all, in a mount namespace of its own. It ends when our end of its standard input closes, be it
because we say so, crash, or are killed; with it go the names of the namespaces, and with the last process the rest.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final, Self

from tests.support.network import Held, executed

PREFIX: Final = "10.78.0"  # of addresses that only this network knows
HUB: Final = "hub"
HUB_NAME: Final = "hub.test"  # by which nodes dial; the hosts file of this network has its address
_TOOLS: Final = {"ip": "iproute2", "ss": "iproute2", "tc": "iproute2", "nft": "nftables", "nsenter": "util-linux"}

# $1 the hosts file. The file is changed in place: it is mounted, and a new one of its name would not be seen.
_HOLDER: Final = """
    mount -t tmpfs tmpfs /run
    mount --bind "$1" /etc/hosts
    ip link set lo up
    ip link add lan0 type bridge forward_delay 0
    ip link set lan0 up
    echo ready
    exec cat >/dev/null
"""
_PLUG: Final = """
    ip netns add "$1"
    ip link add "$1" type veth peer name eth0 netns "$1"
    ip link set "$1" master lan0 up
    ip -n "$1" link set lo up
    ip -n "$1" address add "$2/24" dev eth0
    ip -n "$1" link set eth0 up
"""
_TRY_NETEM: Final = """
    if tc qdisc add dev lan0 root netem delay 1ms 2>/dev/null; then tc qdisc delete dev lan0 root; echo yes; fi
"""
# The columns are queues, state and addresses: of these a new connection has others.
_RESET: Final = """
    connections() { nsenter --net="/run/netns/$1" ss --no-header --tcp --numeric "$2" state established; }
    connections "$1" --all | awk '{ print $3, $4 }'
    connections "$1" --kill >/dev/null
    echo --
    connections "$1" --all | awk '{ print $3, $4 }'
"""
_MOVE: Final = 'ip -n "$1" address delete "$2/24" dev eth0; ip -n "$1" address add "$3/24" dev eth0'


def why_not() -> str:
    """What keeps such a network from being made here; empty if nothing does."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := {package for tool, package in _TOOLS.items() if shutil.which(tool) is None}:
        return f"not installed: {', '.join(sorted(missing))}"
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "nft", "add", "table", "inet", "t"], capture_output=True, text=True, check=False
    )
    return f"no namespaces or no nftables here: {tried.stderr.strip()}" if tried.returncode else ""


class Lan(Held):
    """The network; a context manager. ``directory`` is for its hosts file."""

    def __init__(self, directory: Path) -> None:
        self.addresses: dict[str, str] = {}
        self.has_netem = False  # whether the kernel itself can delay and lose packets, tc-netem(8)
        self._hosts = directory / "hosts"
        self._next = 1

    def __enter__(self) -> Self:
        self._hosts.write_text("127.0.0.1 localhost\n")
        words = ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-euc", _HOLDER, "sh"]
        self.hold(*words, str(self._hosts))
        self.has_netem = self.shell(_TRY_NETEM) == "yes\n"
        return self

    def plug(self, machine: str) -> None:
        """Give a machine a network stack of its own, joined to the others."""
        self.addresses[machine] = self._free_address()
        self.shell(_PLUG, machine, self.addresses[machine])
        if machine == HUB:
            self._say_where_the_hub_is()

    def move(self, machine: str) -> None:
        """Another address for a machine, as after a new lease; everybody learns of the hub's by its name."""
        old, new = self.addresses[machine], self._free_address()
        self.shell(_MOVE, machine, old, new)
        self.addresses[machine] = new
        if machine == HUB:
            self._say_where_the_hub_is()

    def pull(self, machine: str) -> None:
        """Let every packet from and to a machine vanish. Its link stays up: nobody is told."""
        self.shell('ip link set "$1" nomaster', machine)

    def plug_in(self, machine: str) -> None:
        """End `pull`."""
        self.shell('ip link set "$1" master lan0', machine)

    def arrivals(self, machine: str, *rules: str, about: str = "lan") -> None:
        """Rules of nftables for what arrives at a machine, instead of earlier ones ``about`` the same; none: all may.

        Packets that are dropped on arrival are lost for their sender, as on any way.
        """
        self._rules(machine, about, "input", *rules)

    def watch_dials(self, machine: str, port: int) -> None:
        """Remember each dial of a machine to a port, whether it arrives or not."""
        rule = f"tcp dport {port} tcp flags & (syn | ack) == syn add @dials {{ tcp sport }}"
        self._rules(
            machine, "watch", "output", rule, head="set dials { type inet_service; flags dynamic; size 65535; }"
        )

    def dials(self, machine: str) -> int:
        """How often it has dialled since `watch_dials`: each try has a port of its own, also when it is repeated."""
        listed = self.shell('exec nsenter --net="/run/netns/$1" nft list set inet watch dials', machine)
        return listed.partition("elements = {")[2].partition("}")[0].count(",") + ("elements" in listed)

    def weather(self, machine: str, *words: str) -> None:
        """What netem does to all that goes to a machine and comes from it, such as ``loss 30%``; no words: nothing."""
        for where, device in ((["-n", machine], "eth0"), ([], machine)):
            script = 'exec tc "$@"' if words else 'tc "$@" 2>/dev/null || true'  # nothing to be deleted
            change = ["replace", "dev", device, "root", "netem", *words] if words else ["delete", "dev", device, "root"]
            self.shell(script, *where, "qdisc", *change)

    def reset(self, machine: str) -> int:
        """Break every connection of a machine, with a reset for the other side: how many are gone.

        Where the kernel knows no such thing, ss(8) does not complain.
        """
        before, after = self.shell(_RESET, machine).split("--\n")
        return len(set(before.splitlines()) - set(after.splitlines()))

    def words(self, machine: str) -> list[str]:
        """What to put before a command so that it runs on a machine. The process stays the same."""
        seen = f"/proc/{self.pid}"
        return ["nsenter", f"--mount={seen}/ns/mnt", f"--net={seen}/root/run/netns/{machine}", "--"]

    def shell(self, script: str, *arguments: str, said: str = "") -> str:
        """Execute a script where the bridge is; gives its output. ``said`` is its input.

        :raises RuntimeError: if it fails; with what it said.
        """
        words = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--", "sh", "-euc", script, "sh"]
        return executed(words, *arguments, said=said)

    def _rules(self, machine: str, table: str, hook: str, *rules: str, head: str = "") -> None:
        lines = [f"table inet {table} {{}}", f"delete table inet {table}"]
        if rules:
            chain = "; ".join([f"type filter hook {hook} priority 0", *rules])
            lines.append(f"table inet {table} {{ {head}\n chain {hook} {{ {chain}; }}\n}}")
        self.shell('exec nsenter --net="/run/netns/$1" nft -f -', machine, said="\n".join(lines) + "\n")

    def _free_address(self) -> str:
        self._next += 1
        return f"{PREFIX}.{self._next}"

    def _say_where_the_hub_is(self) -> None:
        with self._hosts.open("r+") as file:
            file.truncate()
            file.write(f"127.0.0.1 localhost\n{self.addresses[HUB]} {HUB_NAME}\n")
