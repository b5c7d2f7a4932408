"""The project's own Debian packages, each suite's built in that suite: what the machines of the tests install."""

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nanoexec.model import Value
from tests.system.image import Cache, remove, say
from tests.system.recipe import Suite, recipe

REPOSITORY: Final = Path(__file__).parents[2]
KEPT: Final = 8  # sets of packages of a suite: those of other branches, and of tests that run now
ENVIRONMENT: Final = {"HOME": "/root", "LANG": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

# $1 the image, $2 a scratch directory, $3 the working directory, then pairs of FROM TO, then -- and the command. The
# mounts end with the command.
BUILD: Final = r"""
image=$1 scratch=$2 where=$3
shift 3
mount -t tmpfs tmpfs "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay -o "lowerdir=$image,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/root"
cd "$scratch/root"
mount -t proc proc proc
mount --bind /dev dev
mount -t tmpfs tmpfs tmp
while [ "$1" != -- ]; do
    mkdir -p "./$2"
    mount --bind "$1" "./$2"
    shift 2
done
shift
exec chroot . env -i "--chdir=$where" "$@"
"""


class BuildError(RuntimeError):
    """A command in a builder failed; says the end of its output."""


class Builder(Value, frozen=True):
    """A throw-away copy of the builder image of a suite for each command; there is no network in it."""

    suite: Suite
    cache: Cache

    def run(self, *command: str, binds: Mapping[str, Path], where: str = "/", timeout: float = 600.0) -> str:
        """Execute a command as root; gives its output, both streams. ``timeout`` is in seconds.

        :param binds: directories of this machine, by where they are to be seen: what is to stay is written there.
        :raises BuildError: if the command fails, or does not end in time.
        """
        pairs = [str(word) for inside, outside in binds.items() for word in (outside, inside)]
        variables = [f"{key}={value}" for key, value in ENVIRONMENT.items()]
        with (
            self.cache.image(recipe(self.suite, "builder")) as image,
            tempfile.TemporaryDirectory(prefix="nanoexec-build-") as scratch,
        ):
            words = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private"]
            words += ["sh", "-euc", BUILD, "sh", str(image), scratch, where, *pairs, "--", *variables, *command]
            try:
                done = subprocess.run(
                    words,
                    check=False,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    encoding="utf-8",
                    errors="replace",
                    timeout=timeout,
                )
            except subprocess.TimeoutExpired:
                raise BuildError(f"{self.suite}: {' '.join(command)} did not end within {timeout:.0f} s") from None
        if done.returncode:
            last = "\n".join(done.stdout.splitlines()[-40:])
            raise BuildError(f"{self.suite}: {' '.join(command)}: exit {done.returncode}\n{last}")
        return done.stdout


def stage(suite: Suite, directory: Path) -> Path:
    """The source tree that dpkg-buildpackage wants, made in a directory. Wheels are fetched here: a builder has no
    network.

    :raises BuildError: if the tree cannot be staged.
    """
    command = [str(REPOSITORY / "packaging/stage"), "--suite", suite, str(directory)]
    environment = os.environ | {"PIP": f"{sys.executable} -m pip"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise BuildError(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr.strip()}")
    (staged,) = directory.glob("nanoexec-*")
    return staged


def built_packages(suite: Suite, cache: Cache, staged: Path, *, version: str = "") -> list[Path]:
    """The .deb files of a staged tree, which stays as it is; built now unless they were already.

    ``version`` is what to call it instead of the tree's own, ``0.2`` say, for packages that upgrade the others.

    :raises BuildError: if they cannot be built.
    """
    with tempfile.TemporaryDirectory(prefix="nanoexec-stage-") as directory:
        source = Path(shutil.copytree(staged, Path(directory) / staged.name, symlinks=True))
        if version:
            rename(source, version)
        results = cache.path / f"debs-{suite}-{fingerprint(source)}"
        with cache.lock(f"debs-{suite}"):
            if not results.is_dir():
                say(f"building the {suite} packages: half a minute")
                build = ["dpkg-buildpackage", "-us", "-uc", "-b"]
                Builder(suite=suite, cache=cache).run(
                    *build, binds={"/build": source.parent}, where=f"/build/{source.name}"
                )
                remove(results)  # what a crash has left
                partial = results.with_name(f"{results.name}.partial")
                partial.mkdir()
                for package in source.parent.glob("*.deb"):
                    shutil.copy2(package, partial)
                partial.rename(results)
            os.utime(results)  # wanted now
            _remove_old(suite, cache)
    return sorted(results.glob("*.deb"))


def fingerprint(tree: Path) -> str:
    """The same for the same names, modes and contents, wherever and whenever they were made."""
    digest = hashlib.sha256()
    for file in sorted(tree.rglob("*")):
        status = file.lstat()
        content = b""
        if file.is_symlink():
            content = os.fsencode(file.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = file.read_bytes()
        digest.update(f"{file.relative_to(tree)}\0{status.st_mode:o}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def rename(source: Path, version: str) -> None:
    """Make another version of a staged tree, in its program and in its packages."""
    init, changelog = source / "nanoexec/__init__.py", source / "debian/changelog"
    (before,) = re.findall(r'^__version__ = "(.*)"$', init.read_text(), re.MULTILINE)
    init.write_text(init.read_text().replace(f'"{before}"', f'"{version}"'))
    changelog.write_text(changelog.read_text().replace(f"({before}-", f"({version}-", 1))


def _remove_old(suite: Suite, cache: Cache) -> None:
    """Keep the packages that were wanted last; the others can be built again."""
    found = [path for path in cache.path.glob(f"debs-{suite}-*") if path.is_dir()]
    for old in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
        remove(old.with_name(old.name.removesuffix(".partial")))
