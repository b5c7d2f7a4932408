import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nanoexec.errors import StoreError
from nanoexec.runner.lock import ActionLock

pytestmark = pytest.mark.node
HOLD = (
    "import sys; from pathlib import Path; from nanoexec.runner.lock import ActionLock\n"
    "lock = ActionLock(Path(sys.argv[1]), 'a').__enter__(); print(lock.try_acquire(), flush=True); sys.stdin.read()"
)


def holder(locks: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, locks], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "True\n"
    return process


def test_a_free_lock_is_taken_at_once_and_by_one_only(tmp_path: Path) -> None:
    locks = tmp_path / "run/locks"
    with ActionLock(locks, "a") as mine, ActionLock(locks, "a") as other, ActionLock(locks, "b") as elsewhere:
        assert mine.try_acquire()
        assert not other.try_acquire()
        assert elsewhere.try_acquire()
        mine.release()
        assert other.try_acquire()


def test_waiting_ends_when_its_time_is_over_and_leaves_the_alarm_as_it_was(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with ActionLock(tmp_path, "a") as mine, ActionLock(tmp_path, "a") as other:
        assert mine.try_acquire()
        start = time.monotonic()
        assert not other.acquire(0.2)
        assert 0.2 <= time.monotonic() - start < 2
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert signal.getsignal(signal.SIGALRM) is before
        mine.release()
        assert other.acquire(0.2)


def test_a_lock_falls_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    process = holder(tmp_path)
    with ActionLock(tmp_path, "a") as mine:
        assert not mine.try_acquire()
        process.kill()
        assert mine.acquire(10)
    process.communicate()


def test_a_program_that_the_holder_leaves_behind_does_not_hold_it(tmp_path: Path) -> None:
    with ActionLock(tmp_path, "a") as mine:
        assert mine.try_acquire()
        daemon = subprocess.Popen(["sleep", "60"], close_fds=False)
    with ActionLock(tmp_path, "a") as other:
        assert other.try_acquire()
    daemon.kill()
    daemon.wait()


def test_nobody_else_can_open_it_and_a_link_is_not_followed(tmp_path: Path) -> None:
    locks = tmp_path / "locks"
    with ActionLock(locks, "a"):
        assert (locks / "a.lock").stat().st_mode & 0o777 == 0o600
        assert locks.stat().st_mode & 0o777 == 0o700
    (locks / "b.lock").symlink_to(tmp_path / "target")
    with pytest.raises(StoreError, match=r"b\.lock: cannot open the action's lock"):
        ActionLock(locks, "b").__enter__()
    assert not os.path.lexists(tmp_path / "target")
