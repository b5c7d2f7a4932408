"""Who may speak to the hub, and who is here: nodes, the keys they hold, join tokens. Pure."""

import math
from collections.abc import Iterable
from typing import Final

import msgspec

from nanoexec.errors import IdentityError, RefusedError
from nanoexec.model import Cursor, Instant, Node
from nanoexec.record import Change, NodeHeard, NodeJoined, NodeRevoked, TokenMade, TokenUsed
from nanoexec.wire.network import Hello

HEARD_EVERY: Final = 300.0  # seconds between two records that only say "still here"
SKEW_WORTH_TELLING: Final = 5.0  # seconds


class Roster:
    """``accepted`` maps the ids of the certificates that may connect to node names.

    It is replaced, never changed in place, so any thread may read it.
    """

    def __init__(self, nodes: Iterable[Node], tokens: Iterable[TokenMade]) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._tokens = {token.digest: token for token in tokens}
        self._heard: dict[str, float] = {}
        self._recorded: dict[str, float] = {}
        self.accepted: dict[str, str] = {}
        self._accept()

    def _accept(self) -> None:
        self.accepted = {node.key: node.name for node in self._nodes.values() if node.revoked is None}

    def nodes(self) -> tuple[Node, ...]:
        """Every node that ever joined, revoked ones too."""
        return tuple(self._nodes.values())

    def names(self) -> list[str]:
        """The nodes that may be targeted."""
        return list(self.accepted.values())

    def get(self, name: str) -> Node | None:
        return self._nodes.get(name)

    def is_connected(self, name: str) -> bool:
        node = self._nodes.get(name)
        return node is not None and node.connected

    def connected(self) -> list[str]:
        """The nodes that are here."""
        return [node.name for node in self._nodes.values() if node.connected]

    def hello(self, name: str, hello: Hello, now: Instant, relayed: Cursor | None = None) -> list[Change]:
        """A node spoke of itself: it is here. That is recorded when it is news, or when the last record is old.

        ``relayed`` is how far its journal is stored, if that can be believed.
        """
        node = self._nodes[name]
        self._heard[name] = now.steady
        skew = hello.time - now.wall
        actions = node.actions if hello.actions is None else hello.actions
        news = (
            (hello.version, actions) != (node.version, node.actions)
            or abs(skew - (node.skew or 0.0)) > SKEW_WORTH_TELLING
            or now.steady - self._recorded.get(name, -math.inf) > HEARD_EVERY
        )
        self._nodes[name] = msgspec.structs.replace(
            node,
            connected=True,
            seen=now.wall,
            skew=skew,
            version=hello.version,
            actions=actions,
            relayed=relayed or node.relayed,
        )
        if not news:
            return []
        self._recorded[name] = now.steady
        return [
            NodeHeard(
                name=name,
                seen=now.wall,
                skew=skew,
                version=hello.version,
                actions=actions,
                relayed=relayed or node.relayed,
            )
        ]

    def relayed(self, name: str) -> Cursor:
        """How much of a node's journal is stored here at least."""
        return self._nodes[name].relayed

    def touch(self, name: str, now: Instant) -> None:
        """A node spoke of something else."""
        self._heard[name] = now.steady

    def away(self, name: str) -> bool:
        """A node left or fell silent. Returns whether that is news."""
        node = self._nodes.get(name)
        if node is None or not node.connected:
            return False
        self._nodes[name] = msgspec.structs.replace(node, connected=False)
        return True

    def silent(self, now: Instant, limit: float) -> list[Node]:
        """Connected nodes that have said nothing for ``limit`` seconds."""
        return [
            node
            for node in self._nodes.values()
            if node.connected and now.steady - self._heard.get(node.name, now.steady) > limit
        ]

    def add_token(self, token: TokenMade) -> list[Change]:
        self._tokens[token.digest] = token
        return [token]

    def has_tokens(self, now: Instant) -> bool:
        """Whether anybody may join at all; tokens that have run out are forgotten on the way."""
        self._tokens = {key: token for key, token in self._tokens.items() if token.expires > now.wall and token.uses}
        return bool(self._tokens)

    def check_token(self, digest: str, name: str, now: Instant) -> None:
        """Whether the token lets ``name`` join. Raises `IdentityError` or `RefusedError` with the reason."""
        token = self._tokens.get(digest)
        if token is None or not token.uses:
            raise IdentityError(
                "this token is not known here, or was used up: ask for a new one (`nanoexec hub token`)"
            )
        if token.expires <= now.wall:
            raise IdentityError("this token has expired: ask for a new one (`nanoexec hub token`)")
        if token.node not in (None, name):
            raise RefusedError(f"this token is for the node {token.node}, not for {name}")
        present = self._nodes.get(name)
        if present and present.revoked is None and token.node != name:
            raise RefusedError(
                f"a node {name} has joined already: revoke it, or make a token for it alone (`hub token --node {name}`)"
            )

    def join(self, digest: str, name: str, key: str, now: Instant) -> list[Change]:
        """A checked machine joins: one use of its token is spent, an earlier key of that name is out."""
        token = self._tokens[digest]
        self._tokens[digest] = msgspec.structs.replace(token, uses=token.uses - 1)
        self._nodes[name] = Node(name=name, key=key, joined=now.wall)
        self._accept()
        return [TokenUsed(digest=digest), NodeJoined(name=name, key=key, at=now.wall)]

    def revoke(self, name: str, now: Instant) -> list[Change]:
        """Shut a node out. Idempotent."""
        node = self._nodes[name]
        if node.revoked is not None:
            return []
        self._nodes[name] = msgspec.structs.replace(node, revoked=now.wall, connected=False)
        self._accept()
        return [NodeRevoked(name=name, at=now.wall)]
