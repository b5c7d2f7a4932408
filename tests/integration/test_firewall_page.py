"""The rules of docs/how-to/firewall.md, in a network namespace of their own: nft reads them, and they hold."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import lan

PAGE = Path(__file__).parents[2] / "docs/how-to/firewall.md"
HUB, OTHER = 4444, 4443
IPV6_FREEBIND = 78  # linux/in6.h: dial from an address that no interface has
WHY_NOT = lan.why_not()
# "spread" is one machine with a network of addresses, each of which dials once; "again" is one in another network.
DIAL = f"""
import json, selectors, socket, subprocess, sys, time
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["ip", "route", "add", "local", "2001:db8::/32", "dev", "lo"], check=True)
subprocess.run(["nft", "-f", "-"], input=sys.stdin.read(), text=True, check=True)

def ready(sockets, event, wait=0):
    with selectors.DefaultSelector() as selector:
        for one in sockets:
            selector.register(one, event)
        return len(selector.select(wait))

def connected(family, address, port, sources):
    with socket.create_server((address, port), family=family, backlog=300):
        dialling = [socket.socket(family) for _ in sources]
        for one, source in zip(dialling, sources):
            if source != address:
                one.setsockopt(socket.IPPROTO_IPV6, {IPV6_FREEBIND}, 1)
                one.bind((source, 0))
            one.setblocking(False)
            one.connect_ex((address, port))
        time.sleep(0.3)
        answered = [one for one in dialling if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)]
        count = ready(answered, selectors.EVENT_WRITE)
        for one in dialling:
            one.close()
    return count

def arrived(family, address, port):
    count = 0
    with socket.socket(family, socket.SOCK_DGRAM) as hearing:
        hearing.bind((address, port))
        for number in range(200):
            with socket.socket(family, socket.SOCK_DGRAM) as one:  # each a flow of its own
                one.sendto(b"?", (address, port))
            while ready([hearing], selectors.EVENT_READ, 0.3 if number == 199 else 0):
                hearing.recv(9)
                count += 1
    return count

counts = {{}}
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    for port in ({HUB}, {OTHER}):
        counts[f"{{address}} tcp {{port}}"] = connected(family, address, port, [address] * 200)
        counts[f"{{address}} udp {{port}}"] = arrived(family, address, port)
for name, network in (("spread", "2001:db8:0:1"), ("again", "2001:db8:0:2")):
    sources = [f"{{network}}:{{number:x}}::1" for number in range(200)]
    counts[name] = connected(socket.AF_INET6, "::1", {HUB}, sources)
print(json.dumps(counts))
"""


@pytest.fixture(scope="module")
def counts() -> dict[str, int]:
    """Of 200 who dialled at once, or sent a datagram: how many came through, where."""
    if WHY_NOT:
        pytest.skip(WHY_NOT)
    (rules,) = re.findall(r"^```\n(table .*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    words = ["unshare", "--net", sys.executable, "-c", DIAL]
    done = subprocess.run(words, input=rules, text=True, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_a_machine_that_dials_without_pause_is_slowed_down_at_the_hubs_ports_and_nowhere_else(
    counts: dict[str, int],
) -> None:
    assert [counts[f"{address} tcp {OTHER}"] for address in ("127.0.0.1", "::1")] == [200, 200]
    assert all(50 <= counts[f"{address} tcp {HUB}"] <= 60 for address in ("127.0.0.1", "::1")), counts


def test_what_is_not_tcp_comes_through_whatever_its_port(counts: dict[str, int]) -> None:
    assert {where: count for where, count in counts.items() if " udp " in where} == {
        f"{address} udp {port}": 200 for address in ("127.0.0.1", "::1") for port in (HUB, OTHER)
    }


def test_a_network_of_ipv6_addresses_counts_as_one_machine(counts: dict[str, int]) -> None:
    assert all(50 <= counts[name] <= 60 for name in ("spread", "again")), counts
