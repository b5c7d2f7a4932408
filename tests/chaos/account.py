"""What was asked of a fleet, and what became of it: the hub's word against that of those who did the work."""

import contextlib
import time
from collections import Counter
from pathlib import Path
from typing import Final

from nanoexec.model import FINAL, Delivery, DeliveryState, Outcome
from nanoexec.wire import control
from tests.chaos.figures import Figures
from tests.chaos.operators import ask, replies, status
from tests.support.fleet import wait_until

HOUR: Final = 3600.0
Pair = tuple[str, str]  # trigger, node


class Account:
    """Every trigger that the hub of this root has accepted from here, with its nodes. Several threads may use it.

    ``doubtful``: wishes that a hub took and did not answer, for it ended. It may have stored them or not.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: dict[str, tuple[str, ...]] = {}
        self.doubtful = 0

    def submit(self, target: str, *, action: str = "true", **arguments: str) -> None:
        """Issue a trigger and do not wait for what comes of it. Raises `OSError`."""
        wanted = control.Wanted(target=target, action=action, lifetime=HOUR, arguments=arguments)
        try:
            self._accepted(ask(self.root, control.Submit(wanted=wanted, watch=False)))
        except (ConnectionRefusedError, FileNotFoundError):
            raise
        except OSError:
            self.doubtful += 1
            raise

    def round_trip(self, target: str) -> float:
        """Seconds from a wish to the last of its results, all of which are successes."""
        began = time.perf_counter()
        wanted = control.Wanted(target=target, action="true", lifetime=HOUR)
        with contextlib.closing(replies(self.root, control.Submit(wanted=wanted))) as answers:
            waiting = set(self._accepted(next(answers)))
            while waiting:
                news = next(answers)
                assert isinstance(news, control.Progress), news
                over = [delivery for delivery in news.deliveries if delivery.state in FINAL]
                assert all(map(_succeeded, over)), over
                waiting -= {delivery.node for delivery in over}
        return time.perf_counter() - began

    def _accepted(self, reply: control.Reply) -> tuple[str, ...]:
        assert isinstance(reply, control.Accepted), reply
        self.asked[reply.trigger.id] = reply.nodes
        return reply.nodes

    def settle(self, within: float) -> None:
        """Wait until the hub says that every delivery is over."""

        def over() -> bool:
            with contextlib.suppress(OSError):
                return status(self.root).open_deliveries == 0
            return False

        wait_until(over, "every delivery is final", within, 0.1)

    def judge(self, starts: Counter[Pair], figures: Figures) -> None:
        """Every delivery has succeeded, and was started once and no more, by the account of those who started it."""
        expected = {(trigger, node) for trigger, nodes in self.asked.items() for node in nodes}
        told = [delivery for trigger in self.asked for delivery in self.deliveries(trigger)]
        succeeded = {(delivery.trigger, delivery.node) for delivery in told if _succeeded(delivery)}
        lost = expected - (succeeded & starts.keys())
        doubled = {pair: times for pair, times in starts.items() if times > 1}
        figures.add("triggers", len(self.asked))
        figures.add("deliveries", len(expected))
        figures.add("starts", starts.total())
        figures.add("lost", len(lost))
        figures.add("doubled", sum(times - 1 for times in doubled.values()))
        stray = {trigger for trigger, _ in starts} - self.asked.keys()
        listed = Counter((delivery.trigger, delivery.node) for delivery in told)
        assert not lost, f"lost: {sorted(lost)}"
        assert not doubled, f"doubled: {doubled}"
        assert listed == Counter(expected), "the hub lists others than those that were to run it, or one of them twice"
        assert len(stray) <= self.doubtful, f"nobody has wished for {stray}"

    def deliveries(self, trigger: str) -> tuple[Delivery, ...]:
        """As the hub has them now."""
        reply = ask(self.root, control.Show(id=trigger))
        assert isinstance(reply, control.Shown), reply
        assert reply.trigger is not None, reply
        return reply.trigger.deliveries


def _succeeded(delivery: Delivery) -> bool:
    run = delivery.run
    return delivery.state is DeliveryState.FINISHED and run is not None and run.outcome is Outcome.SUCCEEDED
