"""Measure compiled models in processes of their own, and compare what was measured together."""

from benchmarks.errors import BenchmarkError
from benchmarks.records.measurement import Comparison, Cost, Environment, Interval, Measurement, Memory, Subject, Trial

__all__ = [
    "BenchmarkError",
    "Comparison",
    "Cost",
    "Environment",
    "Interval",
    "Measurement",
    "Memory",
    "Subject",
    "Trial",
]
