"""The edit: a prefix before the command, and no other byte of the file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoexec.crontab.adoption import MAX_COMMAND, adopt, adopted, arm, restore, tampered
from nanoexec.crontab.lines import Line, parse
from nanoexec.crontab.prefix import Prefix, split
from nanoexec.errors import UsageError

pytestmark = pytest.mark.node

RUN = "/usr/bin/nanoexec-run"
JOB = b"17 *\t* * *  root   /sbin/slaughter --delay=300 \xe9 # comment\r\n"


def line(raw: bytes, *, system: bool = True) -> Line:
    return parse(raw, system=system)[-1]


def reread(raw: bytes, before: Line, *, system: bool = True) -> Line:
    """An edited line in the place of ``before``, with the settings before it."""
    settings = "".join(f"{name}={value}\n" for name, value in before.environment.items()).encode()
    return line(settings + raw, system=system)


def test_an_adopted_line_is_the_prefix_and_the_original() -> None:
    assert adopt(line(JOB), "slaughter", RUN) == (
        b"17 *\t* * *  root   [ ! -x /usr/bin/nanoexec-run ] || "
        b'{ eval "$(/usr/bin/nanoexec-run --scheduled slaughter 3>&1 >&4 4>&-)"; } 4>&1; '
        b"/sbin/slaughter --delay=300 \xe9 # comment\r\n"
    )


def test_a_line_adopted_in_the_shadow_runs_the_original_itself() -> None:
    assert adopt(line(JOB), "slaughter", RUN, root="/srv/x", shadow=True) == (
        b"17 *\t* * *  root   (/usr/bin/nanoexec-run --root /srv/x --scheduled slaughter --shadow "
        b"</dev/null >/dev/null 2>&1 &); /sbin/slaughter --delay=300 \xe9 # comment\r\n"
    )


COMMANDS = st.lists(
    st.sampled_from(
        [b"/sbin/slaughter", b" ", b"\t", b"%", rb"\%", b"\\", b"\r", b"\xff", b"'", b'"', b"#", b"&&", b";"]
    ),
    max_size=20,
).map(b"".join)
HEADS = st.sampled_from([b"17 * * * * ", b"\t@hourly\t", b"-*/5 1-5 * jan mon\t ", b"0~30 * * * * "])


@given(
    st.lists(st.tuples(HEADS, COMMANDS), min_size=1, max_size=5),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "/r"]),
)
def test_restoring_gives_the_original_bytes_of_the_whole_file(
    parts: list[tuple[bytes, bytes]],
    system: bool,  # noqa: FBT001 - hypothesis gives it so
    shadow: bool,  # noqa: FBT001 - as above
    root: str,
) -> None:
    user = b"root " if system else b""
    data = b"".join(head + user + b"x" + command + b"\n# \xe9\n" for head, command in parts)
    lines = parse(data, system=system)
    for place, found in enumerate(lines):
        if found.job is None:
            continue
        edited = [other.raw for other in lines]
        edited[place] = adopt(found, "slaughter", RUN, root=root, shadow=shadow)
        again = parse(b"".join(edited), system=system)

        assert adopted(again[place])
        assert (again[place].schedule, again[place].user) == (found.schedule, found.user)
        assert again[place].command.endswith(found.command)
        assert again[place].text(again[place].job and again[place].job.input) == found.text(found.job.input)
        edited[place] = restore(again[place])
        assert b"".join(edited) == data


def test_every_job_of_the_collection_comes_back_as_it_was(corpus: list[tuple[str, bytes, bool]]) -> None:
    done = 0
    for _, data, system in corpus:
        for found in parse(data, system=system):
            if found.job is None or found.shell not in ("/bin/sh", "/bin/dash", "/bin/bash"):
                continue
            again = reread(adopt(found, "slaughter", RUN), found, system=system)
            assert adopted(again)
            assert restore(again) == found.raw
            done += 1
    assert done > 100


def test_adopting_twice_changes_nothing_the_second_time() -> None:
    once = adopt(line(JOB), "slaughter", RUN)

    assert adopt(line(once), "slaughter", RUN) == once


@pytest.mark.parametrize(("action", "shadow"), [("puppet", False), ("slaughter", True)])
def test_an_adopted_line_is_not_adopted_otherwise(action: str, shadow: bool) -> None:  # noqa: FBT001 - parametrized
    once = line(adopt(line(JOB), "slaughter", RUN))

    with pytest.raises(UsageError, match="already adopted by slaughter"):
        adopt(once, action, RUN, shadow=shadow)


def test_restoring_a_line_that_was_not_adopted_changes_nothing() -> None:
    assert restore(line(JOB)) == JOB
    assert restore(line(b"# comment\n")) == b"# comment\n"


def test_arming_takes_the_line_out_of_the_shadow() -> None:
    shadow = line(adopt(line(JOB), "slaughter", RUN, root="/srv/x", shadow=True))

    assert arm(shadow) == adopt(line(JOB), "slaughter", RUN, root="/srv/x")
    assert arm(line(arm(shadow))) == arm(shadow)
    assert arm(line(JOB)) == JOB


def test_what_somebody_changed_behind_the_prefix_survives_restoring() -> None:
    once = adopt(line(JOB), "slaughter", RUN)
    edited = once.replace(b"17 *", b"23 4").replace(b"--delay=300", b"--delay=5").replace(b"root", b"adm")

    assert restore(line(edited)) == b"23 4\t* * *  adm   /sbin/slaughter --delay=5 \xe9 # comment\r\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"3>&1", b"3>&2"),
        (b"--scheduled", b"--verbose --scheduled"),
        (b"[ ! -x /usr/bin", b"[ ! -x /opt"),
        (b"|| {", b"|| "),
    ],
)
def test_a_prefix_changed_by_hand_is_noticed_and_left_alone(old: bytes, new: bytes) -> None:
    edited = line(adopt(line(JOB), "slaughter", RUN).replace(old, new, 1))

    assert edited.job
    assert adopted(edited) is None
    assert tampered(edited)
    assert restore(edited) == edited.raw
    with pytest.raises(UsageError, match="by hand"):
        adopt(edited, "slaughter", RUN)


@pytest.mark.parametrize("raw", [JOB, b"# nanoexec-run --scheduled x\n", b"0 * * * * root nanoexec-run slaughter\n"])
def test_a_line_of_somebody_else_is_not_taken_for_a_changed_one(raw: bytes) -> None:
    assert not tampered(line(raw))


@pytest.mark.parametrize("system", [True, False])
@pytest.mark.parametrize("shadow", [True, False])
def test_a_line_may_become_as_long_as_cron_takes_it_and_no_longer(system: bool, shadow: bool) -> None:  # noqa: FBT001
    head = b"17 * * * * root " if system else b"17 * * * * "
    room = MAX_COMMAND - len(bytes(Prefix("slaughter", RUN, shadow=shadow)))
    fits = line(head + b"x" * (room - 5) + b"%abcd\n", system=system)
    over = line(head + b"x" * (room - 4) + b"%abcd\n", system=system)

    assert len(adopt(fits, "slaughter", RUN, shadow=shadow)) == len(head) + MAX_COMMAND + 1
    with pytest.raises(UsageError, match="999 bytes long, and cron takes 998"):
        adopt(over, "slaughter", RUN, shadow=shadow)


def test_a_line_that_the_longer_prefix_does_not_fit_stays_in_the_shadow() -> None:
    room = MAX_COMMAND - len(bytes(Prefix("slaughter", RUN, shadow=True)))
    shadow = line(adopt(line(b"@daily root " + b"x" * room + b"\n"), "slaughter", RUN, shadow=True))

    with pytest.raises(UsageError, match="cannot be armed"):
        arm(shadow)


@pytest.mark.parametrize(
    "shell", ["/bin/csh", "/usr/bin/fish", "/bin/ksh93", "/usr/local/cpanel/bin/jailshell", "/bin/rbash", "bash", ""]
)
def test_a_line_for_another_kind_of_shell_is_not_adopted(shell: str) -> None:
    found = line(f'SHELL="{shell}"\n'.encode() + JOB)

    with pytest.raises(UsageError, match="SHELL is"):
        adopt(found, "slaughter", RUN)


@pytest.mark.parametrize(
    "raw", [b"# 17 * * * * root x\n", b"17 * * * * root\n", b"SHELL=/bin/sh\n", b"17 * * * * root x"]
)
def test_what_is_not_a_job_is_not_adopted(raw: bytes) -> None:
    with pytest.raises(UsageError, match="not a job"):
        adopt(line(raw), "slaughter", RUN)


def test_a_job_without_a_command_is_not_adopted() -> None:
    with pytest.raises(UsageError, match="no command"):
        adopt(line(b"17 * * * * root %input\n"), "slaughter", RUN)


@pytest.mark.parametrize(
    "path", ["nanoexec-run", "/opt/a b/run", "/opt/100%/run", "/opt/$x/run", "/opt/'/run", "/a\nb"]
)
def test_a_path_that_the_shell_or_cron_would_read_differently_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="cannot stand in a crontab"):
        adopt(line(JOB), "slaughter", path)
    with pytest.raises(UsageError, match="cannot stand in a crontab"):
        adopt(line(JOB), "slaughter", RUN, root=path)


@pytest.mark.parametrize("shadow", [True, False])
@pytest.mark.parametrize("root", ["", "/srv/x"])
def test_the_prefix_is_found_in_what_cron_hands_to_the_shell(shadow: bool, root: str) -> None:  # noqa: FBT001
    prefix = Prefix("slaughter", RUN, root, shadow)

    assert split(bytes(prefix) + b"date +%F") == (prefix, b"date +%F")
    assert split(b"date; " + bytes(prefix)) is None
