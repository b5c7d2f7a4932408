"""The layers of the house hold: what `pyproject.toml` declares is what the imports are."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _lint(directory: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("import-linter is not installed here: `make check` has it")
    return subprocess.run(
        [program, "--config", ROOT / "pyproject.toml", "--no-cache"],
        cwd=directory,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_no_module_imports_from_a_layer_above_it() -> None:
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("model.py", "import nanoexec.store", "nanoexec.model is not allowed to import nanoexec.store"),
        ("agent/core.py", "import nanoexec.hub", "nanoexec.agent"),
        ("stray.py", "", "nanoexec.stray"),
    ],
)
def test_an_import_from_above_and_a_module_without_a_layer_are_found(
    tmp_path: Path, file: str, line: str, fault: str
) -> None:
    shutil.copytree(ROOT / "nanoexec", tmp_path / "nanoexec", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "nanoexec" / file).open("a") as module:
        module.write(f"\n{line}\n")
    done = _lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert fault in done.stdout
