"""Nodes, their certificates and join tokens."""

from nanoexec.model import ActionOffer, Cursor, Node
from nanoexec.record import NodeHeard, NodeJoined, NodeRevoked, TokenMade, TokenUsed
from nanoexec.store import Store
from tests.integration.store.records import identifier

K1, K2, K3 = identifier("k1"), identifier("k2"), identifier("k3")
OFFERS = (ActionOffer("slaughter", "Apply the policies", ("level",)), ActionOffer("puppet"))


def test_a_node_is_on_the_roster_as_it_was_last_heard(store: Store) -> None:
    store.commit([NodeJoined("web1", K1, 1.0), NodeJoined("db1", K2, 2.0)])
    store.commit([NodeHeard("web1", 5.0, 0.5, "1.0", ()), NodeHeard("web1", 6.0, -0.5, "1.1", OFFERS)])
    heard = Node("web1", K1, 1.0, seen=6.0, skew=-0.5, version="1.1", actions=OFFERS)
    assert store.roster() == [Node("db1", K2, 2.0), heard]
    assert store.keys() == {K1: "web1", K2: "db1"}


def test_a_node_that_joins_again_starts_afresh_and_its_old_key_stays_out(store: Store) -> None:
    store.commit([NodeJoined("web1", K1, 1.0), NodeHeard("web1", 5.0, 0.5, "1.0", OFFERS), NodeJoined("web1", K2, 9.0)])
    assert store.roster() == [Node("web1", K2, 9.0)]
    assert store.keys() == {K2: "web1"}


def test_a_revoked_node_stays_on_the_roster_and_has_no_key(store: Store) -> None:
    store.commit([NodeJoined("web1", K1, 1.0), NodeJoined("db1", K2, 1.0), NodeRevoked("web1", 7.0)])
    assert store.roster() == [Node("db1", K2, 1.0), Node("web1", K1, 1.0, revoked=7.0)]
    assert store.keys() == {K2: "db1"}


def test_a_revoked_key_stays_out_when_a_new_machine_joins_under_its_name(store: Store) -> None:
    store.commit([NodeJoined("web1", K1, 1.0), NodeJoined("web1", K2, 2.0), NodeRevoked("web1", 7.0)])
    store.commit([NodeJoined("web1", K3, 9.0)])
    assert store.roster() == [Node("web1", K3, 9.0)]
    assert store.keys() == {K3: "web1"}


def test_every_key_is_remembered_with_how_it_ended(store: Store) -> None:
    store.commit([NodeJoined("web1", K1, 1.0), NodeJoined("web1", K2, 2.0), NodeRevoked("web1", 7.0)])
    store.commit([NodeRevoked("web1", 8.0), NodeJoined("web1", K3, 9.0)])
    with store._read() as connection:
        rows = connection.exec_driver_sql("SELECT id, node, accepted, ended, ending FROM certificates ORDER BY id")
        assert [tuple(row) for row in rows] == [
            (K1, "web1", 1.0, 2.0, "replaced"),
            (K2, "web1", 2.0, 7.0, "revoked"),
            (K3, "web1", 9.0, None, None),
        ]


def test_a_token_lasts_for_its_uses_and_until_it_expires(store: Store) -> None:
    once, thrice = TokenMade("a" * 64, 100.0, 1, "web1"), TokenMade("b" * 64, 200.0, 3)
    store.commit([once, thrice])
    assert store.tokens(50.0) == [once, thrice]
    store.commit([TokenUsed("a" * 64), TokenUsed("a" * 64), TokenUsed("b" * 64), TokenUsed("b" * 64)])
    assert store.tokens(50.0) == [TokenMade("b" * 64, 200.0, 1)]
    assert store.tokens(200.0) == []


def test_a_purge_forgets_old_tokens_and_no_node_nor_key(store: Store) -> None:
    store.commit([NodeJoined("web1", K1, 1.0), NodeJoined("web1", K2, 2.0), NodeRevoked("web1", 3.0)])
    store.commit([TokenMade("a" * 64, 10.0, 1), TokenMade("b" * 64, 90.0, 1)])
    assert store.purge(50.0) == 1
    assert [token.digest[0] for token in store.tokens(0.0)] == ["b"]
    assert len(store.roster()) == 1
    with store._read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM certificates").scalar() == 2


def test_how_far_a_nodes_journal_is_stored_is_kept_until_another_machine_joins_under_its_name(store: Store) -> None:
    store.commit([NodeJoined("web1", K1, 1.0), NodeHeard("web1", 5.0, 0.5, "1.0", (), Cursor("j1", 7, "e1"))])
    assert store.roster()[0].relayed == Cursor("j1", 7, "e1")
    store.commit([NodeJoined("web1", K2, 9.0)])
    assert store.roster()[0].relayed == Cursor()
