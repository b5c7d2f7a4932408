"""The launcher of the process campaign: what is ordered happens, where and as often as it is ordered, and is told."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from nanoexec.runner.journal import Journal
from tests.chaos import faulty

REPOSITORY = Path(__file__).parents[2]
# Admits a run of each id that it is given, one after the other or each in a fork of its own.
WORK = """
import os, sys
from nanoexec.errors import StoreError
from nanoexec.model import Cause, Run
from nanoexec.runner.journal import Journal

def admit(id_):
    with Journal.open(Path(sys.argv[1]), "0" * 16) as journal:
        run = Run(id=id_, action="x", cause=Cause.TRIGGER, by="alice", requested=1.0, boot="b", supervisor=1)
        try:
            journal.admit(run, 1)
        except StoreError as error:
            print(error)

from pathlib import Path
for id_ in sys.argv[3:]:
    if sys.argv[2] == "forks":
        pid = os.fork()
        if not pid:
            admit(id_)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    else:
        admit(id_)
"""
IDS = ["0000000000000001", "0000000000000002", "0000000000000003"]


class Ended(NamedTuple):
    """A process that has ended, and what it said."""

    pid: int
    status: int
    said: str


class Scene:
    """A journal that is there already, and what is done to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "faults"
        self.journal = directory / "journal.db"
        Journal.open(self.journal, "0" * 16).close()
        (directory / "admitting.py").write_text(WORK)

    def run(self, *words: str, module: str = "tests.chaos.faulty", **environment: str) -> Ended:
        """To its end."""
        given = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{REPOSITORY}:{self.directory}"}
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            env=given | {"NANOEXEC_FAULT_LOG": str(self.log)} | environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        said, _ = process.communicate(timeout=60)
        return Ended(process.pid, process.returncode, said)

    def admit(self, fault: str = "", how: str = "one by one", **environment: str) -> Ended:
        """Admit runs of `IDS`."""
        return self.run("admitting", str(self.journal), how, *IDS, NANOEXEC_FAULT=fault, **environment)

    def admitted(self) -> list[str]:
        with Journal.open(self.journal, "0" * 16) as journal:
            return [run.id for run in journal.changes(0, 10)[0]]

    def told(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize(
    ("when", "count", "there"), [("before", 1, 0), ("after", 1, 1), ("before", 3, 2), ("after", 2, 2)]
)
def test_it_dies_at_the_write_that_was_ordered_and_what_was_committed_is_there(
    scene: Scene, when: str, count: int, there: int
) -> None:
    ended = scene.admit(f"Journal.admit.{when}:{count}")
    assert ended.status == -signal.SIGKILL
    assert scene.admitted() == IDS[:there]
    assert scene.told()[-1] == f"dead {ended.pid} Journal.admit.{when}"


def test_what_fails_is_told_as_sqlite_would_and_the_process_goes_on(scene: Scene) -> None:
    ended = scene.admit("Journal.admit.before:2:error")
    assert (ended.status, len(ended.said.splitlines())) == (0, 1)
    assert "disk I/O error (on purpose)" in ended.said
    assert scene.admitted() == [IDS[0], IDS[2]]
    assert f"error {ended.pid} Journal.admit.before" in scene.told()


def test_forks_count_together(scene: Scene) -> None:
    ended = scene.admit("Journal.admit.before:2", "forks")
    assert (ended.status, ended.said.split()) == (0, ["0", str(-signal.SIGKILL), "0"])
    assert scene.admitted() == [IDS[0], IDS[2]]


def test_every_commit_is_told_before_and_after_and_nothing_else_is(scene: Scene) -> None:
    assert scene.admit().status == 0
    assert scene.told() == ["hit Journal.admit.before", "hit Journal.admit.after"] * len(IDS)


def test_a_commit_that_no_function_of_nanoexec_makes_is_told_as_nobodys(scene: Scene) -> None:
    """So a write that the source does not show is seen by the campaign: it compares the two."""
    sqlite3.connect(scene.directory / "other.db").close()
    (scene.directory / "foreign.py").write_text(
        "import sqlite3, sys\n"
        "for name in (sys.argv[1], ':memory:'):\n"
        "    with sqlite3.connect(name) as database:\n"
        "        database.execute('CREATE TABLE t (x)')\n"
        "        database.execute('SELECT * FROM t').fetchall()\n"
        "    database.close()\n"
    )
    assert scene.run("foreign", str(scene.directory / "other.db")).status == 0
    assert scene.told() == ["hit nobody.before", "hit nobody.after"]


def test_a_slow_disk_makes_each_commit_last_and_each_process_says_so_once(scene: Scene) -> None:
    (scene.directory / "sitecustomize.py").write_text("import time\ntime.sleep = lambda s: print('slept', s)\n")
    assert scene.admit(NANOEXEC_FAULT_SLOW="0.25").said.splitlines() == ["slept 0.25"] * len(IDS)
    assert [line for line in scene.told() if line.startswith("slow ")] == ["slow 0.25"]


def test_a_write_that_the_disk_itself_refuses_is_told_with_the_process(scene: Scene) -> None:
    (scene.directory / "foreign.py").write_text(
        "import sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('CREATE TABLE t (x)')\n"
        "database.execute('PRAGMA max_page_count = 1')\n"
        "database.execute('INSERT INTO t VALUES (zeroblob(100000))')\n"
    )
    ended = scene.run("foreign", str(scene.directory / "other.db"))
    assert ended.status == 1
    assert scene.told()[-2:] == ["hit nobody.before", f"refused {ended.pid} nobody"]


def test_in_haste_pauses_are_shorter_also_that_of_a_supervisor_that_cannot_say_how_its_run_ended(scene: Scene) -> None:
    (scene.directory / "sitecustomize.py").write_text("import time\ntime.sleep = lambda s: print('slept', s)\n")
    (scene.directory / "foreign.py").write_text(
        "import inspect\n"
        "from nanoexec.runner.supervision import Supervision\n"
        "inspect.signature(Supervision).parameters['pause'].default(60)\n"
    )
    assert scene.run("foreign", NANOEXEC_FAULT_HASTE="20").said == "slept 3.0\n"


def test_a_module_that_is_launched_is_what_it_would_be_without(scene: Scene) -> None:
    launched = scene.run("nanoexec", "trigger", "--help")
    itself = scene.run("trigger", "--help", module="nanoexec")
    assert "Usage:" in launched.said
    assert (launched.status, launched.said) == (itself.status, itself.said)


def test_the_points_are_the_public_functions_that_write_and_the_kinds_of_change() -> None:
    points = faulty.points()
    assert {"Journal.admit", "Journal.finish", "Glance.note_skip", "Store.purge_some", "prepare"} <= points
    assert {"Store.commit TriggerIssued", "Store.commit RunReported"} <= points
    assert points & {"Journal.find", "Journal.changes", "Journal.close", "Store.history", "Store.commit"} == set()
    assert {point for point in points if point.rpartition(".")[2].startswith("_")} == set()
