"""What an operator has typed, before the hub is asked: it would say of a wrong word only what its decoder says."""

import msgspec

from nanoexec.duration import parse_duration
from nanoexec.errors import UsageError
from nanoexec.model import MAX_LIFETIME, ActionName, NodeName


def node_name(text: str) -> str:
    """The name of one node. Raises `UsageError`."""
    try:
        return msgspec.convert(text.lower(), NodeName)
    except msgspec.ValidationError:
        raise UsageError(
            f"{text!r} cannot be a node's name: write one, such as web1.example.org (`nanoexec nodes list` shows them)"
        ) from None


def action_name(text: str) -> str:
    """The name of one action. Raises `UsageError`."""
    try:
        return msgspec.convert(text, ActionName)
    except msgspec.ValidationError:
        raise UsageError(
            f"{text!r} cannot be an action's name: expected small letters, digits and . _ -, beginning with a letter"
        ) from None


def lifetime(option: str, text: str) -> float:
    """Seconds for which a trigger or a token is good; ``option`` is what gives them. Raises `UsageError`."""
    seconds = parse_duration(text)
    if seconds > MAX_LIFETIME:
        raise UsageError(f"{option} {text}: at most {MAX_LIFETIME / 86400:.0f} days")
    return seconds
