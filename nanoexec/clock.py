"""The two clocks, read in one place and handed to whoever decides."""

import time

from nanoexec.model import Instant


def now() -> Instant:
    """The present moment. The steady clock goes on while the machine sleeps (CLOCK_BOOTTIME)."""
    return Instant(wall=time.time(), steady=time.clock_gettime(time.CLOCK_BOOTTIME))
