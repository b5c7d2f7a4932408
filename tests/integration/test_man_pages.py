"""The man pages say what the program says: every command, option, key and exit status; and they render cleanly."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path, PurePath

import msgspec
import pytest

from docs.man import __main__ as pages
from docs.man.commands import Command, tree
from docs.man.keys import TABLES, WORDS, keys
from nanoexec.actions import Source, bind, merge
from nanoexec.cli.options import ROOT
from nanoexec.config import HubConfig, parse_agent, parse_hub
from nanoexec.errors import ExitCode
from nanoexec.run.local import HELP

TOP = Path(__file__).parents[2]
TEXTS = {page.stem: page.read_text() for page in pages.PAGES}
NAMES = {"nanoexec.1", "nanoexec-run.1", "nanoexec-agent.8", "nanoexec-hub.8", "nanoexec.toml.5", "nanoexec-actions.5"}
# Where the commands of these groups stand; all others stand in nanoexec(1).
ELSEWHERE = {"hub": "nanoexec-hub.8", "agent": "nanoexec-agent.8"}
COMMANDS = [command for command in tree().all() if command.words and not command.within]
_BLOCK = re.compile(r"::\n\n((?:    .*\n|\n)+)")


def page_of(command: Command) -> str:
    return TEXTS[ELSEWHERE.get(command.words[0], "nanoexec.1")]


def section_of(command: Command) -> str:
    """What stands under the heading of this command."""
    name = " ".join(command.words)
    found = re.search(rf"(?ms)^{name}\n-+\n\n(.*?)(?=^[^\n]+\n[-=]+\n)", page_of(command))
    assert found, f"{name} has no section"
    return found[1]


def blocks(page: str) -> list[str]:
    """The literal blocks of its examples."""
    _, _, examples = TEXTS[page].partition("\nEXAMPLES\n")
    return [re.sub("^    ", "", block, flags=re.MULTILINE) for block in _BLOCK.findall(examples)]


def rendered(page: Path) -> str:
    """The page as a terminal of 80 columns shows it. Fails on whatever docutils or groff have to say against it."""
    if not shutil.which("man"):
        pytest.skip("man is not installed (Debian package man-db)")
    made = subprocess.run(
        [sys.executable, "-m", "docutils", "--writer=manpage", "--halt=2", page],
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stderr == ""
    shown = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-"],
        input=made.stdout,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "GROFF_NO_SGR": "1"},
    )
    assert shown.stderr == ""
    return re.sub(".\b", "", shown.stdout)


# Nothing is out of date


def test_there_is_a_page_for_every_program_daemon_and_file() -> None:
    assert set(TEXTS) == NAMES


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.stem)
def test_the_generated_parts_are_what_the_program_would_generate_now(page: Path) -> None:
    assert pages.renewed(page.read_text()) == page.read_text(), "run: python -m docs.man"


def test_a_page_is_found_out_of_date_when_an_option_is_not_in_it() -> None:
    page = TEXTS["nanoexec.1"].replace("**--no-wait**", "**--wait-not**", 1)
    assert pages.renewed(page) != page


def test_a_part_that_nobody_can_make_is_an_error() -> None:
    with pytest.raises(ValueError, match="no command nonsense"):
        pages.renewed(".. generated: commands nonsense\n.. end generated\n")
    with pytest.raises(ValueError, match="expected options, commands"):
        pages.renewed(".. generated: nonsense\n.. end generated\n")


# Commands and options


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.words))
def test_a_command_has_a_section_with_each_of_its_options_arguments_and_examples(command: Command) -> None:
    section = section_of(command)
    common = {name for option in pages.common(tree()) for name in option.names}
    for option in command.options:
        for name in option.names:
            assert f"**{name}**" in section or name in common, name
    for argument in command.arguments:
        assert f"\n*{pages.text(argument.shown)}*\n" in section
    assert command.examples
    for example in command.examples:
        assert f"\n    {example}\n" in section


def test_options_that_all_commands_share_stand_under_the_options_of_nanoexec() -> None:
    _, _, rest = TEXTS["nanoexec.1"].partition("\nOPTIONS\n")
    options, _, _ = rest.partition("\nCOMMANDS\n")
    for name in ("--version", "--help", "--root"):
        assert f"**{name}**" in options


def test_options_are_read_from_what_help_prints() -> None:
    """A guard for the reading itself: the words of one real help, against the values."""
    shown = subprocess.run(
        [sys.executable, "-m", "nanoexec", "trigger", "--help"], capture_output=True, text=True, check=True, cwd=TOP
    ).stdout
    (trigger,) = (command for command in COMMANDS if command.words == ("trigger",))
    options = {name for option in trigger.options for name in option.names}
    assert options == set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", shown.partition("Options:")[2].partition("Ex")[0]))


def test_every_option_of_nanoexec_run_is_in_its_page() -> None:
    _, _, options = HELP.partition("Options:")
    found = set(re.findall(r"^\s+(?:(-\w), )?(--[a-z-]+)", options.partition("Exit status")[0], re.MULTILINE))
    assert ("-a", "--argument") in found
    for name in {name for pair in found for name in pair if name}:
        assert f"**{name}**" in TEXTS["nanoexec-run.1"]


def test_every_exit_status_is_in_the_page() -> None:
    _, _, rest = TEXTS["nanoexec.1"].partition("\nEXIT STATUS\n")
    codes = re.findall(r"^(\d+)\n    ", rest.partition("\nENVIRONMENT\n")[0], re.MULTILINE)
    assert [int(code) for code in codes] == sorted(ExitCode)


def test_every_environment_variable_that_an_option_reads_is_in_the_page() -> None:
    assert f"\n``{ROOT.envvar}``\n" in TEXTS["nanoexec.1"]


# Keys


@pytest.mark.parametrize("table", TABLES)
def test_every_key_of_the_code_is_in_a_page_with_its_default(table: str) -> None:
    page = TEXTS["nanoexec.toml.5" if table in ("hub", "agent", "joined") else "nanoexec-actions.5"]
    for field in msgspec.structs.fields(TABLES[table]):
        assert f"\n**{field.name}**\n" in page
    assert [key.name for key in keys(table)] == [field.encode_name for field in msgspec.structs.fields(TABLES[table])]


def test_a_default_is_shown_as_it_would_be_written() -> None:
    shown = {key.name: key.default for key in keys("hub") if key.default}
    assert parse_hub("\n".join(f"{name} = {value}" for name, value in shown.items()).encode(), PurePath("x")) == (
        HubConfig()
    )


def test_words_without_a_key_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = tmp_path / "keys.toml"
    late.write_text(WORDS.read_text().replace("[agent]\n", '[agent]\nnews = "What is not there."\n'))
    monkeypatch.setattr("docs.man.keys.WORDS", late)
    with pytest.raises(ValueError, match=r"keys.toml: \[agent\] has .*news"):
        keys("agent")


def test_the_configurations_of_the_examples_are_sound() -> None:
    hub, agent = blocks("nanoexec.toml.5")
    assert parse_hub(hub.encode(), PurePath("hub.toml")).groups["db"] == "db[1-3]"
    assert parse_agent(agent.encode(), PurePath("agent.toml")).report_port == 14445


def test_the_long_example_of_a_manifest_uses_every_key_and_has_no_fault() -> None:
    _, manifest = blocks("nanoexec-actions.5")
    catalog = merge([[Source(file="site-backup.toml", data=manifest.encode())]])
    assert catalog.faults == ()
    words = bind(catalog.find("site-backup"), {"level": "full", "keep": "14"})
    assert words == ("/usr/local/sbin/site-backup", "--quiet", "--level=full", "--keep", "14")
    document = tomllib.loads(manifest)
    arguments = document["arguments"].values()
    assert set(document) == {key.name for key in keys("manifest")}
    assert {key for argument in arguments for key in argument} == {key.name for key in keys("argument")}
    assert set(document["outcome"]) == {key.name for key in keys("outcome")}
    assert {key for rule in document["outcome"].values() for key in rule} == {key.name for key in keys("rule")}
    assert set(document["fallback"]) == {key.name for key in keys("fallback")}


def test_the_short_example_is_laid_over_the_shipped_manifest() -> None:
    short, _ = blocks("nanoexec-actions.5")
    shipped = TOP / "integrations/puppet.toml"
    catalog = merge(
        [[Source(file=str(shipped), data=shipped.read_bytes())], [Source(file="puppet.toml", data=short.encode())]]
    )
    assert catalog.faults == ()
    assert catalog.find("puppet").timeout == "2h"


# Reading them


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.stem)
def test_a_page_renders_without_warnings_in_80_columns(page: Path) -> None:
    name, section = page.stem.rsplit(".", 1)
    text = rendered(page)
    assert text.lstrip().startswith(f"{name}({section})")
    headings = [line for line in text.splitlines() if re.match(r"[A-Z]", line) and not line.startswith(name)]
    assert [heading.upper() for heading in headings][:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert headings[-1] == "SEE ALSO"
    assert {"FILES", "EXAMPLES"} <= set(headings)
    if section != "5":
        assert {"EXIT STATUS", "ENVIRONMENT"} <= set(headings)
    # An example is kept as it is, however long; all else fits.
    prose = re.sub(r"^ {10}\S.*$|^ {7}[a-z]+.*::$", "", text, flags=re.MULTILINE)
    assert [line for line in prose.splitlines() if len(line) > 80] == []


def test_pages_refer_to_pages_that_there_are() -> None:
    ours = {f"{page.rsplit('.', 1)[0]}({page[-1]})" for page in NAMES}
    for page, text in TEXTS.items():
        for name, section in re.findall(r"\*\*(nanoexec[\w.-]*)\*\*\\ \((\d)\)", text):
            assert f"{name}({section})" in ours, page
