"""Root file systems of Debian suites, built with mmdebstrap and kept outside the tree; never written to once whole.

``python -m tests.system.image`` builds those that are missing, so that no test has to wait for them.
"""

import fcntl
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nanoexec.model import Value
from tests.system.recipe import KINDS, SUITES, Recipe, Suite, recipe

APT: Final = ('Acquire::Check-Valid-Until "false"', 'Apt::Install-Recommends "false"')  # a mirror may be a snapshot
# Leaves the documentation of others out, while the image is built: what a test installs later has its man pages.
DPKG: Final = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
)


class Cache(Value, frozen=True):
    """The directory of the images, and of packages made in them; several test runs may use it at once."""

    directory: str

    @classmethod
    def of_environment(cls) -> "Cache":
        """The directory that ``NANOEXEC_IMAGES`` names, or the usual one."""
        return cls(directory=os.environ.get("NANOEXEC_IMAGES", "/var/cache/nanoexec-images"))

    @property
    def path(self) -> Path:
        """The directory, made if need be; root's, like the files in it."""
        path = Path(self.directory)
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
        return path

    @contextmanager
    def lock(self, name: str, *, shared: bool = False, wait: bool = True) -> Iterator[int]:
        """Hold the lock of this name, and give its descriptor; 0 if another has it (``wait`` false).

        The lock's file is empty and stays: removing it would let two hold "the" lock, each on a file of its own.
        """
        how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        with (self.path / f"{name}.lock").open("w") as file:
            try:
                fcntl.flock(file, how)
            except BlockingIOError:
                yield 0
            else:
                yield file.fileno()

    @contextmanager
    def image(self, wanted: Recipe) -> Iterator[Path]:
        """The root file system of this recipe, built if it is missing, and kept from removal while it is in use.

        :raises subprocess.CalledProcessError: if it cannot be built; what mmdebstrap said is on standard error.
        """
        while True:
            with self.lock(wanted.name, shared=True):
                if (found := self.path / wanted.name).is_dir():
                    yield found
                    return
            # Between these two locks another may build it, or even remove it: both are seen on the next round.
            with self.lock(wanted.name) as lock:
                if not (self.path / wanted.name).is_dir():
                    self._build(wanted, lock)
            self._remove_old(wanted)

    def _build(self, wanted: Recipe, lock: int) -> None:
        """Build under a temporary name, which is ours: we hold the lock. What a crash has left is removed."""
        image = self.path / wanted.name
        remove(image)
        partial = image.with_name(f"{image.name}.partial")
        say(f"building the {wanted.suite} {wanted.kind} image: a minute or two, once")
        command = [
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--variant=minbase",
            f"--include={','.join(wanted.packages)}",
        ]
        command += [f"--aptopt={option}" for option in APT]
        command += [f"--dpkgopt={option}" for option in DPKG]
        command += [f"--customize-hook={finish(wanted)}", wanted.suite, str(partial), *sources(wanted.suite)]
        try:
            # It holds the lock too, should we be killed.
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=2, pass_fds=[lock])
        except BaseException:
            remove(image)
            raise
        partial.rename(image)

    def _remove_old(self, wanted: Recipe) -> None:
        """Remove images of the same family that nobody uses."""
        names = {path.name.removesuffix(".partial") for path in self.path.glob(f"{wanted.family}-*") if path.is_dir()}
        for name in names - {wanted.name}:
            with self.lock(name, wait=False) as mine:
                if mine:
                    remove(self.path / name)


def say(line: str) -> None:
    """Tell the person who waits why."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def remove(tree: Path) -> None:
    """Remove what is whole under this name, and what is not under ``.partial``: a name never lies, whatever happens."""
    partial = tree.with_name(f"{tree.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    if tree.exists():
        shutil.rmtree(tree.rename(partial))


def finish(wanted: Recipe) -> str:
    """The shell command that makes a bare system a machine; its first argument is the root directory."""
    lines = [
        "set -e; cd $1",
        "rm -f etc/resolv.conf etc/hostname etc/dpkg/dpkg.cfg.d/99mmdebstrap",
        ": > etc/machine-id",  # each machine makes its own
        ": > etc/apt/sources.list",  # there is no network: better no packages than a time-out
    ]
    if wanted.kind == "node":
        lines.append("mkdir -p var/log/journal")  # the journal of a boot outlives it
        # These tools differ between suites: a unit that is not there needs no disabling.
        lines += [
            f"systemctl --root=$1 --quiet disable {shlex.quote(unit)} 2>/dev/null || :" for unit in wanted.disabled
        ]
        lines += [f"systemctl --root=$1 --quiet mask {shlex.quote(unit)}" for unit in wanted.masked]
    return "; ".join(lines)


def sources(suite: Suite) -> list[str]:
    """Where packages come from: the mirrors of this machine.

    :raises LookupError: if this machine's apt has none.
    """
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    mirrors = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()
    main = next((mirror for mirror in mirrors if "security" not in mirror), None)
    if main is None:
        raise LookupError("apt has no Debian mirror: expected one in /etc/apt/sources.list, then run `apt-get update`")
    security = next((mirror for mirror in mirrors if "security" in mirror), None)
    found = [f"deb {main} {suite} main", f"deb {main} {suite}-updates main"]
    return [*found, f"deb {security} {suite}-security main"] if security else found


def main() -> None:
    """Build what is missing."""
    cache = Cache.of_environment()
    for suite in SUITES:
        for kind in KINDS:
            with cache.image(recipe(suite, kind)) as found:
                say(str(found))


if __name__ == "__main__":
    main()
