"""The code in a private directory, as a Debian package keeps it: on the path of the launchers and of nobody else."""

import os
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import nanoexec
from nanoexec import launch
from tests.support.fleet import answers, free_ports, wait_until, whoami

SOURCE = Path(nanoexec.__file__).parent


class Installed:
    """``lib`` has the package, ``bin`` the launchers, ``python`` the dependencies but not nanoexec itself."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.lib, self.bin = place / "lib", place / "bin"
        self.bin.mkdir()
        shutil.copytree(SOURCE, self.lib / "nanoexec", ignore=shutil.ignore_patterns("__pycache__"))
        if not (SOURCE / "integrations").is_dir():
            shutil.copytree(SOURCE.parent / "integrations", self.lib / "nanoexec/integrations")
        self.python = self._python()
        for name, module in (("nanoexec", "cli"), ("nanoexec-run", "run")):
            launcher = self.bin / name
            launcher.write_text(
                f"#!{self.python} -EsP\nimport sys\nsys.path.insert(0, {str(self.lib)!r})\n"
                f"from nanoexec.{module} import main\nmain()\n"
            )
            launcher.chmod(0o755)

    def _python(self) -> Path:
        """An interpreter as Debian's: what nanoexec needs is installed, nanoexec is not."""
        made = self.place / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", made], check=True)
        (libraries,) = (made / "lib").glob("python*/site-packages")
        for directory in site.getsitepackages():
            for entry in Path(directory).iterdir():
                if "nanoexec" not in entry.name and entry.suffix != ".pth":
                    (libraries / entry.name).symlink_to(entry)
        return made / "bin/python"

    def run(self, *words: str, program: str = "nanoexec") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.bin / program, *words], capture_output=True, text=True, timeout=100, check=False, env=ENVIRONMENT
        )


ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    place = Path(tempfile.mkdtemp(prefix="nx"))
    yield Installed(place)
    shutil.rmtree(place)


def manifest(root: Path, script: str) -> None:
    directory = root / "etc/nanoexec/actions.d"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "show.toml").write_text(
        f'name = "show"\ncommand = ["/bin/sh", "-c", "{script}"]\nuser = "{whoami()}"\n'
    )


def test_this_interpreter_finds_nothing_by_itself(installed: Installed) -> None:
    command = [installed.python, "-P", "-c", "import pynng, nanoexec"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert "No module named 'nanoexec'" in done.stderr


def test_the_demo_with_all_its_daemons_runs(installed: Installed) -> None:
    done = installed.run("demo", "--nodes", "1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_told_not_to_believe_the_environment_starts_what_does_not_either(installed: Installed) -> None:
    code = f"import sys; sys.path.insert(0, {str(installed.lib)!r}); from nanoexec import launch; "
    code += "print(*launch.command('nanoexec'))"
    flags = {}
    for given in ("-EsP", "-I", "-P"):
        done = subprocess.run([installed.python, given, "-c", code], capture_output=True, text=True, check=True)
        interpreter, flags[given], file, module = done.stdout.split()
        assert (interpreter, file, module) == (str(installed.python), launch_file(installed), "nanoexec")
    assert flags == {"-EsP": "-EsP", "-I": "-EsP", "-P": "-P"}


def launch_file(installed: Installed) -> str:
    return str(installed.lib / "nanoexec" / Path(launch.__file__).name)


def test_the_daemons_start_and_no_command_inherits_where_the_code_lies(installed: Installed, tmp_path: Path) -> None:
    root = installed.place / "root"
    manifest(root, "env")
    ports = free_ports(3)
    keys = zip(("publish_port", "report_port", "join_port"), ports, strict=True)
    (root / "etc/nanoexec/hub.toml").write_text(
        'bind = "127.0.0.1"\n' + "".join(f"{key} = {port}\n" for key, port in keys)
    )
    assert installed.run("hub", "init", "--name", "localhost", "--root", str(root)).returncode == 0
    running = []
    try:
        for words in (["hub", "serve"], ["agent", "serve"]):
            log = (tmp_path / words[0]).open("wb")
            with log:
                command = [installed.bin / "nanoexec", *words, "--root", root]
                running.append(subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT))
        wait_until(lambda: answers(root / "run/nanoexec/hub/control.sock"), "the hub serves")
        wait_until(lambda: "not joined: waiting for" in (tmp_path / "agent").read_text(), "the agent runs")
        done = installed.run("--root", str(root), "show", program="nanoexec-run")
    finally:
        for process in running:
            process.terminate()
            process.wait(20)
    assert done.returncode == 0, done.stderr
    assert "NANOEXEC_ACTION=show" in done.stdout
    assert "PYTHONPATH" not in done.stdout
    assert str(installed.lib) not in done.stdout


def test_a_listener_of_the_originals_wire_runs_actions_and_no_command_inherits_where_the_code_lies(
    installed: Installed, tmp_path: Path
) -> None:
    root = installed.place / "listener"
    manifest(root, f"env > {tmp_path}/action")
    url = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    words = ["listen", url, "--root", root, "--hostname", "web1", "--allow-exec"]
    with (tmp_path / "log").open("wb") as log:
        listener = subprocess.Popen([installed.bin / "nanoexec", *words], stdout=log, stderr=log, env=ENVIRONMENT)
    try:
        wait_until(lambda: "Filtering on hostname" in (tmp_path / "log").read_text(), "it listens")
        for what in ("show", f"env > {tmp_path}/shell"):
            assert installed.run("send", "--listen", url, f"web1:{what}").returncode == 0
        for kind in ("action", "shell"):
            file = tmp_path / kind
            text = wait_until(lambda file=file: file.exists() and file.read_text(), f"the {kind} runs")
            assert "PATH=" in text
            assert "PYTHONPATH" not in text
            assert str(installed.lib) not in text
    finally:
        listener.terminate()
        listener.wait(20)


def test_the_crontab_is_given_the_launcher_and_nothing_private(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "etc/cron.d").mkdir(parents=True)
    (tmp_path / "etc/crontab").write_text(f"17 * * * * {whoami()} /bin/true --work\n")
    manifest(tmp_path, "true")
    done = installed.run("cron", "adopt", "--line", "/etc/crontab:1", "show", "--yes", "--root", str(tmp_path))
    assert done.returncode == 0, done.stderr
    line = (tmp_path / "etc/crontab").read_text()
    assert f"{installed.bin}/nanoexec-run" in line
    assert str(installed.lib) not in line
