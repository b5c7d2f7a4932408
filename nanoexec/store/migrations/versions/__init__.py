"""The versions of the hub's schema, one file each, by number."""
