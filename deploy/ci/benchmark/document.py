"""Results as the JSON of pytest-benchmark, which its ``compare`` and dashboards read.

A row is one model on one backend. Its rounds are the timed calls, as everywhere in that format, so ``ops`` is the
throughput, ``median`` the p50 that we print, and rows of other benchmarks mean the same. Calls of one process are
correlated, so ``stddev`` says nothing about the next process: ``extra_info`` has the medians of the processes, the
verdict and its interval. A model without samples has no row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from benchmarks.machine.noise_floor import fingerprint
from benchmarks.records.measurement import Comparison, Environment, Measurement
from benchmarks.stats.summary import summarise
from deploy.ci.benchmark.stats import stats_of
from deploy.ci.check_report import CheckReport, Commit
from deploy.report.formatting import place
from deploy.results.results import Results

__all__ = ["FORMAT_VERSION", "as_json", "document_of_check", "document_of_results", "without_row"]

FORMAT_VERSION = "5.3.1"
"""Version of pytest-benchmark whose layout this is."""

_NS = 1e9


def document_of_results(results: Results) -> dict[str, Any]:
    """Return one results file in the layout of pytest-benchmark.

    Rows are named like ``pruned[ort]``. The state of the repository is unknown.
    """
    return _document(results.environment, None, results.created_utc, _rows(results))


def document_of_check(report: CheckReport) -> dict[str, Any]:
    """Return a check report in the layout of pytest-benchmark; rows are named like ``classifier::pruned[ort]``."""
    rows = (row for name, results in report.results.items() for row in _rows(results, name))
    return _document(report.environment, report.commit, report.created_utc, rows)


def as_json(document: Mapping[str, Any]) -> str:
    """Return the document as the text of a JSON file."""
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def without_row(results: Results) -> tuple[str, ...]:
    """Return one line for each model without a row, saying why."""
    failed = (one for one in results.all_measurements() if one.failure is not None)
    lines = [f"{one.subject.label} on {place(results, one)} has no row: {one.failure}" for one in failed]
    lines += [f"{one.backend} has no row: {one.reason}" for one in results.skipped]
    return tuple(dict.fromkeys(lines))


def _document(
    environment: Environment, commit: Commit | None, created_utc: str, rows: Iterator[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "machine_info": _machine(environment),
        "commit_info": _commit(commit),
        "benchmarks": list(rows),
        "datetime": created_utc,
        "version": FORMAT_VERSION,
    }


def _machine(environment: Environment) -> dict[str, Any]:
    """Return the machine info that the results have; the rest is left out."""
    return {
        "node": environment.hostname_sha256,
        "processor": environment.cpu,
        "system": environment.system,
        "python_version": environment.python,
        "cpu": {"brand_raw": environment.cpu, "count": environment.cpu_cores},
        "memory_bytes": environment.memory_bytes,
        "gpu": environment.gpu,
        "packages": environment.packages,
    }


def _commit(commit: Commit | None) -> dict[str, Any]:
    """Return the commit info; without a commit, as pytest-benchmark does outside a repository."""
    return {
        "id": "unversioned" if commit is None else commit.sha,
        "time": None if commit is None else commit.committed_utc,
        "author_time": None,
        "dirty": commit is not None and commit.dirty,
        "project": None,
        "branch": "(unknown)" if commit is None else commit.branch or "(detached head)",
    }


def _rows(results: Results, name: str = "") -> Iterator[dict[str, Any]]:
    for pair in results.comparisons:
        for role, side in zip(("baseline", "candidate"), pair.sides, strict=True):
            if side.failure is None:
                yield _row(results, side, role, pair, name)
    for one in results.measurements:
        if one.failure is None:
            yield _row(results, one, "model", None, name)


def _row(results: Results, one: Measurement, role: str, pair: Comparison | None, name: str) -> dict[str, Any]:
    where, subject = place(results, one), one.subject
    called = f"{subject.label}[{where}]"
    group = None if pair is None else f"{pair.candidate.subject.label} against {pair.baseline.subject.label} on {where}"
    return {
        "group": f"{name}: {group}" if name and group else group or name or None,
        "name": called,
        "fullname": f"{name}::{called}" if name else called,
        "params": {"backend": subject.backend, "threads": subject.threads, "batch": subject.batch},
        "param": where,
        "extra_info": {"role": role, **_verdict(pair), **_facts(results, one)},
        "options": {},
        "stats": stats_of([ns / _NS for trial in one.trials for ns in trial.calls_ns]),
    }


def _verdict(pair: Comparison | None) -> dict[str, Any]:
    if pair is None:
        return {}
    speedup = pair.speedup
    return {
        "verdict": pair.verdict,
        "speedup": None if speedup is None else speedup.value,
        "speedup_low": None if speedup is None else speedup.low,
        "speedup_high": None if speedup is None else speedup.high,
        "confidence": None if speedup is None else speedup.confidence,
        "margin": pair.margin,
    }


def _facts(results: Results, one: Measurement) -> dict[str, Any]:
    told, subject = summarise(one), one.subject
    return {
        "model": subject.label,
        "sha256": subject.sha256,
        "backend": subject.backend,
        "backend_version": one.backend_version,
        "precision": one.trials[0].executed_precision,
        "threads": subject.threads,
        "device": subject.device,
        "batch": subject.batch,
        "machine": fingerprint(one.environment),
        "fitness": None if one.fitness is None else one.fitness.verdict,
        "p50_s": told.p50_ns / _NS,
        "p90_s": _seconds(told.p90_ns),
        "p99_s": _seconds(told.p99_ns),
        "p999_s": _seconds(told.p999_ns),
        "per_second": told.throughput_per_s,
        "peak_bytes": told.peak_bytes,
        "process_medians_s": [median(trial.calls_ns) / _NS for trial in one.trials],
        "measured_utc": one.started_utc,
        "tool": f"prune-deploy {results.tool_version}",
    }


def _seconds(ns: float | None) -> float | None:
    return None if ns is None else ns / _NS
