"""A fleet whose hub and nodes have a network each, faults for it, and the comparison of what ran with what is told."""

import re
import time
import types
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from nanoexec.agent import link
from nanoexec.cli.ask import ask
from nanoexec.config import Paths
from nanoexec.record import TriggerDetail
from nanoexec.wire import control
from tests.chaos.companion import with_tests
from tests.chaos.figures import Figures
from tests.chaos.lan import HUB, HUB_NAME, Lan
from tests.chaos.network_daemon import wall
from tests.chaos.proxy import Proxy
from tests.support.fleet import Fleet, FleetNode, Service, wait_until, whoami

ACTION: Final = "work"
PUBLISH, REPORT, JOIN = 4444, 4445, 4446
PROXIED: Final = {PUBLISH: 14444, REPORT: 14445}
NOTICED_WITHIN: Final = 45.0  # seconds in which either side must notice that the other has fallen silent
PATIENCE: Final = 60.0  # real seconds for what must come in the end, on a busy machine
LONGEST_PAUSES: Final = 180.0  # seconds of theirs: a dial and a pause, another, and the hub's pause between two offers

# What arrives no longer, by the side at which it would. {node}: that node's address.
BOTH_WAYS, TO_HUB, TO_NODE, REPORTS, HELD = "cut both ways", "cut to hub", "cut to node", "report port cut", "held back"
PUBLICATIONS: Final = "publish port cut"
_DROPPED_AT_HUB: Final = {
    TO_HUB: "ip saddr {node} drop",
    REPORTS: f"ip saddr {{node}} tcp dport {REPORT} drop",
    PUBLICATIONS: f"ip saddr {{node}} tcp dport {PUBLISH} drop",
}
LOSS: Final = "numgen random mod 100 < 30 drop"
WEATHER: Final = ("delay", "50ms", "50ms", "loss", "30%")  # the same and latency, where the kernel offers it


class Placed(Service):
    """A daemon at a place in the network; its time may run faster."""

    def __init__(self, before: list[str], words: list[str], log: Path) -> None:
        super().__init__(words, log)
        self.before = before

    def start(self, **environment: str) -> None:
        super().start(**with_tests() | environment)


class Net(Fleet):
    """The fleet. Its hub and agents see time run ``speed`` times as fast; runners and commands do not care."""

    def __init__(self, speed: float, figures: Figures) -> None:
        super().__init__(bind="0.0.0.0", publish_port=PUBLISH, report_port=REPORT, join_port=JOIN, beacon_interval=15.0)
        self.lan = Lan(self.directory)
        self.proxied = ""  # the node that goes through the proxy
        self.proxy: Proxy | None = None
        self.triggers: dict[str, tuple[str, ...]] = {}  # of each trigger the nodes that must run it
        self._speed = speed
        self._patience = PATIENCE + LONGEST_PAUSES / speed
        self._start = time.time()
        self._figures = figures
        self._ledger = self.directory / "ledger"

    def __enter__(self) -> Self:
        self.lan.__enter__()
        with ExitStack() as undo:
            undo.push(self)
            self.lan.plug(HUB)
            self.hub = self._placed(HUB, "hub", self.root, self.directory / "hub.log")
            self.run("hub", "init", "--name", HUB_NAME)
            self.configure()
            self.start_hub()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        with ExitStack() as ends:
            ends.callback(self.lan.close)
            ends.callback(super().__exit__, kind, value, trace)
            if self.proxy:
                ends.push(self.proxy)

    def add(self, *names: str) -> None:
        token = self.run("hub", "token", "--uses", str(len(names))).stdout.strip()
        joining = []
        for name in names:
            self.lan.plug(name)
            node = self.nodes[name] = FleetNode(self, name)
            node.agent = self._placed(name, "agent", node.root, node.agent.log)
            words = ["agent", "join", "--root", str(node.root), f"{HUB_NAME}:{JOIN}", token, "--name", name]
            joining.append(Placed(self.lan.words(name), ["nanoexec", *words], self.directory / f"{name}.join.log"))
        with ExitStack() as ends:
            for one in joining:
                ends.callback(one.kill)
                one.start()
            for one in joining:
                assert one.process
                assert one.process.wait(PATIENCE) == 0, one.text()
        for name in names:
            self._prepare(self.nodes[name])
            self.nodes[name].start()
        self.wait_all(*names)

    def _prepare(self, node: FleetNode) -> None:
        node.config.write_text("# the administrator's own\n")
        if node.name == self.proxied:
            node.set(publish_port=PROXIED[PUBLISH], report_port=PROXIED[REPORT])
        script = f'echo "$NANOEXEC_TRIGGER_ID {node.name}" >> {self._ledger}'
        node.action(ACTION, f"command = ['/bin/sh', '-c', '{script}']\nuser = '{whoami()}'\non_busy = 'wait'\n")

    def add_behind_proxy(self, name: str) -> None:
        """A node whose connections go through a proxy at the hub."""
        self.proxied = name
        self.proxy = Proxy(self.lan.words(HUB), "0.0.0.0", *((outer, inner) for inner, outer in PROXIED.items()))
        self.proxy.__enter__()
        self.add(name)

    def _placed(self, machine: str, service: str, root: Path, log: Path) -> Placed:
        words = ["tests.chaos.network_daemon", str(self._speed), str(self._start), service, "--root", str(root)]
        return Placed(self.lan.words(machine), words, log)

    def pass_time(self, seconds: float) -> None:
        """Wait until so many seconds of theirs have passed."""
        time.sleep(seconds / self._speed)  # nothing is waited for: the length itself is the fault

    def time(self) -> float:
        """The clock of hub and agents."""
        return wall(self._speed, self._start)

    # What there is to see, without the delay of a command line

    def ask(self, request: control.Request) -> control.Reply:
        return ask(Paths(root=self.root), request)

    def here(self) -> set[str]:
        """The nodes that the hub takes for connected, and whose actions it knows."""
        reply = self.ask(control.ListNodes())
        assert isinstance(reply, control.NodeList)
        return {node.name for node in reply.nodes if node.connected and node.actions}

    def breaks(self, name: str) -> int:
        """How often the hub has said that a node left or fell silent."""
        return len(re.findall(rf" {name} is (?:away|silent)", self.hub.text()))

    def up(self, name: str) -> bool:
        """Whether the agent says that it has a link."""
        state = link.read(Paths(root=self.nodes[name].root).link)
        return state is not None and state.up

    def wait_all(self, *names: str) -> None:
        """Until both sides agree that these nodes are connected."""
        wait_until(
            lambda: set(names) <= self.here() and all(self.up(name) for name in names),
            f"{names} connected",
            self._patience,
        )

    def issue(self, times: int = 1) -> None:
        """Trigger every node."""
        for _ in range(times):
            reply = self.ask(control.Submit(wanted=control.Wanted("ALL", ACTION, lifetime=86400.0), watch=False))
            assert isinstance(reply, control.Accepted)
            self.triggers[reply.trigger.id] = reply.nodes
            self._figures.add("triggers")
            self._figures.add("deliveries", len(reply.nodes))

    def final(self) -> bool:
        """Whether every delivery is over."""
        reply = self.ask(control.AskStatus())
        assert isinstance(reply, control.Status)
        return reply.open_deliveries == 0

    # Faults

    def cut(self, name: str, how: str) -> None:
        """Have one side, or both, hear no more of the other, while nobody hangs up."""
        self._figures.count(how)
        if how == BOTH_WAYS:
            self.lan.pull(name)
        elif how == TO_NODE:
            self.lan.arrivals(name, f"ip saddr {self.lan.addresses[HUB]} drop")
        elif how == HELD:
            assert self.proxy
            self.proxy.tell("hold")
        else:
            rule = _DROPPED_AT_HUB[how].format(node=self.lan.addresses[name])
            self.lan.arrivals(HUB, rule, about=name)

    def deafen(self, name: str) -> None:
        """Have a node hear no publications, though it can ask."""
        self.cut(name, PUBLICATIONS)

    def lose(self, name: str) -> None:
        """Lose three packets in ten, either way."""
        if self.lan.has_netem:
            self._figures.count("latency, and loss 30 %")
            self.lan.weather(name, *WEATHER)
            return
        self._figures.count("loss 30 %")
        self.lan.arrivals(name, LOSS)
        self.lan.arrivals(HUB, f"ip saddr {self.lan.addresses[name]} {LOSS}", about=name)

    def reset(self, name: str) -> None:
        """Break the connections that a node has, now or as soon as it has any."""
        wait_until(lambda: self.lan.reset(name), f"a connection of {name} breaks", self._patience)
        self._figures.count("reset")

    def move(self, name: str) -> None:
        """Another address, and what went to the old one goes nowhere."""
        self._figures.count(f"address of {'hub' if name == HUB else 'node'} changed")
        self.lan.move(name)

    def bend(self, line: str) -> None:
        """Have the proxy do something, and wait until a connection has felt it."""
        proxy = self.proxy
        assert proxy
        hit = wait_until(lambda: proxy.tell(line), f"{line} hits a connection", self._patience)
        self._figures.count(f"proxy: {line.split(maxsplit=1)[0]}", hit)

    def heal(self) -> None:
        """End every fault."""
        for name in self.nodes:
            self.lan.plug_in(name)
            if self.lan.has_netem:
                self.lan.weather(name)
            self.lan.arrivals(name)
            self.lan.arrivals(HUB, about=name)
        if self.proxy:
            self.proxy.tell("pass")

    def silence(self, cuts: dict[str, str]) -> dict[str, tuple[float, float]]:
        """Cut nodes off and wait until both sides have noticed: of each node when it did and when the hub did, in
        seconds of their time.
        """
        began: dict[str, float] = {}
        for name, how in cuts.items():
            self.cut(name, how)
            began[name] = self.time()
        agents: dict[str, float] = {}
        hub: dict[str, float] = {}

        def noticed() -> bool:
            here, now = self.here(), self.time()
            hub.update({name: now - began[name] for name in cuts if name not in here and name not in hub})
            for name in cuts:
                state = link.read(Paths(root=self.nodes[name].root).link)
                if state and not state.up and name not in agents:
                    agents[name] = state.since - began[name]  # its own word for when
            return len(hub) == len(agents) == len(cuts)

        try:
            wait_until(noticed, f"both sides notice {cuts}", self._patience)
        except AssertionError as error:
            raise AssertionError(f"{error}: agents noticed after {agents}, the hub after {hub}") from None
        return {name: (agents[name], hub[name]) for name in cuts}

    # The truth

    def settle(self) -> None:
        """End every fault, and wait until everybody is back and every delivery is final."""
        self.heal()
        self.wait_all(*self.nodes)
        wait_until(self.final, "every delivery final", self._patience)

    def compare(self) -> None:
        """What the commands wrote themselves, against what the hub tells of each delivery and in its history."""
        started = Counter(self._ledger.read_text().splitlines())
        expected = {f"{trigger} {node}" for trigger, nodes in self.triggers.items() for node in nodes}
        lost = sorted(expected - started.keys())
        doubled = sorted(run for run, times in started.items() if times > 1 or run not in expected)
        self._figures.add("starts", started.total())
        self._figures.add("lost", len(lost))
        self._figures.add("doubled", len(doubled))
        assert not lost, f"never started: {lost}"
        assert not doubled, f"started more than once, or by nobody's wish: {doubled}"
        for trigger, nodes in self.triggers.items():
            reply = self.ask(control.Show(id=trigger))
            assert isinstance(reply, control.Shown)
            assert isinstance(reply.trigger, TriggerDetail)
            told = {
                d.node: (d.state.value, d.run.outcome.value if d.run and d.run.outcome else "")
                for d in reply.trigger.deliveries
            }
            assert told == dict.fromkeys(nodes, ("finished", "succeeded")), trigger
        history = self.ask(control.AskHistory(limit=10 * len(expected)))
        assert isinstance(history, control.History)
        assert Counter(f"{entry.id} {entry.node}" for entry in history.entries) == Counter(expected)
