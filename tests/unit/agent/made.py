"""An agent's core, and what hub and runner say to it: short to write, complete enough to be decided on."""

from collections.abc import Callable
from typing import Any

from nanoexec.agent.core import AgentCore
from nanoexec.model import ActionOffer, Cause, Cursor, Instant, Order, Outcome, Run, Trigger
from nanoexec.wire import network, runner

HUB = 1_000_000.0  # the hub's wall clock when the steady clock stands at zero
EPOCH = "e1"


def at(seconds: float, off: float = 0.0) -> Instant:
    """So many seconds after the start; the node's own wall clock is ``off`` by so much."""
    return Instant(wall=HUB + seconds + off, steady=seconds)


def id_of(text: str) -> str:
    return text.ljust(16, "0")


def believe(_: Order) -> None:
    """A node without signers."""


def core_of(verify: Callable[[Order], None] = believe, cursor: Cursor | None = None, name: str = "web1") -> AgentCore:
    return AgentCore(name=name, verify=verify, cursor=cursor or Cursor())


def welcomed(core: AgentCore | None = None, seconds: float = 0.0, **more: Any) -> AgentCore:
    """A core whose hello has been answered on a new link."""
    core = core or core_of()
    core.connected(at(seconds))
    greet(core, seconds, **more)
    return core


def greet(core: AgentCore, seconds: float = 0.0, **more: Any) -> network.Hello:
    """The hub answers the hello that is due."""
    question = core.question(at(seconds))
    assert isinstance(question, network.Hello)
    answer = network.Welcome(
        **{"node": "web1", "epoch": EPOCH, "sequence": 0, "time": HUB + seconds, "interval": 15.0} | more
    )
    core.answered(question, network.encode(answer), at(seconds))
    return question


def beacon(core: AgentCore, seconds: float, sequence: int = 0, **more: Any) -> None:
    said = {"epoch": EPOCH, "sequence": sequence, "time": HUB + seconds, "interval": 15.0} | more
    core.heard(network.publish(network.TOPIC_HUB, network.Beacon(**said)), at(seconds))


def offer(text: str = "t1", nodes: str = "ALL", lifetime: float = 60.0, issued: float = 0.0) -> network.Offer:
    trigger = Trigger(id_of(text), "uptime", nodes, HUB + issued, HUB + issued + lifetime, "root")
    return network.Offer(trigger.id, Order(network.encode_trigger(trigger)))


def publication(
    offered: network.Offer,
    seconds: float = 0.0,
    sequence: int = 1,
    topic: bytes = network.TOPIC_ALL,
    epoch: str = EPOCH,
) -> bytes:
    message = network.Publication(epoch=epoch, sequence=sequence, time=HUB + seconds, offer=offered)
    return network.publish(topic, message)


def due(core: AgentCore, seconds: float = 0.0) -> list[str]:
    """Ids of the orders that the runner is to get now."""
    return [offered.id for offered in core.handovers.due(seconds, core.hub_time.latest(seconds))]


def hear(core: AgentCore, seconds: float = 1.0, answer: network.Answer | None = None) -> network.Question:
    """The next thing that the agent says, answered (received, unless said otherwise)."""
    question = core.question(at(seconds))
    assert question is not None
    core.answered(question, network.encode(answer or network.Received(time=HUB + seconds)), at(seconds))
    return question


def said(core: AgentCore, seconds: float = 1.0) -> list[network.Question]:
    """Everything that the agent has to say now, each received."""
    questions = []
    while core.question(at(seconds)) is not None:
        questions.append(hear(core, seconds))
    return questions


def reported(questions: list[network.Question]) -> list[Run]:
    """The runs in reports, in the order in which they were said."""
    return [run for question in questions if isinstance(question, network.Report) for run in question.runs]


def run(text: str = "t1", change: int = 1, **more: Any) -> Run:
    """A triggered run that has succeeded, unless said otherwise."""
    return Run(
        **{
            "id": id_of(text),
            "action": "uptime",
            "cause": Cause.TRIGGER,
            "by": "root",
            "requested": HUB,
            "change": change,
            "started": HUB,
            "ended": HUB + 1,
            "outcome": Outcome.SUCCEEDED,
            "status": 0,
        }
        | more
    )


def journal(core: AgentCore, *runs: Run, seconds: float = 1.0, name: str = "j1", more: bool = False) -> runner.Changes:
    """The agent asks for the journal, and the runner answers with these runs."""
    asked = core.changes_wanted(at(seconds))
    assert asked is not None
    core.changed(runner.Changed(journal=name, runs=runs, more=more))
    return asked


UPTIME = ActionOffer("uptime", "how long it has been up")
