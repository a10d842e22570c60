"""Pruning to a speed measured on this machine: plans are decided by latency tables, measured and corrected."""
