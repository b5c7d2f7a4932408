"""Users' crontabs through Debian's crontab(1), in a mount namespace where the machine's own are not seen."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nanoexec.crontab import spool
from nanoexec.errors import ConfigError
from tests.support.crontabs import Machine

pytestmark = pytest.mark.node
SOURCE = Path(__file__).parents[3]
HIDDEN = ("/etc/cron.d", "/var/lib", "/run", "/var/spool/cron/crontabs")
PRIVATE = ("unshare", "--mount", "--propagation", "private", "sh", "-c")

BEGINNING = """
import subprocess
from pathlib import Path
from nanoexec.config import Paths
from nanoexec.catalog import read_catalog
from nanoexec.crontab import records, spool
from nanoexec.crontab.plan import apply
from nanoexec.crontab.scan import scan
from nanoexec.crontab.takeover import plan_adopt, plan_restore
from nanoexec.errors import ConfigError

paths, file = Paths(), Path("/var/spool/cron/crontabs/root")
catalog = read_catalog(paths)
DATA = b"# a comment\\n\\n17 * * * *\\t/sbin/slaughter --delay=3 # \\xe9\\nMAILTO=''\\n"

def listed():
    return subprocess.run(["crontab", "-l"], capture_output=True, check=True).stdout

def install(data):
    subprocess.run(["crontab", "-"], input=data, check=True)

def adopt(**more):
    return plan_adopt(paths, catalog, run="/usr/bin/nanoexec-run", now=0.0, everything=True, **more)

install(DATA)
"""


def in_private(script: str) -> None:
    """Run a script where the places of cron are empty ones of its own."""
    if os.geteuid() != 0 or not shutil.which("crontab") or not shutil.which("unshare"):
        pytest.skip("needs root, crontab(1) and unshare(1)")
    mounts = " && ".join(f"mount -t tmpfs tmpfs {place}" for place in HIDDEN if Path(place).is_dir())
    crontab = "mount --bind /dev/null /etc/crontab" if Path("/etc/crontab").exists() else "true"
    done = subprocess.run(
        [*PRIVATE, f'{mounts} && {crontab} && exec "$@"', "sh", sys.executable, "-c", BEGINNING + script],
        cwd=SOURCE,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


def test_a_line_is_adopted_and_restored_byte_for_byte() -> None:
    in_private("""
(found,) = [each for each in scan(paths, catalog) if each.file == str(file)]
assert (found.number, found.action, found.user, found.reason) == (3, "slaughter", "root", ""), found
plan = adopt()
(edit,) = plan.edits
assert (edit.before, edit.owner, edit.lines) == (DATA, "root", (3,))
apply(paths, plan)
assert listed() == edit.after != DATA
assert b"nanoexec-run --scheduled slaughter" in listed()
assert adopt().edits == ()
apply(paths, plan_restore(paths, now=0.0, everything=True))
assert listed() == DATA
assert records.load(paths) == ()
""")


def test_an_edit_in_between_is_noticed_and_kept() -> None:
    in_private("""
plan = adopt()
install(DATA + b"# edited\\n")
for attempt in (lambda: apply(paths, plan), lambda: spool.write(paths, file, DATA, b"")):
    try:
        attempt()
    except ConfigError as error:
        assert "somebody has edited it meanwhile" in str(error), error
    else:
        raise AssertionError("not noticed")
assert listed() == DATA + b"# edited\\n"
""")


def test_what_crontab_refuses_is_told_and_the_old_one_stays() -> None:
    in_private("""
try:
    spool.write(paths, file, DATA, b"garbage\\n")
except ConfigError as error:
    assert str(error).startswith("/var/spool/cron/crontabs/root: crontab(1) refuses the new one: "), error
else:
    raise AssertionError("not refused")
assert listed() == DATA
""")


def test_a_user_without_a_crontab_or_without_an_account_is_no_fault() -> None:
    in_private("""
assert spool.read(paths, file.with_name("nobody")) == b""
(file.with_name("stranger")).write_bytes(b"1 1 * * * true\\n")
assert {each.owner: each.ignored for each in spool.user_crontabs(paths)} == {
    "root": "", "stranger": "there is no user stranger",
}
""")


def test_who_may_not_list_all_sees_their_own() -> None:
    in_private("""
import os, pwd
subprocess.run(["chmod", "1730", "/var/spool/cron/crontabs"], check=True)
subprocess.run(["chgrp", "crontab", "/var/spool/cron/crontabs"], check=True)
subprocess.run(["crontab", "-u", "nobody", "-"], input=b"5 5 * * * true\\n", check=True)
os.setgroups([]); os.setgid(pwd.getpwnam("nobody").pw_gid); os.setuid(pwd.getpwnam("nobody").pw_uid)
found = [(each.owner, each.data, each.ignored) for each in spool.user_crontabs(paths)]
assert found == [("nobody", b"5 5 * * * true\\n", "")], found
""")


def test_a_runner_that_looks_every_five_minutes_calls_no_crontab_program() -> None:
    """Debian's writes "LIST" to the log of the machine each time, for each user."""
    in_private("""
import shutil
from nanoexec.runner.rhythm import intervals
apply(paths, adopt())
subprocess.run(["mount", "--bind", "/dev/null", shutil.which("crontab")], check=True)
assert intervals(paths, 0.0) == {"slaughter": 3600.0}, intervals(paths, 0.0)
""")


def test_in_a_scratch_directory_they_are_files(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    file = machine.user("root", b"1 1 * * * true\n")
    assert spool.read(machine.paths, file) == b"1 1 * * * true\n"
    spool.write(machine.paths, file, b"1 1 * * * true\n", b"2 2 * * * true\n")
    assert file.read_bytes() == b"2 2 * * * true\n"
    with pytest.raises(ConfigError, match="somebody has edited it"):
        spool.write(machine.paths, file, b"1 1 * * * true\n", b"")
