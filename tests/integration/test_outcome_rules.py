"""Every recording of a real tool is judged by the manifest that is shipped for it."""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from nanoexec.actions import Catalog, Judge
from nanoexec.catalog import read_catalog
from nanoexec.config import Paths

pytestmark = pytest.mark.node

OUTCOMES = Path(__file__).parent.parent / "data/outcomes"
RECORDINGS = sorted(OUTCOMES.glob("*/*.json"))
UNRECORDED = {"chef-client", "salt-call", "uptime"}  # not in Debian; nothing to judge but the exit status


def matching(catalog: Catalog, command: str) -> list[str]:
    cron = {name: manifest.cron.match for name, manifest in catalog.actions.items() if manifest.cron}
    return [name for name, pattern in cron.items() if re.search(pattern, command)]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return read_catalog(Paths(root=tmp_path_factory.mktemp("node")))


@pytest.mark.parametrize("file", RECORDINGS, ids=lambda file: f"{file.parent.name}/{file.stem}")
@pytest.mark.parametrize("chunk", [1, 4096])
def test_the_shipped_rules_say_what_really_happened(file: Path, chunk: int, catalog: Catalog) -> None:
    recording: dict[str, Any] = json.loads(file.read_text())
    output = file.with_suffix(".out").read_bytes()
    judge = Judge(catalog.find(file.parent.name).outcome)
    for start in range(0, len(output), chunk):
        judge.feed(output[start : start + chunk])
    verdict = judge.verdict(recording["status"])
    assert {"outcome": verdict.outcome, "changed": verdict.changed} == recording["expected"]
    assert bool(verdict.reason) is (verdict.outcome == "failed")


def test_every_integration_has_recordings_of_different_outcomes(catalog: Catalog) -> None:
    outcomes = defaultdict(list)
    for file in RECORDINGS:
        outcomes[file.parent.name].append(json.loads(file.read_text())["expected"]["outcome"])
    assert set(outcomes) == set(catalog.actions) - UNRECORDED
    for tool, found in outcomes.items():
        assert len(found) >= 3, tool
        assert len(set(found)) >= 2, tool


def test_no_recording_lacks_its_other_half() -> None:
    files = {file.with_suffix("") for file in OUTCOMES.glob("*/*.out")}
    assert files == {file.with_suffix("") for file in RECORDINGS}


@pytest.mark.parametrize(
    ("tool", "line", "expected"),
    [
        ("chef-client", "Infra Phase complete, 3/41 resources updated in 12 seconds", True),
        ("chef-client", "Chef Infra Client finished, 0/41 resources updated in 12 seconds", False),
        ("salt-call", "Succeeded: 5 (changed=2)", True),
        ("salt-call", "Succeeded: 5", False),
    ],
)
def test_tools_that_debian_does_not_have_are_judged_by_their_summary(
    tool: str, line: str, expected: object, catalog: Catalog
) -> None:
    judge = Judge(catalog.find(tool).outcome)
    judge.feed(f"{line}\n".encode())
    assert (judge.verdict(0).outcome, judge.verdict(0).changed) == ("succeeded", expected)


@pytest.mark.parametrize(
    ("tool", "command"),
    [
        ("slaughter", "/sbin/slaughter"),
        ("slaughter", "slaughter --delay=300 >/dev/null"),
        ("puppet", "/usr/bin/puppet agent --onetime --no-daemonize --splay"),
        ("puppet", "sleep 20; PATH=/x:/y nice -n 19 /opt/puppetlabs/bin/puppet agent -t 2>&1 | logger -t puppet"),
        ("cfengine", "/var/cfengine/bin/cf-agent -f failsafe.cf && /var/cfengine/bin/cf-agent"),
        ("ansible-pull", "cd /srv && ansible-pull -o -C main -U https://git.example.com/site.git"),
        ("ansible-pull", "[ -x /usr/bin/ansible-pull ] && sudo -H /usr/bin/ansible-pull -U x"),
        ("chef-client", "chronic /usr/bin/chef-client -s 300"),
        ("salt-call", "(salt-call state.apply)"),
        ("unattended-upgrades", "/usr/bin/unattended-upgrade -v"),
        ("unattended-upgrades", "unattended-upgrades"),
    ],
)
def test_a_crontab_command_that_runs_the_tool_is_recognised(tool: str, command: str, catalog: Catalog) -> None:
    assert matching(catalog, command) == [tool]


@pytest.mark.parametrize(
    "command",
    [
        "pgrep -x slaughter",
        "rm -f /var/lock/slaughter",
        "/usr/local/bin/slaughter-report",
        "puppet apply /etc/puppet/site.pp",
        "test -f /etc/puppet agent",
        "find /var/cfengine/outputs -name 'cf-agent *' -delete",
        "systemctl restart chef-client",
        "logger ansible-pull done",
        "cat /var/log/unattended-upgrades",
    ],
)
def test_a_command_that_only_mentions_a_tool_is_not_mistaken_for_it(command: str, catalog: Catalog) -> None:
    assert matching(catalog, command) == []
