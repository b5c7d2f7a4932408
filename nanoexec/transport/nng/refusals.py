"""Which addresses have been refused so often lately that they are barred for a while. Addresses are packed bytes.

What counts is a connection that was refused for its certificate, and so has cost a whole TLS handshake. An agent that
is not let in makes three each time that it dials: the dial, and two tries to learn why. It dials some five times in its
first minute, then twice a minute. Two of them behind one address are never barred, ten for some minutes of an hour, and
whoever dials without pause within a second.
"""

from typing import Final

from nanoexec.transport.nng.syn_filter import MOST

FORGIVEN: Final = 1.0  # refusals a second that an address may have for ever: less than a hundredth of a core
MANY: Final = 30  # refusals beyond that, which bar it
BARRED: Final = 30.0  # seconds: with `MANY`, a refusal a second is all that one without pause can bring about
_REMEMBERED: Final = 1024  # addresses; with more, those are forgotten that are forgiven


class Refusals:
    """``barred_for`` is in seconds. So is ``now``, which is steady and never goes back."""

    def __init__(self, barred_for: float = BARRED) -> None:
        self._barred_for = barred_for
        self._counts: dict[bytes, tuple[float, float]] = {}  # how many are not forgiven, and as of when
        self._barred: dict[bytes, float] = {}  # until when; the first of them ends first

    @property
    def barred(self) -> list[bytes]:
        """Those that are barred, at most `MOST`."""
        return list(self._barred)

    @property
    def next_end(self) -> float | None:
        """When the next of them is free."""
        return next(iter(self._barred.values()), None)

    def refused(self, address: bytes, now: float) -> bool:
        """One more. Whether the address is barred from now on."""
        if address in self._barred:  # what was under way
            return False
        count = self._forgiving(address, now) + 1
        if count <= MANY:
            self._counts[address] = count, now
            self._forget(now)
            return False
        self._counts.pop(address, None)
        self._barred[address] = now + self._barred_for
        return True

    def freed(self, now: float) -> list[bytes]:
        """Those whose time is over, and the oldest if there are too many: they are free now."""
        surplus = len(self._barred) - MOST
        over = [one for number, (one, until) in enumerate(self._barred.items()) if until <= now or number < surplus]
        for address in over:
            del self._barred[address]
        return over

    def _forgiving(self, address: bytes, now: float) -> float:
        count, then = self._counts.get(address, (0.0, now))
        return max(0.0, count - (now - then) * FORGIVEN)

    def _forget(self, now: float) -> None:
        if len(self._counts) > _REMEMBERED:
            self._counts = {one: count for one, count in self._counts.items() if self._forgiving(one, now)}
