"""The configuration of a node, read from real files."""

from pathlib import Path

import pytest

from nanoexec.config import AgentConfig, Joined, Paths, format_joined
from nanoexec.errors import ConfigError
from nanoexec.settings import read_agent, read_joined, read_own

pytestmark = pytest.mark.node

MEMBER = Joined(hub="hub.example.org", hub_name="hub.example.org", publish_port=1, report_port=2, name="web1")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(root=tmp_path)
    made.etc.mkdir(parents=True)
    return made


def test_without_any_file_there_are_the_defaults(tmp_path: Path) -> None:
    assert read_agent(Paths(root=tmp_path)) == AgentConfig()
    assert read_joined(Paths(root=tmp_path)) is None


def test_either_file_is_enough_and_the_administrators_wins(paths: Paths) -> None:
    paths.joined.write_bytes(format_joined(MEMBER))
    assert read_agent(paths).hub == "hub.example.org"
    paths.agent_config.write_text('hub = "nat.example.net"\nallow_exec = true\n')
    both = read_agent(paths)
    assert (both.hub, both.hub_name, both.report_port, both.allow_exec) == (
        "nat.example.net",
        "hub.example.org",
        2,
        True,
    )
    paths.joined.unlink()
    assert read_agent(paths) == read_own(paths) == AgentConfig(hub="nat.example.net", allow_exec=True)


@pytest.mark.parametrize("name", ["agent.toml", "joined.toml"])
def test_a_fault_names_the_file_that_has_it(paths: Paths, name: str) -> None:
    paths.agent_config.write_text("")
    paths.joined.write_bytes(format_joined(MEMBER))
    with (paths.etc / name).open("a") as file:
        file.write("colour = 1\n")
    with pytest.raises(ConfigError, match=rf"^{paths.etc / name}: unknown key colour$"):
        read_agent(paths)


@pytest.mark.parametrize("name", ["agent.toml", "joined.toml"])
def test_a_file_that_cannot_be_read_is_not_taken_for_one_that_is_not_there(paths: Paths, name: str) -> None:
    (paths.etc / name).mkdir()
    with pytest.raises(ConfigError, match=rf"^{paths.etc / name}: cannot read the node's configuration: Is a dir"):
        read_agent(paths)


def test_a_file_that_was_asked_for_by_name_must_be_there_and_joined_toml_is_beside_it(tmp_path: Path) -> None:
    paths = Paths(root=Path("/nonexistent"), config=tmp_path / "mine.toml")
    with pytest.raises(ConfigError, match=r"mine\.toml: cannot read the node's configuration: it is not there$"):
        read_agent(paths)
    (tmp_path / "mine.toml").write_text("")
    (tmp_path / "joined.toml").write_bytes(format_joined(MEMBER))
    assert read_agent(paths).name == "web1"
