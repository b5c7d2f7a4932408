"""A hub's name is that of its certificate; what hub.toml says of it may only agree."""

import subprocess
from pathlib import Path

import pytest

from nanoexec.config import Paths
from nanoexec.errors import ConfigError, IdentityError
from nanoexec.hub.setup import create, next_step
from nanoexec.keys.credentials import HUB_KEY
from tests.support.command_line import ENVIRONMENT, command, nanoexec_command
from tests.support.fleet import Fleet, assert_one_line

NAME = "hub.example.org"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(root=tmp_path)
    made.etc.mkdir(parents=True)
    return made


def test_without_a_name_in_its_file_the_hub_has_that_of_its_certificate() -> None:
    with Fleet() as fleet:
        assert "name" not in fleet.keys
        assert fleet.status()["hub"] == "localhost"
        fleet.add("web1")
        assert fleet.trigger("ALL:uptime")["web1"]["run"]["outcome"] == "succeeded"


def test_another_name_in_its_file_is_one_clear_line_and_the_same_name_is_none(paths: Paths) -> None:
    create(paths, NAME)
    paths.hub_config.write_text('name = "other.example.org"\n')
    said = f"{paths.hub_config}: name: the hub's certificate is for '{NAME}', not for 'other.example.org'"
    assert_one_line(nanoexec_command(paths.root, "hub", "serve"), 1, said)
    paths.hub_config.write_text(f'name = "{NAME}"\nbind = "192.0.2.1"\n')
    assert_one_line(nanoexec_command(paths.root, "hub", "serve"), 1, "192.0.2.1")


def test_making_a_hub_leaves_its_file_alone(paths: Paths) -> None:
    paths.hub_config.write_text("# mine\n")
    assert f"{paths.hub_config} was there and stays as it is" in create(paths, NAME)
    assert paths.hub_config.read_text() == "# mine\n"


def test_a_hub_is_not_made_under_another_name_than_its_file_has(paths: Paths) -> None:
    paths.hub_config.write_text('name = "other.example.org"\n')
    with pytest.raises(ConfigError, match=r"hub\.toml: name: it is 'other\.example\.org', and not 'hub\.example\.org'"):
        create(paths, NAME)
    assert not (paths.hub_state / HUB_KEY).exists()
    paths.hub_config.write_text(f'name = "{NAME}"\n')
    create(paths, NAME)
    with pytest.raises(IdentityError, match="never overwritten"):
        create(paths, NAME)


def test_what_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # in the way of a directory, as a right that is missing would be
    made = nanoexec_command(tmp_path / "file", "hub", "init", "--name", NAME)
    assert_one_line(made, 1, "hub.toml: cannot be made: Not a directory")
    words = command(tmp_path, "hub", "signing-key", str(tmp_path / "file/key"))
    key = subprocess.run(
        [word for word in words if word not in ("--root", str(tmp_path))],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert_one_line(key, 1, "file/key: cannot be made: File exists")


def test_the_next_step_is_the_unit_where_there_is_one(paths: Paths) -> None:
    assert create(paths, NAME)[-1] == next_step(by_systemd=False)
    assert next_step(by_systemd=False).startswith("next: nanoexec hub serve, ")
    assert next_step(by_systemd=True).startswith("next: systemctl start nanoexec-hub, ")


def test_a_control_socket_that_cannot_be_made_is_one_line(paths: Paths) -> None:
    create(paths, NAME)
    paths.hub_config.write_text('bind = "127.0.0.1"\npublish_port = 0\nreport_port = 0\n')
    paths.run.mkdir(parents=True)
    (paths.run / "hub").write_text("in the way")
    done = nanoexec_command(paths.root, "hub", "serve")
    assert_one_line(done, 1, f"{paths.control_socket}: cannot make the control socket: File exists")
