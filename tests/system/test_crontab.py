"""Crontab lines that a package takes over and gives back, with the cron daemons of both suites."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.fleet import wait_until
from tests.system.conftest import FOUR
from tests.system.cron import fast_cron
from tests.system.estate import PATIENCE, Estate, install, outcomes
from tests.system.machines import Machine
from tests.system.recipe import Suite

LEDGER: Final = "/srv/slaughter"
SPOOL: Final = "/var/spool/cron/crontabs/root"
DROPPED_IN: Final = "/etc/cron.d/site"
SLAUGHTER: Final = f"""#!/bin/sh
# Stands in for Slaughter, which exits with 0 whatever happens; what it prints tells.
echo "$*" >> {LEDGER}
echo "Script completed: (return = 0) in 1 second(s)"
"""
# The bytes that people write: tabs, comments, variables, two spaces.
CRONTAB: Final = (
    '# m h dom mon dow command\nMAILTO=""\n\n*\t* * * *   /sbin/slaughter  --from=spool\t# every hour, once\n#end\n'
)
SITE: Final = "MAILTO=''\n* * * * *  root\t[ -x /sbin/slaughter ] && /sbin/slaughter --from=site\n"
ORIGINALS: Final = {"--from=spool", "--from=site"}
# Names, modes and owners of everything but what Debian itself keeps of any installation.
LIST: Final = r"""
find / -xdev \( -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/log -o -path /var/cache -o -path /tmp \
    -o -path /var/tmp -o -path /srv -o -path /var/lib/systemd/random-seed \) -prune -o -printf '%p %y %m %u:%g\n' | sort
find /run -name '*nanoexec*'
sha256sum /etc/passwd /etc/group /etc/shadow /etc/gshadow
"""


@pytest.fixture(scope="module", params=["node1", "node2"], ids=["bookworm", "trixie"])
def bare(request: pytest.FixtureRequest, estate: Estate) -> Machine:
    """A machine with two crontab lines that run Slaughter, and no package of ours yet."""
    node = estate.nodes[request.param]
    node.fresh()
    node.put(SLAUGHTER, "/sbin/slaughter", mode=0o755)
    node.run("crontab", "-", stdin=CRONTAB)
    node.put(SITE, DROPPED_IN, mode=0o640)
    node.run("systemctl", "stop", "cron.service")  # it is started where its slots are wanted
    return node


@pytest.fixture(scope="module")
def before(bare: Machine) -> dict[str, str]:
    """What there is on it before the package comes: files and users, and the crontabs to the byte."""
    bare.put("", LEDGER)
    return {"everything": bare.run("sh", "-c", LIST), "crontabs": crontabs(bare)}


@pytest.fixture
def node(bare: Machine, before: dict[str, str], estate: Estate, packages: dict[Suite, list[Path]]) -> Machine:
    """The machine with the package installed and joined, by its answers to the questions of debconf alone."""
    assert before
    if "ok installed" not in bare.attempt("dpkg-query", "--status", "nanoexec-agent").stdout:
        token = estate.hub.run("nanoexec", "hub", "token", "--node", bare.name).strip()
        answers = (
            f"nanoexec-agent nanoexec-agent/hub string hub:4446\nnanoexec-agent nanoexec-agent/token password {token}"
        )
        bare.run("debconf-set-selections", stdin=answers)
        install(bare, packages[FOUR[bare.name]])
        estate.wait_connected(bare.name)
    return bare


@pytest.fixture
def slots(node: Machine) -> Iterator[None]:
    """A slot every three seconds."""
    with fast_cron(node):
        yield


def crontabs(node: Machine) -> str:
    """Content, owner and mode of both files, but for the time that crontab(1) writes into a header of its own."""
    script = """
        grep -v '^# (- installed on ' "$1" | sha256sum
        sha256sum "$2"
        stat -c "%n %U:%G %a" "$@"
    """
    return node.run("sh", "-c", script, "sh", SPOOL, DROPPED_IN)


def taken_over(node: Machine) -> list[bool]:
    """Of each of the two files, whether it has a line of ours."""
    return ["nanoexec-run --scheduled slaughter" in node.get(path) for path in (SPOOL, DROPPED_IN)]


def test_installing_takes_both_lines_over(node: Machine, before: dict[str, str]) -> None:
    assert taken_over(node) == [True, True]
    owners = [line for line in before["crontabs"].splitlines() if ":" in line]
    assert [line for line in crontabs(node).splitlines() if ":" in line] == owners


@pytest.mark.usefixtures("slots")
def test_a_slot_runs_without_a_trigger_and_is_skipped_after_one(node: Machine, estate: Estate) -> None:
    def scheduled(outcome: str) -> list[str]:
        asked = ("--node", node.name, "--action", "slaughter", "--limit", "100")
        runs = estate.history(*asked)
        return [run["reason"] for run in runs if run["cause"] == "schedule" and run["outcome"] == outcome]

    wait_until(lambda: set(node.get(LEDGER).split("\n")) >= ORIGINALS, "both lines run their command", PATIENCE)
    wait_until(lambda: len(scheduled("succeeded")) >= 2, "the hub knows of both", PATIENCE)
    assert scheduled("skipped") == []

    assert outcomes(estate.trigger(f"{node.name}:slaughter")) == {node.name: "succeeded"}
    wait_until(lambda: scheduled("skipped"), "the next slot is skipped", PATIENCE)
    seen = node.get(LEDGER)
    many = len(scheduled("skipped")) + 2
    wait_until(lambda: len(scheduled("skipped")) >= many, "and the one after it", PATIENCE)
    assert node.get(LEDGER) == seen
    assert seen.splitlines()[-1] == "--delay=0 --verbose"
    assert all(reason.startswith("satisfied: ") for reason in scheduled("skipped"))


def test_edits_of_configuration_files_survive_an_upgrade_and_a_removal(
    node: Machine, packages: dict[Suite, list[Path]]
) -> None:
    edited = ("/etc/nanoexec/agent.toml", "/etc/cron.d/nanoexec-agent")
    node.run("sh", "-euc", 'for file; do echo "# ours" >> "$file"; done', "sh", *edited)
    sums = node.run("sha256sum", *edited)
    (package,) = (path for path in packages[FOUR[node.name]] if path.name.startswith("nanoexec-agent_"))
    repack = r"""
        dpkg-deb -R "/srv/packages/$1" /srv/newer
        sed -i 's/^Version: .*/&+1/' /srv/newer/DEBIAN/control
        dpkg-deb -b /srv/newer /srv/newer.deb
        dpkg -i /srv/newer.deb
        rm -r /srv/newer /srv/newer.deb
    """
    node.run("sh", "-euc", repack, "sh", package.name)
    assert node.run("dpkg-query", "--show", "--showformat=${Version}", "nanoexec-agent").endswith("+1")
    assert node.run("sha256sum", *edited) == sums
    node.run("apt-get", "remove", "-y", "-q", "nanoexec-agent")
    assert node.run("sha256sum", *edited) == sums
    for file in edited:
        node.run("sed", "-i", "$d", file)


def test_removal_gives_back_every_byte_and_another_installation_takes_over_again(
    node: Machine, before: dict[str, str], packages: dict[Suite, list[Path]]
) -> None:
    assert taken_over(node) == [True, True]
    node.run("apt-get", "remove", "-y", "-q", "nanoexec-agent")
    assert crontabs(node) == before["crontabs"]
    assert node.get(SPOOL).endswith(CRONTAB)  # Debian's crontab(1) puts a header of its own before it
    assert node.get(DROPPED_IN) == SITE
    install(node, packages[FOUR[node.name]])
    assert taken_over(node) == [True, True]


def test_lines_that_were_given_back_by_hand_stay_so_through_an_upgrade(
    node: Machine, packages: dict[Suite, list[Path]]
) -> None:
    node.run("nanoexec", "cron", "restore", "--all", "--yes")
    install(node, packages[FOUR[node.name]], "--reinstall")
    assert taken_over(node) == [False, False]
    node.run("nanoexec", "cron", "adopt", "--all", "--yes")
    assert taken_over(node) == [True, True]


def test_purging_leaves_no_file_no_user_and_no_line(node: Machine, before: dict[str, str]) -> None:
    node.run("apt-get", "purge", "-y", "-q", "nanoexec-agent", "nanoexec")
    assert crontabs(node) == before["crontabs"]
    left = set(node.run("sh", "-c", LIST).splitlines())
    assert left ^ set(before["everything"].splitlines()) == set()
    assert "nanoexec" not in node.run("debconf-show", "--listowners")
