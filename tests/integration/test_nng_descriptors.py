"""A node that has no descriptor left: its dial fails like any other, so that it dials again."""

import asyncio
import os
import resource
from pathlib import Path

import pytest

from nanoexec.errors import UnavailableError
from nanoexec.transport import LinkLostError
from nanoexec.transport.nng import NngNodeTransport
from tests.support.fleet import free_ports
from tests.support.pki import Authority

pytestmark = pytest.mark.node


@pytest.mark.filterwarnings("ignore:Exception ignored in.*TLSConfig")  # pynng's own: of one that was never made
@pytest.mark.parametrize("left", range(8))
def test_a_dial_without_descriptors_fails_like_any_other_and_leaves_nothing_behind(left: int) -> None:
    async def scene() -> None:
        publish, report = (f"tls+tcp://127.0.0.1:{port}" for port in free_ports(2))
        node = NngNodeTransport(publish, report, Authority().issue("0123456789abcdef", "web1"), "hub.example.org")
        with pytest.raises(LinkLostError):
            await node.dial([b"ALL:"], 0.5)  # NNG has opened what it keeps
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        before = _descriptors()
        spare = [os.open("/", os.O_PATH) for _ in range(max(before))]  # no gaps below
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 1 + left, limits[1]))
        try:
            with pytest.raises(UnavailableError):
                await node.dial([b"ALL:"], 0.5)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for descriptor in spare:
                os.close(descriptor)
        assert len(_descriptors()) <= len(before)

    asyncio.run(scene())


def _descriptors() -> list[int]:
    return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
