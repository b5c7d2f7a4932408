"""Lines taken over, and armed, on real files."""

import fcntl
import os
import stat
from pathlib import Path

import pytest

from nanoexec.crontab import records
from nanoexec.crontab.adoption import adopted
from nanoexec.crontab.lines import parse
from nanoexec.crontab.plan import Plan, apply, diff
from nanoexec.crontab.takeover import plan_adopt, plan_arm
from nanoexec.errors import ConfigError, RefusedError, UsageError
from tests.support.crontabs import NOW, RUN, SLAUGHTER, Machine

pytestmark = pytest.mark.node
CRONTAB = b"SHELL=/bin/sh\r\n\n# \xe9\n" + SLAUGHTER + b"\t5 5\t* * *  root  true\n" + b"@daily root puppet agent -t\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def plan(machine: Machine, *actions: str, everything: bool = False, **more: object) -> Plan:
    return plan_adopt(
        machine.paths,
        machine.catalog,
        run=RUN,
        now=NOW,
        actions=actions,
        everything=everything,
        **more,  # type: ignore[arg-type]
    )


def test_a_plan_changes_nothing(machine: Machine) -> None:
    file = machine.write("etc/crontab", SLAUGHTER)
    made = plan(machine, "slaughter")

    assert [(edit.file, edit.lines, edit.what) for edit in made.edits] == [(str(file), (1,), "adopt")]
    assert file.read_bytes() == SLAUGHTER
    assert [each.name for each in machine.root.iterdir()] == ["etc"]


def test_doing_it_twice_changes_nothing(machine: Machine) -> None:
    file = machine.write("etc/crontab", CRONTAB)
    machine.adopt()
    once, known = file.read_bytes(), records.load(machine.paths)

    assert plan(machine, everything=True) == Plan()
    machine.adopt()
    assert (file.read_bytes(), records.load(machine.paths)) == (once, known)

    machine.restore()
    assert machine.restore() == Plan()


def test_the_diff_shows_the_line_before_and_after(machine: Machine) -> None:
    machine.write("etc/crontab", SLAUGHTER + b"# \x1b[31m\xe9\n")
    (edit,) = plan(machine, "slaughter").edits
    shown = diff(edit)

    assert f"-{SLAUGHTER.decode()}" in shown
    assert f"+17 * * * * root [ ! -x {RUN} ]" in shown
    assert "\x1b" not in shown
    assert "\\x1b[31m" in shown


def test_a_users_crontab_is_adopted_with_its_owner(machine: Machine) -> None:
    data = b"17 * * * * /sbin/slaughter\n"
    file = machine.user("root", data)
    (edit,) = machine.adopt().edits

    assert edit.owner == "root"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [record.owner for record in records.load(machine.paths)] == ["root"]
    machine.restore()
    assert file.read_bytes() == data


def test_an_unknown_action_is_refused_by_name(machine: Machine) -> None:
    with pytest.raises(RefusedError, match=r"unknown action .?puppte.?; this node knows: .*puppet"):
        plan(machine, "puppte")
    with pytest.raises(RefusedError, match="unknown action"):
        plan(machine, lines=[("/etc/crontab", 1, "puppte")])


def test_lines_that_are_left_alone_say_why(machine: Machine) -> None:
    machine.write("etc/crontab", b"1 1 * * * bob puppet agent -t\n2 2 * * * root echo puppet\n")
    machine.write("etc/cron.d/p.bak", b"3 3 * * * root puppet agent -t\n")
    machine.write("etc/cron.d/shell", b"SHELL=/usr/bin/fish\n3 3 * * * root puppet agent -t\n")

    made = plan(machine, "puppet", "slaughter")

    assert made.edits == ()
    reasons = [(Path(r.file).name, r.number, r.action, r.reason) for r in made.refusals]
    assert ("crontab", 1, "puppet", "it runs as bob, and the action as root") in reasons
    assert ("crontab", 2, "puppet", "it mentions puppet, and does not run it") in reasons
    assert ("shell", 2, "puppet", "its SHELL is /usr/bin/fish, not a shell like /bin/sh") in reasons
    assert any(
        name == "p.bak" and reason.startswith("cron ignores this file: its name") for name, _, _, reason in reasons
    )
    assert ("", 0, "slaughter", "no crontab line runs it: nanoexec cron schedule slaughter gives it one") in reasons


def test_a_line_that_is_named_is_taken_whoever_runs_it_and_whatever_it_runs(machine: Machine) -> None:
    data = b"1 1 * * * bob /usr/local/bin/wrapper\n"
    file = machine.write("etc/crontab", data)
    machine.adopt(lines=((str(file), 1, "puppet"),))

    (line,) = parse(file.read_bytes(), system=True)
    known = adopted(line)
    assert known is not None
    assert known.action == "puppet"
    assert machine.adopt(lines=((str(file), 1, "puppet"),)) == Plan()
    machine.restore("puppet")
    assert file.read_bytes() == data


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (1, "not a job"),
        (2, "already adopted otherwise, by slaughter"),
        (9, "no such line in a crontab of this machine"),
    ],
)
def test_a_named_line_that_cannot_be_adopted_is_an_error(machine: Machine, number: int, reason: str) -> None:
    file = machine.write("etc/crontab", b"# a comment\n" + SLAUGHTER)
    machine.adopt("slaughter")
    before = file.read_bytes()
    with pytest.raises(UsageError, match=f"etc/crontab:{number}: .*{reason}"):
        machine.adopt(lines=((str(file), number, "puppet"),))
    assert file.read_bytes() == before


def test_a_named_line_in_a_file_that_cron_ignores_is_an_error(machine: Machine) -> None:
    file = machine.write("etc/cron.d/a", SLAUGHTER, 0o666)
    with pytest.raises(UsageError, match="cron ignores this file: others than root may write it"):
        machine.adopt(lines=((str(file), 1, "slaughter"),))


def test_a_line_too_long_for_cron_is_left_alone(machine: Machine) -> None:
    machine.write("etc/crontab", b"1 1 * * * root /sbin/slaughter " + b"x" * 900 + b"\n")
    (refusal,) = plan(machine, "slaughter").refusals
    assert "cron takes 998" in refusal.reason


def test_a_line_in_the_shadow_is_armed(machine: Machine) -> None:
    file = machine.write("etc/crontab", SLAUGHTER)
    machine.adopt("slaughter", shadow=True)
    shadowed = file.read_bytes()
    assert b"--shadow" in shadowed

    (refusal,) = plan(machine, "slaughter").refusals
    assert refusal.reason == "already adopted, in the shadow: nanoexec cron arm slaughter"

    assert plan_arm(machine.paths, now=NOW, actions=["puppet"]) == Plan()
    apply(machine.paths, plan_arm(machine.paths, now=NOW, actions=["slaughter"]))
    assert b"--shadow" not in file.read_bytes()
    assert plan_arm(machine.paths, now=NOW, everything=True) == Plan()
    assert machine.restore().notes == ()
    assert file.read_bytes() == SLAUGHTER


def test_a_backup_of_every_version_is_kept_for_root_alone(machine: Machine) -> None:
    file = machine.write("etc/crontab", SLAUGHTER)
    machine.adopt()
    between = file.read_bytes()
    machine.restore(now=NOW + 60)

    copies = {copy.read_bytes(): copy for copy in machine.paths.crontabs.iterdir() if copy.suffix != ".json"}
    assert set(copies) == {SLAUGHTER, between}
    assert {stat.S_IMODE(copy.stat().st_mode) for copy in machine.paths.crontabs.iterdir()} == {0o600}
    assert stat.S_IMODE(machine.paths.crontabs.stat().st_mode) == 0o700
    assert copies[SLAUGHTER].name.endswith(f"etc+crontab.20231114T221320Z.{copies[SLAUGHTER].name[-8:]}")


def test_an_edit_between_plan_and_apply_is_noticed_and_no_file_is_written(machine: Machine) -> None:
    first = machine.write("etc/crontab", SLAUGHTER)
    second = machine.write("etc/cron.d/a", SLAUGHTER)
    made = plan(machine, everything=True)
    second.write_bytes(SLAUGHTER + b"# edited\n")

    with pytest.raises(ConfigError, match=r"cron\.d/a: somebody has edited it meanwhile: nothing was written"):
        apply(machine.paths, made)

    assert first.read_bytes() == SLAUGHTER
    assert second.read_bytes() == SLAUGHTER + b"# edited\n"
    assert records.load(machine.paths) == ()


def test_a_second_nanoexec_is_turned_away(machine: Machine) -> None:
    file = machine.write("etc/crontab", SLAUGHTER)
    machine.paths.run.mkdir(parents=True)
    with (machine.paths.run / "crontabs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another nanoexec is changing crontabs"):
            machine.adopt()
        assert file.read_bytes() == SLAUGHTER
    machine.adopt()
    assert file.read_bytes() != SLAUGHTER


def test_a_file_that_cannot_be_written_leaves_no_record_of_itself(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.write("etc/crontab", SLAUGHTER)
    second = machine.write("etc/cron.d/a", SLAUGHTER)
    rename = os.rename

    def full(source: str, target: str, **more: int) -> None:
        if target == "a":
            raise OSError(28, "No space left on device")
        rename(source, target, **more)

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(ConfigError, match=r"cron\.d/a: cannot be changed: No space left on device"):
        machine.adopt()

    assert second.read_bytes() == SLAUGHTER
    assert [Path(record.file).name for record in records.load(machine.paths)] == ["crontab"]


def test_a_link_that_leads_out_of_the_root_is_not_adopted(
    machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "crontab"
    outside.write_bytes(SLAUGHTER)
    (machine.root / "etc").mkdir()
    (machine.root / "etc/crontab").symlink_to(outside)
    machine.adopt()
    assert outside.read_bytes() == SLAUGHTER
