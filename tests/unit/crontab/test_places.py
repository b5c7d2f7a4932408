"""Where cron looks, and what it ignores there. The rules are those of Debian's cron 3.0pl1-162."""

import os
from pathlib import Path

import pytest

from nanoexec.config import Paths
from nanoexec.crontab.places import Crontab, judged
from nanoexec.crontab.scan import Found, State, crontabs, scan
from tests.support.crontabs import SLAUGHTER, Machine

pytestmark = pytest.mark.node
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def ignored(paths: Paths) -> dict[str, str]:
    return {Path(crontab.file).name: crontab.ignored for crontab in crontabs(paths)}


def test_a_machine_without_cron_has_no_crontabs(tmp_path: Path) -> None:
    assert list(crontabs(Paths(root=tmp_path))) == []


def test_every_crontab_is_found_with_its_kind(machine: Machine) -> None:
    machine.write("etc/crontab", SLAUGHTER)
    machine.write("etc/cron.d/b", SLAUGHTER)
    machine.write("etc/cron.d/a_1-X", SLAUGHTER)
    machine.user("root", b"17 * * * * /sbin/slaughter\n")
    machine.write("var/spool/cron/alice", b"17 * * * * /sbin/slaughter\n", 0o600)  # cronie's

    found = [(Path(crontab.file).name, crontab.owner, crontab.ignored) for crontab in crontabs(machine.paths)]

    assert found == [
        ("crontab", "", ""),
        ("a_1-X", "", ""),
        ("b", "", ""),
        ("root", "root", ""),
        ("alice", "alice", ""),
    ]


def test_a_name_that_cron_does_not_read_is_told_if_there_is_a_job_in_it(machine: Machine) -> None:
    machine.write("etc/cron.d/slaughter.dpkg-old", SLAUGHTER)
    machine.write("etc/cron.d/.placeholder", b"# keep this directory\n")
    machine.write("etc/cron.d/README.txt", b"Put crontabs here.\n")

    assert ignored(machine.paths) == {"slaughter.dpkg-old": "its name has more than letters, digits, - and _"}


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_system_crontab_that_others_may_write_is_ignored(machine: Machine, mode: int) -> None:
    machine.write("etc/cron.d/a", SLAUGHTER, mode)
    assert ignored(machine.paths) == {"a": f"others than root may write it (mode {mode:04o})"}


@as_root
def test_a_system_crontab_of_somebody_else_is_ignored(machine: Machine) -> None:
    os.chown(machine.write("etc/cron.d/a", SLAUGHTER), 1, 1)
    os.chown(machine.write("etc/crontab", SLAUGHTER), 1, 1)
    assert set(ignored(machine.paths).values()) == {"it does not belong to root"}


@as_root
def test_a_link_must_be_roots_and_so_must_be_what_it_leads_to(machine: Machine) -> None:
    target = machine.write("opt/a", SLAUGHTER)
    directory = machine.root / "etc/cron.d"
    directory.mkdir(parents=True)
    (directory / "good").symlink_to(target)
    (directory / "foreign").symlink_to(target)
    os.lchown(directory / "foreign", 1, 1)
    (directory / "dangling").symlink_to(machine.root / "nowhere")

    reasons = ignored(machine.paths)

    assert reasons["good"] == ""
    assert reasons["foreign"] == "it is a symbolic link that does not belong to root"
    assert reasons["dangling"].startswith("it cannot be read") or "cannot be reached" in reasons["dangling"]


def test_a_link_out_of_the_root_is_not_followed(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "crontab"
    outside.write_bytes(SLAUGHTER)
    directory = machine.root / "etc/cron.d"
    directory.mkdir(parents=True)
    (directory / "a").symlink_to(outside)

    (crontab,) = crontabs(machine.paths)

    assert "leads out of" in crontab.ignored
    assert crontab.data == b""


def test_a_directory_that_leads_out_of_the_root_is_not_followed(
    machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "a").write_bytes(SLAUGHTER)
    (machine.root / "etc").mkdir()
    (machine.root / "etc/cron.d").symlink_to(outside)

    assert ["leads out of" in crontab.ignored for crontab in crontabs(machine.paths)] == [True]


def test_a_fifo_holds_nobody_up(machine: Machine) -> None:
    machine.write("etc/cron.d/b", SLAUGHTER)
    os.mkfifo(machine.root / "etc/cron.d/a")

    assert ignored(machine.paths) == {"a": "it cannot be read: not a regular file", "b": ""}


def test_a_file_with_hard_links_is_ignored(machine: Machine) -> None:
    file = machine.write("etc/cron.d/a", SLAUGHTER)
    os.link(file, machine.root / "etc/cron.d/b")

    assert ignored(machine.paths) == {"a": "it has 2 hard links", "b": "it has 2 hard links"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (SLAUGHTER.rstrip(b"\n"), "line 1: no newline at its end"),
        (SLAUGHTER + b"61 * * * * root true\n", "line 2: bad minute"),
        (b"\n" * 10_001, "it has 10001 lines, and cron reads 10000"),
        (SLAUGHTER + b"# without a newline", ""),
        (b"", ""),
    ],
)
def test_a_file_that_cron_cannot_read_to_its_end_is_ignored(data: bytes, reason: str) -> None:
    assert judged("/etc/crontab", data).ignored.startswith(reason)
    assert bool(judged("/etc/crontab", data).ignored) == bool(reason)


def test_on_a_real_machine_a_user_that_does_not_exist_makes_cron_ignore_the_file() -> None:
    data = b"17 * * * * no-such-user true\n"
    assert judged("/etc/crontab", data, known=True).ignored == "line 1: there is no user no-such-user"
    assert judged("/etc/crontab", data).ignored == ""


def test_a_users_crontab_must_be_private(machine: Machine) -> None:
    machine.user("root", b"17 * * * * true\n").chmod(0o644)
    assert ignored(machine.paths) == {"root": "its mode is 0644, and cron wants 0600"}


@as_root
def test_a_users_crontab_must_be_theirs_or_roots_and_no_link(machine: Machine) -> None:
    os.chown(machine.user("nobody", b"17 * * * * true\n"), 1, 1)
    (machine.root / "var/spool/cron/crontabs/bin").symlink_to("nobody")

    assert ignored(machine.paths) == {
        "nobody": "it belongs neither to nobody nor to root",
        "bin": "it is a symbolic link",
    }


def test_the_scan_says_of_every_job_who_takes_it_or_why_nobody_does(machine: Machine) -> None:
    machine.write("etc/crontab", SLAUGHTER + b"MAILTO=x\n5 5 * * * bob puppet agent -t\n6 6 * * * root true\n")
    machine.write("etc/cron.d/off.bak", SLAUGHTER)

    job, other, plain, file, off = scan(machine.paths, machine.catalog)

    assert (job.number, job.kind, job.action, job.reason, job.taken) == (1, Found.JOB, "slaughter", "", True)
    assert (job.schedule, job.user, job.text) == ("17 * * * *", "root", SLAUGHTER.decode().rstrip())
    assert (other.number, other.action, other.reason) == (3, "puppet", "it runs as bob, and the action as root")
    assert (plain.number, plain.action, plain.reason, plain.taken) == (4, "", "", False)
    assert (file.kind, file.number) == (Found.IGNORED, 0)
    assert off.reason.startswith("cron ignores this file: its name")


def test_the_scan_tells_adopted_lines_and_damaged_ones(machine: Machine) -> None:
    file = machine.write("etc/crontab", SLAUGHTER)
    machine.write("etc/cron.d/puppet", b"*/30 * * * * root puppet agent -t\n")
    machine.adopt("slaughter")
    machine.adopt("puppet", shadow=True)

    assert {f.action: f.state for f in scan(machine.paths, machine.catalog)} == {
        "slaughter": State.LIVE,
        "puppet": State.SHADOW,
    }
    file.write_bytes(file.read_bytes().replace(b"3>&1", b"3>&2"))
    (damaged,) = (f for f in scan(machine.paths, machine.catalog) if f.file == str(file))
    assert damaged.state is State.DAMAGED
    assert "mend it by hand" in damaged.reason


def test_bytes_that_are_not_text_can_be_shown(machine: Machine) -> None:
    machine.write("etc/crontab", b"1 1 * * * root echo \xe9t\xe9\n")
    (found,) = scan(machine.paths, machine.catalog)
    assert found.text.encode().decode() == "1 1 * * * root echo \ufffdt\ufffd"


def test_what_runs_a_tool_without_a_crontab_is_told_with_advice(machine: Machine) -> None:
    machine.write(
        "etc/cron.daily/puppet",
        b"#!/bin/sh\n# puppet agent\n[ -x /usr/bin/puppet ] || exit 0\nexec nice puppet agent -t\n",
        0o755,
    )
    machine.write("etc/cron.monthly/slaughter", b"#!/bin/sh\n/sbin/slaughter\n", 0o755)
    machine.write("etc/cron.daily/off", b"#!/bin/sh\npuppet agent -t\n", 0o644)
    machine.write("etc/cron.hourly/with.dot", b"#!/bin/sh\npuppet agent -t\n", 0o755)
    machine.write(
        "etc/anacrontab", b"SHELL=/bin/sh\n1 5 cron.daily run-parts /etc/cron.daily\n7 9 chef nice chef-client\n"
    )

    found = {(finding.kind, finding.action): finding for finding in scan(machine.paths, machine.catalog)}

    assert set(found) == {(Found.SCRIPT, "puppet"), (Found.SCRIPT, "slaughter"), (Found.ANACRON, "chef-client")}
    script = found[Found.SCRIPT, "puppet"]
    assert script.text == "exec nice puppet agent -t"
    assert script.reason == f"nanoexec cron schedule puppet --every 1d, then chmod -x {script.file}"
    assert "'30 3 1 * *'" in found[Found.SCRIPT, "slaughter"].reason
    assert not script.taken


def test_timers_are_told_by_the_service_that_they_start(machine: Machine) -> None:
    units = "usr/lib/systemd/system"
    machine.write(f"{units}/puppet-run.timer", b"[Timer]\nOnCalendar=hourly\n[Install]\nWantedBy=timers.target\n")
    machine.write(
        f"{units}/puppet-run.service",
        b"[Service]\nExecStart=/bin/true\nExecStart=\nExecStart=-/usr/bin/puppet \\\n agent -t\n",
    )
    machine.write(f"{units}/other.timer", b"[Timer]\nUnit=chef.service\n")
    machine.write("etc/systemd/system/chef.service", b"[Service]\nExecStart=@/usr/bin/chef-client\n")
    machine.write(f"{units}/plain.timer", b"[Timer]\nOnCalendar=daily\n")
    machine.write(f"{units}/plain.service", b"[Service]\nExecStart=/bin/echo puppet agent\n")
    (machine.root / "etc/systemd/system/masked.timer").symlink_to("/dev/null")

    found = {finding.action: finding for finding in scan(machine.paths, machine.catalog)}

    assert set(found) == {"puppet", "chef-client"}
    assert found["puppet"].kind is Found.TIMER
    assert found["puppet"].reason == "nanoexec cron schedule puppet, then systemctl disable --now puppet-run.timer"


def test_a_timer_of_the_administrator_hides_the_one_of_the_package(machine: Machine) -> None:
    machine.write("usr/lib/systemd/system/a.timer", b"[Timer]\n")
    machine.write("usr/lib/systemd/system/a.service", b"[Service]\nExecStart=/usr/bin/puppet agent\n")
    machine.write("etc/systemd/system/a.timer", b"[Timer]\nUnit=b.service\n")
    machine.write("etc/systemd/system/b.service", b"[Service]\nExecStart=/bin/true\n")

    assert scan(machine.paths, machine.catalog) == ()


def test_a_crontab_is_the_sum_of_its_lines() -> None:
    crontab: Crontab = judged("/etc/crontab", SLAUGHTER + b"\xff\r\n")
    assert b"".join(line.raw for line in crontab.lines) == crontab.data
