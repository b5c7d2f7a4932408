"""Who waits for which trigger: changes that are on disk, and nodes that come and go, become news for the command lines
that watch. Pure.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from nanoexec.model import Delivery, Run
from nanoexec.record import Change, DeliveryMoved, RunReported
from nanoexec.wire import network, stream
from nanoexec.wire.control import Progress

# Each run came in a frame of its own size at most, so that so many of them fit into one message to a command line.
AT_ONCE: Final = stream.MAX_MESSAGE // network.MAX_FRAME - 1

Tell = Callable[[Progress], None]


class Watchers:
    """Maps trigger ids to those who want to hear of their deliveries."""

    def __init__(self) -> None:
        self._tells: dict[str, list[Tell]] = {}
        self._here: frozenset[str] = frozenset()

    def add(self, trigger: str, tell: Tell) -> None:
        self._tells.setdefault(trigger, []).append(tell)

    def remove(self, trigger: str, tell: Tell) -> None:
        """Stop telling. Unknown ones are no error."""
        tells = self._tells.get(trigger, [])
        if tell in tells:
            tells.remove(tell)
        if not tells:
            self._tells.pop(trigger, None)

    def committed(self, changes: Sequence[Change]) -> None:
        """Tell what one group has changed; a run and the move that it caused are one piece of news."""
        if not self._tells:
            return
        runs: dict[tuple[str, str], Run] = {}
        news: dict[str, list[Delivery]] = {}
        for change in changes:
            if isinstance(change, RunReported):
                runs[change.run.id, change.node] = change.run
            elif isinstance(change, DeliveryMoved) and change.trigger in self._tells:
                news.setdefault(change.trigger, []).append(
                    Delivery(
                        trigger=change.trigger,
                        node=change.node,
                        state=change.state,
                        updated=change.at,
                        reason=change.reason,
                        run=runs.get((change.trigger, change.node)),
                    )
                )
        for trigger, deliveries in news.items():
            for start in range(0, len(deliveries), AT_ONCE):
                for tell in tuple(self._tells.get(trigger, ())):
                    tell(Progress(deliveries=tuple(deliveries[start : start + AT_ONCE])))

    def present(self, nodes: Iterable[str]) -> None:
        """Tell who has come and gone since this was said last: these are here now."""
        here = frozenset(nodes)
        news = Progress(away=tuple(sorted(self._here - here)), back=tuple(sorted(here - self._here)))
        self._here = here
        if news != Progress():
            for tell in [tell for tells in self._tells.values() for tell in tells]:
                tell(news)
