"""Crontabs as they are: lines of bytes, what a command line runs, and the one edit that takes a line over."""
