import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from nanoexec.actions import Manifest
from nanoexec.catalog import CatalogCache, missing, read_catalog, shipped_directory
from nanoexec.config import Paths
from nanoexec.errors import RefusedError, UnavailableError

pytestmark = pytest.mark.node

SOUND = 'name = "x"\ncommand = ["true"]\n'


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(root=tmp_path)
    paths.actions.mkdir(parents=True)
    return paths


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    directory = tmp_path / "shipped"
    directory.mkdir()
    return directory


def write(file: Path, text: str = SOUND) -> Path:
    file.write_text(text)
    file.chmod(0o644)
    return file


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Not one more file can be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    hoard = [os.open("/", os.O_PATH)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(highest, hoard[0]) + 1, before[1]))
        with suppress(OSError):
            while True:
                hoard.append(os.dup(hoard[0]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in hoard:
            os.close(descriptor)


def test_a_node_without_a_directory_of_its_own_has_the_shipped_actions(tmp_path: Path) -> None:
    catalog = read_catalog(Paths(root=tmp_path))
    assert catalog.faults == ()
    assert {"slaughter", "puppet", "uptime"} <= set(catalog.actions)


def test_every_shipped_manifest_is_sound_and_named_after_its_file(tmp_path: Path) -> None:
    files = {file.stem for file in shipped_directory().glob("*.toml")}
    catalog = read_catalog(Paths(root=tmp_path))
    assert set(catalog.actions) == files
    for manifest in catalog.actions.values():
        assert manifest.summary
        assert manifest.homepage.startswith("https://")
        assert manifest.requires


def test_the_nodes_own_files_are_laid_over_the_shipped_ones_in_name_order(paths: Paths, shipped: Path) -> None:
    below = write(shipped / "x.toml")
    above = write(paths.actions / "x.toml", 'name = "x"\ntimeout = "1m"')
    write(paths.actions / "a.toml", 'name = "a"\ncommand = ["a"]')
    catalog = read_catalog(paths, shipped)
    assert list(catalog.actions) == ["a", "x"]
    assert (catalog.actions["x"].command, catalog.actions["x"].timeout) == (("true",), "1m")
    assert catalog.sources["x"] == (str(below), str(above))


def test_files_that_are_not_manifests_are_ignored(paths: Paths, shipped: Path) -> None:
    for name in ("x.toml~", "x.toml.dpkg-old", "README", ".x.toml"):
        write(paths.actions / name, "rubbish")
    assert read_catalog(paths, shipped).faults == ()


def test_what_cannot_be_read_is_a_fault_and_withholds_its_action(paths: Paths, shipped: Path) -> None:
    for name in ("dangling", "directory", "fifo", "open", "fine"):
        write(shipped / f"{name}.toml", f'name = "{name}"\ncommand = ["true"]')
    (paths.actions / "dangling.toml").symlink_to("nowhere")
    (paths.actions / "directory.toml").mkdir()
    os.mkfifo(paths.actions / "fifo.toml")
    write(paths.actions / "open.toml", 'name = "open"').chmod(0o666)
    catalog = read_catalog(paths, shipped)
    assert list(catalog.actions) == ["fine"]
    assert [str(fault).removeprefix(f"{paths.actions}/") for fault in catalog.faults] == [
        "dangling.toml: cannot read this manifest: No such file or directory",
        "directory.toml: a manifest must be a regular file",
        "fifo.toml: a manifest must be a regular file",
        "open.toml: everybody can write this file, and root would run what it says: chmod o-w",
    ]
    with pytest.raises(RefusedError, match="chmod o-w"):
        catalog.find("open")


def test_a_directory_that_is_none_is_a_fault(tmp_path: Path, shipped: Path) -> None:
    paths = Paths(root=tmp_path)
    paths.etc.mkdir(parents=True)
    paths.actions.write_text("")
    (fault,) = read_catalog(paths, shipped).faults
    assert str(fault) == f"{paths.actions}: cannot read this directory: Not a directory"


def test_missing_programs_are_named_and_found_ones_are_not(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("")
    tool.chmod(0o755)
    (tmp_path / "plain").write_text("")
    (tmp_path / "directory").mkdir()
    search = f"/nowhere:{tmp_path}"
    assert missing(Manifest(name="x", command=("tool",), requires=(str(tool),)), search) == ()
    assert missing(Manifest(name="x", command=("tool",)), "/nowhere") == ("tool",)
    wanted = ("plain", "directory", f"{tmp_path}/none", "tool")
    assert missing(Manifest(name="x", command=("plain",), requires=wanted), search) == wanted[:3]


def test_the_cache_gives_the_same_catalog_until_a_file_changes(paths: Paths, shipped: Path) -> None:
    cache = CatalogCache(paths, shipped)
    assert cache.current().actions == {}

    file = write(shipped / "x.toml")
    catalog = cache.current()
    assert list(catalog.actions) == ["x"]
    assert cache.current() is catalog

    status = file.stat()
    file.write_text(SOUND.replace("true", "echo"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert cache.current().actions["x"].command == ("echo",)

    own = write(paths.actions / "x.toml", 'name = "x"\ntimeout = "1m"')
    assert cache.current().actions["x"].timeout == "1m"
    own.chmod(0o666)
    assert cache.current().actions == {}
    own.chmod(0o644)
    assert list(cache.current().actions) == ["x"]
    own.unlink()
    assert cache.current().actions["x"].timeout == "1h"


def test_the_cache_notices_a_directory_that_comes_later(tmp_path: Path, shipped: Path) -> None:
    paths = Paths(root=tmp_path)
    cache = CatalogCache(paths, shipped)
    assert cache.current().actions == {}
    paths.actions.mkdir(parents=True)
    write(paths.actions / "x.toml")
    assert list(cache.current().actions) == ["x"]


def test_reading_the_catalog_imports_nothing_heavy() -> None:
    heavy = {"asyncio", "ssl", "pynng", "typer", "sqlite3", "subprocess", "shutil", "dataclasses", "logging"}
    code = f"import sys, nanoexec.catalog; print(*({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_who_has_no_descriptor_left_does_not_guess_what_the_actions_are(paths: Paths, shipped: Path) -> None:
    """To call an action unknown would be final; not to see what lies over the shipped one would run something else."""
    write(shipped / "x.toml")
    write(paths.actions / "x.toml", 'name = "x"\ncommand = ["mine"]')
    cache = CatalogCache(paths, shipped)
    before = cache.current()
    with no_descriptors():
        said = []
        for look in (cache.current, lambda: read_catalog(paths, shipped)):
            try:
                look()
            except UnavailableError as error:
                said.append(str(error))
    assert said == [f"{shipped}: cannot read the actions: Too many open files"] * 2
    assert cache.current() is before
