"""The agent: listens to the hub, hands orders to the runner, relays the journal. Unprivileged; it never forks.

`core` decides (pure), with `outbox` (what the hub must still hear) and `handover` (what the runner must still take) as
its memory. `service` connects it to the link, the runner's socket, the journal's change time and the clock.
"""
