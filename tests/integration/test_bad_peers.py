"""What comes over the network and should not: each frame is refused in one line, counted, and nothing is lost by it."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nanoexec.keys import ca, credentials, token
from nanoexec.model import (
    MAX_ACTIONS,
    MAX_RUNS,
    ActionOffer,
    Credentials,
    DeliveryState,
    Order,
    Outcome,
    Run,
    Trigger,
    identifier,
)
from nanoexec.wire import network
from tests.support.fleet import Fleet, FleetNode, assert_one_line, fleet_of, outcomes, wait_until, whoami

pytestmark = pytest.mark.timeout(180)

YEAR = 365 * 86400.0
NAN, INFINITY = float("nan"), float("inf")
NOW = 1_800_000_000.0
NOISE = random.Random(1).randbytes(200)  # noqa: S311 - noise, the same each time


def run_of(trigger: str = "0" * 16, **fields: Any) -> Run:
    given: dict[str, Any] = {"cause": "trigger", "by": "nobody", "requested": NOW, "outcome": Outcome.SUCCEEDED}
    return Run(id=trigger, action="ledger", **(given | fields))


def frame(document: Any, version: int = network.PROTOCOL) -> bytes:
    return bytes([version]) + msgspec.msgpack.encode(document)


HELLO = network.Hello(version="9", time=NOW)
# What a node may not ask, and what is said of it.
QUESTIONS = {
    "empty": (b"", "request frame is empty"),
    "truncated": (network.encode(HELLO)[:-3], "request frame of "),
    "random": (b"\x01" + NOISE, "request frame of 201 bytes"),
    "not ours": (b"GET / HTTP/1.1\r\n\r\n", "request frame speaks protocol 71"),
    "newer": (
        frame({"kind": "hello"}, 2),
        "request frame speaks protocol 2, this side speaks 1: this side needs an up",
    ),
    "unknown kind": (frame({"kind": "reboot"}), "Invalid value 'reboot'"),
    "the hub's own": (network.encode(network.Received(time=NOW)), "Invalid value 'received'"),
    "unknown key": (frame({"kind": "bye", "why": "x"}), "unknown field why"),
    "too long": (b"\x01" + bytes(network.MAX_FRAME), f"at most {network.MAX_FRAME} are accepted"),
    "too deep": (b"\x01" + b"\x91" * 100_000, "request frame of 100001 bytes"),
    "not a time": (network.encode(network.Hello(version="9", time=NAN)), "time"),
    "no end of time": (network.encode(network.Hello(version="9", time=INFINITY)), "time"),
    "no number for a database": (network.encode(network.Report(runs=(run_of(change=2**63),))), "change"),
    "no duration": (network.encode(network.Report(runs=(run_of(duration=NAN),))), "duration"),
    "no status": (network.encode(network.Report(runs=(run_of(status=2**40),))), "status"),
    "no user": (network.encode(network.Report(runs=(run_of(by="x" * 257),))), "by"),
    "too many runs": (network.encode(network.Report(runs=(run_of(),) * (MAX_RUNS + 1))), "runs"),
    "too many actions": (
        network.encode(network.Hello(version="9", time=NOW, actions=(ActionOffer("a"),) * (MAX_ACTIONS + 1))),
        "actions",
    ),
    "no name": (frame({"kind": "report", "runs": [{"id": "../../etc"}]}), "request frame of "),
}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """``web1`` and ``web2``; ``ledger`` writes down each start, where nanoexec does not look."""
    with fleet_of("web1", "web2") as running:
        for node in running.nodes.values():
            script = f'echo "$NANOEXEC_TRIGGER_ID" >> {node.root}/ledger'
            node.action("ledger", f"command = ['/bin/sh', '-c', '{script}']\nuser = '{whoami()}'\n")
        yield running


def starts(node: FleetNode) -> list[str]:
    ledger = node.root / "ledger"
    return ledger.read_text().split() if ledger.exists() else []


def works(fleet: Fleet) -> bool:
    return outcomes(fleet.trigger("web[1-2]:ledger")) == {"web1": "succeeded", "web2": "succeeded"}


def say(node: FleetNode, *frames: bytes) -> list[dict[str, Any]]:
    """The hub's answers to what this node is made to say."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.raw_node", str(node.root)],
        input="".join(f"{one.hex()}\n" for one in frames),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


# To the hub, from a node that it has let in


def test_the_hub_refuses_each_bad_frame_in_one_line_and_goes_on(fleet: Fleet) -> None:
    refused, lines = fleet.status()["counters"].get("frames_refused", 0), len(fleet.hub.text().splitlines())
    answers = say(fleet.nodes["web1"], *(bad for bad, _ in QUESTIONS.values()))
    wrong = {
        name: answer
        for (name, (_, said)), answer in zip(QUESTIONS.items(), answers, strict=True)
        if answer["kind"] != "denied" or said not in answer["reason"]
    }
    assert wrong == {}
    logged = fleet.hub.text().splitlines()[lines:]
    warned = [line.partition(" WARNING ")[2] for line in logged if " WARNING " in line]
    assert warned == [f"web1: {answer['reason']}" for answer in answers]
    assert fleet.status()["counters"]["frames_refused"] == refused + len(QUESTIONS)
    assert works(fleet)


def test_a_frame_too_long_to_be_read_costs_its_sender_the_connection_and_nobody_else_anything(fleet: Fleet) -> None:
    too_long, bye = b"\x01" + bytes(2 * network.MAX_FRAME), network.encode(HELLO)
    assert [answer["kind"] for answer in say(fleet.nodes["web1"], too_long, bye)] == ["lost", "welcome"]
    assert works(fleet)


def test_no_node_can_say_what_an_ack_or_a_report_cannot_say(fleet: Fleet) -> None:
    finished = network.Ack(trigger="0" * 16, state=DeliveryState.FINISHED)
    unended = network.Report(runs=(run_of(outcome=None),))
    answers = say(fleet.nodes["web1"], network.encode(finished), network.encode(unended))
    assert [answer["reason"] for answer in answers] == ["an ack cannot say finished", f"run {'0' * 16} has not ended"]


def test_news_of_a_trigger_that_never_was_moves_nothing_and_stays_with_its_node(fleet: Fleet) -> None:
    ack = network.Ack(trigger="5" * 16, state=DeliveryState.RUNNING)
    report = network.Report(runs=(run_of("5" * 16, by="root"),))
    answers = say(fleet.nodes["web1"], network.encode(ack), network.encode(report), network.encode(report))
    assert [answer["kind"] for answer in answers] == ["received"] * 3
    assert [entry["node"] for entry in fleet.history() if entry["id"] == "5" * 16] in ([], ["web1"])
    assert works(fleet)


def test_nothing_that_one_node_reports_keeps_operators_from_reading(fleet: Fleet) -> None:
    long, early = "\N{GRINNING FACE}" * 4000, -1e11  # as much as a reason can have, and a year that no calendar has

    def runs(count: int) -> tuple[Run, ...]:
        ids = [identifier(os.urandom(10)) for _ in range(count)]
        said = {"action": "uptime", "cause": "local", "by": long[:256], "reason": long, "started": early}
        return tuple(msgspec.structs.replace(run_of(id_), **said) for id_ in ids)

    frames = [network.encode(network.Report(runs=runs(55))) for _ in range(20)]
    assert {answer["kind"] for answer in say(fleet.nodes["web1"], *frames)} == {"received"}
    entries = fleet.history("--limit", "10000")
    assert sum(entry["cause"] == "local" for entry in entries) == 20 * 55
    assert min(len(entry["reason"]) for entry in entries if entry["cause"] == "local") >= 100
    for words, status in ((("history",), 0), (("show", entries[0]["id"]), 0), (("overdue", "uptime"), 3)):
        done = fleet.run(*words, check=False)
        assert (done.returncode, done.stderr, bool(done.stdout)) == (status, "", True), words


def test_a_node_cannot_answer_for_another(fleet: Fleet) -> None:
    node = fleet.nodes["web2"]
    node.agent.stop()
    wait_until(lambda: fleet.connected() == {"web1"}, "web2 is away")
    trigger = fleet.issue("web2:ledger")
    for state in (DeliveryState.RUNNING, DeliveryState.REFUSED, DeliveryState.EXPIRED):
        say(fleet.nodes["web1"], network.encode(network.Ack(trigger=trigger, state=state)))
    say(fleet.nodes["web1"], network.encode(network.Report(runs=(run_of(trigger),))))
    shown = fleet.shown(trigger)
    assert {name: (d["state"], d["run"]) for name, d in shown.items()} == {"web2": ("pending", None)}
    node.agent.start()
    assert fleet.wait_state(trigger, "web2", "finished")["run"]["outcome"] == "succeeded"
    assert trigger in starts(node)


# To an agent, from whoever has the hub's keys


class RawHub:
    """`tests.support.raw_hub` at work: give it frames, read what it is asked."""

    def __init__(self, fleet: Fleet) -> None:
        self._heard = fleet.directory / "raw-hub.out"
        with self._heard.open("wb") as heard:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.raw_hub", str(fleet.root)], stdin=subprocess.PIPE, stdout=heard
            )
        wait_until(self._lines, "the raw hub listens")
        self.publish_port, self.report_port = json.loads(self._lines()[0])

    def _lines(self) -> list[str]:
        return [line for line in self._heard.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def say(self, *frames: bytes) -> None:
        assert self._process.stdin is not None
        for one in frames:
            self._process.stdin.write(one.hex().encode() + b"\n")
        self._process.stdin.flush()

    def asked(self, kind: str) -> list[dict[str, Any]]:
        questions = [json.loads(line) for line in self._lines()[1:]]
        return [question for question in questions if question["kind"] == kind]

    def reported(self) -> set[str]:
        """The runs that it has heard of; earlier ones too, since an agent may repeat what it has said to another."""
        return {run["id"] for report in self.asked("report") for run in report["runs"]}

    def stop(self) -> None:
        self._process.communicate(timeout=10)


def order_of(nodes: str, *, expires: float = 600.0) -> tuple[str, Order]:
    now = time.time()
    trigger = Trigger(
        id=identifier(os.urandom(10)), action="ledger", nodes=nodes, issued=now - 60, expires=now + expires, by="raw"
    )
    return trigger.id, Order(body=network.encode_trigger(trigger))


def published(topic: bytes, id_: str, order: Order) -> bytes:
    offer = network.Offer(id=id_, order=order)
    return network.publish(topic, network.Publication(epoch="raw", sequence=0, time=time.time(), offer=offer))


def beacon_at(moment: float) -> network.Beacon:
    return network.Beacon(epoch="raw", sequence=0, time=moment, interval=5.0)


@pytest.fixture
def listener(fleet: Fleet) -> Iterator[tuple[RawHub, FleetNode]]:
    """``web1`` with its agent at a raw hub; afterwards everything is as it was."""
    node = fleet.nodes["web1"]
    config = node.config.read_text()
    hub = RawHub(fleet)
    node.agent.stop()
    node.set(publish_port=hub.publish_port, report_port=hub.report_port)
    node.agent.start()
    try:
        wait_until(lambda: hub.asked("hello"), "the agent says hello")
        yield hub, node
    finally:
        node.agent.stop()
        hub.stop()
        node.config.write_text(config)
        node.agent.start()
        fleet.wait_connected("web1")


def test_an_agent_refuses_each_bad_frame_in_one_line_and_runs_the_next_good_order(
    fleet: Fleet, listener: tuple[RawHub, FleetNode]
) -> None:
    hub, node = listener
    before = starts(node)
    (one, first), (two, _), (other, foreign) = order_of("ALL"), order_of("ALL"), order_of("web[2-9]")
    late, expired = order_of("ALL", expires=-1.0)
    good, order = order_of("web1")
    bad = {
        b"hub:": "published frame is empty",
        b"hub:" + network.encode(beacon_at(NOW))[:-3]: "published frame of ",
        b"hub:" + frame({"kind": "beacon"}, 2): "published frame speaks protocol 2",
        b"hub:\x01" + NOISE: "published frame of 201 bytes",
        b"ALL:" + frame({"kind": "reboot"}): "Invalid value 'reboot'",
        b"web1:" + network.encode(network.Bye()): "Invalid value 'bye'",
        b"hub:\x01" + bytes(network.MAX_FRAME): f"at most {network.MAX_FRAME} are accepted",
        b"hub:" + network.encode(beacon_at(NAN)): "time",
        published(b"ALL:", two, first): f"trigger {two} names itself {one}",
        published(b"web1:", one, Order(body=b"rm -rf /")): "trigger of 8 bytes does not begin like a trigger",
        published(b"ALL:", one, Order(body=first.body[:-3])): "trigger of ",
    }
    lines = len(node.agent.text().splitlines())
    hub.say(*bad, published(b"ALL:", other, foreign), published(b"web1:", late, expired))
    hub.say(published(b"ALL:", good, order))
    wait_until(lambda: good in hub.reported(), "the run of the good order is reported")

    logged = [line for line in node.agent.text().splitlines()[lines:] if " WARNING " in line]
    assert [said for said, line in zip(bad.values(), logged, strict=True) if said not in line] == [], logged
    assert {one, two, other, late}.isdisjoint(hub.reported())
    acks = [(ack["trigger"], ack["state"]) for ack in hub.asked("ack")]
    assert [ack for ack in acks if ack != (good, "running")] == [(late, "expired")]
    assert starts(node) == [*before, good]


def test_an_agent_comes_back_after_a_frame_too_long_to_be_read(listener: tuple[RawHub, FleetNode]) -> None:
    hub, node = listener
    hub.say(b"hub:\x01" + bytes(2 * network.MAX_FRAME))
    wait_until(lambda: "no link to the hub: " in node.agent.text(), "the link is lost, and the log says so")
    greetings = len(hub.asked("hello"))
    wait_until(lambda: len(hub.asked("hello")) > greetings, "the agent is back")
    good, order = order_of("ALL")
    hub.say(published(b"ALL:", good, order))
    wait_until(lambda: good in starts(node), "the order runs")


# Strangers: agents with one thing wrong


def certificate_of(fleet: Fleet, name: str, key_id: str, *, at: float = 0.0, foreign: str = "") -> Credentials:
    """What a node of that name and certificate id has, made ``at`` seconds from now; ``foreign``: by another CA."""
    authority = credentials.load_ca(fleet.root / "var/lib/nanoexec/hub")
    other = ca.make_ca("localhost", time.time())
    key = ca.make_node_key()
    certificate = ca.sign_request(
        other if foreign else authority, ca.make_request(key, name), name=name, key_id=key_id, now=time.time() + at
    )
    return Credentials(
        ca=(other if foreign == "and trusted" else authority).certificate, certificate=certificate, key=key
    )


CERTIFICATES: dict[str, tuple[dict[str, Any], str]] = {
    "foreign": ({"foreign": "yes"}, "this node's certificate was not signed by the CA it came with: join again"),
    "trusting": ({"foreign": "and trusted"}, "the hub's certificate is not signed by the CA of this node: join again"),
    "expired": ({"at": -11 * YEAR}, "this node's certificate has expired, by the clock of this machine"),
    "early": ({"at": 2 * 86400.0}, "this node's certificate is not valid yet, by the clock of this machine"),
    "unknown": ({"key_id": "0" * 16}, "this node's certificate is not on the hub's roster"),
}
CONFIGURATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "hub-name": ({"hub_name": "other.example"}, "the hub's certificate is not for other.example: set hub_name to the"),
    "port": ({"report_port": 1}, "localhost port 1: connection refused: no hub listens there"),
    "address": ({"hub": "no-such-host.invalid"}, "no-such-host.invalid: the name cannot be resolved"),
}


@pytest.fixture(scope="module")
def strangers(fleet: Fleet) -> Iterator[dict[str, FleetNode]]:
    """Agents that are all ``web2`` by name and by the id of their certificate, but for what their case says."""
    listed = json.loads(fleet.run("nodes", "list", "-o", "json").stdout)
    (known,) = (node["key"] for node in listed if node["name"] == "web2")
    real = fleet.nodes["web2"]
    made = {case: FleetNode(fleet, case) for case in (*CERTIFICATES, *CONFIGURATIONS)}
    for case, stranger in made.items():
        stranger.config.parent.mkdir(parents=True)
        for file in ("agent.toml", "joined.toml"):
            stranger.config.with_name(file).write_bytes(real.config.with_name(file).read_bytes())
        state = stranger.root / "var/lib/nanoexec/agent"
        state.mkdir(parents=True)
        if case in CONFIGURATIONS:
            credentials.write_node(state, credentials.load_node(real.root / "var/lib/nanoexec/agent"))
            stranger.set(**CONFIGURATIONS[case][0])
        else:
            credentials.write_node(state, certificate_of(fleet, "web2", **({"key_id": known} | CERTIFICATES[case][0])))
        stranger.agent.start()
    yield made
    for stranger in made.values():
        stranger.agent.stop()


@pytest.mark.parametrize("case", CERTIFICATES | CONFIGURATIONS)
def test_an_agent_that_does_not_get_in_says_in_one_line_why(
    fleet: Fleet, strangers: dict[str, FleetNode], case: str
) -> None:
    _, said = (CERTIFICATES | CONFIGURATIONS)[case]
    log = strangers[case].agent
    wait_until(lambda: "no link to the hub" in log.text(), "it says that it has no link", within=40)
    (line,) = (line for line in log.text().splitlines() if "no link to the hub: " in line)
    assert said in line
    assert "welcome at the hub" not in log.text()
    assert works(fleet)


def test_a_node_that_calls_itself_otherwise_than_its_certificate_is_told_its_name(fleet: Fleet) -> None:
    node = fleet.nodes["web2"]
    config = node.config.read_text()
    node.agent.stop()
    node.set(name="web7")
    node.agent.start()
    wait_until(
        lambda: "the hub knows this node as web2: set name = 'web2' in agent.toml" in node.agent.text(), "it says so"
    )
    node.agent.stop()
    node.config.write_text(config)
    node.agent.start()
    fleet.wait_connected("web2")
    assert works(fleet)


# Join tokens


def join(fleet: Fleet, root: Path, token: str, name: str) -> "subprocess.CompletedProcess[str]":
    done = fleet.run("agent", "join", f"localhost:{fleet.join_port}", token, "--name", name, root=root, check=False)
    assert done.returncode == 0 or not (root / "etc/nanoexec/joined.toml").exists()
    return done


def token_of(fleet: Fleet, *words: str) -> str:
    return str(fleet.run("hub", "token", *words).stdout.strip())


def test_nobody_listens_for_joining_machines_while_no_token_is_outstanding(fleet: Fleet, tmp_path: Path) -> None:
    short = token_of(fleet, "--ttl", "0.5s")
    assert fleet.status()["join_port"] == fleet.join_port
    wait_until(lambda: fleet.status()["join_port"] is None, "no token is outstanding")
    began = time.monotonic()
    done = join(fleet, tmp_path, short, "db1")
    assert_one_line(done, 1, f"localhost port {fleet.join_port}: connection refused: ", "while a token is outstanding")
    assert time.monotonic() - began < 10, "it does not wait for what cannot come"


def test_a_token_serves_as_often_as_it_says_and_only_whom_it_names(fleet: Fleet, tmp_path: Path) -> None:
    once, named, other, short = (
        token_of(fleet, *words) for words in ((), ("--node", "db1"), ("--ttl", "20s"), ("--ttl", "0.1s"))
    )
    assert join(fleet, tmp_path / "first", once, "db7").returncode == 0
    assert_one_line(
        join(fleet, tmp_path, once, "db8"), 6, "db8", "was used up: ask for a new one (`nanoexec hub token`)"
    )
    assert_one_line(join(fleet, tmp_path, named, "db2"), 6, "this token is for the node db1, not for db2")
    assert_one_line(join(fleet, tmp_path, short, "db3"), 6, "this token ", "ask for a new one (`nanoexec hub token`)")
    assert_one_line(join(fleet, tmp_path, other, "web1"), 6, "a node web1 has joined already: revoke it")
    damaged = named[:-1] + ("A" if named[-1] != "A" else "B")
    assert_one_line(join(fleet, tmp_path, damaged, "db1"), 2, "the join token is damaged (its checksum does not match)")
    assert join(fleet, tmp_path, named, "db1").returncode == 0
    assert fleet.hub.text().count("join refused: ") >= 4
    assert works(fleet)


def test_a_token_of_another_hub_tells_this_one_nothing(fleet: Fleet, tmp_path: Path) -> None:
    token_of(fleet, "--ttl", "20s")  # that somebody listens
    foreign = token.Token(hub="localhost", pin=bytes(token.PIN), secret=bytes(token.SECRET))
    refused = fleet.hub.text().count("join refused: ")
    done = join(fleet, tmp_path, token.encode(foreign), "db1")
    assert_one_line(done, 1, "localhost has another CA than the join token says", "nothing was sent to it")
    assert fleet.hub.text().count("join refused: ") == refused
