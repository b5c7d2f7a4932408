"""The small privileged process of a node, and the execution it shares with ``nanoexec-run``.

`server` accepts on a Unix socket and forks; the child (`service`) answers one request, checks an order (`order`) and
supervises its run (`supervision`: lock, journal, command, record). Nothing here opens a network socket, starts a thread
or an event loop. A connection to the journal never crosses a fork: the parent never opens it.
"""
