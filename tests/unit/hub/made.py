"""A hub's core with some nodes, and words that nodes say: short to write, complete enough to be decided on."""

from collections.abc import Mapping
from typing import Any

from nanoexec.hub.core import Answered, Decision, HubCore
from nanoexec.hub.ledger import Ledger
from nanoexec.hub.roster import Roster
from nanoexec.model import Cause, DeliveryState, Instant, Node, Order, Outcome, Run, Trigger
from nanoexec.record import Change, DeliveryMoved, StoredTrigger, TriggerIssued
from nanoexec.wire import network
from nanoexec.wire.control import Accepted, Wanted

START = 1_000_000.0  # by the wall clock; the steady clock starts at zero


def at(seconds: float) -> Instant:
    """So many seconds after the start, on both clocks."""
    return Instant(wall=START + seconds, steady=seconds)


def key_of(name: str) -> str:
    return f"{name.replace('-', '')}key".ljust(16, "0")


def id_of(text: str) -> str:
    return text.ljust(16, "0")


def core_of(*names: str, here: bool = True, groups: Mapping[str, str] | None = None) -> HubCore:
    """A hub whose roster has these nodes; unless not ``here``, they have all just said hello."""
    nodes = [Node(name=name, key=key_of(name), joined=START) for name in names]
    core = HubCore(epoch="e1", interval=15.0, groups=groups or {}, roster=Roster(nodes, []), ledger=Ledger())
    if here:
        for name in names:
            hello(core, name)
    return core


def hello(core: HubCore, node: str, seconds: float = 0.0, **more: Any) -> network.Welcome:
    """A node's hello and what the hub answers."""
    answer = core.ask(node, said_hello(seconds, **more), at(seconds)).answer
    assert isinstance(answer, network.Welcome)
    return answer


def said_hello(seconds: float = 0.0, **more: Any) -> network.Hello:
    return network.Hello(**{"version": "1", "time": START + seconds, "actions": None} | more)


def wanted(target: str = "ALL", **more: Any) -> Wanted:
    return Wanted(**{"target": target, "action": "uptime", "lifetime": 60.0} | more)


def submit(
    core: HubCore, text: str = "t1", target: str = "ALL", seconds: float = 0.0, **more: Any
) -> Answered[Accepted]:
    """A trigger whose id begins with ``text``, issued by root."""
    return core.submit(wanted(target, **more), "root", id_of(text), at(seconds))


def remember(core: HubCore, text: str, states: Mapping[str, DeliveryState], lifetime: float = 60.0) -> None:
    """Bring a trigger with these deliveries into the hub's memory, as the store would."""
    trigger = Trigger(id_of(text), "uptime", "ALL", START, START + lifetime, "root")
    order = Order(network.encode_trigger(trigger))
    core.ledger.remember(StoredTrigger(trigger, order, "ALL", dict(states)))


def ack(
    core: HubCore, node: str, state: DeliveryState, text: str = "t1", seconds: float = 1.0, **more: Any
) -> Answered[network.Answer]:
    return core.ask(node, network.Ack(trigger=id_of(text), state=state, **more), at(seconds))


def run(text: str = "t1", **more: Any) -> Run:
    """A run of the trigger whose id begins so, which has succeeded unless said otherwise."""
    return Run(
        **{
            "id": id_of(text),
            "action": "uptime",
            "cause": Cause.TRIGGER,
            "by": "root",
            "requested": START,
            "change": 1,
            "started": START,
            "ended": START + 1,
            "outcome": Outcome.SUCCEEDED,
            "status": 0,
        }
        | more
    )


def report(core: HubCore, node: str, *runs: Run, seconds: float = 2.0) -> Answered[network.Answer]:
    return core.ask(node, network.Report(runs=runs or (run(),)), at(seconds))


def moves(changes: tuple[Change, ...]) -> dict[str, DeliveryState]:
    """Which node's delivery moved where."""
    return {change.node: change.state for change in changes if isinstance(change, DeliveryMoved)}


def issued(decision: Decision) -> TriggerIssued:
    (change,) = decision.changes
    assert isinstance(change, TriggerIssued)
    return change


def published(frame: bytes) -> tuple[bytes, network.Publication]:
    """A frame's topic and what it says."""
    message = network.decode_published(frame)
    assert isinstance(message, network.Publication)
    return frame.partition(b":")[0] + b":", message


def state_of(core: HubCore, node: str, text: str = "t1") -> DeliveryState | None:
    """What the hub remembers of a delivery; None when it has forgotten the trigger."""
    entry = core.ledger.get(id_of(text))
    return entry.deliveries.get(node) if entry else None
