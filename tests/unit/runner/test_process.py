import os
import select
import subprocess

import pytest
from msgspec.structs import replace

from nanoexec.runner.process import group_lives, lives, parse_stat, stat_of, this_process

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
