"""``python -m tests.support.deaf_hub``: a real hub whose publisher says nothing while a file ``deaf`` is in its root.

The fault is put in here, not in the product: frames are dropped where NNG would be handed them.
"""

import sys
from pathlib import Path

from nanoexec.config import daemon_paths
from nanoexec.hub.__main__ import main
from nanoexec.transport.nng.exchange import NngExchange

DEAF = "deaf"


def make_deaf(sign: Path) -> None:
    """Drop what is published while ``sign`` is there."""
    publish = NngExchange.publish

    async def deaf(self: NngExchange, frame: bytes) -> None:
        if not sign.exists():  # noqa: ASYNC240 - a test's fault point
            await publish(self, frame)

    NngExchange.publish = deaf  # type: ignore[method-assign]


if __name__ == "__main__":
    make_deaf(daemon_paths(sys.argv[1:]).root / DEAF)
    sys.exit(main())
