"""The shipped integrations on three real nodes: Debian's cf-agent with real policies, and a stand-in for Slaughter."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fleet import Fleet, FleetNode, fleet_of, outcomes, whoami

pytestmark = pytest.mark.timeout(180)

NODES = ("web1", "web2", "db1")
CF_AGENT = ("cf-agent", "cf-promises", "cf-key")
# Slaughter exits 0 whatever happens; what it prints is all that tells.
SLAUGHTER = """\
#!/bin/sh
[ "$1" = --delay=0 ] || {{ echo "sleeping for a random time"; exit 0; }}
[ "$2" = --verbose ] && verbose=yes
status=$(cat {status})
if [ "$status" = unreachable ]; then
    echo "Failed to fetch policy from server."
    exit 0
fi
echo "Running the policy"
echo ran >> {ledger}
[ -n "$verbose" ] && echo "Script completed: (return = $status) in 1 second(s)"
exit 0
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleet_of(*NODES) as running:
        yield running


@pytest.fixture(scope="module")
def cfengine(fleet: Fleet) -> Fleet:
    """The shipped integration, with a policy and a work directory of its own on each node."""
    if lacking := [program for program in CF_AGENT if not shutil.which(program)]:
        reason = f"no {', '.join(lacking)}: apt-get install --no-install-recommends cfengine3"
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    for node in fleet.nodes.values():
        work = _make_work_directory(node.root / "cfengine")
        node.action(
            "cfengine",
            f"command = ['cf-agent', '--no-lock', '--inform', '--color=never', '-f', '{policy(node)}']\n"
            f"user = '{whoami()}'\n"
            f"env.CFENGINE_TEST_OVERRIDE_WORKDIR = '{work}'\n",
        )
    return fleet


def _make_work_directory(work: Path) -> Path:
    """What cf-agent wants to find: its checker, a key pair, and nobody else who may write here."""
    for name in ("inputs", "bin", "state", "modules", "outputs", "ppkeys"):
        (work / name).mkdir(parents=True, mode=0o700)
    (work / "bin/cf-promises").symlink_to(str(shutil.which("cf-promises")))
    subprocess.run(
        ["cf-key", "-f", str(work / "ppkeys/localhost")],
        env=os.environ | {"CFENGINE_TEST_OVERRIDE_WORKDIR": str(work)},
        capture_output=True,
        check=True,
    )
    return work


def policy(node: FleetNode) -> Path:
    return node.root / "policy.cf"


def managed(node: FleetNode) -> Path:
    return node.root / "motd"


def give_policy(node: FleetNode, promises: str) -> None:
    policy(node).write_text(f"bundle agent main\n{{\n{promises}\n}}\n")
    policy(node).chmod(0o600)


def write_the_file(node: FleetNode) -> str:
    return f'files: "{managed(node)}" create => "true", content => "managed on {node.name}";'


def verdicts(fleet: Fleet, action: str) -> list[tuple[str, str, bool | None]]:
    """What history says of the last trigger, by node."""
    return sorted(
        (entry["node"], entry["outcome"], entry["changed"])
        for entry in fleet.history("--action", action, "--limit", str(len(NODES)))
    )


def test_a_policy_that_holds_changes_each_node_once_and_then_nothing_more(cfengine: Fleet) -> None:
    for node in cfengine.nodes.values():
        give_policy(node, write_the_file(node))
        managed(node).unlink(missing_ok=True)

    assert outcomes(cfengine.trigger("ALL:cfengine")) == dict.fromkeys(NODES, "succeeded")
    assert [managed(node).read_text() for node in cfengine.nodes.values()] == [f"managed on {node}" for node in NODES]
    assert verdicts(cfengine, "cfengine") == [(node, "succeeded", True) for node in sorted(NODES)]
    shown = cfengine.run("history", "--limit", str(len(NODES))).stdout
    assert shown.count(" changed ") == len(NODES)

    assert outcomes(cfengine.trigger("ALL:cfengine")) == dict.fromkeys(NODES, "succeeded")
    assert verdicts(cfengine, "cfengine") == [(node, "succeeded", False) for node in sorted(NODES)]

    managed(cfengine.nodes["web2"]).write_text("changed by hand")
    deliveries = cfengine.trigger("ALL:cfengine")
    assert {node: delivery["run"]["changed"] for node, delivery in deliveries.items()} == {
        "web1": False,
        "web2": True,
        "db1": False,
    }
    assert managed(cfengine.nodes["web2"]).read_text() == "managed on web2"


def test_a_promise_that_fails_is_a_failure_though_cf_agent_exits_0(cfengine: Fleet) -> None:
    for node in cfengine.nodes.values():
        give_policy(node, 'commands: "/bin/false";')
    give_policy(cfengine.nodes["db1"], write_the_file(cfengine.nodes["db1"]))

    deliveries = cfengine.trigger("ALL:cfengine", status=3)
    assert outcomes(deliveries) == {"web1": "failed", "web2": "failed", "db1": "succeeded"}
    for name in ("web1", "web2"):
        run = deliveries[name]["run"]
        assert run["status"] == 0
        assert "error:" in run["reason"]
        assert "/bin/false" in run["output"]["text"]
    assert [outcome for _, outcome, _ in verdicts(cfengine, "cfengine")] == ["succeeded", "failed", "failed"]


def test_a_policy_with_a_fault_in_it_is_a_failure_on_every_node(cfengine: Fleet) -> None:
    for node in cfengine.nodes.values():
        give_policy(node, "files nonsense")
    text = cfengine.run("trigger", "ALL:cfengine", check=False)
    assert text.returncode == 3
    assert "succeeded" not in text.stdout
    assert "3 failed" in text.stderr


@pytest.fixture(scope="module")
def slaughter(fleet: Fleet) -> Fleet:
    """The shipped integration on a program that behaves as Slaughter 3 does, and lies elsewhere."""
    for node in fleet.nodes.values():
        program = node.root / "slaughter"
        program.write_text(SLAUGHTER.format(status=node.root / "status", ledger=node.root / "ledger"))
        program.chmod(0o755)
        node.action(
            "slaughter",
            f"command = ['{program}', '--delay=0', '--verbose']\nrequires = ['{program}']\nuser = '{whoami()}'\n",
        )
    return fleet


def test_slaughter_is_judged_by_what_it_says_since_it_always_exits_0(slaughter: Fleet) -> None:
    for node, status in zip(slaughter.nodes.values(), ("0", "256", "unreachable"), strict=True):
        (node.root / "status").write_text(status)
    deliveries = slaughter.trigger("ALL:slaughter", status=3)
    assert outcomes(deliveries) == {"web1": "succeeded", "web2": "failed", "db1": "failed"}
    assert {delivery["run"]["status"] for delivery in deliveries.values()} == {0}
    assert "return = 256" in deliveries["web2"]["run"]["reason"]
    assert "Failed to fetch policy" in deliveries["db1"]["run"]["reason"]
    ran = [name for name, node in slaughter.nodes.items() if (node.root / "ledger").exists()]
    assert ran == ["web1", "web2"], "without a policy nothing runs, with one it runs once"
    assert verdicts(slaughter, "slaughter") == [
        ("db1", "failed", None),
        ("web1", "succeeded", None),
        ("web2", "failed", None),
    ]

    for node in slaughter.nodes.values():
        (node.root / "status").write_text("0")
    assert outcomes(slaughter.trigger("ALL:slaughter")) == dict.fromkeys(NODES, "succeeded")
