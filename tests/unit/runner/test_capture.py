import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoexec.runner.capture import Capture

pytestmark = pytest.mark.node


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(min_value=2, max_value=24))
def test_head_and_tail_are_the_first_and_last_bytes_however_the_output_is_cut_into_chunks(
    chunks: list[bytes], limit: int
) -> None:
    capture = Capture(limit)
    for chunk in chunks:
        capture.feed(chunk)
    whole, output = b"".join(chunks), capture.output()
    assert output.size == len(whole)
    if len(whole) <= limit:
        assert output.head + output.tail == whole
    else:
        assert whole.startswith(output.head)
        assert whole.endswith(output.tail)
        assert len(output.head) + len(output.tail) == limit


def test_a_long_output_is_held_in_twice_the_limit() -> None:
    capture = Capture(1000)
    for _ in range(10_000):
        capture.feed(b"x" * 77)
    assert len(capture._head) + len(capture._tail) <= 2 * 1000
    assert capture.output().cut == 770_000 - 1000
