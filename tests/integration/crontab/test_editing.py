"""One file replaced: whole or not at all, with all that it wears besides its content."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoexec.crontab.editing import replace
from nanoexec.errors import ConfigError

pytestmark = pytest.mark.node
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away and mount")
OLD, NEW = b"17 * * * * root old\n", b"17 * * * * root new, and longer\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "crontab"
    file.write_bytes(OLD)
    return file


def test_the_new_bytes_take_the_place_of_the_old_and_nothing_else_is_left(file: Path) -> None:
    replace(file, file.parent, OLD, NEW)

    assert file.read_bytes() == NEW
    assert [left.name for left in file.parent.iterdir()] == ["crontab"]


def test_who_has_the_old_file_open_keeps_it(file: Path) -> None:
    with file.open("rb") as opened:
        replace(file, file.parent, OLD, NEW)
        assert opened.read() == OLD


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o755])
def test_the_mode_stays_whatever_the_umask(file: Path, mode: int) -> None:
    file.chmod(mode)
    before = os.umask(0o777)
    try:
        replace(file, file.parent, OLD, NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == mode


@as_root
def test_the_owner_and_the_group_stay(file: Path) -> None:
    os.chown(file, 1, 2)
    replace(file, file.parent, OLD, NEW)
    assert (file.stat().st_uid, file.stat().st_gid) == (1, 2)


def _entry(tag: int, permissions: int, name: int = 0xFFFFFFFF) -> bytes:
    return tag.to_bytes(2, "little") + permissions.to_bytes(2, "little") + name.to_bytes(4, "little")


# user::rw-, user:1:r--, group::r--, mask::r--, other::r-- as acl(5) and the kernel have it
ACL = (2).to_bytes(4, "little") + b"".join(
    _entry(*each) for each in [(0x01, 6), (0x02, 4, 1), (0x04, 4), (0x10, 4), (0x20, 4)]
)


def _set_attribute(file: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(file, name, value)
    except OSError as error:
        pytest.skip(f"this file system has no {name}: {error.strerror}")


def test_the_access_list_stays(file: Path) -> None:
    _set_attribute(file, "system.posix_acl_access", ACL)
    mode = file.stat().st_mode

    replace(file, file.parent, OLD, NEW)

    assert os.getxattr(file, "system.posix_acl_access") == ACL
    assert file.stat().st_mode == mode
    if getfacl := shutil.which("getfacl"):
        listed = subprocess.run([getfacl, "-n", str(file)], capture_output=True, text=True, check=True).stdout
        assert "user:1:r--" in listed


def test_an_access_list_that_the_directory_gives_to_new_files_is_not_added(file: Path) -> None:
    _set_attribute(file.parent, "system.posix_acl_default", ACL)

    replace(file, file.parent, OLD, NEW)

    assert "system.posix_acl_access" not in os.listxattr(file)


@as_root
@pytest.mark.parametrize("name", ["security.selinux", "user.note"])
def test_the_security_context_and_other_attributes_stay(file: Path, name: str) -> None:
    _set_attribute(file, name, b"system_u:object_r:system_cron_spool_t:s0\0")
    replace(file, file.parent, OLD, NEW)
    assert os.getxattr(file, name) == b"system_u:object_r:system_cron_spool_t:s0\0"


def test_cron_sees_a_change_within_the_same_second(file: Path) -> None:
    replace(file, file.parent, OLD, NEW)
    first = file.stat().st_mtime_ns
    replace(file, file.parent, NEW, OLD)
    assert file.stat().st_mtime_ns // 10**9 != first // 10**9


def test_a_concurrent_edit_is_noticed_and_nothing_is_written(file: Path) -> None:
    file.write_bytes(b"somebody else's\n")

    with pytest.raises(ConfigError, match=r"crontab: somebody has edited it meanwhile: nothing was written"):
        replace(file, file.parent, OLD, NEW)

    assert file.read_bytes() == b"somebody else's\n"
    assert [left.name for left in file.parent.iterdir()] == ["crontab"]


@pytest.mark.parametrize("way", ["in place", "by another file"])
def test_an_edit_while_the_new_file_is_written_is_noticed(
    file: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Somebody saves just before the rename: whoever would come later comes too late for any program."""
    sync = os.fsync

    def edit(descriptor: int) -> None:
        sync(descriptor)
        if way == "in place":
            file.write_bytes(b"somebody else's\n")
        else:
            other = file.with_name("other")
            other.write_bytes(OLD)
            other.replace(file)

    monkeypatch.setattr(os, "fsync", edit)
    with pytest.raises(ConfigError, match="somebody has edited it meanwhile"):
        replace(file, file.parent, OLD, NEW)

    assert file.read_bytes() == (b"somebody else's\n" if way == "in place" else OLD)
    assert [left.name for left in file.parent.iterdir()] == ["crontab"]


def test_a_link_within_the_root_stays_and_its_target_changes(tmp_path: Path) -> None:
    target = tmp_path / "opt" / "target"
    target.parent.mkdir()
    target.write_bytes(OLD)
    link = tmp_path / "link"
    link.symlink_to(target)

    replace(link, tmp_path, OLD, NEW)

    assert link.is_symlink()
    assert target.read_bytes() == NEW


@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_link_out_of_the_root_is_refused(tmp_path: Path, what: str) -> None:
    outside = tmp_path / "outside" / "crontab"
    outside.parent.mkdir()
    outside.write_bytes(OLD)
    root = tmp_path / "root"
    root.mkdir()
    if what == "file":
        (root / "crontab").symlink_to(outside)
        file = root / "crontab"
    else:
        (root / "etc").symlink_to(outside.parent)
        file = root / "etc/crontab"

    with pytest.raises(ConfigError, match="leads out of"):
        replace(file, root, OLD, NEW)

    assert outside.read_bytes() == OLD


def test_what_is_not_a_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    for name in ("fifo", "directory"):
        with pytest.raises(ConfigError, match="not a regular file"):
            replace(tmp_path / name, tmp_path, OLD, NEW)
    with pytest.raises(ConfigError, match="cannot be reached: No such file"):
        replace(tmp_path / "missing", tmp_path, OLD, NEW)


def test_what_a_killed_writer_left_is_replaced_and_not_followed(file: Path) -> None:
    victim = file.with_name("victim")
    victim.write_bytes(b"precious")
    file.with_name(".crontab.nanoexec").symlink_to(victim)

    replace(file, file.parent, OLD, NEW)

    assert file.read_bytes() == NEW
    assert victim.read_bytes() == b"precious"
    assert sorted(left.name for left in file.parent.iterdir()) == ["crontab", "victim"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(small_disk: Path) -> None:
    file = small_disk / "crontab"
    file.write_bytes(OLD)

    with pytest.raises(ConfigError, match="crontab: cannot be changed: No space left on device"):
        replace(file, small_disk, OLD, b"x" * (128 << 10))

    assert file.read_bytes() == OLD
    assert [left.name for left in small_disk.iterdir()] == ["crontab"]


def test_a_directory_that_may_not_be_written_leaves_the_old_file(small_disk: Path) -> None:
    file = small_disk / "crontab"
    file.write_bytes(OLD)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    with pytest.raises(ConfigError, match="Read-only file system"):
        replace(file, small_disk, OLD, NEW)

    assert file.read_bytes() == OLD
