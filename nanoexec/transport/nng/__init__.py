"""The real transport: NNG over mutual TLS, through pynng.

Hub: `exchange` serves nodes, `gate` decides who is let in and as whom, `replies` answers requests, `listeners` has the
addresses. `bar` keeps those out who are refused again and again: `refusals` says who that is, `syn_filter` is what the
kernel is told, and `sockets` finds where. Node: `link` is both connections to the hub, `line` one of them, `failure`
says why one did not come up. `join` is the listener for machines that have no certificate yet. `tls` turns PEM text
into configurations and a connection into a `Peer`, `message` reads and writes what pynng hides.

pynng's own coroutines are not used: they allocate an NNG operation for each message and can swallow a cancellation.
NNG can also say through a file descriptor that a socket has a message, and the event loop watches that descriptor, so
an idle process costs nothing. Against 128 REP contexts (TLS, 50 nodes) a request costs the hub 0.25 instead of 0.42 ms.

A process that has opened an NNG socket never forks: NNG aborts the child at its first use.
"""

from nanoexec.transport.nng.exchange import NngExchange, NngHubTransport
from nanoexec.transport.nng.join import JoinServer, ask_to_join, serve_join
from nanoexec.transport.nng.link import NngLink, NngNodeTransport

__all__ = [
    "JoinServer",
    "NngExchange",
    "NngHubTransport",
    "NngLink",
    "NngNodeTransport",
    "ask_to_join",
    "serve_join",
]
