import os
import stat
from pathlib import Path

import pytest

from nanoexec.errors import ConfigError, IdentityError
from nanoexec.keys import credentials
from nanoexec.keys.ca import make_ca, make_hub_certificate, make_node_key, make_request, sign_request
from nanoexec.model import Credentials

pytestmark = pytest.mark.node

NOW = 1_800_000_000.0
CA = make_ca("hub", NOW)
HUB = make_hub_certificate(CA, "hub", NOW)


def new_node() -> Credentials:
    key = make_node_key()
    certificate = sign_request(CA, make_request(key, "web1"), name="web1", key_id="0" * 16, now=NOW)
    return Credentials(ca=CA.certificate, certificate=certificate, key=key)


NODE = new_node()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_hub_loads_what_was_written(tmp_path: Path) -> None:
    credentials.write_hub(tmp_path / "hub", CA, HUB)
    assert credentials.load_hub(tmp_path / "hub") == HUB
    assert credentials.load_ca(tmp_path / "hub") == CA


def test_a_node_loads_what_was_written(tmp_path: Path) -> None:
    credentials.write_node(tmp_path / "agent", NODE)
    assert credentials.load_node(tmp_path / "agent") == NODE


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_keys_are_for_their_owner_and_certificates_for_all_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        credentials.write_hub(tmp_path / "hub", CA, HUB)
        credentials.write_node(tmp_path / "agent", NODE)
    finally:
        os.umask(before)
    assert {path.name: mode(path) for path in (tmp_path / "hub").iterdir()} == {
        "ca.key": 0o600,
        "ca.crt": 0o644,
        "hub.key": 0o600,
        "hub.crt": 0o644,
    }
    assert {path.name: mode(path) for path in (tmp_path / "agent").iterdir()} == {
        "node.key": 0o600,
        "node.crt": 0o644,
        "ca.crt": 0o644,
    }
    assert mode(tmp_path / "hub") == mode(tmp_path / "agent") == 0o700


def test_a_directory_that_a_package_made_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent").chmod(0o750)
    credentials.write_node(tmp_path / "agent", NODE)
    assert mode(tmp_path / "agent") == 0o750


@pytest.mark.parametrize("bits", [0o604, 0o640, 0o610, 0o620, 0o601, 0o644, 0o666])
def test_a_key_that_anybody_else_can_touch_is_not_used(tmp_path: Path, bits: int) -> None:
    credentials.write_node(tmp_path, NODE)
    key = tmp_path / "node.key"
    key.chmod(bits)
    with pytest.raises(IdentityError) as caught:
        credentials.load_node(tmp_path)
    assert str(caught.value) == f"{key}: readable by others (mode 0{bits:o}): chmod 600 it"


@pytest.mark.parametrize("name", ["hub.key", "ca.key"])
def test_the_hubs_keys_are_held_to_the_same_rule(tmp_path: Path, name: str) -> None:
    credentials.write_hub(tmp_path, CA, HUB)
    (tmp_path / name).chmod(0o640)
    load = credentials.load_hub if name == "hub.key" else credentials.load_ca
    with pytest.raises(IdentityError, match=f"{name}: readable by others"):
        load(tmp_path)


def test_a_stricter_key_is_used(tmp_path: Path) -> None:
    credentials.write_node(tmp_path, NODE)
    (tmp_path / "node.key").chmod(0o400)
    assert credentials.load_node(tmp_path) == NODE


@pytest.mark.parametrize("name", ["node.key", "node.crt", "ca.crt"])
def test_a_missing_file_of_a_node_says_to_join(tmp_path: Path, name: str) -> None:
    credentials.write_node(tmp_path, NODE)
    (tmp_path / name).unlink()
    with pytest.raises(IdentityError) as caught:
        credentials.load_node(tmp_path)
    assert str(caught.value) == f"{tmp_path / name}: missing; `nanoexec agent join` makes it"


@pytest.mark.parametrize("name", ["hub.key", "hub.crt", "ca.crt"])
def test_a_missing_file_of_a_hub_says_to_init(tmp_path: Path, name: str) -> None:
    credentials.write_hub(tmp_path, CA, HUB)
    (tmp_path / name).unlink()
    with pytest.raises(IdentityError) as caught:
        credentials.load_hub(tmp_path)
    assert str(caught.value) == f"{tmp_path / name}: missing; `nanoexec hub init` makes it"


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xfe", b"\x00" * 10])
@pytest.mark.parametrize("name", ["node.key", "node.crt", "ca.crt"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    credentials.write_node(tmp_path, NODE)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        IdentityError, match=rf"\A{tmp_path / name}: not [^\n]*PEM[^\n]*`nanoexec agent join` makes it\Z"
    ):
        credentials.load_node(tmp_path)


@pytest.mark.parametrize("name", ["node.key", "node.crt"])
def test_a_file_cut_short_is_named(tmp_path: Path, name: str) -> None:
    credentials.write_node(tmp_path, NODE)
    path = tmp_path / name
    path.write_text(path.read_text()[:100])
    with pytest.raises(IdentityError, match=rf"\A{tmp_path}/node\.key: cannot be used with node\.crt \([^\n]*\Z"):
        credentials.load_node(tmp_path)


def test_a_ca_cut_short_is_named(tmp_path: Path) -> None:
    credentials.write_node(tmp_path, NODE)
    path = tmp_path / "ca.crt"
    path.write_text(path.read_text()[:100])
    with pytest.raises(IdentityError, match=rf"\A{path}: cannot be used \([^\n]*`nanoexec agent join` makes it\Z"):
        credentials.load_node(tmp_path)


def test_a_key_beside_a_certificate_of_another_key_is_told_as_such(tmp_path: Path) -> None:
    credentials.write_node(tmp_path, NODE)
    (tmp_path / "node.key").write_text(make_node_key())
    with pytest.raises(IdentityError, match=r"node\.key: cannot be used with node\.crt \(key values mismatch\)"):
        credentials.load_node(tmp_path)


def test_a_directory_in_the_place_of_a_key_is_said(tmp_path: Path) -> None:
    (tmp_path / "node.key").mkdir()
    with pytest.raises(IdentityError, match=r"node\.key: cannot be read: not a regular file"):
        credentials.load_node(tmp_path)


def test_joining_again_replaces_a_nodes_identity(tmp_path: Path) -> None:
    credentials.write_node(tmp_path, NODE)
    credentials.write_node(tmp_path, other := new_node())
    assert credentials.load_node(tmp_path) == other != NODE


@pytest.mark.parametrize("present", ["ca.key", "ca.crt", "hub.key", "hub.crt"])
def test_nothing_of_a_hubs_identity_is_ever_overwritten(tmp_path: Path, present: str) -> None:
    (tmp_path / present).write_text("precious")
    with pytest.raises(IdentityError, match=rf"\A{tmp_path / present} exists: this hub has an identity[^\n]*\Z"):
        credentials.write_hub(tmp_path, CA, HUB)
    assert [path.name for path in tmp_path.iterdir()] == [present]
    assert (tmp_path / present).read_text() == "precious"


def test_a_link_that_leads_nowhere_counts_as_a_hubs_identity(tmp_path: Path) -> None:
    (tmp_path / "ca.key").symlink_to("/nonexistent/unmounted/ca.key")
    with pytest.raises(IdentityError, match="this hub has an identity"):
        credentials.write_hub(tmp_path, CA, HUB)


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=rf"\A{tmp_path}/file/hub: cannot be made: Not a directory\Z"):
        credentials.write_hub(tmp_path / "file/hub", CA, HUB)
