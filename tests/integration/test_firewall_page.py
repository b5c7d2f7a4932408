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
WHY_NOT = lan.why_not()
DIAL = f"""
import json, selectors, socket, subprocess, sys, time
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["nft", "-f", "-"], input=sys.stdin.read(), text=True, check=True)
counts = {{}}
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    for port in ({HUB}, {OTHER}):
        with socket.create_server((address, port), family=family, backlog=300):
            dialling = [socket.socket(family) for _ in range(200)]
            for one in dialling:
                one.setblocking(False)
                one.connect_ex((address, port))
            time.sleep(0.3)
            answered = [one for one in dialling if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)]
            with selectors.DefaultSelector() as selector:
                for one in answered:
                    selector.register(one, selectors.EVENT_WRITE)
                counts[f"{{address}} {{port}}"] = len(selector.select(0))
            for one in dialling:
                one.close()
print(json.dumps(counts))
"""


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_a_machine_that_dials_without_pause_is_slowed_down_at_the_hubs_ports_and_nowhere_else() -> None:
    (rules,) = re.findall(r"^```\n(table .*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    words = ["unshare", "--net", sys.executable, "-c", DIAL]
    done = subprocess.run(words, input=rules, text=True, capture_output=True, check=True, timeout=60)
    counts = json.loads(done.stdout)
    assert {where: count for where, count in counts.items() if where.endswith(str(OTHER))} == {
        f"127.0.0.1 {OTHER}": 200,
        f"::1 {OTHER}": 200,
    }
    assert all(50 <= counts[f"{address} {HUB}"] <= 60 for address in ("127.0.0.1", "::1")), counts
