"""Measure compiled models in processes of their own, and compare what was measured together.

`subject` is what is measured, `answers` whether it is right, `process` where it runs, `machine` what it runs on.
`scenarios`, `layers` and `tables` are other ways to measure; `stats` judges, `records` keeps, `validation` checks all.
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
