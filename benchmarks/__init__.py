"""What nanoexec costs, measured: ``make bench``. Ratios hold within one run; absolute times belong to one machine."""
