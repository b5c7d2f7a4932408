"""Debian machines: systemd as process 1 on a disk of their own, with power, network and a console, but no kernel.

A machine is an overlay: an image that nobody writes to, below a small ext4 disk. The clock is the host's.
"""

import array
import contextlib
import fcntl
import os
import signal
import subprocess
from pathlib import Path
from typing import Final

from tests.support.fleet import wait_until
from tests.system.lan import PREFIX, Lan, children

PATIENCE: Final = 60.0  # seconds for a boot on a busy machine; it takes one or two
ENVIRONMENT: Final = {
    "DEBIAN_FRONTEND": "noninteractive",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM": "dumb",
}
EXT4_IOC_SHUTDOWN: Final = 0x8004587D  # include/uapi/linux/ext4.h
EXT4_GOING_FLAGS_NOLOGFLUSH: Final = 2

# $1 the directory, $2 the cgroup of the network, $3 the name, $4 the image, $5 /etc/hosts. In mounts of its own: no
# machine that boots later has a copy of this one's disk, which would keep it in use.
# nspawn exits with 133 when the system reboots, because of --keep-unit; with 0 after a power-off. It wants an empty
# cgroup each time.
POWER: Final = r"""
cd "$1/mounts"
mkdir -p "$3/disk" "$3/root"
if [ ! -e "$1/disks/$3" ]; then
    truncate --size=8G "$1/disks/$3"  # takes what is written, no more
    mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=1,lazy_journal_init=1 "$1/disks/$3"
fi
mount -t ext4 -o loop,discard,noinit_itable "$1/disks/$3" "$3/disk"
mkdir -p "$3/disk/upper" "$3/disk/work"
mount -t overlay -o "lowerdir=$4,upperdir=$3/disk/upper,workdir=$3/disk/work" overlay "$3/root"
if [ ! -e "$3/root/etc/hostname" ]; then
    echo "$3" > "$3/root/etc/hostname"
    printf %s "$5" > "$3/root/etc/hosts"
    sync --file-system "$3/disk"
fi
cgroup=/sys/fs/cgroup/$2/$3
mkdir -p "$cgroup"
echo 0 > "$cgroup/cgroup.freeze"  # as a power cut leaves it
status=133
while [ "$status" = 133 ]; do
    find "$cgroup" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null || :
    status=0
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 sh -c 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"' sh "$cgroup" \
        systemd-nspawn --quiet --boot --register=no --keep-unit --console=pipe --directory="$1/mounts/$3/root" \
        --machine="$3" --hostname="$3" --network-namespace-path="/run/netns/$3" --resolv-conf=off --timezone=off \
        --link-journal=no || status=$?
done
exit "$status"
"""


class CommandError(AssertionError):
    """A command on a machine ended otherwise than a test needs; says what it was, and what it said."""


def address(name: str) -> str:
    """Of a machine on its network: ``hub``, or ``node1`` up to ``node99``."""
    return f"{PREFIX}.{10 if name == 'hub' else 10 + int(name.removeprefix('node'))}"


def hosts() -> str:
    """/etc/hosts of every machine."""
    names = ["hub", *(f"node{number}" for number in range(1, 100))]
    return "127.0.0.1 localhost\n" + "".join(f"{address(name)} {name}\n" for name in names)


class Machine:
    """One machine, off until ``power_on``. ``image`` is the root file system below it."""

    def __init__(self, lan: Lan, name: str, image: Path) -> None:
        self.lan = lan
        self.name = name
        self.image = image
        self.address = address(name)
        self.console = lan.directory / "consoles" / name
        self._where = (str(lan.directory), name)
        self._process: subprocess.Popen[bytes] | None = None

    def power_on(self, *, wait: bool = True) -> None:
        """Boot from the disk as it is; with ``wait``, until everything is up."""
        assert not self._process, f"{self.name} is on already"
        self.lan.plug(self.name, self.address)
        power = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", POWER, "sh"]
        power += [str(self.lan.directory), self.lan.name, self.name, str(self.image), hosts()]
        self._process = self.lan.start(*power, output=self.console)
        if wait:
            self.wait_up()

    def power_off(self) -> None:
        """Shut down in order, and wait until it is off."""
        self.run("systemctl", "poweroff", "--no-block")
        self._gone()

    def power_cut(self) -> None:
        """Take the power away: what was not fsynced is lost, and peers hear nothing, not even that connections end."""
        cgroup = self.lan.cgroup(self.name)
        wait_until((cgroup / "payload").exists, f"{self.name} has begun to boot", PATIENCE)
        self.lan.cut(self.name)  # the kernel, which stays, would say good-bye
        # Nobody may live to see, and tell, that the disk fails: first all stands still.
        (cgroup / "cgroup.freeze").write_text("1")
        frozen = cgroup / "cgroup.events"
        wait_until(lambda: "frozen 1" in frozen.read_text(), f"{self.name} stands still", PATIENCE)
        disk = os.open(self._mounts() / "disk", os.O_RDONLY)
        try:
            fcntl.ioctl(disk, EXT4_IOC_SHUTDOWN, array.array("I", [EXT4_GOING_FLAGS_NOLOGFLUSH]))
        finally:
            os.close(disk)
        (cgroup / "cgroup.kill").write_text("1")
        self._gone()

    def reboot(self, *, wait: bool = True) -> None:
        """Shut down in order and boot again; with ``wait``, until everything is up."""
        before = self.leader()
        self.run("systemctl", "reboot", "--no-block")
        if wait:
            self.wait_up(after=before)

    def fresh(self, kept: str = "", *, wait: bool = True) -> None:
        """Throw the disk away and boot from the image, or from a copy ``kept``, in whatever state the machine is."""
        if self._process and self._process.poll() is None:
            self.power_cut()
        elif self._process:
            self._gone()  # it has switched itself off
        script = 'cd "$1/disks"; rm -f "$2"; [ -z "$3" ] || cp --sparse=always "$2.$3" "$2"'
        self.lan.shell(script, *self._where, kept)
        self.power_on(wait=wait)

    def keep(self, name: str) -> None:
        """Shut down in order, and keep a copy of the disk under this name, for ``fresh``."""
        self.power_off()
        self.lan.shell('cd "$1/disks"; cp --sparse=always "$2" "$2.$3"', *self._where, name)

    def cut(self) -> None:
        """Let every packet from and to this machine vanish."""
        self.lan.cut(self.name)

    def heal(self) -> None:
        """End what ``cut`` began."""
        self.lan.heal(self.name)

    def boot_id(self) -> str:
        """Another one for every boot."""
        return self.run("cat", "/proc/sys/kernel/random/boot_id").strip()

    def wait_up(self, *, after: int = 0) -> None:
        """Wait until systemd has started everything; ``after`` is the leader that has to be gone."""

        def up() -> bool:
            if self._process and self._process.poll() is not None:
                raise CommandError(f"{self.name} is off instead of up: {self.story()}")
            # Nobody asks a system that goes down: it would wait for the one who asks, up to a minute.
            if self.leader() in {0, after}:
                return False
            done = self.attempt("systemctl", "is-system-running")
            return done.stdout.strip() in {"running", "degraded"}

        try:
            wait_until(up, f"{self.name} is up", PATIENCE)
        except AssertionError as error:
            raise CommandError(f"{error}\n{self.story()}") from None

    def leader(self) -> int:
        """The process that is number 1 of this machine, 0 while there is none."""
        try:
            found = (self._payload() / "cgroup.procs").read_text().split()
            for pid in found:
                numbers = next(
                    line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "NSpid:" in line
                )
                if numbers.split()[-1] == "1":
                    return int(pid)
        except (OSError, StopIteration):
            pass  # not up yet, or just gone
        return 0

    @property
    def view(self) -> Path:
        """The root directory, as the machine's own processes see it, to look at from here while the machine is on.

        A symbolic link in it leads astray.
        """
        return Path(f"/proc/{self.leader()}/root")

    def attempt(
        self, *command: str, user: str = "root", stdin: bytes | str = b"", timeout: float = 60.0
    ) -> "subprocess.CompletedProcess[str]":
        """Execute a command on the machine, whatever comes of it; ``timeout`` in seconds.

        It joins the cgroup of the machine's process 1, so that it is the machine's in every respect.

        :raises CommandError: if the machine is off, or the command does not end in time.
        """
        if not (leader := self.leader()):
            raise CommandError(f"{self.name} is off, or has only begun to boot: cannot execute {command}")
        words = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._payload() / "cgroup.procs"), "nsenter"]
        words += [f"--target={leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]
        words += ["env", "-i", *(f"{key}={value}" for key, value in ENVIRONMENT.items())]
        words += ["runuser", "-u", user, "--"] if user != "root" else []
        with subprocess.Popen(
            [*words, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                given = stdin.encode() if isinstance(stdin, str) else stdin
                output, error = process.communicate(given, timeout=timeout)
            except BaseException as failure:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if isinstance(failure, subprocess.TimeoutExpired):
                    raise CommandError(f"{self.name}: {command} did not end within {timeout:.0f} s") from None
                raise
        return subprocess.CompletedProcess(command, process.returncode, output.decode(), error.decode())

    def run(
        self, *command: str, status: int = 0, user: str = "root", stdin: bytes | str = b"", timeout: float = 60.0
    ) -> str:
        """Execute a command on the machine; gives its standard output.

        :raises CommandError: if it does not end with ``status``; says what it said.
        """
        done = self.attempt(*command, user=user, stdin=stdin, timeout=timeout)
        if done.returncode != status:
            raise CommandError(
                f"{self.name}: {' '.join(command)}: exit {done.returncode}, not {status}\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def put(self, content: bytes | str | Path, path: str, *, mode: int = 0o644) -> None:
        """Write a file, given as content or as a file of the host; its directory is made if need be."""
        data = content.read_bytes() if isinstance(content, Path) else content
        script = 'mkdir -p "$(dirname "$1")"; cat > "$1"; chmod "$2" "$1"'
        self.run("sh", "-euc", script, "sh", path, f"{mode:o}", stdin=data)

    def get(self, path: str) -> str:
        """The text of a file."""
        return self.run("cat", path)

    def story(self) -> str:
        """What the machine has to say after a failure: the end of its journal and of its console."""
        console = self.console.read_text(errors="replace").splitlines()[-20:] if self.console.exists() else []
        journal = "the machine is off"
        with contextlib.suppress(CommandError):
            journal = self.attempt("journalctl", "-b", "--no-pager", "-n", "100", timeout=20).stdout
        return "\n".join([f"--- journal of {self.name}", journal, f"--- console of {self.name}", *console])

    def _payload(self) -> Path:
        return self.lan.cgroup(self.name) / "payload/init.scope"

    def _mounts(self) -> Path:
        """Where its disk is mounted, as only its own processes see it."""
        assert self._process
        (shell,) = children(self._process.pid)
        return Path(f"/proc/{shell}/root{self.lan.directory}/mounts/{self.name}")

    def _gone(self) -> None:
        """Wait until the machine is off and nothing uses its disk, and take its network stack away."""
        assert self._process
        self._process.wait(PATIENCE)
        self._process = None
        self.lan.unplug(self.name)
        # Its mounts end with its last process, a moment later. Until then a loop device would be that of before.
        free = 'losetup --noheadings --associated "$1/disks/$2"'
        wait_until(lambda: not self.lan.shell(free, *self._where), f"the disk of {self.name} is free", PATIENCE)
