"""How often cron starts an action, as the crontabs of a node say."""

from pathlib import Path

import pytest

from nanoexec.config import Paths
from nanoexec.crontab.prefix import Prefix
from nanoexec.runner.rhythm import intervals
from nanoexec.schedule import DAY, HOUR

pytestmark = pytest.mark.node

NOW = 1_790_000_000.0


def line(schedule: str, action: str = "work", *, user: str = "root ", shadow: bool = False) -> str:
    return f"{schedule} {user}{bytes(Prefix(action, '/usr/bin/nanoexec-run', '', shadow)).decode()}/opt/work\n"


def write(root: Path, file: str, *lines: str) -> Path:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))
    path.chmod(0o600)
    return path


def test_adopted_lines_count_wherever_they_are(tmp_path: Path) -> None:
    write(tmp_path, "etc/crontab", "PATH=/bin\n", line("17 * * * *"), "5 5 * * * root /opt/other\n")
    write(tmp_path, "etc/cron.d/nanoexec", line("3 4 * * *", "tidy"))
    write(tmp_path, "var/spool/cron/crontabs/root", line("0 0 * * 0", "weekly", user=""))
    assert intervals(Paths(root=tmp_path), NOW) == {"work": HOUR, "tidy": DAY, "weekly": 7 * DAY}


def test_lines_of_one_action_count_together(tmp_path: Path) -> None:
    write(tmp_path, "etc/crontab", line("0 3 * * *"))
    write(tmp_path, "etc/cron.d/site", line("0 15 * * *"))
    assert intervals(Paths(root=tmp_path), NOW) == {"work": 12 * HOUR}


def test_the_shadow_the_boot_and_what_never_fires_promise_nothing(tmp_path: Path) -> None:
    write(
        tmp_path,
        "etc/crontab",
        line("17 * * * *", shadow=True),
        line("@reboot", "boot"),
        line("0 0 30 2 *", "never"),
    )
    assert intervals(Paths(root=tmp_path), NOW) == {}


def test_a_file_that_cron_ignores_promises_nothing(tmp_path: Path) -> None:
    write(tmp_path, "etc/cron.d/site", line("17 * * * *").rstrip("\n"))
    write(tmp_path, "etc/cron.d/open", line("17 * * * *")).chmod(0o666)
    write(tmp_path, "etc/cron.d/old.bak", line("17 * * * *"))
    assert intervals(Paths(root=tmp_path), NOW) == {}


def test_what_a_user_writes_into_a_crontab_of_their_own_promises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanoexec.crontab.scan.MACHINE", tmp_path)
    write(tmp_path, "etc/crontab", line("17 * * * *"), line("* * * * *", "other", user="alice "))
    write(tmp_path, "var/spool/cron/crontabs/alice", line("* * * * *", user=""), line("0 0 1 1 *", "tidy", user=""))
    assert intervals(Paths(root=tmp_path), NOW) == {"work": HOUR}


def test_a_node_without_crontabs_has_no_rhythm(tmp_path: Path) -> None:
    assert intervals(Paths(root=tmp_path), NOW) == {}
