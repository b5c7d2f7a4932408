"""What a slot knows without reading it again, and what it imports."""

import subprocess
import sys
from pathlib import Path

import pytest

from nanoexec.config import Paths
from nanoexec.crontab.adoption import adopted
from nanoexec.crontab.lines import parse
from nanoexec.run import plan
from tests.support.cron import ScheduledNode, from_shell

pytestmark = pytest.mark.node


def test_the_paths_are_those_of_the_configuration() -> None:
    paths = Paths(root=Path("/r"))
    known = (plan.JOURNAL, plan.BEACON, plan.AGENT_CONFIG, plan.ACTIONS)
    assert tuple(Path("/r") / relative for relative in known) == (
        paths.journal,
        paths.beacon,
        paths.agent_config,
        paths.actions,
    )


def test_a_plan_survives_being_written_down() -> None:
    before = plan.Plan("1 'a b' 2", "hub-silent", 600.0, [("* * * * *", b"caf\xe9 \t"), ("@reboot", b"x")])
    after = plan.Plan.read(bytes(before))
    assert [getattr(after, name) for name in plan.Plan.__slots__] == [
        getattr(before, name) for name in plan.Plan.__slots__
    ]


def test_a_skip_imports_nothing_that_takes_long(node: ScheduledNode) -> None:
    command = node.note()
    node.local()
    from_shell(command)  # which makes the plan
    record = node.root / "modules"
    node.install(
        "import os\nreal = os._exit\n"
        f"def record(code):\n    open({str(record)!r}, 'w').write(' '.join(sys.modules)); real(code)\n"
        "os._exit = record"
    )
    assert from_shell(command) == (0, b"")
    loaded = {name.partition(".")[0] for name in record.read_text().split()}
    assert len(node.reasons()) == 2
    assert "sqlite3" in loaded
    assert not loaded & {
        *("pynng", "asyncio", "typer", "sqlalchemy", "cryptography", "crontab", "croniter", "ClusterShell"),
        *("msgspec", "tomllib", "re", "typing", "subprocess", "pathlib", "contextlib", "zoneinfo", "json", "signal"),
    }


def test_a_run_imports_no_network_and_no_crontab_library(node: ScheduledNode) -> None:
    code = "import nanoexec.run.slot, nanoexec.run.scheduled, sys; print(*{n.partition('.')[0] for n in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "nanoexec" in loaded
    assert not loaded & {"pynng", "asyncio", "typer", "sqlalchemy", "cryptography", "crontab", "croniter"}


def test_what_the_shell_gets_is_what_the_crontab_says(node: ScheduledNode) -> None:
    (command,) = node.write(r"date +\%F  ")
    (line,) = parse(node.crontab.read_bytes(), system=True)
    known = adopted(line)
    assert known is not None
    assert command.endswith(b"; date +%F  ")
