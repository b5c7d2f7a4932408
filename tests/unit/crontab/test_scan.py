"""What of a crontab can be adopted at all, besides what its command runs."""

from pathlib import Path

import pytest

from nanoexec.config import Paths
from nanoexec.crontab.lines import parse
from nanoexec.crontab.scan import unjournaled

pytestmark = pytest.mark.node


def reason(root: str, line: bytes, owner: str = "") -> str:
    (job,) = parse(line, system=not owner)
    return unjournaled(Paths(root=Path(root)), job.user or owner)


def test_on_a_machine_only_lines_of_root_can_be_journaled() -> None:
    assert "only lines of root" in reason("/", b"17 * * * * www-data /usr/bin/tool\n")
    assert "alice" in reason("/", b"17 * * * * /usr/bin/tool\n", owner="alice")
    assert reason("/", b"17 * * * * root /usr/bin/tool\n") == ""
    assert reason("/", b"17 * * * * /usr/bin/tool\n", owner="root") == ""


def test_under_a_scratch_root_the_journal_is_whoever_runs_it() -> None:
    assert reason("/srv/scratch", b"17 * * * * alice /usr/bin/tool\n") == ""
