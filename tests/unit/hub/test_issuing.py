"""From an operator's wish to a trigger that is on disk, and on its way."""

import itertools
import re
from typing import Any

import pytest

from nanoexec.errors import NoTargetError, ProtocolError, RefusedError, TargetError, UsageError
from nanoexec.model import DeliveryState, Order, Trigger
from nanoexec.wire import network
from tests.unit.hub.made import START, at, core_of, hello, id_of, issued, published, report, submit, wanted

NODES = ("db1", "web1", "web2")


def test_a_trigger_names_every_targeted_node_exactly_once() -> None:
    core = core_of(*NODES, here=False)
    for target, nodes in (("ALL", NODES), ("web[1-2],web1,web*", ("web1", "web2")), ("!db1", ("web1", "web2"))):
        change = issued(submit(core, target[:2].lower().strip("!") or "x", target))
        assert sorted(change.nodes) == sorted(nodes)
        assert len(change.nodes) == len(set(change.nodes))


def test_what_is_to_be_stored_has_the_exact_bytes_that_are_published() -> None:
    core = core_of(*NODES)
    decision = submit(core, arguments={"reason": "test"}, timeout=5.0)
    change = issued(decision)
    _, publication = published(decision.frames[0])
    assert publication.offer == network.Offer(change.trigger.id, change.order)
    assert network.decode_trigger(change.order.body) == change.trigger


def test_the_trigger_says_who_wants_what_until_when() -> None:
    trigger = issued(submit(core_of(*NODES), target="web*", arguments={"a": "b"}, timeout=5.0, seconds=7.0)).trigger
    assert trigger == Trigger(id_of("t1"), "uptime", "web[1-2]", START + 7, START + 67, "root", {"a": "b"}, 5.0)


def test_the_operator_hears_which_nodes_are_away_and_which_names_are_unknown() -> None:
    core = core_of(*NODES, here=False)
    hello(core, "web1")
    accepted = submit(core, target="web[1-4]").answer
    assert (accepted.nodes, accepted.away, accepted.unknown) == (("web1", "web2"), ("web2",), ("web3", "web4"))


def test_nothing_is_published_when_nobody_is_there_to_hear_it() -> None:
    decision = submit(core_of(*NODES, here=False))
    assert decision.frames == ()
    assert issued(decision).sent == ()


def test_only_connected_nodes_count_as_sent() -> None:
    core = core_of(*NODES, here=False)
    hello(core, "web1")
    decision = submit(core)
    assert issued(decision).sent == ("web1",)
    assert len(decision.frames) == 1
    entry = core.ledger.get(id_of("t1"))
    assert entry is not None
    assert entry.deliveries == {
        "db1": DeliveryState.PENDING,
        "web1": DeliveryState.SENT,
        "web2": DeliveryState.PENDING,
    }


def test_a_trigger_for_several_nodes_goes_out_once_to_all_with_the_next_sequence_number() -> None:
    core = core_of(*NODES)
    for number in (1, 2):
        decision = submit(core, f"t{number}", "web[1-2]")
        topic, publication = published(decision.frames[0])
        assert (len(decision.frames), topic, publication.sequence) == (1, b"ALL:", number)
    assert core.sequence == 2


def test_a_trigger_for_one_node_goes_to_its_own_topic_and_leaves_the_sequence() -> None:
    core = core_of(*NODES)
    submit(core, "t1")
    topic, publication = published(submit(core, "t2", "web1").frames[0])
    assert (topic, publication.sequence, core.sequence) == (b"web1:", 1, 1)


def test_a_beacon_says_the_sequence_that_nodes_must_have_heard() -> None:
    core = core_of(*NODES)
    submit(core)
    (frame,) = core.beacon(at(3)).frames
    assert frame.startswith(b"hub:")
    assert network.decode_published(frame) == network.Beacon(epoch="e1", sequence=1, time=START + 3, interval=15.0)


def test_groups_of_the_hubs_configuration_can_be_targeted() -> None:
    core = core_of(*NODES, groups={"web": "web*"})
    assert issued(submit(core, target="@web")).nodes == ("web1", "web2")


def test_revoked_nodes_are_not_targeted() -> None:
    core = core_of(*NODES)
    core.revoke("web1", at(0))
    assert sorted(issued(submit(core)).nodes) == ["db1", "web2"]


@pytest.mark.parametrize(
    ("target", "more", "error", "line"),
    [
        ("ghost", {}, NoTargetError, "matches no node: not on the roster: ghost"),
        ("web[", {}, TargetError, "cannot be read"),
        ("@nowhere", {}, TargetError, "unknown group @nowhere"),
        ("ALL", {"command": ("ls",)}, UsageError, "the action 'exec' takes a command, and no other action does"),
        ("ALL", {"action": "exec"}, UsageError, "the action 'exec' takes a command"),
        ("ALL", {"arguments": {"a": "x" * 70_000}}, UsageError, "at most 65536"),
        ("ALL", {"action": "exec", "command": ("echo", "x" * 2_000_000)}, UsageError, "at most 65536"),
    ],
)
def test_a_wish_that_cannot_be_meant_is_refused_and_leaves_no_trace(
    target: str, more: dict[str, Any], error: type[Exception], line: str
) -> None:
    core = core_of(*NODES)
    with pytest.raises(error, match=re.escape(line)):
        submit(core, "t1", target, **more)
    with pytest.raises(error, match=re.escape(line)):
        core.prepared(wanted(target, **more), "root", id_of("t1"), at(0))
    assert core.ledger.open_deliveries() == 0
    assert core.sequence == 0
    assert hello(core, "web1", 1.0).offers == ()


def test_the_largest_trigger_that_is_accepted_can_be_read_by_every_node() -> None:
    core = core_of(*NODES, here=False)
    submit(core, arguments={"a": "x" * 65_000})
    welcome = hello(core, "web1", 1.0)
    assert network.decode_answer(network.encode(welcome)) == welcome


def prepared(core: Any, target: str = "web*", by: str = "ann", seconds: float = 0.0) -> Order:
    """What an operator would sign, signed."""
    return Order(core.prepared(wanted(target), by, id_of("s1"), at(seconds)).body, b"s" * 64)


def test_a_set_of_many_names_that_cannot_be_folded_is_issued_though_nobody_could_have_written_it() -> None:
    names = ["".join(word).ljust(100, "x") for word in itertools.product("abcdefg", repeat=3)]
    core = core_of(*names, "db1")
    assert len(submit(core, target="*x").answer.nodes) == len(names)


def test_preparing_stores_and_publishes_nothing() -> None:
    core = core_of(*NODES)
    prepared(core)
    assert core.ledger.open_deliveries() == 0
    assert core.sequence == 0


def test_a_signed_trigger_is_issued_byte_for_byte() -> None:
    core = core_of(*NODES)
    order = prepared(core)
    decision = core.issue(order, "web*", "ann", at(30))
    assert issued(decision).order == order
    assert issued(decision).target == "web*"
    assert issued(decision).nodes == ("web1", "web2")
    assert published(decision.frames[0])[1].offer.order == order


def test_a_signed_trigger_of_another_user_is_refused() -> None:
    core = core_of(*NODES)
    with pytest.raises(RefusedError, match="says that ann issues it, but it is bob who asks"):
        core.issue(prepared(core, by="ann"), "web*", "bob", at(0))


@pytest.mark.parametrize("seconds", [-2.0, 60.0, 601.0, 86400.0])
def test_a_signed_trigger_that_was_not_prepared_just_now_is_refused(seconds: float) -> None:
    core = core_of(*NODES)
    with pytest.raises(RefusedError, match="was not prepared just now: prepare and sign it anew"):
        core.issue(prepared(core), "web*", "ann", at(seconds))


def test_a_signed_trigger_prepared_long_ago_is_refused_even_if_it_lives_on() -> None:
    core = core_of(*NODES)
    body = core.prepared(wanted("web*", lifetime=86400.0), "ann", id_of("s1"), at(0)).body
    with pytest.raises(RefusedError, match="was not prepared just now"):
        core.issue(Order(body, b"s" * 64), "web*", "ann", at(601))


def test_a_signed_trigger_that_would_outlive_the_longest_is_refused() -> None:
    core = core_of(*NODES)
    longest = core.prepared(wanted("web*", lifetime=30 * 86400.0), "ann", id_of("s1"), at(0)).body
    assert issued(core.issue(Order(longest, b"s" * 64), "web*", "ann", at(1)))
    trigger = Trigger(id_of("s2"), "uptime", "web[1-2]", START, START + 31 * 86400, "ann")
    with pytest.raises(ProtocolError, match="lives longer than 30 days"):
        core.issue(Order(network.encode_trigger(trigger), b"s" * 64), "web*", "ann", at(1))


def test_a_signed_trigger_is_issued_once() -> None:
    core = core_of(*NODES)
    order = prepared(core)
    core.issue(order, "web*", "ann", at(0))
    with pytest.raises(RefusedError, match="has been issued already"):
        core.issue(order, "web*", "ann", at(1))
    report(core, "web1", seconds=2.0)
    with pytest.raises(RefusedError, match="has been issued already"):
        core.issue(order, "web*", "ann", at(3))


@pytest.mark.parametrize("body", [b"", b"garbage", b"nanoexec trigger 1\0garbage"])
def test_bytes_that_are_no_trigger_are_not_issued(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        core_of(*NODES).issue(Order(body, b"s" * 64), "ALL", "ann", at(0))
