"""The packages as built in each suite install on a machine of that suite, which has no network."""

from pathlib import Path

import pytest

from tests.system.machines import Machine
from tests.system.recipe import SUITES, Suite


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_has_its_packages(suite: Suite, packages: dict[Suite, list[Path]]) -> None:
    assert {path.name.split("_")[0] for path in packages[suite]} == {"nanoexec", "nanoexec-agent", "nanoexec-hub"}


@pytest.mark.parametrize("name", ["node1", "node2"])
def test_packages_install_without_a_network(
    name: str, machines: dict[str, Machine], packages: dict[Suite, list[Path]]
) -> None:
    node = machines[name]
    suite: Suite = "bookworm" if name == "node1" else "trixie"
    for path in packages[suite]:
        node.put(path, f"/root/{path.name}")
    node.run("sh", "-c", "apt-get install -y -qq /root/*.deb", timeout=300)
    assert "nanoexec" in node.run("nanoexec", "--version")
