"""Triggers, deliveries and runs: what was committed is what is read back."""

from typing import Any

import pytest

from nanoexec.errors import StoreError, UsageError
from nanoexec.model import Cause, Delivery, DeliveryState, Outcome, Output, Run
from nanoexec.record import (
    DeliveryCancelled,
    HistoryEntry,
    NodeJoined,
    RunReported,
    StoredTrigger,
    TokenMade,
    TriggerDetail,
    TriggerIssued,
)
from nanoexec.store import Store
from tests.integration.store.records import identifier, issued, local, moved, triggered

S = DeliveryState


def test_an_open_trigger_comes_back_whole_with_every_delivery(store: Store) -> None:
    change = issued("a", "web1", "web2", arguments={"level": "é\n"}, timeout=5.0, command=("echo", "a b"))
    store.commit([change, moved("a", "web1", S.FINISHED)])
    states = {"web1": S.FINISHED, "web2": S.PENDING}
    assert store.open_triggers() == [StoredTrigger(change.trigger, change.order, "ALL", states)]


@pytest.mark.parametrize("state", [S.FINISHED, S.REFUSED, S.EXPIRED, S.LOST])
def test_a_trigger_is_not_open_once_its_last_delivery_is_over(store: Store, state: DeliveryState) -> None:
    store.commit([issued("a", "web1")])
    assert len(store.open_triggers()) == 1
    store.commit([moved("a", "web1", state)])
    assert store.open_triggers() == []


@pytest.mark.parametrize("state", [S.PENDING, S.SENT, S.ACKNOWLEDGED, S.RUNNING])
def test_a_trigger_stays_open_while_a_delivery_is_under_way(store: Store, state: DeliveryState) -> None:
    store.commit([issued("a", "web1"), moved("a", "web1", state)])
    assert [found.deliveries for found in store.open_triggers()] == [{"web1": state}]


def test_what_was_taken_back_is_remembered_with_who_did_it_first_until_the_node_has_spoken(store: Store) -> None:
    a = identifier("a")
    store.commit([issued("a", "web1", "web2"), moved("a", "web2", S.RUNNING)])
    store.commit([DeliveryCancelled(a, "web1", "bob", 110.0), moved("a", "web1", S.CANCELLED, 110.0)])
    store.commit([DeliveryCancelled(a, "web2", "bob", 110.0), DeliveryCancelled(a, "web2", "eve", 120.0)])
    (found,) = store.open_triggers()
    assert (found.deliveries, found.cancels) == (
        {"web1": S.CANCELLED, "web2": S.RUNNING},
        dict.fromkeys(("web1", "web2"), "bob"),
    )
    shown = {delivery.node: (delivery.cancelled, delivery.canceller) for delivery in store.trigger("a").deliveries}
    assert shown == {"web1": (110.0, "bob"), "web2": (110.0, "bob")}
    store.commit([moved("a", "web2", S.FINISHED)])
    assert len(store.open_triggers()) == 1, "web1 may not have heard of it"
    store.commit([moved("a", "web1", S.FINISHED)])
    assert store.open_triggers() == []


def test_a_chain_keeps_the_first_time_of_each_state_and_the_journal_s_word(store: Store) -> None:
    store.commit([issued("a", "web1", "web2")])
    for at, state in ((101.0, S.SENT), (102.0, S.ACKNOWLEDGED), (103.0, S.RUNNING), (104.0, S.FINISHED)):
        store.commit([moved("a", "web1", state, at)])
    store.commit([triggered("a", "web1", 104.5, boot="b1", supervisor=7, pid=8, admitted=1, began=2)])
    chain = store.chain("a", "web1")
    assert (chain.sent, chain.acknowledged, chain.running, chain.stored) == (101.0, 102.0, 103.0, 104.5)
    assert chain.signed
    run = chain.delivery.run
    assert run is not None
    assert (run.boot, run.supervisor, run.pid, run.admitted, run.began) == ("b1", 7, 8, 1, 2)
    untold = store.chain("a", "web2")
    assert (untold.sent, untold.stored, untold.delivery.run) == (None, None, None)
    with pytest.raises(UsageError, match=f"trigger {identifier('a')} was not for web3"):
        store.chain("a", "web3")


def test_what_is_published_at_once_was_sent_when_it_was_issued(store: Store) -> None:
    change = issued("a", "web1", "web2")
    store.commit([TriggerIssued(change.trigger, change.order, "ALL", change.nodes, sent=("web1",))])
    assert [store.chain("a", node).sent for node in ("web1", "web2")] == [100.0, None]


def test_open_triggers_are_given_oldest_first(store: Store) -> None:
    store.commit([issued("b", "web1", at=2.0), issued("c", "web1", at=3.0), issued("a", "web1", at=1.0)])
    assert [found.trigger.issued for found in store.open_triggers()] == [1.0, 2.0, 3.0]


def test_a_delivery_keeps_its_last_state_time_and_reason(store: Store) -> None:
    store.commit([issued("a", "web1"), moved("a", "web1", S.SENT, 101.0)])
    store.commit([moved("a", "web1", S.ACKNOWLEDGED, 102.0), moved("a", "web1", S.LOST, 103.0, "silent for 2h")])
    assert store.trigger("a").deliveries == (Delivery(identifier("a"), "web1", S.LOST, 103.0, "silent for 2h"),)


def test_a_run_comes_back_with_everything(store: Store) -> None:
    whole = Run(
        identifier("r"),
        "slaughter",
        Cause.SCHEDULE,
        "cron",
        98.0,
        change=7,
        arguments={"level": "high"},
        command=("/sbin/slaughter", "--delay=0"),
        boot="b1",
        supervisor=10,
        pid=11,
        started=99.0,
        ended=99.5,
        duration=0.5,
        outcome=Outcome.TIMED_OUT,
        reason="30m are over",
        status=-15,
        changed=False,
        shared=identifier("s"),
        cancelled=99.2,
        canceller="bob",
        admitted=5,
        began=6,
        output=Output(b"\x00\xff", b"end", 5 << 32),
    )
    store.commit([RunReported("web1", whole, 105.0)])
    assert store.runs("r") == [RunReported("web1", whole, 105.0)]


def test_a_run_reported_again_is_replaced_only_by_a_newer_one(store: Store) -> None:
    store.commit([local("r", "web1", 102.0, change=5, reason="five")])
    store.commit([local("r", "web1", 103.0, change=4, reason="four"), local("r", "web1", 104.0, change=5, reason="!")])
    assert (store.runs("r")[0].run.reason, store.runs("r")[0].at) == ("five", 102.0)
    store.commit([local("r", "web1", 105.0, change=6, reason="six"), local("r", "web1", 106.0, change=2, reason="two")])
    assert (store.runs("r")[0].run.reason, store.runs("r")[0].at) == ("six", 105.0)


def test_two_nodes_keep_their_own_run_of_one_trigger(store: Store) -> None:
    change = issued("a", "web1", "web2", "web3")
    reports = [triggered("a", "web2", output=Output(b"two", b"", 3)), triggered("a", "web1", change=9)]
    store.commit([change, *reports, moved("a", "web1", S.FINISHED), moved("a", "web2", S.FINISHED)])
    expected = (
        Delivery(identifier("a"), "web1", S.FINISHED, 101.0, run=reports[1].run),
        Delivery(identifier("a"), "web2", S.FINISHED, 101.0, run=reports[0].run),
        Delivery(identifier("a"), "web3", S.PENDING, 100.0),
    )
    assert store.trigger("a") == TriggerDetail(change.trigger, "ALL", expected)


def test_a_trigger_is_found_by_the_beginning_of_its_id(store: Store) -> None:
    store.commit([issued("ab1", "web1"), issued("ab2", "web1"), issued("b", "web1"), issued("z", "web1")])
    assert [store.trigger(text).trigger.id[:3] for text in ("ab1", "b", "z", identifier("ab2"))] == [
        *("ab1", "b00", "z00", "ab2"),
    ]


@pytest.mark.parametrize(
    ("beginning", "complaint"),
    [
        ("ab", r"'ab' begins several trigger ids \(ab10{13}, ab20{13}\): write more"),
        ("c", r"no trigger begins with 'c'"),
        ("", r"'' cannot begin an id"),
        ("ab%", r"'ab%' cannot begin an id"),
        ("0" * 17, r"cannot begin an id"),
    ],
)
def test_an_id_that_fits_none_or_several_is_a_usage_error(store: Store, beginning: str, complaint: str) -> None:
    store.commit([issued("ab1", "web1"), issued("ab2", "web1")])
    with pytest.raises(UsageError, match=complaint):
        store.trigger(beginning)


def test_a_run_without_a_trigger_is_found_by_its_id_and_a_triggered_one_is_not(store: Store) -> None:
    store.commit([local("ab", "web1"), issued("ac", "web1"), triggered("ac", "web1")])
    assert store.runs("a")[0].run.id == identifier("ab")
    with pytest.raises(UsageError, match="no run begins with 'ac'"):
        store.runs("ac")


def test_a_group_is_stored_whole_or_not_at_all(store: Store) -> None:
    store.commit([issued("a", "web1")])
    with pytest.raises(StoreError, match=r"hub\.db: UNIQUE constraint failed"):
        store.commit([local("r", "web1"), moved("a", "web1", S.SENT), issued("a", "web1")])
    assert [found.deliveries for found in store.open_triggers()] == [{"web1": S.PENDING}]
    assert [entry.state for entry in store.history(limit=9)] == [S.PENDING]
    store.commit([moved("a", "web1", S.SENT)])
    assert [found.deliveries for found in store.open_triggers()] == [{"web1": S.SENT}]


@pytest.mark.parametrize("value", [{"change": 1 << 64}, {"reason": "\udc80"}])
def test_a_value_that_sqlite_cannot_hold_is_one_line_and_stores_nothing(store: Store, value: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match=r"^[^\n]*hub\.db: a value cannot be stored or read back: [^\n]+$"):
        store.commit([local("a", "web1"), local("b", "web1", **value)])
    assert store.history(limit=9) == []


def test_history_tells_runs_and_deliveries_without_one_newest_first(store: Store) -> None:
    store.commit([issued("a", "web1", "web2", "web3", at=100.0), local("c", "web1", 103.0, reason="by hand")])
    store.commit([triggered("a", "web1", 102.0, changed=True), moved("a", "web1", S.FINISHED, 102.0)])
    store.commit([moved("a", "web2", S.EXPIRED, 160.0, "never connected")])
    a, c = identifier("a"), identifier("c")
    run: dict[str, Any] = {"started": 99.0, "duration": 0.5, "status": 0}
    ok, trigger = Outcome.SUCCEEDED, Cause.TRIGGER
    assert store.history(limit=9) == [
        HistoryEntry(a, "web2", "slaughter", trigger, "root", 160.0, S.EXPIRED, reason="never connected"),
        HistoryEntry(c, "web1", "slaughter", Cause.LOCAL, "root", 103.0, outcome=ok, reason="by hand", **run),
        HistoryEntry(a, "web1", "slaughter", trigger, "root", 102.0, S.FINISHED, ok, changed=True, **run),
        HistoryEntry(a, "web3", "slaughter", trigger, "root", 100.0, S.PENDING),
    ]


def test_a_refused_delivery_with_a_run_is_told_once(store: Store) -> None:
    store.commit([issued("a", "web1", "web2"), triggered("a", "web1", outcome=Outcome.REFUSED, started=None)])
    store.commit([moved("a", node, S.REFUSED, 102.0) for node in ("web1", "web2")])
    told = [(entry.node, entry.state, entry.outcome) for entry in store.history(limit=9)]
    assert told == [("web1", S.REFUSED, Outcome.REFUSED), ("web2", S.REFUSED, None)]


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({}, "edcba"),
        ({"node": "web1"}, "ec"),
        ({"action": "puppet"}, "db"),
        ({"node": "web2", "action": "puppet"}, "db"),
        ({"since": 103.0}, "edc"),
        ({"limit": 2}, "ed"),
        ({"limit": 0}, ""),
        ({"limit": -1}, ""),
        ({"node": "web9"}, ""),
    ],
)
def test_history_can_be_narrowed(store: Store, wanted: dict[str, Any], ids: str) -> None:
    store.commit([issued("a", "web2", at=101.0), issued("b", "web2", at=102.0, action="puppet")])
    store.commit([local("c", "web1", 103.0), local("d", "web2", 104.0, "puppet"), local("e", "web1", 105.0)])
    assert "".join(entry.id[0] for entry in store.history(**({"limit": 9} | wanted))) == ids


def test_what_is_old_and_over_is_forgotten_and_the_rest_is_not(store: Store) -> None:
    store.commit([issued("a", "web1", at=10.0), triggered("a", "web1", 12.0), moved("a", "web1", S.FINISHED, 12.0)])
    store.commit([issued("b", "web1", "web2", at=10.0), triggered("b", "web1", 12.0)])  # web2 is still open
    store.commit([moved("b", "web1", S.FINISHED, 12.0)])
    store.commit([issued("c", "web1", at=10.0), moved("c", "web1", S.EXPIRED, 50.0)])  # was over too lately
    store.commit([local("d", "web1", 12.0), local("e", "web1", 50.0), issued("f", "web1", at=60.0)])
    assert store.purge(50.0) == 3  # a, its run, d
    assert sorted(entry.id[0] for entry in store.history(limit=99)) == ["b", "b", "c", "e", "f"]
    assert store.trigger("b").deliveries[0].run is not None
    with store._read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM deliveries").scalar() == 4
    with pytest.raises(UsageError):
        store.trigger("a")
    assert store.purge(50.0) == 0


def test_tokens_may_be_forgotten_by_another_clock_than_the_history(store: Store) -> None:
    store.commit([local("a", "web1", 12.0), TokenMade("a" * 64, 12.0, 1), TokenMade("b" * 64, 60.0, 1)])
    assert store.purge(10.0, 50.0) == 1
    assert [token.digest[0] for token in store.tokens(0.0)] == ["b"]
    assert len(store.history(limit=9)) == 1


def test_what_was_taken_back_is_not_forgotten_before_its_expiry_is_as_old(store: Store) -> None:
    taken_back = DeliveryCancelled(identifier("a"), "web1", "bob", 10.5)
    for state in (S.CANCELLED, S.EXPIRED, S.LOST):
        store.commit([issued("a", "web1", at=10.0), taken_back, moved("a", "web1", state, 11.0)])  # expires at 70
        assert store.purge(70.0) == 0
        (stored,) = store.open_triggers()
        assert (stored.cancels, stored.wished) == ({"web1": "bob"}, 10.5), "a node that returns must hear of it"
        assert store.purge(71.0) == 1


def test_what_is_over_and_was_not_taken_back_is_nobodys_business_any_more(store: Store) -> None:
    store.commit([issued("a", "web1"), moved("a", "web1", S.EXPIRED, 11.0), issued("b", "web1")])
    store.commit([DeliveryCancelled(identifier("b"), "web1", "bob", 10.5), moved("b", "web1", S.FINISHED, 11.0)])
    assert store.open_triggers() == []


def test_an_id_that_only_a_run_has_is_explained(store: Store) -> None:
    store.commit([local("c", "web1", 12.0)])
    with pytest.raises(UsageError, match=r"^run c\w+ on web1 is of no trigger that this hub knows: .*prove c"):
        store.trigger_id("c")


@pytest.mark.parametrize("nodes", [1, 3, 499, 501])
def test_a_purge_works_whatever_the_size_of_the_fleet(store: Store, nodes: int) -> None:
    store.commit([NodeJoined(f"web{number}", identifier(f"k{number:03}"), 1.0) for number in range(nodes)])
    for trigger in "ab":
        names = [f"web{number}" for number in range(nodes)]
        store.commit([issued(trigger, *names, at=10.0), *(moved(trigger, name, S.EXPIRED, 11.0) for name in names)])
    assert store.purge(50.0) == 2


def test_a_purge_goes_on_until_everything_old_is_gone(store: Store) -> None:
    store.commit([local(f"{number:04}", "web1", 1.0) for number in range(1203)])
    assert store.purge(2.0) == 1203
    assert store.history(limit=9) == []
