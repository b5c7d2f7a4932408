"""Real tools of both suites, as the shipped integrations run and judge them: CFEngine, and Puppet without a server."""

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.system.estate import Estate
from tests.system.machines import Machine

NODES: Final = ("node1", "node2")  # one of each suite
CFENGINE: Final = "/var/lib/cfengine3/inputs/promises.cf"
MOTD: Final = "/srv/motd"
HOLDS: Final = f"""
bundle agent main {{ files: "{MOTD}" create => "true", edit_line => words; }}
bundle edit_line words {{ insert_lines: "managed by CFEngine"; }}
"""
FAILS: Final = 'bundle agent main { files: "/proc/nobody/can/write/this" create => "true"; }\n'
# Laid over the shipped manifest, whose rules for outcomes hold: only what is run is another.
PUPPET: Final = """\
name = "puppet"
command = ["puppet", "apply", "--verbose", "--detailed-exitcodes", "--color=false", "/srv/site.pp"]
"""
SITE: Final = "file { '/srv/puppet': content => 'managed by Puppet' }\n"
SITE_FAILS: Final = "exec { '/bin/false': }\n"

Verdicts = dict[str, tuple[str, bool | None]]


@pytest.fixture(scope="module")
def judged(estate: Estate) -> Callable[[str, int], Verdicts]:
    """Triggers an action on both nodes: what came of it by node, as the hub says, and whether it changed anything."""
    for name in NODES:
        node = estate.nodes[name]
        node.put(PUPPET, "/etc/nanoexec/actions.d/puppet.toml")

    def trigger(action: str, status: int) -> Verdicts:
        deliveries: dict[str, Any] = estate.trigger(f"{','.join(NODES)}:{action}", status=status)
        assert all(delivery["run"] for delivery in deliveries.values()), json.dumps(deliveries)
        return {name: (d["run"]["outcome"], d["run"]["changed"]) for name, d in deliveries.items()}

    return trigger


def give(estate: Estate, content: str, path: str) -> None:
    for name in NODES:
        estate.nodes[name].put(content, path, mode=0o600)


def contents(estate: Estate, path: str) -> list[str]:
    return [Machine.get(estate.nodes[name], path) for name in NODES]


def all_of(outcome: str, changed: bool | None) -> Verdicts:  # noqa: FBT001 - the two words of a verdict
    return dict.fromkeys(NODES, (outcome, changed))


def test_a_cfengine_policy_changes_a_file_once_and_then_has_nothing_to_do(
    estate: Estate, judged: Callable[[str, int], Verdicts]
) -> None:
    give(estate, HOLDS, CFENGINE)
    assert judged("cfengine", 0) == all_of("succeeded", True)
    assert contents(estate, MOTD) == ["managed by CFEngine\n"] * 2
    assert judged("cfengine", 0) == all_of("succeeded", False)


def test_a_cfengine_policy_that_fails_is_a_failed_run(estate: Estate, judged: Callable[[str, int], Verdicts]) -> None:
    give(estate, FAILS, CFENGINE)
    verdicts = judged("cfengine", 3)
    assert {name: outcome for name, (outcome, _) in verdicts.items()} == dict.fromkeys(NODES, "failed")


def test_a_puppet_manifest_changes_a_file_once_and_then_has_nothing_to_do(
    estate: Estate, judged: Callable[[str, int], Verdicts]
) -> None:
    give(estate, SITE, "/srv/site.pp")
    assert judged("puppet", 0) == all_of("succeeded", True)
    assert contents(estate, "/srv/puppet") == ["managed by Puppet"] * 2
    assert judged("puppet", 0) == all_of("succeeded", False)


def test_a_puppet_manifest_that_fails_is_a_failed_run(estate: Estate, judged: Callable[[str, int], Verdicts]) -> None:
    give(estate, SITE_FAILS, "/srv/site.pp")
    verdicts = judged("puppet", 3)
    assert {name: outcome for name, (outcome, _) in verdicts.items()} == dict.fromkeys(NODES, "failed")
