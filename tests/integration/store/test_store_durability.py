"""Killed at any moment, read from several threads: what is seen is always a moment between two commits."""

import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import pytest

from nanoexec.model import DeliveryState
from nanoexec.store import Store
from tests.integration.store.records import issued, local, moved

COMMITS_FOR_EVER = """
import sys
from itertools import count
from pathlib import Path
from nanoexec.store import Store
from tests.integration.store.records import issued, local

store = Store.open(Path(sys.argv[1]))
for number in count():
    name = f"{number:06}"
    store.commit([issued(name, *(f"node{n}" for n in range(50))), *(local(f"{name}{n:02}", "web1") for n in range(50))])
    print(number, flush=True)
"""


@pytest.mark.parametrize("groups", [3, 40, 120])
def test_a_killed_hub_leaves_every_acknowledged_group_and_no_half_of_one(store_path: Path, groups: int) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", COMMITS_FOR_EVER, str(store_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) + 1 >= groups:
                break
        process.kill()
        told = groups + len(process.stdout.read().split())
    store = Store.open(store_path)
    stored = store.open_triggers()
    runs = len(store.history(limit=1_000_000)) - 50 * len(stored)
    store.close()
    assert told <= len(stored) <= told + 1  # the last one may have been committed and not told
    assert {len(trigger.deliveries) for trigger in stored} == {50}
    assert runs == 50 * len(stored)
    with closing(sqlite3.connect(store_path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_two_readers_see_whole_groups_while_a_writer_commits(store: Store) -> None:
    nodes = [f"node{number}" for number in range(40)]
    over = threading.Event()
    seen = [threading.Event(), threading.Event()]

    def read(first: threading.Event) -> int:
        times = 0
        while not over.is_set():
            for trigger in store.open_triggers():
                assert len(set(trigger.deliveries.values())) == 1, "half a group was seen"
                assert len(trigger.deliveries) == len(nodes)
                times += 1
                first.set()
            assert len(store.history(limit=10_000)) % 40 == 0
        return times

    def write() -> int:
        groups = 0
        deadline = time.monotonic() + 60
        while groups < 30 or not all(event.is_set() for event in seen):
            assert time.monotonic() < deadline, "a reader saw nothing"
            name = f"{groups % 1000:04}"
            store.commit([issued(name, *nodes), *(local(f"{name}{n:02}", "web1") for n in range(40))])
            store.commit([moved(name, node, DeliveryState.SENT) for node in nodes])
            if groups:
                last = f"{groups - 1:04}"
                store.commit([moved(last, node, DeliveryState.EXPIRED) for node in nodes])
            groups += 1
        return groups

    with ThreadPoolExecutor(3) as threads:
        readers = [threads.submit(read, event) for event in seen]
        writer = threads.submit(write)
        try:
            assert writer.result() >= 30
        finally:
            over.set()
        assert all(reader.result() > 0 for reader in readers)


def test_a_write_that_begins_with_a_question_is_not_refused_for_another_commit(store: Store) -> None:
    with ThreadPoolExecutor(1) as thread:
        with store._write() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM meta").scalar() == 1
            other = thread.submit(store.commit, [local("a", "web1")])
            wait([other], timeout=0.2)  # time for it to come between, if it could
            connection.exec_driver_sql("INSERT INTO meta VALUES ('test', '')")
        other.result()


def test_a_purge_in_one_thread_lets_commits_through_in_another(store: Store) -> None:
    store.commit([local(f"{number:05}", "web1", 1.0) for number in range(10_000)])
    with ThreadPoolExecutor(1) as thread:
        purge = thread.submit(store.purge, 2.0)
        for number in range(20):
            store.commit([local(f"n{number:02}", "web2", 9.0)])
        assert purge.result() == 10_000
    assert len(store.history(limit=99)) == 20
