"""Who may join, who may speak, and how one of them is shut out."""

import pytest

from nanoexec.errors import IdentityError, RefusedError, UsageError
from nanoexec.hub.core import Decision, HubCore
from nanoexec.hub.roster import Roster
from nanoexec.model import DeliveryState, Node
from nanoexec.record import DeliveryMoved, NodeJoined, NodeRevoked, TokenMade, TokenUsed
from nanoexec.wire import network
from tests.unit.hub.made import START, ack, at, core_of, hello, id_of, issued, key_of, moves, report, state_of, submit

S = DeliveryState
DIGEST = "d" * 64


def with_token(core: HubCore, *, uses: int = 1, lifetime: float = 600.0, node: str | None = None) -> None:
    core.add_token(TokenMade(digest=DIGEST, expires=START + lifetime, uses=uses, node=node))


def join(core: HubCore, node: str = "web1", key: str = "newkey", seconds: float = 1.0) -> Decision:
    return core.join(DIGEST, node, id_of(key), at(seconds))


# Tokens


def test_a_machine_with_a_token_joins_and_that_is_to_be_stored() -> None:
    core = core_of()
    with_token(core)
    decision = join(core)
    assert decision.changes == (TokenUsed(digest=DIGEST), NodeJoined(name="web1", key=id_of("newkey"), at=START + 1))
    assert decision.disconnect == ()
    assert core.roster.accepted == {id_of("newkey"): "web1"}
    assert core.roster.names() == ["web1"]


def test_a_token_is_to_be_stored_when_it_is_made() -> None:
    made = TokenMade(digest=DIGEST, expires=START + 600, uses=2)
    assert core_of().add_token(made).changes == (made,)


def test_a_token_admits_as_many_machines_as_it_has_uses() -> None:
    core = core_of()
    with_token(core, uses=2)
    join(core, "web1", "key1")
    join(core, "web2", "key2")
    with pytest.raises(IdentityError, match="not known here, or was used up"):
        join(core, "web3", "key3")
    assert sorted(core.roster.names()) == ["web1", "web2"]


def test_a_token_that_nobody_made_admits_nobody() -> None:
    with pytest.raises(IdentityError, match=r"ask for a new one \(`nanoexec hub token`\)"):
        join(core_of())


def test_a_token_admits_nobody_from_the_moment_it_expires() -> None:
    core = core_of()
    with_token(core, uses=2, lifetime=600.0)
    join(core, seconds=599.9)
    with pytest.raises(IdentityError, match="has expired"):
        join(core, "web2", seconds=600.0)


def test_a_token_for_one_node_admits_no_other() -> None:
    core = core_of()
    with_token(core, node="web1")
    with pytest.raises(RefusedError, match="this token is for the node web1, not for web2"):
        join(core, "web2")
    join(core, "web1")


def test_nobody_may_join_under_the_name_of_a_live_node() -> None:
    core = core_of("web1")
    with_token(core)
    with pytest.raises(RefusedError, match="a node web1 has joined already: revoke it, or make a token for it alone"):
        join(core, "web1")
    assert core.roster.accepted == {key_of("web1"): "web1"}
    join(core, "web2")


def test_a_token_made_for_a_live_node_replaces_its_key_and_cuts_the_old_one_off() -> None:
    core = core_of("web1")
    with_token(core, node="web1")
    assert join(core, "web1").disconnect == (key_of("web1"),)
    assert core.roster.accepted == {id_of("newkey"): "web1"}
    assert not core.roster.is_connected("web1")


def test_the_join_listener_is_wanted_only_while_a_token_admits_somebody() -> None:
    core = core_of()
    assert not core.roster.has_tokens(at(0))
    with_token(core, uses=1, lifetime=600.0)
    assert core.roster.has_tokens(at(599))
    assert not core.roster.has_tokens(at(600))
    with_token(core)
    join(core)
    assert not core.roster.has_tokens(at(1))


def test_a_refused_machine_spends_no_use_of_the_token() -> None:
    core = core_of("web1")
    with_token(core)
    with pytest.raises(RefusedError):
        join(core, "web1")
    join(core, "web2")


# Revoking


def test_a_revoked_node_is_cut_off_and_its_open_deliveries_are_lost() -> None:
    core = core_of("web1", "web2")
    submit(core, "t1")
    submit(core, "t2")
    submit(core, "t3", "web2")
    ack(core, "web1", S.RUNNING, "t2")
    decision = core.revoke("web1", at(5))
    assert decision.disconnect == (key_of("web1"),)
    assert decision.changes[0] == NodeRevoked(name="web1", at=START + 5)
    assert {change.trigger for change in decision.changes if isinstance(change, DeliveryMoved)} == {
        id_of("t1"),
        id_of("t2"),
    }
    assert set(moves(decision.changes).values()) == {S.LOST}
    assert state_of(core, "web2") == S.SENT
    assert core.roster.accepted == {key_of("web2"): "web2"}
    assert not core.roster.is_connected("web1")


def test_what_a_revoked_node_had_finished_stays_finished() -> None:
    core = core_of("web1", "web2")
    submit(core)
    report(core, "web1")
    assert moves(core.revoke("web1", at(5)).changes) == {}


def test_revoking_twice_changes_nothing_the_second_time_and_cuts_off_again() -> None:
    core = core_of("web1")
    core.revoke("web1", at(5))
    decision = core.revoke("web1", at(6))
    assert decision.changes == ()
    assert decision.disconnect == (key_of("web1"),)


def test_revoking_a_name_that_never_joined_is_a_mistake() -> None:
    with pytest.raises(UsageError, match=r"no node ghost has ever joined \(`nanoexec nodes list`\)"):
        core_of("web1").revoke("ghost", at(0))


def test_an_old_key_stays_out_when_a_machine_joins_again_under_the_same_name() -> None:
    core = core_of("web1")
    core.revoke("web1", at(0))
    with_token(core)
    join(core, "web1")
    assert core.roster.accepted == {id_of("newkey"): "web1"}


def test_a_machine_that_joins_again_gets_nothing_that_was_meant_for_its_predecessor() -> None:
    core = core_of("web1", "web2")
    submit(core, "t1")
    core.revoke("web1", at(1))
    with_token(core)
    join(core, "web1", seconds=2.0)
    assert hello(core, "web1", 3.0).offers == ()
    assert issued(submit(core, "t2", seconds=4.0)).sent == ("web1", "web2")


def test_the_list_of_accepted_keys_is_replaced_and_never_changed() -> None:
    """Threads of the transport read it while the hub decides."""
    core = core_of("web1", "web2")
    before = core.roster.accepted
    core.revoke("web1", at(0))
    assert before == {key_of("web1"): "web1", key_of("web2"): "web2"}


def test_a_hub_that_starts_again_accepts_whom_it_accepted_before() -> None:
    nodes = [
        Node(name="web1", key=key_of("web1"), joined=START),
        Node(name="gone", key=key_of("gone"), joined=START, revoked=START + 1),
    ]
    roster = Roster(nodes, [TokenMade(digest=DIGEST, expires=START + 600, uses=1)])
    assert roster.accepted == {key_of("web1"): "web1"}
    assert [node.name for node in roster.nodes()] == ["web1", "gone"]
    assert roster.connected() == []
    assert roster.has_tokens(at(0))


def test_going_away_is_news_once() -> None:
    core = core_of("web1")
    assert core.roster.away("web1")
    assert not core.roster.away("web1")
    assert not core.roster.away("ghost")


def test_a_denied_node_learns_why() -> None:
    core = core_of("web1")
    core.revoke("web1", at(0))
    answer = core.ask("web1", network.Bye(), at(1)).answer
    assert answer == network.Denied(reason="web1 is not on the roster", time=START + 1)
