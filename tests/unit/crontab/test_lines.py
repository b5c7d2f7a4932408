"""Crontabs, read byte for byte. What cron accepts was measured with ``crontab -n`` of Debian's cron 3.0pl1-162."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoexec.crontab.lines import Kind, Line, parse

pytestmark = pytest.mark.node


def line(text: str | bytes, *, system: bool = False) -> Line:
    data = text.encode() if isinstance(text, str) else text
    (found,) = parse(data + b"\n", system=system)
    return found


PIECES = st.sampled_from([
    b"17 * * * * ", b"@hourly ", b"root ", b"/sbin/slaughter --delay=300", b"%", rb"\%", b"\\", b"\t", b" ", b"\r",
    b"\n", b"\r\n", b"# comment", b"SHELL=/bin/bash", b"MAILTO = 'a b'", b"-", b"~", b"*", b"=", b'"', b"'", b"\xe9",
    b"\0",
])  # fmt: skip
FILES = st.one_of(st.lists(PIECES, max_size=60).map(b"".join), st.binary(max_size=200))


@given(FILES, st.booleans())
def test_the_lines_of_a_file_are_the_file(data: bytes, system: bool) -> None:  # noqa: FBT001 - hypothesis gives it so
    lines = parse(data, system=system)

    assert b"".join(line.raw for line in lines) == data
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert all(line.raw.count(b"\n") <= 1 and line.raw for line in lines)


@given(FILES, st.booleans())
def test_the_parts_of_a_job_are_in_order_and_in_its_line(data: bytes, system: bool) -> None:  # noqa: FBT001 - as above
    for job in (line.job for line in parse(data, system=system) if line.job):
        assert (job.user is not None) == system
        spans = [span for span in (job.schedule, job.user, job.flags, job.command, job.input) if span]
        places = [place for span in spans for place in (span.start, span.end)]
        assert places == sorted(places)


def test_every_file_of_the_collection_is_the_sum_of_its_lines(corpus: list[tuple[str, bytes, bool]]) -> None:
    assert len(corpus) >= 50
    for name, data, system in corpus:
        assert b"".join(line.raw for line in parse(data, system=system)) == data, name


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("17 * * * * /sbin/slaughter", Kind.JOB),
        ("  \t17 * * * * /sbin/slaughter", Kind.JOB),
        ("@hourly /sbin/slaughter", Kind.NICKNAME),
        ("@reboot /sbin/slaughter", Kind.NICKNAME),
        ("SHELL=/bin/bash", Kind.SETTING),
        ("# 17 * * * * /sbin/slaughter", Kind.COMMENT),
        (" \t# comment", Kind.COMMENT),
        ("", Kind.BLANK),
        (" \t ", Kind.BLANK),
        ("\r", Kind.INVALID),
        ("foo", Kind.INVALID),
        ("17 * * * *", Kind.INVALID),
        ("@hourly", Kind.INVALID),
        ("@HOURLY x", Kind.INVALID),
        ("@every_minute x", Kind.INVALID),
        ("* * * * * * x", Kind.INVALID),
        ("17 * * * * a\0b", Kind.INVALID),
    ],
)
def test_a_line_is_what_cron_takes_it_for(text: str, kind: Kind) -> None:
    found = line(text)

    assert found.kind is kind
    assert bool(found.fault) == (kind is Kind.INVALID)
    assert (found.job is not None) == (kind in (Kind.JOB, Kind.NICKNAME))


ACCEPTED = """\
*/61 * * * * | 0 0 * * 7 | 0 0 * * 5-7 | 0 0 * * fri-sun | 0 0 * * mon-fri | 0 0 * jan-MAR Mon,Tue | 5-3 * * * *
0-5/2,7 * * * * | *x * * * * | *,5 * * * * | 00 01 * * * | * * * * *x | 0-59/5- * * * * | *-5 * * * * | 5~ * * * *
0~30 * * * * | 0~59/5 * * * * | 0 0 31 2 * | 1-2-3 * * * * | 0 0 * * 0-6/2,mon | 1~2,3 * * * * | */5,*/7 * * * *
12*/2 * * * * | 5@hourly * * * * | */2/2 * * * * | 0' * * * *"""
REFUSED = """\
5/15 * * * * | 5x * * * * | */0 * * * * | 0 0 0 * * | 0 0 1 0 * | 0 24 * * * | 60 * * * * | 0 0 * * 8 | 0 0 * january *
5,,6 * * * * | 5, * * * * | 1-5x * * * * | */5,x * * * * | 1 2 3 4 5x | 1-* * * * * | 0-59/2x * * * * | 5- * * * *
0 0 * 1-13 * | 0 0 * * sunday | */* * * * * | 5-1Dec * * * * | 0 0 5-1/ * * | 5-100 * * * * | mon * * * *
99999999999 * * * *"""


@pytest.mark.parametrize("schedule", ACCEPTED.replace("\n", " | ").split(" | "))
def test_a_schedule_that_cron_accepts_is_a_job(schedule: str) -> None:
    assert line(f"{schedule} x").fault == ""
    assert line(f"{schedule} x").schedule == schedule


@pytest.mark.parametrize("schedule", REFUSED.replace("\n", " | ").split(" | "))
def test_a_schedule_that_cron_refuses_is_invalid_and_the_field_is_named(schedule: str) -> None:
    fault = line(f"{schedule} x").fault

    assert "bad " in fault
    assert any(repr(field) in fault for field in schedule.split())


@pytest.mark.parametrize("text", ["-5 * * * * x", "~ * * * * x", "~30 * * * * x", "-@daily x", "5 * * * * -n x"])
def test_what_only_cronie_accepts_is_a_job_too(text: str) -> None:
    found = line(text)

    assert found.command == b"x"
    assert found.job
    assert found.job.quiet == text.startswith("-")
    assert found.text(found.job.flags) == ("-n" if "-n" in text else "")


def test_a_system_job_has_a_user_column() -> None:
    found = line("\t17 *\t* * *  root    cd / && run-parts --report /etc/cron.hourly", system=True)

    assert (found.schedule, found.user) == ("17 * * * *", "root")
    assert found.command == b"cd / && run-parts --report /etc/cron.hourly"


@pytest.mark.parametrize("text", ["17 * * * * root", "17 * * * *", "@daily root", "@daily", "17 * * * * *x y"])
def test_a_system_job_needs_a_user_and_a_command(text: str) -> None:
    assert line(text, system=True).fault


@pytest.mark.parametrize(
    ("text", "command", "given"),
    [
        (r"mail joe%Hi,%%bye%", rb"mail joe", "Hi,%%bye%"),
        (r"date +\%F", rb"date +%F", None),
        (r"date +\%F%in\%put", rb"date +%F", r"in\%put"),
        (r"echo a\\%b", rb"echo a\\", "b"),
        (r"echo a\\\%b", rb"echo a\\%b", None),
        (r"echo \n\t", rb"echo \n\t", None),
        ("echo a\\", b"echo a\\", None),
        ("x%", b"x", ""),
        ("%x", b"", "x"),
        ("x  \t# comment", b"x  \t# comment", None),
    ],
)
def test_the_first_percent_sign_without_a_backslash_ends_the_command(
    text: str, command: bytes, given: str | None
) -> None:
    found = line(f"17 * * * * {text}")

    assert found.job
    assert found.command == command
    assert found.text(found.job.input) == (given or "")
    assert (found.job.input is None) == (given is None)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("A=b", "A", "b"),
        ("  A = b c  ", "A", "b c"),
        ('A=" b "', "A", " b "),
        ("A=' b '  ", "A", " b "),
        ('"A B"=c', "A B", "c"),
        ("'A'='b'", "A", "b"),
        ("A=b\r", "A", "b"),
        ("A=b'c", "A", "b'c"),
        ("A=b=c", "A", "b=c"),
        ('MAILTO=""', "MAILTO", ""),
        ("MAILTO=", "MAILTO", ""),
        ("@daily=x", "@daily", "x"),
        ("17=x", "17", "x"),
    ],
)
def test_a_setting_is_read_as_cron_reads_it(text: str, name: str, value: str) -> None:
    found = line(text)

    assert found.kind is Kind.SETTING
    assert found.environment == {name: value}


@pytest.mark.parametrize("text", ["A B=c", "A='b", "A='b' c", 'A="b"c', "0 5 * * 1 A=b", "@daily A=b cmd"])
def test_what_only_looks_like_a_setting_is_none(text: str) -> None:
    assert line(text).kind is not Kind.SETTING


def test_settings_hold_for_the_lines_after_them() -> None:
    data = b"0 * * * * a\nSHELL=/bin/bash\n0 * * * * b\nCRON_TZ=UTC\nSHELL = '/bin/zsh'\n0 * * * * c\n"
    lines = parse(data, system=False)

    assert [(found.shell, found.environment.get("CRON_TZ")) for found in lines if found.job] == [
        ("/bin/sh", None),
        ("/bin/bash", None),
        ("/bin/zsh", "UTC"),
    ]


def test_a_carriage_return_belongs_to_the_command_as_it_does_for_cron() -> None:
    assert line("17 * * * * /sbin/slaughter\r").command == b"/sbin/slaughter\r"


def test_a_job_in_latin_1_keeps_its_bytes() -> None:
    found = line(b"17 * * * * echo caf\xe9")

    assert found.command == b"echo caf\xe9"


def test_cron_does_not_read_a_last_line_without_a_newline() -> None:
    first, last = parse(b"17 * * * * a\n18 * * * * b", system=False)

    assert first.kind is Kind.JOB
    assert last.kind is Kind.INVALID
    assert "newline" in last.fault
    assert parse(b"# end", system=False)[0].kind is Kind.COMMENT
