"""Lines given back: the original bytes, and whatever somebody has changed since."""

import csv
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanoexec.crontab import records
from nanoexec.crontab.adoption import adopted
from nanoexec.crontab.lines import parse
from nanoexec.crontab.takeover import plan_restore
from nanoexec.errors import ConfigError, UsageError
from tests.support.crontabs import NOW, SLAUGHTER, Machine

pytestmark = pytest.mark.node
CORPUS = Path(os.environ.get("NANOEXEC_CRONTABS", Path(__file__).parents[4] / "shared/crontabs"))
CRONTAB = b"SHELL=/bin/sh\r\n\n# \xe9\n" + SLAUGHTER + b"\t5 5\t* * *  root  true\n" + b"@daily root puppet agent -t\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_only_the_adopted_lines_change_and_restoring_gives_the_bytes_back(machine: Machine) -> None:
    file = machine.write("etc/crontab", CRONTAB)
    made = machine.adopt()

    before, after = parse(CRONTAB, system=True), parse(file.read_bytes(), system=True)
    assert made.edits[0].lines == (4, 6)
    for old, new in zip(before, after, strict=True):
        if known := adopted(new):
            assert new.raw.endswith(old.raw[known.original.start - len(new.raw) :])
            assert (new.schedule, new.user, new.environment) == (old.schedule, old.user, old.environment)
        else:
            assert new.raw == old.raw
    machine.restore()
    assert file.read_bytes() == CRONTAB
    assert records.load(machine.paths) == ()


def test_one_action_can_be_adopted_and_restored_alone(machine: Machine) -> None:
    file = machine.write("etc/crontab", CRONTAB)
    machine.adopt("slaughter")
    machine.adopt("puppet")
    machine.restore("slaughter")

    assert [known.action for line in parse(file.read_bytes(), system=True) if (known := adopted(line))] == ["puppet"]
    assert [record.action for record in records.load(machine.paths)] == ["puppet"]


def test_a_line_in_the_shadow_is_restored_too(machine: Machine) -> None:
    file = machine.write("etc/crontab", SLAUGHTER)
    machine.adopt(shadow=True)
    assert machine.restore().notes == ()
    assert file.read_bytes() == SLAUGHTER


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"--delay=300", b"--delay=60"), (b"17 * * * *", b"5 4 * * *"), (b" root ", b" bob ")],
)
def test_an_edit_of_the_adopted_line_is_kept_and_said(machine: Machine, before: bytes, after: bytes) -> None:
    file = machine.write("etc/crontab", SLAUGHTER)
    machine.adopt()
    file.write_bytes(file.read_bytes().replace(before, after))

    restored = machine.restore()

    assert file.read_bytes() == SLAUGHTER.replace(before, after)
    assert restored.notes == (f"{file}:1: edited since slaughter took it over: the edit is kept",)
    assert records.load(machine.paths) == ()


def test_edits_elsewhere_in_the_file_are_kept_without_a_word(machine: Machine) -> None:
    file = machine.write("etc/crontab", SLAUGHTER)
    machine.adopt()
    file.write_bytes(b"MAILTO=root\n" + file.read_bytes() + b"# after\n")
    assert machine.restore().notes == ()
    assert file.read_bytes() == b"MAILTO=root\n" + SLAUGHTER + b"# after\n"


def test_a_damaged_prefix_is_left_alone_and_the_original_told(machine: Machine) -> None:
    file = machine.write("etc/crontab", SLAUGHTER)
    machine.adopt()
    damaged = file.read_bytes().replace(b"3>&1", b"3>&2")
    file.write_bytes(damaged)

    (refusal,) = machine.restore().refusals

    assert (refusal.number, refusal.action) == (1, "slaughter")
    assert SLAUGHTER.decode().strip() in refusal.reason
    assert file.read_bytes() == damaged
    assert len(records.load(machine.paths)) == 1  # still known


def test_a_line_or_a_file_that_is_gone_is_said_and_forgotten(machine: Machine) -> None:
    kept = machine.write("etc/crontab", SLAUGHTER)
    gone = machine.write("etc/cron.d/puppet", b"@daily root puppet agent -t\n")
    machine.adopt()
    kept.write_bytes(b"# nothing\n")
    gone.unlink()

    assert machine.restore().notes == (
        f"{kept}: the adopted line of slaughter is gone: nothing to restore",
        f"{gone}: the file is gone, and with it the line of puppet",
    )
    assert records.load(machine.paths) == ()
    assert not gone.exists()


def test_a_line_is_restored_without_records(machine: Machine) -> None:
    file = machine.write("etc/crontab", SLAUGHTER)
    machine.adopt()
    (machine.paths.crontabs / "adoptions.json").unlink()

    assert "nothing is on record" in machine.restore().notes[0]
    assert file.read_bytes() == SLAUGHTER


@pytest.mark.parametrize("content", [b'[{"file": 1}]', b'[{"file": "\xff"}]', b"\xff"])
def test_records_that_cannot_be_read_are_told_by_file(machine: Machine, content: bytes) -> None:
    machine.write("etc/crontab", SLAUGHTER)
    machine.adopt()
    (machine.paths.crontabs / "adoptions.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"adoptions\.json: not a record of adopted lines .*move it away"):
        plan_restore(machine.paths, now=NOW, everything=True)


def test_adopting_again_after_somebody_put_the_line_back_by_hand_keeps_one_record(machine: Machine) -> None:
    file = machine.write("etc/crontab", SLAUGHTER)
    machine.adopt()
    file.write_bytes(SLAUGHTER)
    machine.adopt(now=NOW + 60)

    (record,) = records.load(machine.paths)
    assert record.at == NOW + 60
    assert machine.restore().notes == ()


def test_two_equal_lines_are_two_adoptions(machine: Machine) -> None:
    file = machine.write("etc/crontab", SLAUGHTER * 2)
    machine.adopt()
    assert len(records.load(machine.paths)) == 2
    assert machine.restore().notes == ()
    assert file.read_bytes() == SLAUGHTER * 2


# One file holds all cases of one kind; what differs is put back by hand, so that a thousand examples stay quick.
TOOLS = [b"/sbin/slaughter --delay=3", b"puppet agent -t %in\\%put", b"cd /x && chef-client", b"true", b"echo puppet"]
LINE = st.one_of(
    st.builds(
        lambda when, user, tool, end: when + user + tool + end,
        st.sampled_from([b"17 * * * * ", b"\t@daily\t", b"-1 2 3 jan sun  "]),
        st.sampled_from([b"root ", b"root\t\t", b"bob "]),
        st.sampled_from(TOOLS),
        st.sampled_from([b"\n", b" # note\n", b"\r\n", b" '\xe9'\n"]),
    ),
    st.sampled_from([b"\n", b"# c\xff\n", b"SHELL=/bin/bash\n", b"X = 'y'\n", b" \t\n"]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINE, max_size=12).map(b"".join), st.booleans())
def test_whatever_is_in_a_crontab_adopting_and_restoring_gives_its_bytes_back(
    tmp_path: Path,
    data: bytes,
    shadow: bool,  # noqa: FBT001 - hypothesis gives it so
) -> None:
    machine = Machine(tmp_path)
    file = machine.write("etc/cron.d/case", data)
    machine.adopt(shadow=shadow)
    before, after = parse(data, system=True), parse(file.read_bytes(), system=True)
    assert [new.raw for old, new in zip(before, after, strict=True) if not adopted(new)] == [
        old.raw for old, new in zip(before, after, strict=True) if not adopted(new)
    ]
    machine.restore()
    assert file.read_bytes() == data


@pytest.fixture
def corpus() -> list[tuple[str, bytes, bool]]:
    """The name and the bytes of each real crontab, and whether it has a user column."""
    if not CORPUS.is_dir():
        pytest.skip(f"no collection of crontabs at {CORPUS}: set NANOEXEC_CRONTABS")
    with (CORPUS / "manifest.tsv").open() as opened:
        rows = list(csv.DictReader(opened, delimiter="\t"))
    return [(row["file"], (CORPUS / row["file"]).read_bytes(), row["format"] == "system") for row in rows]


def _every_job(file: Path, data: bytes, *, system: bool) -> list[tuple[str, int, str]]:
    return [(str(file), line.number, "uptime") for line in parse(data, system=system) if line.job]


def test_every_line_of_every_real_crontab_is_adopted_if_it_can_be_and_restored(
    machine: Machine, corpus: list[tuple[str, bytes, bool]]
) -> None:
    count = 0
    for number, (name, data, system) in enumerate(corpus):
        where = f"case{number}"
        file = machine.write(f"etc/cron.d/{where}", data) if system else machine.user(where, data)
        for line in _every_job(file, data, system=system):
            try:
                machine.adopt(lines=(line,))
            except UsageError:
                continue  # cron ignores the file, or the line cannot be adopted: then it must be as it was
            count += 1
        unchanged = {line.raw for line in parse(file.read_bytes(), system=system) if not adopted(line)}
        assert unchanged <= {line.raw for line in parse(data, system=system)}, name
        machine.restore()
        assert file.read_bytes() == data, name
        file.unlink()
    assert count > 50


def test_a_line_in_a_file_that_cron_ignores_by_now_is_restored(machine: Machine) -> None:
    file = machine.write("etc/crontab", SLAUGHTER)
    machine.adopt()
    file.chmod(0o666)
    machine.restore()
    assert file.read_bytes() == SLAUGHTER
