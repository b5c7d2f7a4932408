from nanoexec.transport import Peer
from nanoexec.transport.presence import Presence

WEB1 = Peer(name="web1", key="0123456789abcdef")
REJOINED = Peer(name="web1", key="fedcba9876543210")


def told(*changes: tuple[Peer, bool]) -> list[tuple[str, bool]]:
    notices: list[tuple[str, bool]] = []
    presence = Presence(lambda peer, up: notices.append((peer.key, up)))
    for peer, up in changes:
        presence.change(peer, up)
    return notices


def test_a_peer_is_there_from_its_first_connection_to_the_end_of_its_last() -> None:
    changes = [(WEB1, True), (WEB1, True), (WEB1, False), (WEB1, False)]
    assert told(*changes) == [(WEB1.key, True), (WEB1.key, False)]


def test_a_peer_that_comes_back_is_told_again() -> None:
    changes = [(WEB1, True), (WEB1, False)] * 2
    assert told(*changes) == [(WEB1.key, True), (WEB1.key, False)] * 2


def test_the_same_name_with_another_key_is_another_peer() -> None:
    changes = [(WEB1, True), (REJOINED, True), (WEB1, False)]
    assert told(*changes) == [(WEB1.key, True), (REJOINED.key, True), (WEB1.key, False)]
