"""Which peers can hear, when one peer may have several connections at once."""

from collections import Counter

from nanoexec.transport import Notice, Peer


class Presence:
    """Tells ``notice`` of a peer's first connection and of the end of its last one.

    A node that dials anew is connected twice until the hub notices the end of its old connection: that end is not the
    end of the peer.
    """

    def __init__(self, notice: Notice) -> None:
        self._notice = notice
        self._connections: Counter[Peer] = Counter()

    def change(self, peer: Peer, up: bool) -> None:  # noqa: FBT001 - the shape of a Notice
        """One connection of ``peer`` came or went."""
        if up:
            self._connections[peer] += 1
            if self._connections[peer] == 1:
                self._notice(peer, True)
        else:
            self._connections[peer] -= 1
            if self._connections[peer] == 0:
                del self._connections[peer]
                self._notice(peer, False)
