"""How the fallbacks of a machine stand, and what is not as nanoexec left it."""

from pathlib import Path

import pytest

from nanoexec.crontab import own
from nanoexec.crontab.scan import State
from nanoexec.crontab.status import Status, status
from nanoexec.fallback import Past, Policy
from tests.support.crontabs import NOW, RUN, SLAUGHTER, Machine

pytestmark = pytest.mark.node


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def standing(machine: Machine, **runs: list[Past]) -> list[Status]:
    return list(status(machine.paths, machine.catalog, runs, now=NOW, zone=lambda _: 0))


HOUR = 3600.0
SLOT = NOW // HOUR * HOUR + 17 * 60 - (HOUR if NOW % HOUR < 17 * 60 else 0)  # the last :17 before NOW


def test_the_status_says_slots_last_success_and_policy(machine: Machine) -> None:
    machine.write("etc/crontab", SLAUGHTER)
    machine.write("etc/nanoexec/actions.d/slaughter.toml", b'name = "slaughter"\n[fallback]\npolicy = "always"\n')
    machine.adopt()
    past = [
        Past(SLOT - 900, "local", "succeeded", None, "{}"),
        Past(SLOT + 60, "trigger", "failed", None, "{}"),
        Past(None, "trigger", "refused", None, "{}"),
    ]

    (found,) = standing(machine, slaughter=past)

    assert (found.action, found.number, found.user, found.schedule) == ("slaughter", 1, "root", "17 * * * *")
    assert (found.previous, found.next) == (SLOT, SLOT + HOUR)
    assert (found.last_success, found.cause, found.satisfied) == (SLOT - 900, "local", False)
    assert (found.state, found.policy, found.drift) == (State.LIVE, Policy.ALWAYS, ())


def test_a_success_since_the_slot_makes_the_next_one_unnecessary(machine: Machine) -> None:
    machine.write("etc/crontab", SLAUGHTER)
    machine.adopt(shadow=True)

    (found,) = standing(machine, slaughter=[Past(SLOT + 60, "trigger", "succeeded", None, "{}")])
    assert (found.satisfied, found.cause, found.state) == (True, "trigger", State.SHADOW)
    (found,) = standing(machine, slaughter=[Past(SLOT + 1, "schedule", "succeeded", None, "{}")])
    assert (found.satisfied, found.last_success) == (False, SLOT + 1)
    (found,) = standing(machine)
    assert (found.satisfied, found.last_success, found.cause) == (False, None, "")


def test_a_line_with_a_zone_of_its_own_goes_by_it(machine: Machine) -> None:
    machine.write("etc/crontab", b"CRON_TZ=Asia/Kathmandu\n0 * * * * root /sbin/slaughter\n")
    machine.adopt()
    (found,) = standing(machine)
    assert found.next is not None
    assert found.next % HOUR == 15 * 60  # 5:45 ahead


def test_boot_has_no_slots(machine: Machine) -> None:
    machine.write("etc/crontab", b"@reboot root /sbin/slaughter\n")
    machine.adopt()
    (found,) = standing(machine)
    assert (found.schedule, found.previous, found.next, found.drift) == ("@reboot", None, None, ())


def test_our_own_lines_have_a_status(machine: Machine) -> None:
    own.schedule(machine.paths, machine.catalog.find("slaughter"), "17 * * * *", run=RUN)
    (found,) = standing(machine)
    assert (found.state, found.drift, found.next) == (State.SCHEDULED, (), SLOT + HOUR)


def test_an_edited_line_drifts(machine: Machine) -> None:
    crontab = machine.write("etc/crontab", SLAUGHTER)
    machine.adopt()
    crontab.write_bytes(crontab.read_bytes().replace(b"17 *", b"18 *"))
    (found,) = standing(machine)
    assert (found.number, found.schedule) == (1, "18 * * * *")
    assert found.drift == ("the line was edited by hand since it was adopted",)


@pytest.mark.parametrize(
    ("left", "drift"),
    [
        (SLAUGHTER, "the original line stands there again"),
        (b"# nothing\n", "the adopted line is gone"),
    ],
)
def test_an_adopted_line_that_is_not_there_drifts(machine: Machine, left: bytes, drift: str) -> None:
    crontab = machine.write("etc/crontab", SLAUGHTER)
    machine.adopt()
    crontab.write_bytes(left)
    (found,) = standing(machine)
    assert (found.action, found.number, found.drift) == ("slaughter", 0, (drift,))


def test_a_damaged_line_drifts(machine: Machine) -> None:
    crontab = machine.write("etc/crontab", SLAUGHTER)
    machine.adopt()
    crontab.write_bytes(crontab.read_bytes().replace(b"3>&1", b"3>&2"))
    (found,) = standing(machine)
    assert (found.number, found.state) == (1, State.DAMAGED)
    assert found.drift == ("what nanoexec put before the command was changed by hand",)


def test_a_file_a_backup_a_record_or_an_action_that_is_gone_drifts(machine: Machine) -> None:
    own_action = machine.write(
        "etc/nanoexec/actions.d/own.toml", b'name = "own"\ncommand = ["/bin/own"]\n[cron]\nmatch = "own"\n'
    )
    machine.write("etc/crontab", b"1 1 * * * root /bin/own\n")
    gone = machine.write("etc/cron.d/a", SLAUGHTER)
    machine.adopt()
    own_action.unlink()
    gone.unlink()
    for copy in machine.paths.crontabs.glob("*crontab.2*"):
        copy.unlink()

    first, second = standing(machine)

    assert first.action == "own"
    assert "is missing" in first.drift[0]
    assert first.drift[1] == "this node has no action own, so the original command runs"
    assert (second.file, second.drift[0]) == (str(gone), "the file is gone")
    (machine.paths.crontabs / "adoptions.json").unlink()
    assert "nothing is on record of its adoption" in standing(machine)[0].drift


def test_an_adopted_line_in_a_file_that_cron_ignores_drifts(machine: Machine) -> None:
    crontab = machine.write("etc/crontab", SLAUGHTER)
    machine.adopt()
    crontab.chmod(0o666)
    assert standing(machine)[0].drift == ("cron ignores the file: others than root may write it (mode 0666)",)
