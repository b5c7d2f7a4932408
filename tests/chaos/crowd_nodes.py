"""A part of a crowd: ``python -m tests.chaos.crowd_nodes PLAN``. See `crowd`.

Prints ``link NAME SECONDS up|down`` for each link that comes up or goes, and ``dial NAME SECONDS`` for each dial. It
ends when its standard input does.
"""

import asyncio
import logging
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from nanoexec import clock
from nanoexec.agent.core import AgentCore
from nanoexec.agent.service import Agent
from nanoexec.model import ActionOffer, Cause, Cursor, Order, Outcome, Output, Run
from nanoexec.transport.nng import NngLink, NngNodeTransport
from nanoexec.transport.probe import probe
from nanoexec.wire import network, runner, stream
from tests.chaos.crowd import Member, Plan

PROBE_WITHIN = 5.0
REMEMBERED = 500  # runs: what is older than that has long been relayed, and its order does not come again
OFFERS = (ActionOffer(name="true", interval=None),)


class StandIn:
    """A runner that starts nothing and keeps its journal in memory: the last of it, for it may be weighed."""

    def __init__(self, name: str, ledger: int) -> None:
        self._name = name
        self._ledger = ledger
        self._change = 0
        self._runs: dict[str, Run] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        header = await reader.readexactly(stream.HEADER)
        request = runner.decode_request(await reader.readexactly(stream.length(header)))
        writer.write(stream.encode(self._answer(request)))
        await writer.drain()
        writer.close()

    def _answer(self, request: runner.Request) -> runner.Reply:
        match request:
            case runner.Start(order=order):
                return runner.Told(run=self._run(order))
            case runner.Changes(after=after, limit=limit):
                newer = [run for run in self._runs.values() if run.change > after]
                return runner.Changed(journal=self._name, runs=tuple(newer[:limit]), more=len(newer) > limit)
            case runner.Describe():
                return runner.Described(actions=OFFERS, faults=())
            case runner.Cancel():
                return runner.Rejected(reason="a stand-in cancels nothing", final=True)

    def _run(self, order: Order) -> Run:
        trigger = network.decode_trigger(order.body)
        if trigger.id not in self._runs:
            os.write(self._ledger, f"{self._name} {trigger.id}\n".encode())  # O_APPEND: a line is written whole
            now = time.time()
            self._change += 1
            self._runs[trigger.id] = Run(
                id=trigger.id,
                action=trigger.action,
                cause=Cause.TRIGGER,
                by=trigger.by,
                requested=now,
                change=self._change,
                started=now,
                ended=now,
                duration=0.0,
                outcome=Outcome.SUCCEEDED,
                status=0,
                output=Output(head=b"done\n", size=5),
            )
            if len(self._runs) > REMEMBERED:
                del self._runs[next(iter(self._runs))]
        return self._runs[trigger.id]


class Told(NngNodeTransport):
    """The real transport, whose dials are told."""

    async def dial(self, topics: Sequence[bytes], within: float) -> NngLink:
        _say("dial", topics[-1].decode().rstrip(":"), time.time())
        return await super().dial(topics, within)


class Dice(random.Random):
    """What draws an agent's pauses, none longer than ``patience``."""

    def __init__(self, patience: float) -> None:
        super().__init__()
        self._patience = patience

    def uniform(self, a: float, b: float) -> float:
        return super().uniform(a, min(b, self._patience))


def _say(*words: object) -> None:
    os.write(1, f"{' '.join(f'{word:.3f}' if isinstance(word, float) else str(word) for word in words)}\n".encode())


async def _live(plan: Plan, member: Member, ledger: int) -> None:
    """One agent, put together as `nanoexec.agent.__main__` does it."""
    base = Path(plan.directory) / "crowd"
    base.mkdir(exist_ok=True)
    socket = base / f"{member.name}.sock"
    await asyncio.start_unix_server(StandIn(member.name, ledger).serve, str(socket))

    async def why() -> str:
        stages = await asyncio.to_thread(
            probe, "127.0.0.1", plan.report_port, member.credentials, plan.hub, PROBE_WITHIN
        )
        return "" if stages[-1].ok else stages[-1].detail

    def tell_link(up: bool, since: float, _: str) -> None:  # noqa: FBT001 - the agent's signature
        _say("link", member.name, since, "up" if up else "down")

    agent = Agent(
        AgentCore(name=member.name, verify=lambda _: None, cursor=Cursor()),
        transport=Told(*plan.urls, member.credentials, plan.hub),
        runner_socket=socket,
        journal=base / f"{member.name}.db",
        beacon=base / f"{member.name}.beacon",
        save=lambda: None,
        tell_link=tell_link,
        now=clock.now,
        explain=why,
        jitter=Dice(plan.patience),
    )
    await agent.serve()


async def _main(plan: Plan) -> None:
    asyncio.get_running_loop().add_reader(0, os._exit, 0)  # nobody writes there: that is the end of who started this
    ledger = os.open(plan.ledger, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    await asyncio.gather(*(_live(plan, member, ledger) for member in plan.members))


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(_main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan)))
