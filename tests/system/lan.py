"""A network of its own for test machines: namespaces, a bridge and a cgroup, of which nothing outlives the tests.

One process holds it all: the init of a process namespace, which ends when our end of its standard input closes, be it
because we say so, crash, or are killed. With it the kernel ends every machine, and with them go their mounts, network
namespaces and loop devices. The shell that has started it then removes the cgroup and the directory.
"""

import subprocess
from pathlib import Path
from typing import Final, Self

from tests.support.network import Held, executed

PREFIX: Final = "10.77.0"  # of addresses that only this network knows
TOOLS: Final = {  # a program, and the Debian package that has it
    "ip": "iproute2",
    "mkfs.ext4": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
}

# $1 the directory, $2 the name of the cgroup. The mounts here are ours alone; those of the inner shell end with it.
HOLDER: Final = r"""
set -eu
directory=$1 cgroup=/sys/fs/cgroup/$2
umount -R /sys/fs/cgroup 2>/dev/null || :       # of the host, which may have version 1 there
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run                       # no service of the host is in reach
mkdir /run/netns /run/systemd /run/systemd/nspawn
mkdir "$directory/disks" "$directory/mounts" "$cgroup"
mount -t tmpfs tmpfs "$directory/disks"         # fsync costs nothing, and a disk is gone with its machine
unshare --net --pid --fork --kill-child --mount-proc --propagation private sh -euc '
    ip link set lo up
    ip link add lan0 type bridge forward_delay 0
    ip address add "$1.1/24" dev lan0
    ip link set lan0 up
    echo ready
    exec cat >/dev/null
' sh "$3" || :
for _ in $(seq 100); do                         # a process that was killed leaves its cgroup a moment later
    find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || :
    [ -d "$cgroup" ] || break
    sleep 0.05
done
umount "$directory/disks"
rm -rf --one-file-system "$directory"
"""


class Lan(Held):
    """The network; a context manager. ``directory`` becomes ours, and is gone at the end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = directory.name
        self._started: list[subprocess.Popen[bytes]] = []
        self._init = 0

    def __enter__(self) -> Self:
        (self.directory / "consoles").mkdir()
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", HOLDER, "sh"]
        self.hold(*words, str(self.directory), self.name, PREFIX)
        (inner,) = children(self.pid)
        (self._init,) = children(inner)
        return self

    def close(self) -> None:
        """End it, and every machine in it. Harmless when done already."""
        super().close()
        for process in self._started:
            process.wait()

    @property
    def view(self) -> Path:
        """The root directory as processes of the network see it, mounts included."""
        return Path(f"/proc/{self._init}/root")

    def cgroup(self, machine: str) -> Path:
        """The control group of a machine, from where we stand."""
        return self.view / "sys/fs/cgroup" / self.name / machine

    def start(self, *command: str, output: Path) -> "subprocess.Popen[bytes]":
        """Start a command inside of the network, with which it ends; ``output`` gets what it says, at the end."""
        with output.open("ab") as file:
            process = subprocess.Popen(
                self._words(*command), stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        self._started.append(process)
        return process

    def shell(self, script: str, *arguments: str) -> str:
        """Execute a script inside of the network; gives its output.

        :raises RuntimeError: if it fails; with what it said.
        """
        return executed(self._words("sh", "-euc", script, "sh"), *arguments)

    def plug(self, machine: str, address: str) -> None:
        """Give a machine a network stack of its own, joined to the others. Its hardware address is always the same."""
        octets = [int(octet) for octet in address.split(".")]
        hardware = "02:00:" + ":".join(f"{octet:02x}" for octet in octets)
        script = """
            ip netns add "$1"
            ip link add "$1" type veth peer name host0 address "$3" netns "$1"
            ip link set "$1" master lan0 up
            ip -n "$1" link set lo up
            ip -n "$1" address add "$2/24" dev host0
            ip -n "$1" link set host0 up
        """
        self.shell(script, machine, address, hardware)

    def unplug(self, machine: str) -> None:
        """Take the network stack of a machine that is off away, with what is left of its connections."""
        self.shell('ip link delete "$1"; ip netns delete "$1"', machine)

    def cut(self, machine: str) -> None:
        """Let every packet from and to a machine vanish. Its link stays up: this is no pulled plug."""
        self.shell('ip link set "$1" nomaster', machine)

    def heal(self, machine: str) -> None:
        """End the partition."""
        self.shell('ip link set "$1" master lan0', machine)

    def _words(self, *command: str) -> list[str]:
        """The command, as one that is executed inside of the network and ends with it."""
        return ["nsenter", f"--target={self._init}", "--mount", "--net", "--pid", "--", *command]


def children(pid: int) -> list[int]:
    """The child processes of a process, none if it has ended."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
