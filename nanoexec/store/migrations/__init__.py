"""The Alembic environment that makes and upgrades the hub's database; see `nanoexec.store.opening`."""
