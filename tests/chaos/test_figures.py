"""The table that a campaign ends with."""

from typing import Any

from tests.chaos.figures import Figures, pytest_terminal_summary


class Terminal:
    """What the summary uses of pytest's terminal reporter."""

    def __init__(self, *reports: Any) -> None:
        self.stats = {"passed": list(reports[:1]), "failed": list(reports[1:])}
        self.lines: list[str] = []

    def section(self, title: str) -> None:
        self.lines.append(title)

    def write_line(self, line: str) -> None:
        self.lines.append(line)


class Report:
    def __init__(self, *properties: tuple[str, Any]) -> None:
        self.user_properties = list(properties)


def test_lost_and_doubled_are_told_also_when_there_are_none() -> None:
    figures = Figures("storms")
    figures.add("lost", 0)
    figures.add("doubled", 0)
    said = figures.lines()
    assert "  lost             0" in said
    assert "  doubled          0" in said


def test_who_has_not_looked_for_the_lost_and_doubled_does_not_say_that_there_are_none() -> None:
    figures = Figures("storms")
    figures.add("doubled", 2)
    assert figures.lines()[1:3] == ["  lost             not counted", "  doubled          2"]


def test_faults_are_counted_apart_and_by_kind() -> None:
    figures = Figures("network", seed="7")
    figures.add("starts", 1200)
    figures.count("partition")
    figures.count("reset", 2)
    lines = figures.lines()
    assert lines[0] == "network"
    assert "  starts           1,200" in lines
    assert "  faults injected  3 (reset 2, partition 1)" in lines
    assert "  seed             7" in lines


def test_the_table_is_printed_whether_the_campaign_held_or_not() -> None:
    held: list[tuple[str, Any]] = []
    broke: list[tuple[str, Any]] = []
    Figures("held").record(lambda name, value: held.append((name, value)))
    Figures("broke").record(lambda name, value: broke.append((name, value)))
    terminal = Terminal(Report(*held), Report(("other", 1), *broke))
    pytest_terminal_summary(terminal)
    assert terminal.lines[0] == "campaigns"
    assert "held" in terminal.lines
    assert "broke" in terminal.lines


def test_nothing_is_printed_where_no_campaign_ran() -> None:
    terminal = Terminal(Report(), Report())
    pytest_terminal_summary(terminal)
    assert terminal.lines == []
