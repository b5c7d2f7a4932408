"""The cache of the images, with recipes that cost little."""

import subprocess
from pathlib import Path

import pytest

from tests.system.image import Cache
from tests.system.packages import Builder, BuildError, fingerprint
from tests.system.recipe import Recipe, recipe

OLD = Recipe(suite="bookworm", kind="builder", packages=("old",))
NEW = Recipe(suite="bookworm", kind="builder", packages=("new",))


@pytest.fixture
def empty(tmp_path: Path) -> Cache:
    return Cache(directory=str(tmp_path))


def pretend(cache: Cache, built: Recipe) -> Path:
    """An image of this recipe that need not be built."""
    made = cache.path / built.name
    made.mkdir()
    return made


def test_another_recipe_is_another_image() -> None:
    names = {wanted.name for wanted in (OLD, NEW, recipe("bookworm", "builder"), recipe("bookworm", "node"))}
    assert len(names) == 4
    assert recipe("trixie", "node").name == recipe("trixie", "node").name


@pytest.fixture
def built(empty: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache that builds in a moment: the directory on its PATH has an mmdebstrap that makes an empty system."""
    programs = tmp_path_factory.mktemp("bin")
    program = programs / "mmdebstrap"
    program.write_text(
        """#!/bin/sh
        for word; do case $word in /*) mkdir "$word"; touch "$word/once.$$" ;; esac; done
        case $* in *no-such*) exit 1 ;; esac
        """
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return empty


def test_an_image_that_cannot_be_built_leaves_nothing(built: Cache) -> None:
    wanted = Recipe(suite="bookworm", kind="node", packages=("no-such-package",))
    (built.path / f"{wanted.name}.partial").mkdir()  # as a crash leaves it
    with pytest.raises(subprocess.CalledProcessError), built.image(wanted):
        pass
    assert [file.name for file in built.path.iterdir()] == [f"{wanted.name}.lock"]


def test_what_a_crash_has_left_goes_with_the_next_image(built: Cache) -> None:
    half = built.path / f"{OLD.name}.partial"
    half.mkdir()
    with built.image(NEW):
        assert not half.exists()


def test_an_image_is_built_once(built: Cache) -> None:
    with built.image(NEW) as first, built.image(NEW) as second:
        assert first == second
        assert len(list(first.iterdir())) == 1


def test_a_new_image_removes_the_old_one_of_its_kind_only(built: Cache) -> None:
    old, other = pretend(built, OLD), pretend(built, recipe("trixie", "builder"))
    with built.image(NEW):
        assert not old.exists()
        assert other.exists()


def test_an_old_image_stays_while_it_is_in_use(built: Cache) -> None:
    pretend(built, OLD)
    with built.image(OLD) as old:
        with built.image(NEW):
            pass
        assert old.exists()


def test_a_fingerprint_depends_on_names_modes_and_contents_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    before = fingerprint(tmp_path)
    (tmp_path / "file").touch()
    assert fingerprint(tmp_path) == before
    (tmp_path / "file").chmod(0o700)
    changed = fingerprint(tmp_path)
    (tmp_path / "file").write_text("CONTENT")
    assert len({before, changed, fingerprint(tmp_path)}) == 3


def test_a_builder_has_no_network_and_keeps_only_what_is_bound(cache: Cache, tmp_path: Path) -> None:
    builder = Builder(suite="trixie", cache=cache)
    script = "cat /proc/net/dev | grep -c eth; touch /srv/lost; . /etc/os-release; echo $VERSION_CODENAME > out"
    assert builder.run("sh", "-c", script, binds={"/work": tmp_path}, where="/work") == "0\n"
    assert (tmp_path / "out").read_text() == "trixie\n"
    builder.run("test", "!", "-e", "/srv/lost", binds={})
    with pytest.raises(BuildError, match=r"trixie: sh -c echo why >&2; exit 3: exit 3\nwhy"):
        builder.run("sh", "-c", "echo why >&2; exit 3", binds={})
