"""The crontabs that Debian's own packages bring: adopted line by line, and given back byte for byte."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from nanoexec.crontab.adoption import adopt, adopted, restore
from nanoexec.crontab.lines import Line, parse
from nanoexec.errors import UsageError
from tests.support.crontabs import RUN

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]
# Small packages of Debian 12 with a file in /etc/cron.d; more than fifteen, for another suite may have dropped some.
PACKAGES = [
    "anacron",
    "apt-mirror",
    "atop",
    "awstats",
    "cedar-backup3",
    "certbot",
    "cricket",
    "cron-apt",
    "csync2",
    "debarchiver",
    "dirvish",
    "dma",
    "e2fsprogs",
    "fcheck",
    "fetch-crl",
    "fwanalog",
    "gup",
    "leafnode",
    "logcheck",
    "mdadm",
    "mlmmj",
    "munin",
    "munin-node",
    "ntpsec",
    "php-common",
    "rsnapshot",
    "sa-exim",
    "sysstat",
    "tiger",
    "tua",
    "uucp",
]
ENOUGH = 15


@pytest.fixture(scope="module")
def crontabs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """File name -> content."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        pytest.skip("not a Debian machine: there is no apt-get to download packages with")
    directory = tmp_path_factory.mktemp("debian")
    directory.chmod(0o755)
    for package in PACKAGES:
        subprocess.run(["apt-get", "-qq", "download", package], cwd=directory, check=False, capture_output=True)
    found = {}
    for archive in sorted(directory.glob("*.deb")):
        unpacked = directory / archive.stem
        subprocess.run(["dpkg-deb", "-x", archive, unpacked], check=True)
        for file in (unpacked / "etc/cron.d").glob("[!.]*"):
            found[f"{archive.name.partition('_')[0]}/{file.name}"] = file.read_bytes()
    if len(found) < ENOUGH and not os.environ.get("CI"):
        pytest.skip(f"only {len(found)} packages could be downloaded: apt-get update, or no network")
    assert len(found) >= ENOUGH, sorted(found)
    return found


def jobs(data: bytes) -> list[Line]:
    return [line for line in parse(data, system=True) if line.job is not None]


def test_each_file_is_the_sum_of_its_lines(crontabs: dict[str, bytes]) -> None:
    for name, data in crontabs.items():
        assert b"".join(line.raw for line in parse(data, system=True)) == data, name
    assert sum(bool(jobs(data)) for data in crontabs.values()) >= ENOUGH - 2, "hardly any of them has a job"


def test_each_job_comes_back_as_it_was_and_nothing_else_moves(crontabs: dict[str, bytes], tmp_path: Path) -> None:
    done = 0
    for name, data in crontabs.items():
        lines = parse(data, system=True)
        for number, line in enumerate(lines):
            try:
                new = adopt(line, "action", RUN)
            except UsageError:
                continue  # not a job, or one that says itself why it cannot be adopted
            file = tmp_path / "crontab"
            file.write_bytes(b"".join(new if n == number else other.raw for n, other in enumerate(lines)))
            taken = parse(file.read_bytes(), system=True)
            assert len(taken) == len(lines), name
            assert all(taken[n].raw == lines[n].raw for n in range(len(lines)) if n != number), name
            assert adopted(taken[number]) is not None, name
            assert (taken[number].schedule, taken[number].user) == (line.schedule, line.user), name
            back = [restore(each) if n == number else each.raw for n, each in enumerate(taken)]
            assert b"".join(back) == data, name
            done += 1
    assert done >= ENOUGH
