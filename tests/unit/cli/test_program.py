"""Where the command line says that nanoexec-run is: a crontab has it for years."""

import os
import sys
from pathlib import Path

import pytest

from nanoexec.cli.crontab import find_program, outside_usr_alias
from nanoexec.errors import ConfigError

pytestmark = pytest.mark.node


def program(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


def test_where_bin_is_only_another_name_the_program_is_in_usr_bin(tmp_path: Path) -> None:
    real = program(tmp_path / "usr/bin/nanoexec-run")
    (tmp_path / "bin").symlink_to("usr/bin")
    assert outside_usr_alias(tmp_path / "bin/nanoexec-run", tmp_path) == real
    assert outside_usr_alias(real, tmp_path) == real


def test_where_bin_is_a_directory_of_its_own_it_stays_there(tmp_path: Path) -> None:
    program(tmp_path / "usr/bin/nanoexec-run")
    own = program(tmp_path / "bin/nanoexec-run")
    assert outside_usr_alias(own, tmp_path) == own


def test_a_link_is_kept_for_it_outlives_what_it_points_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "opt/nanoexec-1/bin/nanoexec-run")
    link = tmp_path / "usr/local/bin/nanoexec-run"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "opt/nanoexec-1/bin/nanoexec-run")
    monkeypatch.setattr(sys, "argv", [str(link.with_name("nanoexec"))])
    assert find_program(None) == str(link)


def test_beside_the_program_comes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = program(tmp_path / "a/nanoexec-run"), program(tmp_path / "b/nanoexec-run")
    monkeypatch.setenv("PATH", str(there.parent))
    monkeypatch.setattr(sys, "argv", [str(here.with_name("nanoexec"))])
    assert find_program(None) == str(here)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "elsewhere/nanoexec")])
    assert find_program(None) == str(there)


def test_where_there_is_none_the_option_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "nanoexec")])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(ConfigError, match="say where with --run FILE"):
        find_program(None)
