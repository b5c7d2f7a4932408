"""Run a named action on every machine now, and see every result."""

__version__ = "0.1.0"
