"""How the address of a hub is read."""

import pytest

from nanoexec.agent.join import JOIN_PORT, split_address
from nanoexec.errors import UsageError

pytestmark = pytest.mark.node


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hub", ("hub", JOIN_PORT)),
        ("hub.example.org:4446", ("hub.example.org", 4446)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1]:4446", ("fe80::1", 4446)),
        ("::1", ("::1", JOIN_PORT)),
    ],
)
def test_an_address_is_a_host_with_or_without_a_port(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


@pytest.mark.parametrize("address", ["", ":", ":4446", "hub:", "hub:0", "hub:65536", "hub:port", "hub:-1", "[]:4446"])
def test_what_is_no_address_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(UsageError, match=r"is not HUB:PORT, such as hub\.example\.org:4446$"):
        split_address(address)
