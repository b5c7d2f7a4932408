"""Whatever is wrong with a frame, reading it gives one `ProtocolError` of one line, and never anything else."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoexec.errors import ProtocolError
from nanoexec.model import Cause, DeliveryState, Order, Outcome, Output, Run, Trigger
from nanoexec.wire import control, network, runner, stream
from tests.unit.wire.values import examples

pytestmark = pytest.mark.node

ID = "0123456789abcdef"
RUN = Run(ID, "uptime", Cause.TRIGGER, "root", 1.0, 7, started=1.5, ended=2.0, outcome=Outcome.FAILED, status=-9)
TRIGGER = Trigger(ID, "uptime", "web[1-3]", 1.0, 2.0, "root", {"a": "b"}, 3.0, ("ls", "-l"))
ORDER = Order(network.encode_trigger(TRIGGER), b"s" * 64)
OFFER = network.Offer(ID, ORDER)

Read = Callable[[bytes], Any]


def _local(message: Any) -> bytes:
    return stream.encode(message)[stream.HEADER :]


# A good frame of each kind, and its reader.
GOOD: dict[str, tuple[Read, bytes]] = {
    "beacon": (
        network.decode_published,
        network.publish(b"hub:", network.Beacon(epoch="e", sequence=1, time=2.0, interval=15.0)),
    ),
    "publication": (
        network.decode_published,
        network.publish(b"ALL:", network.Publication(epoch="e", sequence=1, time=2.0, offer=OFFER)),
    ),
    "hello": (network.decode_question, network.encode(network.Hello(version="1", time=2.0, actions=None))),
    "ack": (network.decode_question, network.encode(network.Ack(trigger=ID, state=DeliveryState.RUNNING, started=1.0))),
    "report": (
        network.decode_question,
        network.encode(network.Report(runs=(msgspec.structs.replace(RUN, output=Output(b"a", b"b", 9)),))),
    ),
    "bye": (network.decode_question, network.encode(network.Bye())),
    "welcome": (
        network.decode_answer,
        network.encode(
            network.Welcome(node="web1", epoch="e", sequence=1, time=2.0, interval=15.0, offers=(OFFER,), more=True)
        ),
    ),
    "received": (network.decode_answer, network.encode(network.Received(time=2.0))),
    "denied": (network.decode_answer, network.encode(network.Denied(reason="no", time=2.0))),
    "ca": (network.decode_join_question, network.encode(network.CaRequest())),
    "join": (
        network.decode_join_question,
        network.encode(network.JoinRequest(name="web1", secret=b"s", request="r")),
    ),
    "ca-answer": (network.decode_join_reply, network.encode(network.CaAnswer(certificate="c"))),
    "joined": (
        network.decode_join_reply,
        network.encode(network.JoinAnswer(certificate="c", hub="h", publish_port=1, report_port=2)),
    ),
    "trigger": (network.decode_trigger, ORDER.body),
    "start": (runner.decode_request, _local(runner.Start(order=ORDER, deadline=5.0))),
    "changed": (runner.decode_reply, _local(runner.Changed(journal="j", runs=(RUN,), more=False))),
    "submit": (
        control.decode_request,
        _local(control.Submit(wanted=control.Wanted(target="ALL", action="uptime", lifetime=60.0))),
    ),
    "accepted": (control.decode_reply, _local(control.Accepted(trigger=TRIGGER, nodes=("web1",)))),
}
every_kind = pytest.mark.parametrize(("read", "frame"), [pytest.param(*GOOD[name], id=name) for name in GOOD])


def refuses(read: Read, frame: bytes) -> str:
    """The one line with which a frame is refused."""
    with pytest.raises(ProtocolError) as caught:
        read(frame)
    line = str(caught.value)
    assert line
    assert line.isprintable()
    assert len(line) < 500
    return line


def reads_or_refuses(read: Read, frame: bytes) -> None:
    try:
        read(frame)
    except ProtocolError as error:
        assert str(error).isprintable()  # noqa: PT017 - that it may also be read is the point


def _with(frame: bytes, **changed: Any) -> bytes:
    """The frame with fields of its map added or replaced by something that the encoder would never write."""
    document = msgspec.msgpack.decode(frame[1:])
    return frame[:1] + msgspec.msgpack.encode(document | changed)


@every_kind
def test_the_good_frames_here_are_good(read: Read, frame: bytes) -> None:
    read(frame)


@every_kind
def test_a_frame_cut_short_anywhere_is_refused(read: Read, frame: bytes) -> None:
    for size in range(len(frame)):
        refuses(read, frame[:size])


@every_kind
def test_a_frame_with_something_behind_it_is_refused(read: Read, frame: bytes) -> None:
    refuses(read, frame + b"\xc0")


@every_kind
def test_a_frame_with_any_one_bit_flipped_is_read_or_refused(read: Read, frame: bytes) -> None:
    for place in range(len(frame)):
        for bit in range(8):
            flipped = bytearray(frame)
            flipped[place] ^= 1 << bit
            reads_or_refuses(read, bytes(flipped))


@every_kind
@examples
@given(data=st.data())
def test_a_frame_with_bytes_replaced_by_others_is_read_or_refused(
    read: Read, frame: bytes, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(frame)))
    end = data.draw(st.integers(start, min(len(frame), start + 8)))
    reads_or_refuses(read, frame[:start] + data.draw(st.binary(max_size=8)) + frame[end:])


@every_kind
@examples
@given(noise=st.binary(max_size=64))
def test_random_bytes_behind_a_good_beginning_are_read_or_refused(read: Read, frame: bytes, noise: bytes) -> None:
    for size in (0, 1, 6, 20):
        reads_or_refuses(read, frame[:size] + noise)


QUESTION = GOOD["hello"]
LOCAL = GOOD["start"]


@pytest.mark.parametrize("name", [name for name in GOOD if name not in ("beacon", "publication", "trigger")])
def test_an_unknown_field_is_refused_by_name(name: str) -> None:
    read, frame = GOOD[name]
    assert "surprise" in refuses(read, _with(frame, surprise=1))


@pytest.mark.parametrize("name", [name for name in GOOD if name not in ("beacon", "publication", "trigger")])
def test_an_unknown_kind_is_refused_by_name(name: str) -> None:
    read, frame = GOOD[name]
    assert "reboot" in refuses(read, _with(frame, kind="reboot"))


def test_a_kind_of_another_conversation_is_refused() -> None:
    refuses(network.decode_question, GOOD["welcome"][1])
    refuses(network.decode_answer, GOOD["hello"][1])
    refuses(network.decode_join_question, GOOD["hello"][1])
    refuses(runner.decode_request, GOOD["submit"][1])


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("hello", "time", "now"),
        ("hello", "time", None),
        ("hello", "version", 1),
        ("hello", "actions", [["UPPER"]]),
        ("hello", "sequence", -1),
        ("ack", "trigger", "0123456789ABCDEF"),
        ("ack", "trigger", "short"),
        ("ack", "state", "done"),
        ("ack", "reason", "x" * 4001),
        ("report", "runs", {}),
        ("welcome", "node", "web1\n"),
        ("welcome", "node", "../../etc/passwd"),
        ("welcome", "more", 1),
        ("join", "name", "ALL"),
        ("start", "deadline", "soon"),
    ],
)
def test_a_value_of_the_wrong_type_or_shape_is_refused(name: str, field: str, value: Any) -> None:
    read, frame = GOOD[name]
    assert field in refuses(read, _with(frame, **{field: value}))


@pytest.mark.parametrize("time", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("hello", "time"),
        ("ack", "started"),
        ("welcome", "time"),
        ("welcome", "interval"),
        ("received", "time"),
        ("denied", "time"),
        ("start", "deadline"),
    ],
)
def test_a_time_that_is_no_time_is_refused(name: str, field: str, time: float) -> None:
    read, frame = GOOD[name]
    assert field in refuses(read, _with(frame, **{field: time}))


@pytest.mark.parametrize("interval", [0.0, -1.0, 1e9])
def test_a_beacon_interval_that_would_keep_nodes_busy_or_deaf_is_refused(interval: float) -> None:
    beacon = network.Beacon(epoch="e", sequence=1, time=2.0, interval=interval)
    assert "interval" in refuses(network.decode_published, network.publish(b"hub:", beacon))
    welcome = network.Welcome(node="web1", epoch="e", sequence=1, time=2.0, interval=interval)
    assert "interval" in refuses(network.decode_answer, network.encode(welcome))


@pytest.mark.parametrize(
    "wrong",
    [
        {"requested": float("nan")},
        {"started": float("inf")},
        {"ended": float("-inf")},
        {"duration": float("nan")},
        {"duration": -1.0},
        {"change": -1},
        {"change": 2**63},
        {"status": 2**63},
        {"output": Output(b"", b"", 2**63)},
    ],
    ids=str,
)
def test_a_run_with_a_number_that_no_database_could_keep_is_refused(wrong: dict[str, Any]) -> None:
    report = network.Report(runs=(msgspec.structs.replace(RUN, **wrong),))
    assert "runs[0]" in refuses(network.decode_question, network.encode(report))


@pytest.mark.parametrize(
    ("issued", "expires"),
    [
        (2.0, 1.0),
        (float("nan"), 1.0),
        (1.0, float("nan")),
        (1.0, float("inf")),
        (float("-inf"), 1.0),
        (float("inf"), float("inf")),
        (1.0, 31 * 86400.0),
    ],
)
def test_a_trigger_whose_times_make_no_sense_is_refused(issued: float, expires: float) -> None:
    trigger = msgspec.structs.replace(TRIGGER, issued=issued, expires=expires)
    refuses(network.decode_trigger, network.encode_trigger(trigger))


def test_an_order_of_an_older_agent_has_no_deadline() -> None:
    assert runner.decode_request(_local(runner.Start(order=ORDER))) == runner.Start(order=ORDER, deadline=None)


def test_text_that_is_not_utf8_is_refused() -> None:
    read, frame = QUESTION
    assert b"\xa51.2.3" in (good := network.encode(network.Hello(version="1.2.3", time=0.0)))
    assert "UTF-8" in refuses(read, good.replace(b"\xa51.2.3", b"\xa5\xff.2.3"))
    assert frame != good
    assert "UTF-8" in refuses(network.decode_trigger, ORDER.body.replace(b"uptime", b"upt\xffme"))
    assert "UTF-8" in refuses(control.decode_request, GOOD["submit"][1].replace(b"uptime", b"upt\xffme"))


@pytest.mark.parametrize(("version", "advice"), [(0, "too old"), (2, "upgrade"), (255, "upgrade"), (0x7B, "upgrade")])
def test_another_version_of_the_protocol_is_refused_with_advice(version: int, advice: str) -> None:
    read, frame = QUESTION
    line = refuses(read, bytes([version]) + frame[1:])
    assert f"speaks protocol {version}, this side speaks 1" in line
    assert advice in line


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_on_a_local_socket_is_refused_with_advice(version: int) -> None:
    read, frame = LOCAL
    assert "restart nanoexec's services" in refuses(read, bytes([version]) + frame[1:])


@every_kind
def test_an_empty_frame_is_refused(read: Read, frame: bytes) -> None:
    refuses(read, b"")


def test_a_frame_over_the_limit_is_refused_unread() -> None:
    line = refuses(network.decode_question, bytes([network.PROTOCOL]) * (network.MAX_FRAME + 1))
    assert line == "request frame of 1048577 bytes: at most 1048576 are accepted"


def test_a_published_frame_without_a_topic_is_refused() -> None:
    assert "no topic" in refuses(network.decode_published, b"\x01\x80")


@pytest.mark.parametrize("nest", [b"\x91", b"\x81\xa1a"], ids=["lists", "maps"])
@pytest.mark.parametrize("name", ["hello", "start", "submit"])
def test_a_frame_nested_without_end_is_refused(name: str, nest: bytes) -> None:
    read, frame = GOOD[name]
    deep = nest * 100_000 + b"\xc0"
    refuses(read, frame[:1] + deep)
    refuses(read, frame[:1] + b"\x82\xa1a" + deep + b"\xa4kind\xa5hello")  # skipped on the way to the kind
    refuses(network.decode_trigger, b"nanoexec trigger 1\0" + deep)


def test_a_field_name_chosen_to_mislead_a_reader_stays_one_short_line() -> None:
    read, frame = QUESTION
    refuses(read, _with(frame, **{"a\nERROR something else\x1b[2J": 1}))
    refuses(read, _with(frame, **{"x" * 100_000: 1}))
