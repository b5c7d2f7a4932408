"""The wire of the original: ``HOST:COMMAND`` over plain nanomsg, spoken to and by what is still out there.

Theory of operation
-------------------
The original's sender bound ``tcp://*:4444``, waited a tenth of a second, published ``HOST:COMMAND`` with the C string's
trailing NUL and went away. Its listeners subscribed to their host name and to ``ALL``, dialled that port for ever and
gave what came to ``system()``. Nothing was encrypted, nobody was authenticated, nothing was answered or kept.

NNG and nanomsg speak the same protocol. Both filter in the subscriber, by prefix: ``web1`` also hears ``web10:...``, so
the listener compares again, the whole name up to the first colon. As the publisher filters nothing, a subscriber can be
reached as soon as its pipe is on the *publisher's* list, which may be a little after its own dial has returned.

Nothing else in nanoexec uses this package, and it uses nothing of the hub, the agent or their transport.
"""

from nanoexec.original.frame import MAX_FRAME, compose_frame, parse_frame
from nanoexec.original.listener import MAX_WAITING, Orders, Resolve, action_command, become, listen
from nanoexec.original.sender import send

__all__ = [
    "MAX_FRAME",
    "MAX_WAITING",
    "Orders",
    "Resolve",
    "action_command",
    "become",
    "compose_frame",
    "listen",
    "parse_frame",
    "send",
]
