"""Check reports made by hand."""

from __future__ import annotations

from benchmarks.records.measurement import Environment
from deploy.ci.check_report import CheckReport, CheckRow, Commit

SHA = "0123456789abcdef0123456789abcdef01234567"
ENVIRONMENT = Environment(
    system="Linux 6.1",
    cpu="AMD EPYC 9V74 80-Core Processor",
    cpu_cores=2,
    memory_bytes=8 * 2**30,
    python="3.12.1",
    packages={"onnxruntime": "1.23.0", "numpy": "2.3.0"},
)


def row(verdict="kept", **changed) -> CheckRow:
    """Return one row; what fails the job is decided as by the default policy."""
    outcome = "passed" if verdict == "kept" else "failure"
    facts = {
        "model": "classifier",
        "file": "models/classifier.onnx",
        "backend": "ort",
        "place": "ort, 1 thread",
        "limit": "p99_ms",
        "statement": "p99 of at most 8 ms",
        "allowed": 8.0,
        "observed": 6.214,
        "low": 6.1,
        "high": 6.4,
        "unit": "ms",
        "verdict": verdict,
        "outcome": outcome,
        "reason": "p99 is 6.21 ms (6.10 to 6.40 ms)",
    }
    return CheckRow(**{**facts, **changed})


SLOWER = row(
    "broken",
    limit="slower",
    statement="at most 3 % slower than the baseline",
    allowed=0.03,
    observed=0.0523,
    low=0.049,
    high=0.056,
    unit="share",
    reason="5.2 % slower (4.9 to 5.6 %)",
    remedy="keep the baseline, or see why: deploy explain models/classifier.onnx --against git:main",
)
WRONG = row(
    "broken",
    limit="answers",
    statement="the answers of the baseline",
    allowed=None,
    observed=None,
    low=None,
    high=None,
    unit="",
    reason="output 'y' differs by 0.31 where 0.001 is allowed",
    remedy="export the model again",
)
UNDECIDED = row(
    "inconclusive",
    model="detector",
    file="models/detector.onnx",
    outcome="warning",
    statement="p99 of at most 20 ms",
    allowed=20.0,
    observed=19.6,
    low=18.9,
    high=20.4,
    reason="p99 is 19.6 ms (18.9 to 20.4 ms)",
    remedy="measure longer, with --budget 240",
)
UNFIT = row(
    "unfit",
    model="detector",
    file="models/detector.onnx",
    limit="load_ms",
    statement="loaded within 300 ms",
    allowed=300.0,
    observed=212.0,
    low=None,
    high=None,
    reason="the hypervisor took 31 % of the cores' time",
    remedy="measure again when it is quieter",
)
FAILED = row(
    "failed",
    model="tracker",
    file="models/tracker.onnx",
    limit="slower",
    statement="at most 3 % slower than the baseline",
    allowed=0.03,
    observed=None,
    low=None,
    high=None,
    unit="share",
    reason="the baseline git:main:models/tracker.onnx does not exist",
    remedy="name another baseline in the check file",
)
SMALL = row(
    backend=None,
    place="",
    limit="file_bytes",
    statement="a file of at most 1 MiB",
    allowed=2**20,
    observed=2**20 - 7,
    low=None,
    high=None,
    unit="bytes",
    reason="the file has 1,048,569 bytes",
)
RIGHT = row(
    limit="answers",
    statement="the answers of the baseline",
    allowed=None,
    observed=None,
    low=None,
    high=None,
    unit="",
    reason="the same on 8 examples",
)


def report(*rows, **changed) -> CheckReport:
    """Return a report of these rows."""
    facts = {
        "created_utc": "2026-11-29T12:00:00+00:00",
        "tool_version": "0.1.0",
        "title": "vision",
        "check_file": "deploy-check.yaml",
        "commit": Commit(sha=SHA, branch="main", committed_utc="2026-11-29T11:00:00+00:00", dirty=False),
        "environment": ENVIRONMENT,
        "machine": "f3a1b2c4d5e6",
        "budget_s": 120.0,
        "took_s": 42.4,
        "rows": rows or (row(),),
    }
    return CheckReport(**{**facts, **changed})


MIXED = report(row(), SLOWER, RIGHT, SMALL, UNDECIDED, UNFIT, FAILED)
"""One of each verdict."""
PASSING = report(row(), RIGHT, SMALL)
