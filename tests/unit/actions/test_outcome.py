import tracemalloc

import pytest

from nanoexec.actions import Judge, Rule, Rules, Verdict
from nanoexec.model import Outcome

pytestmark = pytest.mark.node

SUCCEEDED, FAILED = Outcome.SUCCEEDED, Outcome.FAILED
RULES = Rules(
    succeeded=Rule(exit=(0, 3), output=("^all good",)),
    changed=Rule(exit=(2, 6), output=("^changed",)),
    failed=Rule(exit=(6,), output=("^oops",)),
)


def judge(rules: Rules, output: bytes, status: int) -> Verdict:
    one = Judge(rules)
    one.feed(output)
    return one.verdict(status)


def test_without_rules_only_exit_status_zero_is_success_and_nothing_is_said_of_change() -> None:
    assert judge(Rules(), b"oops\n", 0) == Verdict(outcome=SUCCEEDED, changed=None)
    assert judge(Rules(), b"", 1) == Verdict(outcome=FAILED, changed=None, reason="exit status 1")


@pytest.mark.parametrize(
    ("output", "status", "expected"),
    [
        (b"", 0, (SUCCEEDED, False, "")),
        (b"", 3, (SUCCEEDED, False, "")),
        (b"", 2, (SUCCEEDED, True, "")),
        (b"changed it\n", 0, (SUCCEEDED, True, "")),
        (b"all good\n", 9, (SUCCEEDED, False, "it said: all good")),
        (b"", 9, (FAILED, None, "exit status 9")),
        (b"changed it\n", 9, (FAILED, True, "exit status 9")),
        (b"", 6, (FAILED, True, "exit status 6")),
        (b"oops 1\noops 2\n", 0, (FAILED, None, "it said: oops 1")),
        (b"all good\noops\nchanged\n", 6, (FAILED, True, "it said: oops")),
        (b"all good\n", -15, (FAILED, None, "killed by signal 15 (SIGTERM)")),
        (b"oops\n", -15, (FAILED, None, "it said: oops")),
        (b"", -63, (FAILED, None, "killed by signal 63")),
    ],
)
def test_rules_are_asked_in_their_order(output: bytes, status: int, expected: tuple[Outcome, bool | None, str]) -> None:
    outcome, changed, reason = expected
    assert judge(RULES, output, status) == Verdict(outcome=outcome, changed=changed, reason=reason)


def test_a_line_is_found_however_the_output_is_cut_into_chunks() -> None:
    output = "fine\nö oops: ü\nmore\n".encode()
    rules = Rules(failed=Rule(output=("^ö oops: ü$",)))
    for first in range(len(output)):
        for second in range(first, len(output)):
            one = Judge(rules)
            for chunk in (output[:first], output[first:second], output[second:]):
                one.feed(chunk)
            assert one.verdict(0).reason == "it said: ö oops: ü"


def test_a_last_line_without_an_end_is_read_too() -> None:
    assert judge(RULES, b"fine\noops", 0).outcome is FAILED


def test_a_pattern_does_not_reach_over_the_end_of_a_line() -> None:
    rules = Rules(failed=Rule(output=(r"a\s+b", r"(?s)a.b", r"^b.$")))
    assert judge(rules, b"a\nb\r\na\n\nb\n", 0).outcome is SUCCEEDED


def test_bytes_that_are_not_text_do_not_hide_the_line() -> None:
    assert judge(RULES, b"\xff\xfe\noops \xff\x1b[31m\x07\n", 0).reason == "it said: oops \ufffd [31m"


def test_the_quoted_line_is_trimmed() -> None:
    reason = judge(RULES, b"oops " + b"x" * 1000, 0).reason
    assert len(reason) == len("it said: ") + 200 + len("…")


def test_an_endless_line_is_read_to_its_limit_in_bounded_memory() -> None:
    rules = Rules(failed=Rule(output=("^oops", "late", "^next oops")))
    one = Judge(rules)
    one.feed(b"x" * (64 << 10))
    chunk = b"late" * (16 << 10)
    tracemalloc.start()
    for _ in range(256):
        one.feed(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert one.verdict(0).outcome is SUCCEEDED
    one.feed(b"\nnext oops\n")
    assert one.verdict(0).reason == "it said: next oops"


def test_output_that_no_rule_asks_about_is_not_kept() -> None:
    one = Judge(Rules())
    chunk = b"x" * (1 << 20)
    tracemalloc.start()
    for _ in range(1024):
        one.feed(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4096
