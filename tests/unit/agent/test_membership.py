"""Whether a node has joined, and whether anew: decided by what stat(2) says of its files."""

from pathlib import Path

import pytest

from nanoexec.agent.membership import Signature, is_new, read_member, signature, written
from nanoexec.config import Paths
from nanoexec.errors import IdentityError
from nanoexec.keys.credentials import CA_CERTIFICATE, NODE_CERTIFICATE, NODE_KEY

pytestmark = pytest.mark.node

OLD: Signature = ((1, 1, 1), (2, 1, 1), (3, 1, 1), (4, 1, 1))
NEW: Signature = ((5, 1, 2), (6, 1, 2), (7, 1, 2), (8, 1, 2))


def test_files_that_are_others_and_stand_still_are_a_new_membership() -> None:
    assert is_new(OLD, NEW, NEW)
    assert is_new((*OLD[:3], None), OLD, OLD), "joined.toml may come later, where agent.toml has said enough"


def test_files_that_are_the_same_are_not() -> None:
    assert not is_new(OLD, OLD, OLD)
    assert not is_new(OLD, NEW, OLD)


def test_files_that_still_move_are_not_yet() -> None:
    assert not is_new(OLD, OLD, NEW)
    assert not is_new(OLD, (NEW[0], *OLD[1:]), NEW)


@pytest.mark.parametrize("missing", range(3))
def test_files_of_which_one_is_missing_are_not(missing: int) -> None:
    parts = tuple(None if number == missing else status for number, status in enumerate(NEW))
    assert not is_new(OLD, parts, parts)


def test_a_node_has_joined_when_it_knows_its_hub_and_has_every_credential(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path)
    paths.agent_state.mkdir(parents=True)
    paths.etc.mkdir(parents=True)
    assert read_member(paths) is None
    paths.agent_config.write_text('hub = "hub.example.org"\n')
    for name in (NODE_KEY, CA_CERTIFICATE, NODE_CERTIFICATE):
        assert read_member(paths) is None
        (paths.agent_state / name).write_text("rubbish")
        (paths.agent_state / name).chmod(0o600)
    with pytest.raises(IdentityError, match="not a private key"):
        read_member(paths)
    paths.agent_config.unlink()
    assert read_member(paths) is None


def test_a_file_that_is_written_again_has_another_signature(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path)
    paths.etc.mkdir(parents=True)
    assert signature(written(paths)) == (None, None, None, None)
    paths.joined.write_text("a")
    first = signature(written(paths))
    paths.joined.unlink()
    paths.joined.write_text("ab")
    assert first != signature(written(paths)) != (None, None, None, None)
