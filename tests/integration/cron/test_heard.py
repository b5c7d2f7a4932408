"""How long the hub has been silent, as a slot of a crontab sees it: the time of a file that the agent touches."""

import os
import time
from pathlib import Path

from tests.support.fleet import fleet_of, wait_until


def test_an_agent_that_hears_the_hub_says_so_in_a_file_and_not_for_each_frame() -> None:
    with fleet_of("web1", beacon_interval=0.2) as fleet:
        beacon = Path(fleet.nodes["web1"].root) / "var/lib/nanoexec/agent/beacon"
        wait_until(beacon.exists, "the first beacon is noted")
        seen = beacon.stat().st_mtime
        assert time.time() - seen < 20
        os.utime(beacon, (1.0, 1.0))
        wait_until(lambda: beacon.stat().st_mtime > 1.0, "a later one is noted")
        assert beacon.stat().st_mtime - seen >= 4.5
