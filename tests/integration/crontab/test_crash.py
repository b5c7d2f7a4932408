"""kill -9 at any point of adopting and restoring leaves the old file or the new one, and the way on stays open."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nanoexec.crontab import records
from nanoexec.crontab.adoption import adopted
from nanoexec.crontab.lines import parse
from nanoexec.crontab.scan import scan
from tests.support.crash import OPERATIONS, prepare
from tests.support.crontabs import Machine

pytestmark = pytest.mark.node
FILES = ("etc/crontab", "var/spool/cron/crontabs/root")
SOURCE = Path(__file__).parents[3]
FEWEST_CALLS = 30  # of an operation on two files: backups, records, each file


def contents(root: Path) -> tuple[bytes, ...]:
    return tuple((root / file).read_bytes() for file in FILES)


def without_root(data: bytes, root: Path) -> bytes:
    """The prefix names the scratch directory, which differs from case to case."""
    return data.replace(str(root).encode(), b"ROOT")


@pytest.fixture(scope="module", params=["adopt", "restore"])
def crashed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Path]]:
    """The directories that a killed operation left, one for each call and way of being killed."""
    operation = str(request.param)
    directory = tmp_path_factory.mktemp(operation)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.crash", operation, str(directory)],
        cwd=SOURCE,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= FEWEST_CALLS
    return operation, sorted(directory.iterdir())


@pytest.fixture(scope="module")
def versions(
    crashed: tuple[str, list[Path]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[bytes, bytes]]:
    """Each file before the operation and after it."""
    operation, _ = crashed
    machine = prepare(operation, tmp_path_factory.mktemp("whole"))
    before = contents(machine.root)
    OPERATIONS[operation](machine)
    pairs = zip(before, contents(machine.root), strict=True)
    return {
        file: (without_root(old, machine.root), without_root(new, machine.root))
        for file, (old, new) in zip(FILES, pairs, strict=True)
    }


def test_every_file_is_the_old_or_the_new_one(
    crashed: tuple[str, list[Path]], versions: dict[str, tuple[bytes, bytes]]
) -> None:
    _, roots = crashed
    seen = set()
    for root in roots:
        for file, data in zip(FILES, contents(root), strict=True):
            assert without_root(data, root) in versions[file], root
            seen.add((file, without_root(data, root)))
    assert len(seen) == 2 * len(FILES)  # both versions of both files did occur


def test_what_is_left_besides_is_nothing_that_cron_reads(crashed: tuple[str, list[Path]]) -> None:
    _, roots = crashed
    for root in roots:
        for file in FILES:
            for left in (root / file).parent.iterdir():
                assert left.name.startswith(".") or left.is_dir() or left == root / file
        found = {finding.file for finding in scan(Machine(root).paths, Machine(root).catalog)}
        assert found == {str(root / file) for file in FILES}


def test_a_line_is_on_record_before_it_is_taken_over_and_until_it_is_given_back(
    crashed: tuple[str, list[Path]],
) -> None:
    _, roots = crashed
    for root in roots:
        machine = Machine(root)
        known = {(record.file, record.action) for record in records.load(machine.paths)}
        for file in FILES:
            for line in parse((root / file).read_bytes(), system=file == FILES[0]):
                if adoption := adopted(line):
                    assert (str(root / file), adoption.action) in known, root


def test_doing_it_again_completes_it_and_the_original_comes_back(
    crashed: tuple[str, list[Path]], versions: dict[str, tuple[bytes, bytes]]
) -> None:
    operation, roots = crashed
    for root in roots:
        machine = Machine(root)
        OPERATIONS[operation](machine)
        assert [without_root(data, root) for data in contents(root)] == [versions[file][1] for file in FILES], root
        machine.restore()
        originals = contents(prepare("adopt", root / "fresh").root)
        assert contents(root) == originals, root
        assert records.load(machine.paths) == ()
        assert not [left for file in FILES for left in (root / file).parent.glob(".*nanoexec*")]
