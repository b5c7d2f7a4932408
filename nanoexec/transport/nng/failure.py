"""Why a dial failed: NNG tells nobody, but it counts, and what it counts can be read (nng_stats_get(3)).

It costs the peer nothing, unlike a connection of one's own that is only tried. It costs this process a copy of all that
NNG counts: 10 µs for an agent, some 0.1 s for a hub with ten thousand nodes, so nobody should ask too often.
"""

from typing import Any, Final

from pynng import ffi, lib

_OTHERWISE: Final = "the dial failed"
# The counters of a dialer (dialer_stats_init in NNG's dialer.c) that go up when it fails, and what that means.
_FAULTS: Final = {
    b"refused": "connection refused",
    b"auth": "one end does not trust the other",
    b"timeout": _OTHERWISE,
    b"disconnect": _OTHERWISE,
    b"canceled": _OTHERWISE,
    b"proto": _OTHERWISE,
    b"oom": _OTHERWISE,
    b"other": _OTHERWISE,
}


def why_not(dialer: Any) -> str:
    """Why this dialer did not get through; empty if it did, or if it may yet."""
    snapshot = ffi.new("nng_stat **")
    if lib.nng_stats_get(snapshot):  # there is no memory, or NNG was built without: then a dial lasts as long as it may
        return ""
    try:
        counts = _counts(lib.nng_stat_find_dialer(snapshot[0], dialer.dialer))
    finally:
        lib.nng_stats_free(snapshot[0])
    if counts.get(b"connect"):  # what is counted afterwards is the end of a connection
        return ""
    return next((fault for name, fault in _FAULTS.items() if counts.get(name)), "")


def _counts(scope: Any) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    entry = lib.nng_stat_child(scope) if scope != ffi.NULL else ffi.NULL
    while entry != ffi.NULL:
        if lib.nng_stat_type(entry) == lib.NNG_STAT_COUNTER:
            found[ffi.string(lib.nng_stat_name(entry))] = int(lib.nng_stat_value(entry))
        entry = lib.nng_stat_next(entry)
    return found
