"""Measure the latency of compiled models in separate processes, and compare models measured side by side.

`subject` defines what is measured, `answers` checks its outputs, `process` runs it, `machine` describes the hardware.
`scenarios`, `layers` and `tables` are other ways to measure; `stats` decides, `records` stores, `validation` tests all.
"""

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
