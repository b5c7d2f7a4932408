"""The hub: publishes triggers, collects reports, keeps history.

`core` decides (pure), with `ledger` (open deliveries) and `roster` (who may speak, who is here) as its memory. `clerk`
brings questions to the core one at a time, commits what it decided as one group, and only then lets anybody hear of it.
`control`, `joining` and `service` connect that to sockets, signals and the clock, and `echo` hears whether the beacon
comes back. `backup` puts all of a hub into one file (`archive`), and makes a hub of it again.
"""
