"""The hub's store: one SQLite file that holds what the hub must not forget.

`Store` is all that others use, and `snapshot` to copy one that may be in use. ``schema`` says what is kept, ``opening``
makes, upgrades or refuses a file, ``changes`` writes and ``queries`` reads within a transaction, ``faults`` turns
whatever goes wrong into one line.
"""

from nanoexec.store.opening import snapshot
from nanoexec.store.store import Store

__all__ = ["Store", "snapshot"]
