"""Adopted lines under real shells: what a command sees and what cron gets back, before and after.

Cron is played by `Cron`: it hands the command to ``$SHELL -c``, the text behind ``%`` to its standard input, and a
small environment. ``nanoexec-run`` is played by programs that keep, or break, what `nanoexec.crontab.prefix` agrees on.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nanoexec.crontab.adoption import SHELLS, adopt, restore
from nanoexec.crontab.lines import Line, parse
from nanoexec.crontab.prefix import split

pytestmark = pytest.mark.node

# SHLVL is left out: it says whether bash, for its own economy, became the last command instead of starting it.
PROBE = """\
#!/bin/sh
echo "$# arguments"; printf '<%s>' "$@"; echo
cd_was=$(pwd -P); echo "in $cd_was, umask $(umask), uid $(id -u)"
tr '\\0' '\\n' </proc/$$/environ | grep -v ^SHLVL= | LC_ALL=C sort
(cd /proc/$$/fd; echo *)
grep SigIgn /proc/$$/status
echo "input:"; cat
echo "an error" >&2
exit ${PROBE_STATUS:-0}
"""

# What runs the original as the real one does: with the shell, the arguments and the environment that cron chose.
RUNNING = f"""\
#!{sys.executable} -IS
import os, signal
parent = os.getppid()
argv = open(f"/proc/{{parent}}/cmdline", "rb").read().split(b"\\0")[:-1]
environment = dict(e.split(b"=", 1) for e in open(f"/proc/{{parent}}/environ", "rb").read().split(b"\\0") if e)
original = argv[-1].partition(b" 4>&1; ")[2]
os.set_inheritable(3, False)
os.write(3, b"exit ")
child = os.fork()
if not child:
    for number in signal.SIGPIPE, signal.SIGXFSZ:  # which Python ignores
        signal.signal(number, signal.SIG_DFL)
    os.execve(argv[0], [*argv[:-1], original], environment)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
os.write(3, b"%d" % (status if status >= 0 else 128 - status))
"""
FAILING = f"#!{sys.executable} -IS\nimport a_module_that_is_not_there\n"
BROKEN = "#!/no/such/interpreter\n"
REFUSING = "#!/bin/sh\necho 'the journal cannot be opened' >&2\nexit 1\n"
SKIPPING = "#!/bin/sh\nprintf 'exit 0' >&3\n"
NOTING = """\
#!/bin/sh
echo "$@" >"$0.note.new"; cat >>"$0.note.new"; echo noise; echo more >&2
mv "$0.note.new" "$0.note"
exit 9
"""
HANGING = '#!/bin/sh\necho $$ >"$0.pid.new"; mv "$0.pid.new" "$0.pid"; exec sleep 60\n'

# {p} is the probe. The shapes are crontab text: a backslash before "%" is cron's.
SHAPES = [
    "{p} one two",
    "  {p} after blanks",
    "{p}\tone\t\ttwo\t",
    "{p} 'single  quotes; && %not'",
    '{p} "double  \\"quotes\\"; $HOME | x"',
    "{p} a\\ b \\\\ \\' \\;",
    "{p} with input%first line%second line",
    "{p} with input%ends in a newline%",
    "{p} with input%100\\% of it",
    "{p} %",
    "{p} \\%Y-\\%m 100\\%",
    "{p} a && {p} b",
    "{p} a; {p} b",
    "false || {p} rescued",
    "{p} out > out.txt; cat out.txt",
    "{p} both 2>&1",
    "{p} both >/dev/null 2>&1",
    "{p} < /dev/null",
    "cd / && {p} in the root",
    "test -x {p} && {p} tested",
    "[ -x /no/such ] || exit 0; {p} never",
    "{p} commented # with a comment; {p} not run",
    "# only a comment",
    "{p} " + "long " * 120,
    "PROBE_STATUS=7 {p} fails",
    "{p} then; exit 3",
    "exit",
    "echo $?; {p} a",
    "{p} piped | cat",
    "({p} in a subshell)",
    "{ {p} in braces; }",
    "if [ -x {p} ]; then {p} yes; else {p} no; fi",
    "for i in 1 2; do {p} $i; done",
    "case x in x) {p} cased;; esac",
    "f() { {p} \"$@\"; }; f x 'y z'",
    "{p} $(echo substituted; cat)%from input",
    "{p} `echo backquoted`",
    "{p} $((1 + 2)) ${HOME} ~ *.none",
    "A='b c' {p} with a variable",
    "export A=b; {p} exported",
    "umask 077; {p} masked",
    'echo "$0 $#"; {p} zero',
    'set -- x y; {p} "$@"',
    "exec {p} executed",
    "nice -n 1 {p} nice",
    "env -i X=1 {p} cleaned",
    "{p} beside </dev/null & wait",
    "trap '{p} at the end' EXIT; {p} before",
    'read line; {p} "$line"%first%second',
    "yes | head -n 1; {p} after a broken pipe",
    "no-such-command-at-all",
    "{p} 'not closed",
    "; {p} wrong",
    "{p} wrong )",
    "! {p} negated",
    "eval '{p} evaluated'",
    "{p} carriage return\r",
    "kill -9 $$",
]


# Shells that are not Debian's own are tried with these.
PORTABLE = (
    "one two", "first line", "a && ", "tested", "rescued", "PROBE_STATUS", "exit", "zero", "out.txt", "substituted",
    "kill",
)  # fmt: skip


class Cron:
    """As much of cron as a command notices."""

    def __init__(self, shell: str, directory: Path) -> None:
        self.shell = shell
        self.directory = directory

    def line(self, command: bytes) -> Line:
        return parse(b"SHELL=" + self.shell.encode() + b"\n17 * * * * root " + command + b"\n", system=True)[1]

    def reread(self, raw: bytes) -> Line:
        return parse(b"SHELL=" + self.shell.encode() + b"\n" + raw, system=True)[1]

    def run(self, line: Line) -> tuple[int, bytes, bytes]:
        """Exit status as a shell would say it, output, errors."""
        assert line.job
        given = line.raw[line.job.input.start : line.job.input.end] if line.job.input else b""
        text = given.replace(b"\\%", b"\0").replace(b"%", b"\n").replace(b"\0", b"%")
        done = subprocess.run(
            [line.shell, "-c", line.command],
            input=text + b"\n" if text and not text.endswith(b"\n") else text,
            env={"HOME": str(self.directory), "LOGNAME": "root", "PATH": "/usr/bin:/bin", "SHELL": line.shell},
            cwd=self.directory,
            capture_output=True,
            timeout=60,
            check=False,
            umask=0o027,
        )
        return done.returncode if done.returncode >= 0 else 128 - done.returncode, done.stdout, done.stderr


def installed() -> list[str]:
    """The shells at hand, each once."""
    paths = {os.path.realpath(path): path for name in sorted(SHELLS) if (path := shutil.which(name))}
    return sorted(paths.values())


def tried(shell: str) -> list[str]:
    """The shapes that a shell is tried with."""
    full = Path(shell).resolve().name in ("dash", "bash")
    return [shape for shape in SHAPES if full or any(word in shape for word in PORTABLE)]


@pytest.fixture(params=installed(), ids=os.path.basename)
def cron(request: pytest.FixtureRequest, tmp_path: Path) -> Cron:
    home = tmp_path / "home"
    home.mkdir()
    return Cron(request.param, home)


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    return script(tmp_path / "probe", PROBE)


@pytest.fixture
def patience() -> Iterator[Callable[[Path], str]]:
    """Waits for a file that something in the background writes."""

    def wait(path: Path) -> str:
        deadline = time.monotonic() + 30
        while not path.exists():
            assert time.monotonic() < deadline, f"{path} did not appear"
            time.sleep(0.005)
        return path.read_text()

    return wait


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("cron", "shape"), [(shell, shape) for shell in installed() for shape in tried(shell)], indirect=["cron"]
)
def test_an_adopted_line_means_what_it_meant(shape: str, cron: Cron, probe: Path, tmp_path: Path) -> None:
    original = cron.line(shape.replace("{p}", str(probe)).encode())
    before = cron.run(original)

    def adopted(play: str, *, shadow: bool = False) -> tuple[int, bytes, bytes]:
        run = tmp_path / "nanoexec-run"
        run.unlink(missing_ok=True)
        if play:
            script(run, play)
        line = cron.reread(adopt(original, "slaughter", str(run), shadow=shadow))
        assert restore(line) == original.raw
        return cron.run(line)

    # A shell that cannot parse the line shows it in its message; a nanoexec-run that refuses says why.
    told = 2 if b"yntax" in before[2] else 3
    assert adopted("")[:told] == before[:told]
    assert adopted(REFUSING)[:2] == before[:2]
    assert adopted(RUNNING)[:told] == before[:told]
    assert adopted(NOTING, shadow=True)[:told] == before[:told]


def test_a_skipped_slot_runs_and_says_nothing(cron: Cron, probe: Path, tmp_path: Path) -> None:
    run = script(tmp_path / "nanoexec-run", SKIPPING)

    assert cron.run(cron.reread(adopt(cron.line(f"{probe} x".encode()), "slaughter", str(run)))) == (0, b"", b"")


def test_a_shadow_that_is_gone_is_not_noticed(cron: Cron, probe: Path, tmp_path: Path) -> None:
    original = cron.line(f"{probe} x; exit 3".encode())
    run = str(tmp_path / "nanoexec-run")

    assert cron.run(cron.reread(adopt(original, "slaughter", run, shadow=True))) == cron.run(original)


@pytest.mark.parametrize("play", [FAILING, BROKEN, ""], ids=["fails at import", "no interpreter", "not executable"])
def test_the_original_runs_when_nanoexec_run_cannot_start(play: str, cron: Cron, probe: Path, tmp_path: Path) -> None:
    original = cron.line(b"PROBE_STATUS=7 %s x%%input" % str(probe).encode())
    run = script(tmp_path / "nanoexec-run", play)
    if not play:
        run.chmod(0o644)

    status, output, errors = cron.run(cron.reread(adopt(original, "slaughter", str(run))))

    assert (status, output) == cron.run(original)[:2]
    assert bool(errors.strip() != b"an error") == bool(play)  # a fault is mailed; that nanoexec was removed is none


def test_the_original_is_not_run_again_when_nanoexec_run_is_killed_at_its_work(
    cron: Cron, probe: Path, tmp_path: Path
) -> None:
    text = RUNNING.replace("status = os", "os.waitpid(child, 0); os.kill(os.getpid(), signal.SIGKILL)\nstatus = os")
    run = script(tmp_path / "nanoexec-run", text)
    line = cron.reread(adopt(cron.line(f"{probe} once".encode()), "slaughter", str(run)))

    status, output, _ = cron.run(line)

    assert status != 0
    assert output.count(b"<once>") == 1


def test_what_the_command_leaves_behind_does_not_hold_up_the_shell(cron: Cron, tmp_path: Path) -> None:
    run = script(tmp_path / "nanoexec-run", RUNNING)
    left = cron.line(b"sleep 60 >/dev/null 2>&1 </dev/null & echo $!")
    started = time.monotonic()
    status, output, _ = cron.run(cron.reread(adopt(left, "slaughter", str(run))))
    os.kill(int(output), signal.SIGKILL)

    assert status == 0
    assert time.monotonic() - started < 30


def test_a_shadow_that_hangs_is_not_waited_for(
    cron: Cron, probe: Path, tmp_path: Path, patience: Callable[[Path], str]
) -> None:
    run = script(tmp_path / "nanoexec-run", HANGING)
    original = cron.line(f"{probe} x; wait%input".encode())
    started = time.monotonic()
    try:
        assert cron.run(cron.reread(adopt(original, "slaughter", str(run), shadow=True))) == cron.run(original)
        assert time.monotonic() - started < 30
    finally:
        pid = int(patience(tmp_path / "nanoexec-run.pid"))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_shadow_is_told_what_it_needs_and_given_no_input(
    cron: Cron, probe: Path, tmp_path: Path, patience: Callable[[Path], str]
) -> None:
    run = script(tmp_path / "nanoexec-run", NOTING)
    original = cron.line(f"{probe} x%input".encode())

    cron.run(cron.reread(adopt(original, "slaughter", str(run), root="/srv/x", shadow=True)))

    note = patience(tmp_path / "nanoexec-run.note")
    assert note == "--root /srv/x --scheduled slaughter --shadow\n"


def test_the_parents_command_line_gives_the_prefix_and_the_original(cron: Cron, tmp_path: Path) -> None:
    run = script(tmp_path / "nanoexec-run", "#!/bin/sh\ncat /proc/$PPID/cmdline\nprintf 'exit 0' >&3\n")
    line = cron.reread(adopt(cron.line(rb"date +\%F # \xff'"), "slaughter", str(run), root="/srv/x"))

    _, output, _ = cron.run(line)
    *_, shell, option, command, end = output.split(b"\0")
    found = split(command)

    assert (shell, option, end) == (cron.shell.encode(), b"-c", b"")
    assert found
    assert (found[0].action, found[0].run, found[0].root) == ("slaughter", str(run), "/srv/x")
    assert found[1] == rb"date +%F # \xff'"
