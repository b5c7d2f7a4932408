import os
import select
import signal
import subprocess

import pytest
from msgspec.structs import replace

from nanoexec.runner import process as looking
from nanoexec.runner.process import boot_id, group_lives, lives, parse_stat, send_signal, stat_of, this_process
from tests.support.runner import no_descriptors

pytestmark = pytest.mark.node


def test_a_name_with_parentheses_and_spaces_does_not_shift_the_fields() -> None:
    fields = " ".join(str(number) for number in range(4, 53))
    stat = parse_stat(f"42 (a) Z 1 2 (b) S {fields}\n".encode())
    assert (stat.state, stat.group, stat.ticks) == ("S", 5, 22)


def test_the_caller_lives() -> None:
    assert lives(this_process())


def test_the_same_pid_with_another_start_or_boot_is_another_process() -> None:
    me = this_process()
    assert not lives(replace(me, ticks=me.ticks + 1))
    assert not lives(replace(me, boot="00000000-0000-0000-0000-000000000000"))


def test_a_process_that_has_ended_does_not_live_even_before_it_is_reaped() -> None:
    child = subprocess.Popen(["sleep", "60"])
    stat = stat_of(child.pid)
    process = replace(this_process(), pid=child.pid, ticks=stat.ticks)
    assert lives(process)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not lives(process)
    child.wait()
    assert not lives(process)


def test_a_group_lives_as_long_as_a_member_runs() -> None:
    leader = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!"], stdout=subprocess.PIPE, start_new_session=True)
    member = int(leader.stdout.readline())
    leader.stdout.close()
    os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
    assert group_lives(leader.pid)
    pidfd = os.pidfd_open(member)
    os.kill(member, 9)
    select.select([pidfd], [], [])
    os.close(pidfd)
    assert not group_lives(leader.pid)
    leader.wait()


# Nobody can look: the machine has no descriptor left for a moment, and the next look may have one


@pytest.fixture
def boot_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last descriptor went between two files: the first of them was read."""
    boot = boot_id()
    monkeypatch.setattr(looking, "boot_id", lambda: boot)


@pytest.mark.usefixtures("boot_is_known")
def test_a_process_that_cannot_be_looked_at_is_not_said_to_be_gone() -> None:
    me = this_process()
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        lives(me)


@pytest.mark.usefixtures("boot_is_known")
def test_a_caller_that_cannot_be_looked_at_gets_no_made_up_start() -> None:
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        this_process()


def test_a_signal_is_not_said_to_be_unknown_where_nobody_can_look(monkeypatch: pytest.MonkeyPatch) -> None:
    me = this_process()
    descriptor = os.pidfd_open(me.pid)  # it got the last one
    monkeypatch.setattr(os, "pidfd_open", lambda _: descriptor)
    monkeypatch.setattr(looking, "lives", lambda _: True)
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        send_signal(me, signal.SIGUSR1, only_if_caught=True)


def test_a_group_that_cannot_be_looked_at_has_its_grace() -> None:
    with no_descriptors():
        assert group_lives(os.getpgrp())


def test_who_ends_while_being_looked_at_is_gone() -> None:
    child = subprocess.Popen(["sleep", "60"])
    opened = os.open(f"/proc/{child.pid}/stat", os.O_RDONLY)
    child.kill()
    child.wait()
    with pytest.raises(ProcessLookupError):
        os.read(opened, 1)
    os.close(opened)
    assert stat_of(child.pid) is None
