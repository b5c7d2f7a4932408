"""Small files: whole or not at all, with the right mode and owner."""

import errno
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoexec.errors import ConfigError
from nanoexec.files import demand_writable, read_bytes, read_regular, write_atomically

pytestmark = pytest.mark.node
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk and change owners")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"this machine lets nobody mount a tmpfs: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_what_was_written_is_read() -> None:
    assert read_bytes(Path("/dev/null"), "nothing") == b""


def test_a_file_is_written_whole_with_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    before = os.umask(0o777)
    try:
        write_atomically(path, b"secret", 0o640)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "cursor"
    write_atomically(path, b"old", 0o600)
    write_atomically(path, b"new", 0o644)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [left.name for left in tmp_path.iterdir()] == ["cursor"]


def test_a_reader_that_has_the_old_file_open_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "cursor"
    write_atomically(path, b"old", 0o600)
    with path.open("rb") as reader:
        write_atomically(path, b"new", 0o600)
        assert reader.read() == b"old"


@as_root
def test_a_full_disk_leaves_the_old_file_and_no_other(small_disk: Path) -> None:
    path = small_disk / "cursor"
    write_atomically(path, b"old", 0o600)
    with pytest.raises(ConfigError) as caught:
        write_atomically(path, bytes(1 << 20), 0o600)
    assert str(caught.value) == f"{path}: cannot write: {os.strerror(errno.ENOSPC)}"
    assert path.read_bytes() == b"old"
    assert [left.name for left in small_disk.iterdir()] == ["cursor"]


def test_a_target_that_cannot_be_replaced_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "cursor").mkdir()
    with pytest.raises(ConfigError, match=r"cursor: cannot write: "):
        write_atomically(tmp_path / "cursor", b"new", 0o600)
    assert [left.name for left in tmp_path.iterdir()] == ["cursor"]


@as_root
def test_a_directory_that_may_only_be_read_leaves_the_old_file(tmp_path: Path) -> None:
    """Root may write everywhere, so another user tries."""
    place = Path("/tmp") / f"nanoexec-{os.getpid()}"  # tmp_path's parents are closed to other users
    place.mkdir(mode=0o755)
    path = place / "agent.toml"
    try:
        write_atomically(path, b"old", 0o644)
        program = (
            "import os, sys, tempfile; from pathlib import Path; from nanoexec.files import write_atomically\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "write_atomically(Path(sys.argv[1]), b'new', 0o644)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)], check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 1
        assert done.stderr.endswith(f"ConfigError: {path}: cannot write: Permission denied\n")
        assert path.read_bytes() == b"old"
        assert [left.name for left in place.iterdir()] == ["agent.toml"]
    finally:
        for left in place.iterdir():
            left.unlink()
        place.rmdir()


@pytest.mark.parametrize("way", ["missing/file", "file/below", "n" * 300])
def test_a_place_that_cannot_be_written_gives_one_line_with_its_name(tmp_path: Path, way: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write") as caught:
        write_atomically(tmp_path / way, b"data", 0o600)
    assert str(caught.value).startswith(f"{tmp_path / way}: ")


def test_where_files_can_be_made_is_known_beforehand_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    demand_writable(tmp_path)
    demand_writable(tmp_path / "missing/below")
    with pytest.raises(ConfigError, match=f"file/below: cannot write: {tmp_path}/file is not a directory"):
        demand_writable(tmp_path / "file/below")
    assert [left.name for left in tmp_path.iterdir()] == ["file"]


def test_a_regular_file_is_read_wherever_its_path_leads_and_nothing_else_is_opened(tmp_path: Path) -> None:
    file, fifo, link = tmp_path / "file", tmp_path / "fifo", tmp_path / "link"
    file.write_bytes(b"content")
    os.mkfifo(fifo)
    link.symlink_to(file)
    assert read_regular(link) == read_regular(file) == b"content"
    link.unlink()
    link.symlink_to("/dev/zero")
    for other in (fifo, link, tmp_path):
        with pytest.raises(OSError, match="not a regular file"):
            read_regular(other)


@pytest.mark.parametrize("way", ["missing", "file/below", "."])
def test_a_file_that_cannot_be_read_gives_one_line_that_says_what_was_wanted(tmp_path: Path, way: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r": cannot read the hub's key: [A-Z]") as caught:
        read_bytes(tmp_path / way, "the hub's key")
    assert str(caught.value).startswith(f"{tmp_path / way}: ")


@as_root
def test_what_root_writes_belongs_to_the_owner_of_the_directory(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    theirs, ours = tmp_path / "agent", tmp_path / "journal"
    for place in (theirs, ours):
        place.mkdir()
    os.chown(theirs, nobody.pw_uid, nobody.pw_gid)
    for place in (theirs, ours):
        write_atomically(place / "file", b"data", 0o600)
    assert ((theirs / "file").stat().st_uid, (theirs / "file").stat().st_gid) == (nobody.pw_uid, nobody.pw_gid)
    assert (ours / "file").stat().st_uid == 0
