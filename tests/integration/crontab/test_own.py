"""The file that is wholly ours."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from nanoexec.actions import Manifest
from nanoexec.config import Paths
from nanoexec.crontab import own
from nanoexec.crontab.adoption import adopted
from nanoexec.crontab.lines import Kind, parse
from nanoexec.crontab.plan import Plan
from nanoexec.crontab.prefix import Prefix
from nanoexec.crontab.scan import State, scan
from nanoexec.crontab.status import status
from nanoexec.errors import ConfigError, UsageError
from nanoexec.schedule import Schedule
from tests.support.crontabs import NOW, RUN, SLAUGHTER, Machine

pytestmark = pytest.mark.node


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def file(machine: Machine) -> Path:
    return machine.root / "etc/cron.d/nanoexec"


def schedule(machine: Machine, action: str, expression: str) -> str:
    return own.schedule(machine.paths, machine.catalog.find(action), expression, run=RUN)


def test_an_action_without_a_line_gets_one_in_the_adopted_form(machine: Machine) -> None:
    assert schedule(machine, "slaughter", "17 *  * * *") == "17 * * * *"

    lines = parse(file(machine).read_bytes(), system=True)
    (job,) = (line for line in lines if line.job)
    known = adopted(job)
    assert known is not None
    assert (known.action, known.prefix.run, known.prefix.root) == ("slaughter", RUN, str(machine.root))
    assert (job.schedule, job.user) == ("17 * * * *", "root")
    assert b"cd / && " in job.raw
    assert job.raw.rstrip().endswith(b"/sbin/slaughter --delay=0 --verbose")
    assert job.environment == {"PATH": own.PATH}
    assert all(line.kind is not Kind.INVALID for line in lines)
    assert stat.S_IMODE(file(machine).stat().st_mode) == 0o644


def test_the_command_runs_without_nanoexec_as_a_trigger_would_start_it(machine: Machine) -> None:
    """What the shell does with the whole line when nanoexec-run is gone."""
    probe = machine.write("probe", b'#!/bin/sh\nprintf "%s|" "$PWD" "$A" "$@"\n', 0o755)
    manifest = Manifest(
        name="probe", command=(str(probe), "a b", "100%", "it's"), cwd="/usr", env={"A": "x % y"}, user="root"
    )
    own.schedule(machine.paths, manifest, "@hourly", run="/nonexistent/nanoexec-run")
    (job,) = (line for line in parse(file(machine).read_bytes(), system=True) if line.job)

    done = subprocess.run(["/bin/sh", "-c", job.command], capture_output=True, text=True, check=True)

    assert done.stdout == "/usr|x % y|a b|100%|it's|"


def test_the_crontab_program_of_debian_accepts_the_file(machine: Machine) -> None:
    program = shutil.which("crontab")
    if program is None:
        pytest.skip("crontab(1) is not installed")
    schedule(machine, "slaughter", "17 * * * *")
    done = subprocess.run([program, "-n", str(file(machine))], capture_output=True, text=True, check=False)
    if "invalid option" in done.stderr:
        pytest.skip("this crontab(1) only installs")
    assert done.returncode == 0, done.stderr


def test_scheduling_again_replaces_the_line_and_keeps_the_others(machine: Machine) -> None:
    schedule(machine, "slaughter", "17 * * * *")
    schedule(machine, "puppet", "@daily")
    schedule(machine, "slaughter", "5 4 * * 1")

    assert [(e.action, e.expression) for e in own.entries(machine.paths)] == [
        ("puppet", "@daily"),
        ("slaughter", "5 4 * * 1"),
    ]
    once = file(machine).read_bytes()
    schedule(machine, "slaughter", "5 4 * * 1")
    assert file(machine).read_bytes() == once


def test_a_command_with_a_percent_sign_stays_as_it_is_when_others_change(machine: Machine) -> None:
    manifest = Manifest(name="report", command=("/bin/date", "+%F %T"), user="root")
    own.schedule(machine.paths, manifest, "@daily", run=RUN)
    line = next(line for line in file(machine).read_bytes().splitlines() if b"report" in line)
    assert b"\\%F" in line

    schedule(machine, "slaughter", "17 * * * *")

    assert line in file(machine).read_bytes().splitlines()


def test_the_file_goes_with_its_last_line(machine: Machine) -> None:
    schedule(machine, "slaughter", "17 * * * *")
    schedule(machine, "puppet", "18 * * * *")

    assert own.unschedule(machine.paths, "slaughter")
    assert [entry.action for entry in own.entries(machine.paths)] == ["puppet"]
    assert not own.unschedule(machine.paths, "slaughter")
    assert own.unschedule(machine.paths, "puppet")
    assert not file(machine).exists()
    assert not own.unschedule(machine.paths, "puppet")


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("61 * * * *", "minute"),
        ("* * * *", "five fields"),
        ("@fortnightly", "expected one of"),
        ("5-1 * * * *", "a range runs upward"),
        ("0 0 30 2 *", "would never fire"),
        ("~ * * * *", "Debian's cron does not know ~"),
        ("0 0 1-31/2 * 1", r"would be written '0 0 \*/2 \* 1', which is not the same"),
        ("; rm -rf / #", "five fields|minute"),
        ("", "five fields"),
    ],
)
def test_an_expression_that_is_not_worth_a_line_is_refused(machine: Machine, expression: str, reason: str) -> None:
    schedule(machine, "puppet", "@daily")
    before = file(machine).read_bytes()
    with pytest.raises(UsageError, match=reason):
        schedule(machine, "slaughter", expression)
    assert file(machine).read_bytes() == before


@pytest.mark.parametrize(
    "expression",
    [
        "@hourly",
        "@reboot",
        "*/7 1-5,9 * jan,mar mon-fri",
        "0 0 * * 7",
        "0 0 * * 5-7",
        "59 23 31 12 *",
        "0 4-23/6 * * *",
    ],
)
def test_what_is_written_fires_when_what_was_asked_for_does(machine: Machine, expression: str) -> None:
    written, asked = Schedule.parse(schedule(machine, "slaughter", expression)), Schedule.parse(expression)
    assert written.reboot == asked.reboot
    at = NOW
    for _ in range(100 if not asked.reboot else 0):
        slot = asked.next(at, lambda _: 0)
        assert slot == written.next(at, lambda _: 0)
        assert slot is not None
        at = slot


def test_on_a_machine_an_action_whose_runs_could_not_be_journaled_gets_no_line() -> None:
    """Each of its slots would run, complain about the journal by mail, and count as never run."""
    machine, manifest = Paths(), Manifest(name="probe", command=("/bin/true",), user="nobody")
    with pytest.raises(UsageError, match=r"^probe cannot have a schedule: it runs as nobody, who cannot write the j"):
        own.schedule(machine, manifest, "17 * * * *", run="a path that cannot stand in a crontab")


def test_nodes_spread_over_the_period_and_each_keeps_its_minute() -> None:
    minutes = {own.spread("slaughter", f"web{number}", 3600) for number in range(200)}
    assert len(minutes) > 40
    assert own.spread("slaughter", "web1", 3600) == own.spread("slaughter", "web1", 3600)
    with pytest.raises(UsageError, match="cron cannot fire"):
        own.spread("slaughter", "web1", 7 * 3600)


def test_an_action_with_an_adopted_line_is_not_scheduled_twice(machine: Machine) -> None:
    crontab = machine.write("etc/crontab", SLAUGHTER)
    machine.adopt("slaughter")
    with pytest.raises(UsageError, match=f"slaughter has an adopted line, {crontab}:1"):
        schedule(machine, "slaughter", "17 * * * *")
    assert not file(machine).exists()


def test_what_a_user_has_written_like_an_adopted_line_keeps_nobody_from_a_schedule(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanoexec.crontab.scan.MACHINE", machine.root)
    call = bytes(Prefix("slaughter", RUN)) + b"/sbin/slaughter\n"
    machine.user("alice", b"* * * * * " + call)
    machine.write("etc/crontab", b"* * * * * alice " + call)
    assert schedule(machine, "slaughter", "17 * * * *") == "17 * * * *"
    crontab = machine.user("root", b"* * * * * " + call)
    with pytest.raises(UsageError, match=f"slaughter has an adopted line, {crontab}:1"):
        schedule(machine, "slaughter", "17 * * * *")


@pytest.mark.parametrize("foreign", [b"1 1 * * * root true\n", b"# mine\n", b"MAILTO=root\n", b"garbage\n"])
def test_lines_that_somebody_put_into_the_file_are_not_lost(machine: Machine, foreign: bytes) -> None:
    schedule(machine, "slaughter", "17 * * * *")
    file(machine).write_bytes(data := file(machine).read_bytes() + foreign)
    for change in (lambda: schedule(machine, "puppet", "@daily"), lambda: own.unschedule(machine.paths, "slaughter")):
        with pytest.raises(ConfigError, match=r"cron\.d/nanoexec:5: not a line of nanoexec's: move it"):
            change()
    assert file(machine).read_bytes() == data


def test_a_schedule_that_somebody_changed_in_the_file_is_kept(machine: Machine) -> None:
    schedule(machine, "slaughter", "17 * * * *")
    file(machine).write_bytes(file(machine).read_bytes().replace(b"17 * * * *", b"3 3 * * *"))
    schedule(machine, "puppet", "@daily")
    assert [entry.expression for entry in own.entries(machine.paths)] == ["@daily", "3 3 * * *"]


def test_our_own_lines_are_neither_adopted_nor_restored(machine: Machine) -> None:
    schedule(machine, "slaughter", "17 * * * *")
    before = file(machine).read_bytes()

    (found,) = scan(machine.paths, machine.catalog)
    assert (found.action, found.state) == ("slaughter", State.SCHEDULED)
    assert machine.restore() == Plan()
    assert machine.adopt() == Plan()
    assert file(machine).read_bytes() == before


def test_a_link_in_the_place_of_the_file_is_not_followed_out(
    machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "victim"
    outside.write_bytes(b"precious")
    (machine.root / "etc/cron.d").mkdir(parents=True)
    file(machine).symlink_to(outside)
    with pytest.raises(ConfigError, match="leads out of"):
        schedule(machine, "slaughter", "17 * * * *")
    assert outside.read_bytes() == b"precious"


def test_nothing_of_this_runs_an_action(machine: Machine) -> None:
    """The tool would leave a trace, and so would nanoexec-run."""
    trace = machine.root / "trace"
    tool = machine.write("bin/tool", f"#!/bin/sh\necho ran >>{trace}\n".encode(), 0o755)
    manifest = f'name = "tool"\ncommand = ["{tool}"]\n[cron]\nmatch = "tool"\n'
    machine.write("etc/nanoexec/actions.d/tool.toml", manifest.encode())
    machine.write("etc/crontab", f"* * * * * root {tool}\n".encode())
    machine.write("etc/cron.daily/tool", f"#!/bin/sh\n{tool}\n".encode(), 0o755)

    scan(machine.paths, machine.catalog)
    machine.adopt("tool")
    status(machine.paths, machine.catalog, {}, now=NOW, zone=lambda _: 0)
    machine.restore("tool")
    own.schedule(machine.paths, machine.catalog.find("tool"), "@hourly", run=str(tool))
    own.unschedule(machine.paths, "tool")

    assert not trace.exists()
    assert os.access(tool, os.X_OK)
