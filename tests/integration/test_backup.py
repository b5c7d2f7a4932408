"""A hub in one file, and a hub made of that file elsewhere: nothing is lost that a node has, nothing runs twice."""

import io
import json
import os
import sqlite3
import stat
import tarfile
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from nanoexec.config import Paths
from nanoexec.errors import ConfigError, NanoexecError
from nanoexec.hub import archive, backup
from nanoexec.hub.backup import back_up, restore
from nanoexec.hub.setup import create
from nanoexec.model import Node
from nanoexec.record import NodeJoined, TokenMade
from nanoexec.store import Store
from tests.integration.store.records import identifier, issued
from tests.support.fleet import Fleet, Service, assert_one_line, fleet_of, wait_until, whoami
from tests.support.somebody import as_user

pytestmark = pytest.mark.timeout(180)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
NOW = 1_700_000_000.0
ACCOUNT = 12345


@pytest.fixture
def hub(tmp_path: Path) -> Paths:
    """A hub with one node, one open trigger and one token, which does not run."""
    paths = Paths(root=tmp_path / "old")
    create(paths, "hub.example.org")
    with closing(Store.open(paths.hub_store)) as store:
        store.commit([NodeJoined("web1", identifier("k1"), 1.0), issued("a", "web1"), TokenMade("d" * 64, 9e9, 1)])
    return paths


def of_the_account(paths: Paths) -> None:
    """Give a hub's directory to an account, as the package does."""
    paths.hub_state.mkdir(parents=True, exist_ok=True)
    os.chown(paths.hub_state, ACCOUNT, ACCOUNT)


def kept(paths: Paths) -> dict[str, bytes]:
    files = (paths.hub_config, *paths.hub_state.iterdir())
    return {file.name: file.read_bytes() for file in files if file.name != "hub.lock"}


# The file


def test_a_restored_hub_is_the_same_but_for_the_join_tokens(hub: Paths, tmp_path: Path) -> None:
    file = tmp_path / "hub.tar"
    assert back_up(hub, file, NOW).size == file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [member.name for member, _ in _members(file)] == [archive.MANIFEST, *archive.MEMBERS]

    new = Paths(root=tmp_path / "new")
    made = restore(new, file, NOW)
    assert (made.hub, made.made, made.nodes, made.open_triggers) == ("hub.example.org", NOW, 1, (identifier("a"),))
    before, after = kept(hub), kept(new)
    assert before.keys() == after.keys() == {*archive.MEMBERS}
    assert {name for name in before if before[name] != after[name]} == {archive.DATABASE}
    with closing(Store.open(new.hub_store)) as store:
        assert store.roster() == [Node("web1", identifier("k1"), 1.0)]
        assert [stored.trigger.id for stored in store.open_triggers()] == [identifier("a")]
        assert store.tokens(0.0) == []


def test_a_link_in_the_place_of_the_lock_leads_nobody_astray(hub: Paths, tmp_path: Path) -> None:
    back_up(hub, tmp_path / "hub.tar", NOW)
    new, elsewhere = Paths(root=tmp_path / "new"), tmp_path / "elsewhere"
    new.hub_state.mkdir(parents=True)
    (new.hub_state / "hub.lock").symlink_to(elsewhere)
    with pytest.raises(NanoexecError) as raised:
        restore(new, tmp_path / "hub.tar", NOW)
    assert str(new.hub_state / "hub.lock") in str(raised.value)
    assert not elsewhere.exists()


@as_root
def test_who_owns_the_hubs_directory_gets_no_file_from_elsewhere(
    hub: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(hub, tmp_path / "hub.tar", NOW)
    new, theirs = Paths(root=tmp_path / "new"), tmp_path / "theirs"
    theirs.touch()
    of_the_account(new)

    def prepared_and_replaced(database: Path) -> tuple[int, tuple[str, ...]]:
        database.unlink()
        database.symlink_to(theirs)
        return 1, ()

    monkeypatch.setattr("nanoexec.hub.backup._prepared", prepared_and_replaced)
    with pytest.raises(NanoexecError):
        restore(new, tmp_path / "hub.tar", NOW)
    assert theirs.stat().st_uid == 0


@as_root
@pytest.mark.parametrize("names", [archive.SMALL, (archive.DATABASE,)], ids=["small files", "database"])
def test_who_owns_the_hubs_directory_has_nothing_from_elsewhere_read_or_changed(
    hub: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    """Whatever directory it finds in its own is renamed, and another one is there, with links to another hub's files.

    That is made with all rights here, since an account cannot look into the directories of pytest.
    """
    new, other = Paths(root=tmp_path / "new"), Paths(root=tmp_path / "other")
    back_up(hub, tmp_path / "hub.tar", NOW)
    create(other, "other.example.org")
    with closing(Store.open(other.hub_store)) as store:
        store.commit([TokenMade("e" * 64, 9e9, 1)])
    of_the_account(new)

    def prepared_and_replaced(database: Path) -> tuple[int, tuple[str, ...]]:
        for found in [place for place in new.hub_state.iterdir() if place.is_dir()]:
            taken = found.rename(new.hub_state / "taken")
            found.mkdir()
            for name in archive.MEMBERS:
                if name in names:
                    (found / name).symlink_to(backup._place(other, name))
                else:
                    (taken / name).rename(found / name)
        return prepared(database)

    prepared = backup._prepared
    monkeypatch.setattr(backup, "_prepared", prepared_and_replaced)
    restore(new, tmp_path / "hub.tar", NOW)
    for name in archive.SMALL:
        assert backup._place(new, name).read_bytes() == backup._place(hub, name).read_bytes(), name
    with closing(Store.open(other.hub_store)) as store:
        assert len(store.tokens(0.0)) == 1


@as_root
@pytest.mark.parametrize("real", [True, False], ids=["a directory of its own", "a link to one"])
def test_who_owns_the_hubs_directory_has_nothing_put_aside_into_another(
    hub: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, real: bool
) -> None:
    """The directory for it is replaced as soon as it is made."""
    back_up(hub, tmp_path / "hub.tar", NOW)
    of_the_account(hub)
    victim, elsewhere = tmp_path / "victim", tmp_path / "elsewhere"
    victim.write_text("as it was")
    elsewhere.mkdir()
    make = os.mkdir

    def made_and_replaced(path: Path | str, *words: int, **more: int) -> None:
        make(path, *words, **more)
        if Path(path).name.startswith("before-restore-"):
            aside = hub.hub_state / Path(path).name
            aside.rename(hub.hub_state / "taken")
            if real:
                make(aside)
                (aside / archive.CONFIG).symlink_to(victim)
            else:
                aside.symlink_to(elsewhere)

    monkeypatch.setattr(os, "mkdir", made_and_replaced)
    with pytest.raises(ConfigError, match="what was here cannot be put aside"):
        restore(hub, tmp_path / "hub.tar", NOW, force=True)
    assert victim.read_text() == "as it was"
    assert not list(elsewhere.iterdir())
    assert hub.hub_store.exists()


@as_root
def test_a_hub_whose_directory_is_a_file_system_of_its_own_is_restored(hub: Paths, tmp_path: Path) -> None:
    back_up(hub, tmp_path / "hub.tar", NOW)
    new = Paths(root=tmp_path / "new")
    new.hub_state.parent.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if Path(other).stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is no other file system here")
        new.hub_state.symlink_to(other)
        of_the_account(new)
        for force in (False, True):
            restore(new, tmp_path / "hub.tar", NOW, force=force)
        assert {place.name for place in new.hub_state.parent.iterdir()} == {"hub"}
        assert new.hub_store.stat().st_uid == ACCOUNT


def test_what_is_restored_is_as_private_as_it_was(hub: Paths, tmp_path: Path) -> None:
    back_up(hub, tmp_path / "hub.tar", NOW)
    new = Paths(root=tmp_path / "new")
    restore(new, tmp_path / "hub.tar", NOW)
    for name in ("ca.key", "hub.key", "hub.db", "ca.crt", "hub.crt"):
        assert (new.hub_state / name).stat().st_mode == (hub.hub_state / name).stat().st_mode, name
    assert stat.S_IMODE(new.hub_state.stat().st_mode) == 0o700


def test_nothing_else_is_left_behind(hub: Paths, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    back_up(hub, tmp_path / "backups/hub.tar", NOW)
    assert [place.name for place in (tmp_path / "backups").iterdir()] == ["hub.tar"]
    new = Paths(root=tmp_path / "new")
    restore(new, tmp_path / "backups/hub.tar", NOW)
    assert {file.name for file in new.hub_state.iterdir()} == {*archive.MEMBERS, "hub.lock"} - {archive.CONFIG}


def test_a_backup_is_replaced_only_if_that_is_asked_for(hub: Paths, tmp_path: Path) -> None:
    file = tmp_path / "hub.tar"
    file.write_text("mine")
    with pytest.raises(ConfigError, match=r"hub\.tar: is already there: choose another name, or replace it with --for"):
        back_up(hub, file, NOW)
    assert file.read_text() == "mine"
    back_up(hub, file, NOW, force=True)
    restore(Paths(root=tmp_path / "new"), file, NOW)


def test_a_hub_that_is_there_is_put_aside_only_if_that_is_asked_for(hub: Paths, tmp_path: Path) -> None:
    file = tmp_path / "hub.tar"
    back_up(hub, file, NOW)
    with closing(Store.open(hub.hub_store)) as store:
        store.commit([issued("b", "web1")])
    before = kept(hub)
    with pytest.raises(ConfigError, match=r"there is a hub here already: --force puts it aside, and restores$"):
        restore(hub, file, NOW)
    assert kept(hub) == before
    made = restore(hub, file, NOW, force=True)
    assert {place.name: place.read_bytes() for place in Path(made.aside).iterdir()} == before
    assert made.open_triggers == (identifier("a"),)


def test_the_configuration_that_the_package_brings_is_no_hub_and_is_replaced(hub: Paths, tmp_path: Path) -> None:
    file = tmp_path / "hub.tar"
    hub.hub_config.write_text("history_days = 7\n")
    back_up(hub, file, NOW)
    fresh = Paths(root=tmp_path / "fresh")
    fresh.hub_config.parent.mkdir(parents=True)
    fresh.hub_config.write_text("# as installed\n")
    made = restore(fresh, file, NOW)
    assert fresh.hub_config.read_text() == "history_days = 7\n"
    assert (Path(made.aside) / "hub.toml").read_text() == "# as installed\n"


def test_a_configuration_that_was_named_is_replaced_only_if_that_is_asked_for(hub: Paths, tmp_path: Path) -> None:
    file, own = tmp_path / "hub.tar", tmp_path / "own.toml"
    back_up(hub, file, NOW)
    own.write_text("history_days = 5\n")
    fresh = Paths(root=tmp_path / "fresh", config=own)
    with pytest.raises(ConfigError, match=r"own\.toml: there is a hub here already: --force puts it aside"):
        restore(fresh, file, NOW)
    assert own.read_text() == "history_days = 5\n"
    assert not fresh.hub_store.exists()
    restore(fresh, file, NOW, force=True)
    assert own.read_text() == hub.hub_config.read_text()


def test_a_hub_that_never_served_has_nothing_to_back_up_and_is_told_what_makes_it(hub: Paths, tmp_path: Path) -> None:
    hub.hub_store.unlink()
    with pytest.raises(ConfigError, match=r"hub\.db: not there yet: `nanoexec hub serve` makes it$"):
        back_up(hub, tmp_path / "hub.tar", NOW)


@as_root
def test_what_root_restores_belongs_to_the_account_of_the_hub(hub: Paths, tmp_path: Path) -> None:
    file = tmp_path / "hub.tar"
    back_up(hub, file, NOW)
    fresh = Paths(root=tmp_path / "fresh")
    of_the_account(fresh)
    restore(fresh, file, NOW)
    assert {place.stat().st_uid for place in fresh.hub_state.iterdir()} == {ACCOUNT}
    assert [place.name for place in fresh.hub_state.parent.iterdir()] == ["hub"]


def test_a_hub_that_could_not_be_restored_is_not_backed_up(hub: Paths, tmp_path: Path) -> None:
    (hub.hub_state / "ca.key").unlink()
    with pytest.raises(NanoexecError, match=r"ca\.key: missing"):
        back_up(hub, tmp_path / "hub.tar", NOW)
    assert not (tmp_path / "hub.tar").exists()


def _members(file: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(file) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def _rewrite(change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]) -> Callable[[Path], object]:
    """Make another archive of the members of a good one."""

    def spoil(file: Path) -> None:
        members = _members(file)
        change(members)
        with tarfile.open(file, "w") as tar:
            for info, data in members:
                info.size = len(data) if info.isreg() else 0
                tar.addfile(info, io.BytesIO(data))

    return spoil


def _manifest(**changes: object) -> Callable[[Path], object]:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        info, data = members[0]
        members[0] = (info, msgspec.json.encode(json.loads(data) | changes))

    return _rewrite(change)


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-len(data) // 3] ^= 1
    file.write_bytes(data)


def _link(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[1][0].type, members[1][0].linkname = tarfile.SYMTYPE, "/etc/shadow"


def _called(name: str) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]:
    return lambda members: setattr(members[2][0], "name", name)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (lambda file: file.write_bytes(file.read_bytes()[:-20_000]), "damaged"),
    "one bit flipped": (_flip, "damaged: hub.db is not as it was when the backup was made"),
    "empty": (lambda file: file.write_bytes(b""), "damaged, or not a backup of a hub"),
    "something else": (lambda file: file.write_bytes(os.urandom(50_000)), "damaged, or not a backup of a hub"),
    "no text": (
        _rewrite(lambda members: members.__setitem__(0, (members[0][0], b'{"format": "\xff"}'))),
        "damaged, or not a backup of a hub: manifest.json",
    ),
    "another tar": (_rewrite(lambda members: members.pop(0)), "expected manifest.json, found 'hub.toml'"),
    "a member less": (_rewrite(lambda members: members.pop()), "expected hub.db, found its end"),
    "a member more": (_rewrite(lambda members: members.append(members[1])), "damaged: something follows hub.db"),
    "members exchanged": (_rewrite(lambda members: members.reverse()), "expected manifest.json, found 'hub.db'"),
    "a path for a name": (_rewrite(_called("../ca.crt")), "expected ca.crt, found '../ca.crt'"),
    "a link": (_rewrite(_link), "expected hub.toml, found 'hub.toml'"),
    "newer": (_manifest(version=2, more="news"), "its format is 2, this nanoexec knows 1: use the nanoexec that made"),
    "of another format": (_manifest(format="backup"), "is not a backup of a hub"),
    "a manifest with more in it": (_manifest(more=1), "unknown field"),
    "a manifest with other members": (_manifest(members=[]), "manifest.json does not name hub.toml"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_backup_is_refused_in_one_line_and_leaves_nothing(hub: Paths, tmp_path: Path, case: str) -> None:
    spoil, said = SPOILT[case]
    file = tmp_path / "hub.tar"
    back_up(hub, file, NOW)
    spoil(file)
    new = Paths(root=tmp_path / "new")
    with pytest.raises(ConfigError) as caught:
        restore(new, file, NOW)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [place.name for place in new.hub_state.iterdir()] == ["hub.lock"]
    assert not new.hub_config.exists()


def test_a_database_of_a_newer_version_is_refused_before_anything_is_touched(hub: Paths, tmp_path: Path) -> None:
    with closing(sqlite3.connect(hub.hub_store)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    back_up(hub, tmp_path / "hub.tar", NOW)
    with pytest.raises(NanoexecError, match="made by a newer nanoexec: upgrade this one"):
        restore(Paths(root=tmp_path / "new"), tmp_path / "hub.tar", NOW)
    assert not (tmp_path / "new/etc/nanoexec/hub.toml").exists()


def test_a_lock_that_cannot_be_had_is_one_clear_line(hub: Paths, tmp_path: Path) -> None:
    back_up(hub, tmp_path / "hub.tar", NOW)
    (hub.hub_state / "hub.lock").mkdir()  # as good as one of somebody else's, which stops no root
    with pytest.raises(NanoexecError, match=r"hub\.lock: cannot be opened: Is a directory$"):
        restore(hub, tmp_path / "hub.tar", NOW, force=True)


def test_what_is_not_a_file_is_never_replaced(hub: Paths, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("what /dev/stdout leads to")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "nowhere").symlink_to("nothing")
    for place in ("fifo", "link", "nowhere", "."):
        for force in (True, False):
            with pytest.raises(ConfigError, match="is not a file, and is not replaced"):
                back_up(hub, tmp_path / place, NOW, force=force)
    assert (tmp_path / "fifo").is_fifo()
    assert (tmp_path / "link").read_text() == "what /dev/stdout leads to"
    assert (tmp_path / "nowhere").is_symlink()


@as_root
@pytest.mark.parametrize("force", [True, False])
def test_where_a_backup_cannot_be_looked_for_is_one_clear_line(hub: Paths, tmp_path: Path, *, force: bool) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)

    def is_told() -> bool:
        with pytest.raises(ConfigError, match=r"^closed/hub\.tar: cannot write: Permission denied$"):
            back_up(hub, Path("closed/hub.tar"), NOW, force=force)
        return True

    assert as_user(ACCOUNT, is_told, cwd=tmp_path)


def test_what_is_not_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hub.tar")
    with pytest.raises(ConfigError, match="is not a file"):
        restore(Paths(root=tmp_path / "new"), tmp_path / "hub.tar", NOW)


def test_the_database_is_copied_as_it_was_at_one_moment(hub: Paths, tmp_path: Path) -> None:
    """A writer commits triggers for two nodes all the while: no copy may have one half of a commit."""
    enough = threading.Event()

    def write() -> None:
        with closing(Store.open(hub.hub_store)) as store:
            for number in range(100_000):
                store.commit([issued(f"{number:06d}x", "web1", "web2")])
                if enough.is_set():
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        sizes = []
        for number in range(5):
            back_up(hub, tmp_path / f"{number}.tar", NOW)
            made = restore(Paths(root=tmp_path / f"new{number}"), tmp_path / f"{number}.tar", NOW)
            with closing(Store.open(tmp_path / f"new{number}/var/lib/nanoexec/hub/hub.db")) as store:
                opened = [stored for stored in store.open_triggers() if stored.trigger.id != identifier("a")]
                assert {len(stored.deliveries) for stored in opened} <= {2}
            sizes.append(len(made.open_triggers))
    finally:
        enough.set()
        writer.join()
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0], "it was written to meanwhile"


# A fleet


def _ledger(fleet: Fleet) -> Path:
    ledger = fleet.directory / "ledger"
    script = f'echo "$NANOEXEC_TRIGGER_ID" >> {ledger}; echo done'
    for node in fleet.nodes.values():
        node.action("work", f"command = ['/bin/sh', '-c', '{script}']\nuser = '{whoami()}'\n")
    return ledger


def _runs(fleet: Fleet) -> dict[tuple[str, str], tuple[str, str]]:
    return {(each["id"], each["node"]): (each["cause"], each["outcome"]) for each in fleet.history("--limit", "100")}


def test_after_a_restore_elsewhere_the_history_is_whole_again_and_each_command_ran_once() -> None:
    with fleet_of("web1", "web2") as fleet:
        ledger = _ledger(fleet)
        web2 = fleet.nodes["web2"]
        fleet.trigger("ALL:work")
        web2.agent.stop()
        wait_until(lambda: fleet.connected() == {"web1"}, "web2 is away")
        missed = fleet.issue("ALL:work")
        fleet.wait_state(missed, "web1", "finished")

        file = fleet.directory / "hub.tar"
        fleet.run("hub", "backup", str(file))

        web2.agent.start()
        fleet.wait_state(missed, "web2", "finished")
        fleet.wait_connected("web2")
        forgotten = {fleet.issue("ALL:work") for _ in range(3)}
        for trigger in forgotten:
            for name in fleet.nodes:
                fleet.wait_state(trigger, name, "finished")
        fleet.run("run", "work", root=web2.root)
        wait_until(lambda: len(_runs(fleet)) == 11, "the run that somebody wanted is known, too")
        before = _runs(fleet)

        fleet.hub.kill()
        fleet.root = fleet.directory / "other"
        fleet.hub = Service(["nanoexec.hub", "--root", str(fleet.root)], fleet.directory / "other.log")
        said = fleet.run("hub", "restore", str(file))
        assert "restored the hub localhost as of" in said.stdout
        assert missed in said.stderr
        fleet.start_hub()
        fleet.wait_connected("web1", "web2")
        wait_until(lambda: _runs(fleet) == before, "the history is whole again")
        assert fleet.wait_state(missed, "web2", "finished")["run"]["outcome"] == "succeeded"
        assert fleet.status()["open_deliveries"] == 0
        shown = json.loads(fleet.run("show", forgotten.copy().pop(), "-o", "json").stdout)
        assert [run["node"] for run in shown] == ["web1", "web2"]

        later = fleet.trigger("ALL:work")["web1"]["trigger"]
        counts = Counter(ledger.read_text().split())
        assert set(counts) >= {missed, later, *forgotten}
        assert {counts[trigger] for trigger in (missed, later, *forgotten)} == {2}, "once on each of two nodes"
        assert "Traceback" not in fleet.hub.text()


def test_a_hub_that_runs_is_backed_up_and_never_replaced() -> None:
    with fleet_of() as fleet:
        file = fleet.directory / "hub.tar"
        kept_now = json.loads(fleet.run("hub", "backup", str(file), "-o", "json").stdout)
        assert kept_now["hub"] == "localhost"
        again = fleet.run("hub", "backup", str(file), check=False)
        assert_one_line(again, 1, str(file), "is already there", "--force")
        for words in ((), ("--force",)):
            done = fleet.run("hub", "restore", str(file), *words, check=False)
            assert_one_line(done, 1, "another hub is already running on this directory")
        assert fleet.status()["hub"] == "localhost"
