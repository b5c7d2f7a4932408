"""``nanoexec actions`` and ``nanoexec run`` on a node without any daemon."""

import json
import os
import pwd
from pathlib import Path

import pytest

from nanoexec.catalog import shipped_directory
from nanoexec.errors import ExitCode
from tests.support.command_line import nanoexec_command

pytestmark = pytest.mark.node

ME = pwd.getpwuid(os.geteuid()).pw_name


def manifest(root: Path, name: str, text: str) -> Path:
    """A file in actions.d; ``name`` is put before ``text``."""
    file = root / f"etc/nanoexec/actions.d/{name}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'name = "{name}"\n{text}')
    return file


def test_the_list_says_what_is_offered_and_what_is_missing(tmp_path: Path) -> None:
    manifest(tmp_path, "present", 'summary = "One that works"\ncommand = ["/bin/true"]\n')
    manifest(tmp_path, "absent", 'command = ["/bin/true"]\nrequires = ["/no/such/program"]\n')
    manifest(tmp_path, "broken", "command = 7\n")
    done = nanoexec_command(tmp_path, "actions", "list")
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert done.returncode == 0
    assert rows["present"].split(maxsplit=2) == ["present", "yes", "One that works"]
    assert "no: needs /no/such/program" in rows["absent"]
    assert "no: faulty" in rows["broken"]
    assert "uptime" in rows

    document = json.loads(nanoexec_command(tmp_path, "actions", "list", "-o", "json").stdout)
    listed = {action["name"]: action for action in document}
    assert listed["present"]["offered"] is True
    assert (listed["absent"]["offered"], listed["absent"]["missing"]) == (False, ["/no/such/program"])
    assert "broken.toml: command: " in listed["broken"]["faults"][0]


def test_show_gives_the_merged_manifest_and_the_files_that_it_comes_from(tmp_path: Path) -> None:
    own = manifest(tmp_path, "puppet", f'timeout = "7m"\nuser = "{ME}"\n')
    done = nanoexec_command(tmp_path, "actions", "show", "puppet")
    assert done.returncode == 0
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    facts = {line[0]: line[1] for line in lines if len(line) > 1}
    assert facts["timeout"].startswith("7m")
    assert facts["user"] == ME
    assert facts["command"].startswith("puppet agent ")
    assert facts["changed"] == "exit 2, 6"
    assert facts["noop"].startswith("true or false; ")
    assert [line[0] for line in lines[-2:]] == [str(shipped_directory() / "puppet.toml"), str(own)]

    shown = json.loads(nanoexec_command(tmp_path, "actions", "show", "puppet", "-o", "json").stdout)
    assert (shown["timeout"], shown["kill_after"]) == ("7m", "10s")
    assert shown["arguments"]["noop"]["type"] == "boolean"
    assert shown["files"][-1] == str(own)


@pytest.mark.parametrize(("name", "code"), [("no-such-thing", ExitCode.USAGE), ("broken", ExitCode.UNABLE)])
def test_an_action_that_is_unknown_or_faulty_cannot_be_shown(tmp_path: Path, name: str, code: ExitCode) -> None:
    manifest(tmp_path, "broken", "comand = []\n")
    done = nanoexec_command(tmp_path, "actions", "show", name)
    assert (done.returncode, done.stdout) == (code, "")
    assert name in done.stderr


def test_check_is_content_with_sound_manifests(tmp_path: Path) -> None:
    manifest(tmp_path, "work", f'command = ["/bin/true"]\nuser = "{ME}"\n')
    done = nanoexec_command(tmp_path, "actions", "check")
    assert done.returncode == 0
    assert done.stdout.endswith(" actions, no faults\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("command = [", "not valid TOML"),
        ('command = ["/bin/true"]\ncolour = 1\n', "colour: unknown key"),
        ("command = 7\n", "command: expected"),
        ('command = ["/bin/true"]\n[outcome]\nfailed = { output = ["("] }\n', "outcome.failed.output[0]: not a valid"),
        ('command = ["/no/such/program"]\n', "command: there is no program /no/such/program"),
        ('command = ["/bin/true"]\nuser = "no-such-user"\n', "user: there is no user no-such-user"),
    ],
)
def test_check_names_file_and_key_of_a_fault_and_exits_with_1(tmp_path: Path, text: str, said: str) -> None:
    file = manifest(tmp_path, "work", text)
    done = nanoexec_command(tmp_path, "actions", "check")
    assert done.returncode == ExitCode.UNABLE
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{file}: ")
    assert said in line


def test_check_reports_every_fault_at_once_also_for_programs(tmp_path: Path) -> None:
    manifest(tmp_path, "one", "comand = []\n")
    manifest(tmp_path, "two", "command = 7\ntimeout = 'never'\n")
    manifest(tmp_path, "uptime", "").with_name("again.toml").write_text('name = "uptime"\n')
    done = nanoexec_command(tmp_path, "actions", "check", "-o", "json")
    assert done.returncode == ExitCode.UNABLE
    faults = {(Path(fault["file"]).name, fault["key"]) for fault in json.loads(done.stdout)}
    assert {("one.toml", "comand"), ("two.toml", "command"), ("two.toml", "timeout"), ("uptime.toml", "name")} <= faults


def test_a_program_that_an_action_says_it_requires_may_be_missing(tmp_path: Path) -> None:
    manifest(tmp_path, "work", 'command = ["/no/such/program"]\nrequires = ["/no/such/program"]\n')
    assert nanoexec_command(tmp_path, "actions", "check").returncode == 0


def test_run_passes_arguments_output_and_exit_status_through(tmp_path: Path) -> None:
    manifest(
        tmp_path,
        "greet",
        f'command = ["/bin/sh", "-c", "echo hello $1; exit 7", "greet"]\nuser = "{ME}"\n'
        '[arguments.whom]\nargv = ["{}"]\n',
    )
    done = nanoexec_command(tmp_path, "run", "greet", "-a", "whom=world")
    assert done.stdout == "hello world\n"
    assert done.returncode == 7


def test_run_takes_no_module_from_the_directory_in_which_it_is_typed(tmp_path: Path) -> None:
    manifest(tmp_path, "work", f'command = ["/bin/echo", "done"]\nuser = "{ME}"\n')
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    (hostile / "msgspec.py").write_text("print('hijacked')\n")
    done = nanoexec_command(tmp_path, "run", "work", cwd=hostile)
    assert done.stdout == "done\n"
