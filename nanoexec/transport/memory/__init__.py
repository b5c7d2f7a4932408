"""Both ends in one process, with a network between them that can be made bad: what tests of hub and agent run on.

It keeps the contract of `nanoexec.transport` as `nng` does (the same queues, the same bound on a frame) and adds faults
that a test chooses. Everything happens on the event loop and by its clock; chance comes from the given ``Random``, so a
run with the same seed is the same run.
"""

from nanoexec.transport.memory.ends import MemoryExchange, MemoryLink
from nanoexec.transport.memory.network import MemoryHubTransport, MemoryNetwork, MemoryNodeTransport

__all__ = ["MemoryExchange", "MemoryHubTransport", "MemoryLink", "MemoryNetwork", "MemoryNodeTransport"]
