"""The how-to pages: what they tell a reader to write is sound, and all of them can be found."""

import re
from pathlib import Path, PurePath

import pytest

from nanoexec.actions import Source, bind, merge
from nanoexec.config import parse_agent

TOP = Path(__file__).parents[2]
PAGES = sorted((TOP / "docs/how-to").glob("*.md"))
SHIPPED = [Source(file=str(path), data=path.read_bytes()) for path in sorted((TOP / "integrations").glob("*.toml"))]
_TOML = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def manifests() -> list[str]:
    """Every manifest that a page shows; a part of one with a name and a command before it."""
    found = [
        block
        for page in PAGES
        if page.stem in ("write-an-action", "roll-back")
        for block in _TOML.findall(page.read_text())
    ]
    return [block if "name = " in block else f'name = "part"\ncommand = ["true"]\n{block}' for block in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_in_the_readme_says_what_can_go_wrong_and_shows_commands(page: Path) -> None:
    assert f"(docs/how-to/{page.name})" in (TOP / "README.md").read_text()
    text = page.read_text()
    assert re.search(r"^```(sh|console)$", text, re.MULTILINE)
    assert "\n## What can go wrong\n" in text


@pytest.mark.parametrize("manifest", manifests())
def test_a_manifest_that_a_page_shows_has_no_fault(manifest: str) -> None:
    (name,) = re.findall(r'^name = "(.*)"', manifest, re.MULTILINE)
    catalog = merge([SHIPPED, [Source(file=f"{name}.toml", data=manifest.encode())]])
    assert catalog.faults == ()
    assert catalog.find(name).command


def test_the_argument_of_the_page_on_actions_does_what_the_page_says() -> None:
    (manifest,) = (manifest for manifest in manifests() if "[arguments.how]" in manifest)
    action = merge([[Source(file="restart-web.toml", data=manifest.encode())]]).find("restart-web")
    assert bind(action, {"how": "reload"}) == ("systemctl", "reload", "nginx")
    assert bind(action, {}) == ("systemctl", "restart", "nginx")


def test_the_configuration_of_the_page_on_firewalls_is_sound() -> None:
    (block,) = _TOML.findall((TOP / "docs/how-to/firewall.md").read_text())
    config = parse_agent(block.encode(), PurePath("agent.toml"))
    assert (config.hub, config.publish_port, config.report_port) == ("gateway.example.net", 14444, 14445)
