"""The framing of local sockets."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoexec.errors import ProtocolError
from nanoexec.wire import control, runner, stream
from tests.unit.wire.values import examples, kinds, values

pytestmark = pytest.mark.node

SPOKEN: list[tuple[Any, Any]] = [
    (runner.Request, runner.decode_request),
    (runner.Reply, runner.decode_reply),
    (control.Request, control.decode_request),
    (control.Reply, control.decode_reply),
]


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        pytest.param(kind, read, id=f"{kind.__module__}.{kind.__name__}")
        for union, read in SPOKEN
        for kind in kinds(union)
    ],
)
@examples
@given(data=st.data())
def test_every_local_message_is_read_as_it_was_written(kind: Any, read: Any, data: st.DataObject) -> None:
    message = data.draw(values(kind))
    framed = stream.encode(message)
    body = framed[stream.HEADER :]
    assert stream.length(framed[: stream.HEADER]) == len(body)
    assert read(body) == message


@pytest.mark.parametrize("size", [0, 1, stream.MAX_MESSAGE + 1, 2**32 - 1])
def test_a_length_that_no_message_has_is_refused_before_anything_is_read(size: int) -> None:
    with pytest.raises(ProtocolError, match=rf"^local message announces {size} bytes: 2 to 16777216 are accepted$"):
        stream.length(size.to_bytes(stream.HEADER, "big"))


@pytest.mark.parametrize("size", [2, 1000, stream.MAX_MESSAGE])
def test_every_other_length_is_accepted(size: int) -> None:
    assert stream.length(size.to_bytes(stream.HEADER, "big")) == size


def test_a_message_that_no_peer_would_accept_is_not_written() -> None:
    with pytest.raises(ProtocolError, match=r"^local message of \d+ bytes: at most 16777216 may be sent$"):
        stream.encode(control.Prepared(body=bytes(stream.MAX_MESSAGE)))


def test_an_empty_header_announces_nothing() -> None:
    with pytest.raises(ProtocolError):
        stream.length(b"")
