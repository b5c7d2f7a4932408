"""The hub watches itself: a beacon that does not come back through the network is an alarm."""

import asyncio
import json
import random
import threading
from pathlib import Path

import pytest

from nanoexec import clock
from nanoexec.config import HubConfig
from nanoexec.hub.echo import DEAF_AFTER, Echo
from nanoexec.hub.service import Hub
from nanoexec.store import Store
from nanoexec.transport import Peer
from nanoexec.transport.memory import MemoryNetwork
from nanoexec.wire import control, network
from tests.support.deaf_hub import DEAF
from tests.support.fleet import Fleet, wait_until

pytestmark = pytest.mark.timeout(180)
INTERVAL = 2.0  # seconds: a busy machine must not look deaf
OWN = Peer(name="hub.example.org", key="0" * 16)


def deaf_fleet() -> Fleet:
    fleet = Fleet(beacon_interval=INTERVAL)
    fleet.hub.words[0] = "tests.support.deaf_hub"
    return fleet


def beacon_stage(fleet: Fleet) -> tuple[int, str, str]:
    """The exit status of doctor, and how the stage went."""
    done = fleet.run("doctor", "-o", "json", check=False)
    (stage,) = (found for found in json.loads(done.stdout) if found["stage"] == "beacon")
    return done.returncode, stage["level"], stage["detail"]


def test_a_hub_whose_publisher_goes_deaf_raises_the_alarm_and_ends_it_when_it_is_heard_again() -> None:
    with deaf_fleet() as fleet:
        wait_until(lambda: fleet.status()["heard"], "the hub hears itself")
        assert fleet.status()["alarm"] == ""
        assert beacon_stage(fleet)[:2] == (0, "ok")

        sign = fleet.root / DEAF
        sign.touch()
        wait_until(lambda: fleet.status()["alarm"], "the alarm")
        status, level, detail = beacon_stage(fleet)
        assert (status, level) == (1, "FAIL")
        assert "its own beacon does not come back" in detail
        assert "ALARM: its own beacon" in fleet.run("hub", "status").stdout
        assert fleet.status()["counters"]["alarms"] == 1

        sign.unlink()
        wait_until(lambda: not fleet.status()["alarm"], "the end of the alarm")
        assert beacon_stage(fleet)[:2] == (0, "ok")
        log = fleet.hub.text()
        assert log.count("the hub cannot be heard") == 1, log
        assert log.count("the hub is heard again") == 1, log


def test_a_hub_in_order_has_no_alarm_and_its_ear_is_nobody() -> None:
    with Fleet(beacon_interval=INTERVAL) as fleet:
        first = wait_until(lambda: fleet.status()["heard"], "the hub hears itself")
        wait_until(lambda: fleet.status()["heard"] > first + 3, "beacon after beacon comes back")
        status = fleet.status()
        assert (status["alarm"], status["nodes"], status["connected"]) == ("", 0, 0)
        assert status["counters"]["peers_refused"] == status["counters"].get("alarms", 0) == 0
        assert json.loads(fleet.run("nodes", "list", "-o", "json").stdout) == []
        assert "ERROR" not in fleet.hub.text()


def _hub(directory: Path, memory: MemoryNetwork) -> tuple[Hub, Store]:
    config = HubConfig(name=OWN.name, beacon_interval=0.1)
    store = Store.open(directory / "hub.db")
    hub = Hub(config, name="hub", store=store, transport=memory.hub(), pin=b"", now=clock.now)
    hub.listen_to_itself(Echo(OWN, lambda: memory.node(OWN), interval=config.beacon_interval, now=clock.now))
    return hub, store


async def _until(condition: object) -> None:
    async with asyncio.timeout(30):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)


def test_the_same_in_memory_where_only_the_beacons_are_lost(tmp_path: Path) -> None:
    async def scenario() -> None:
        memory = MemoryNetwork(random.Random(1))  # noqa: S311 - a test
        hub, store = _hub(tmp_path, memory)
        try:
            await hub.start()
            await _until(lambda: hub.status().heard is not None)
            memory.drop(lambda _peer, frame: frame.startswith(network.TOPIC_HUB))
            await _until(lambda: hub.status().alarm)
            memory.drop(0)
            await _until(lambda: not hub.status().alarm)
        finally:
            await hub.stop()
            store.close()

    asyncio.run(scenario())


def test_a_hub_whose_disk_does_not_answer_raises_the_alarm_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer is stuck, and so is everything that waits for a decision: beacons, too."""
    answers = threading.Event()

    async def scenario() -> None:
        hub, store = _hub(tmp_path, MemoryNetwork(random.Random(1)))  # noqa: S311 - a test
        monkeypatch.setattr(store, "commit", lambda _: answers.wait(60))
        try:
            await hub.start()
            await _until(lambda: hub.status().heard is not None)
            stuck = asyncio.create_task(hub.make_token(control.MakeToken(lifetime=60.0, uses=1), "root"))
            await _until(lambda: hub.status().alarm)
            answers.set()
            await stuck
            await _until(lambda: not hub.status().alarm)
        finally:
            answers.set()
            await hub.stop()
            store.close()

    asyncio.run(scenario())


def test_the_ear_may_listen_and_not_speak(tmp_path: Path) -> None:
    async def scenario() -> network.Answer:
        memory = MemoryNetwork(random.Random(1))  # noqa: S311 - a test
        hub, store = _hub(tmp_path, memory)
        try:
            await hub.start()
            link = await memory.node(OWN).dial((network.TOPIC_HUB,), 5.0)
            answer = await link.request(network.encode(network.Hello(version="1", time=0.0)), 5.0)
            await link.close()
            return network.decode_answer(answer)
        finally:
            await hub.stop()
            store.close()

    answer = asyncio.run(scenario())
    assert isinstance(answer, network.Denied)
    assert answer.reason == f"{OWN.name} only listens"


def test_the_alarm_comes_between_two_and_three_intervals() -> None:
    assert 2 < DEAF_AFTER < 3
