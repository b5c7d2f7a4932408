"""A machine that is hub and node at once: neither package takes the other's files, users or services with it."""

from pathlib import Path
from typing import Final

from tests.system.estate import INSTALL, INSTALL_WITHIN, Estate, outcomes
from tests.system.recipe import Suite

Packages = dict[Suite, list[Path]]
PURGE: Final = ("apt-get", "purge", "-y", "-q")
AGENTS_OWN: Final = (
    "/etc/nanoexec/agent.toml",
    "/etc/nanoexec/joined.toml",
    "/var/lib/nanoexec/agent",
    "/var/lib/nanoexec/journal/journal.db",
    "/run/nanoexec/runner.sock",
)
HUBS_OWN: Final = ("/etc/nanoexec/hub.toml", "/var/lib/nanoexec/hub/hub.db", "/run/nanoexec/hub/control.sock")


def there(estate: Estate, *paths: str) -> list[str]:
    """Those of the paths that are on the hub."""
    return [path for path in paths if estate.hub.attempt("test", "-e", path).returncode == 0]


def join(estate: Estate) -> None:
    """Make the hub's machine a node."""
    token = estate.hub.run("nanoexec", "hub", "token", "--node", "hub")
    estate.hub.run("nanoexec", "agent", "join", "hub:4446", "-", stdin=token)
    estate.wait_connected("hub")
    assert outcomes(estate.trigger("hub:uptime")) == {"hub": "succeeded"}


def install_all(estate: Estate, packages: Packages) -> None:
    """Install every package on the hub's machine, which has some of them."""
    for package in packages["bookworm"]:
        estate.hub.put(package, f"/srv/packages/{package.name}")
    names = [f"/srv/packages/{package.name}" for package in packages["bookworm"]]
    estate.hub.run(*INSTALL, *names, timeout=INSTALL_WITHIN)


def test_a_hub_outlives_the_agent_beside_it(estate: Estate, packages: Packages) -> None:
    install_all(estate, packages)
    join(estate)
    assert there(estate, *AGENTS_OWN, *HUBS_OWN) == [*AGENTS_OWN, *HUBS_OWN]
    epoch = estate.hub.run("systemctl", "show", "-P", "MainPID", "nanoexec-hub")
    estate.hub.run(*PURGE, "nanoexec-agent")
    assert there(estate, *AGENTS_OWN, *HUBS_OWN) == [*HUBS_OWN]
    assert estate.hub.attempt("id", "nanoexec").returncode == 1
    assert estate.hub.run("systemctl", "show", "-P", "MainPID", "nanoexec-hub") == epoch
    estate.wait_away("hub")
    estate.wait_connected(*estate.nodes)
    assert outcomes(estate.trigger("ALL,!hub:uptime")) == dict.fromkeys(estate.nodes, "succeeded")


def test_an_agent_that_comes_back_joins_anew(estate: Estate, packages: Packages) -> None:
    install_all(estate, packages)
    assert estate.hub.run("systemctl", "is-active", "nanoexec-agent") == "active\n"
    join(estate)
    assert there(estate, *AGENTS_OWN) == [*AGENTS_OWN]


def test_an_agent_outlives_the_hub_beside_it(estate: Estate, packages: Packages) -> None:
    machine = estate.hub
    machine.run(*PURGE, "nanoexec-hub")
    assert there(estate, *AGENTS_OWN, *HUBS_OWN) == [*AGENTS_OWN]
    assert machine.attempt("id", "nanoexec-hub").returncode == 1
    assert machine.attempt("getent", "group", "nanoexec-operators").returncode == 2
    assert machine.run("systemctl", "is-active", "nanoexec-agent", "nanoexec-runner.socket") == "active\nactive\n"
    assert "load average" in machine.run("nanoexec", "run", "uptime")

    install_all(estate, packages)
    assert machine.run("systemctl", "list-units", "--failed", "--no-legend") == ""
    machine.run("nanoexec", "hub", "init", "--name", "hub")
    estate.wait_hub()  # without another step
    join(estate)
