"""Derive what a history keeps of a check report or results: raw samples, and a point per number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.machine.noise_floor import hardware_fingerprint
from benchmarks.records.measurement import Comparison, Interval, Measurement, Subject
from benchmarks.stats.summary import summarise
from deploy.ci.check_report import CheckReport, CheckRow
from deploy.ci.history.records import KeptMeasurement, KeptPoint, KeptRun, Metric, SeriesKey
from deploy.results.results import ModelRow, Results

__all__ = ["run_of_report", "run_of_results"]

_USUAL: Mapping[str, Any] = {"device": "cpu", "inputs": 1, "streams": 1, "shapes": {}, "cores": None}
_COUNTED: Mapping[str, Metric] = {"file_mb": "file_bytes", "macs": "macs", "parameters": "parameters"}


def run_of_report(report: CheckReport) -> KeptRun:
    """Return what a history keeps of a check.

    The checked model has its name from the check file; its baseline is ``NAME (baseline)``.
    """
    measurements: list[KeptMeasurement] = []
    points: list[KeptPoint] = []
    for name, results in report.results.items():
        kept, found = _of_results(results, _names_in_check(name, results), report.machine)
        measurements += kept
        points += found
    points += [point for row in report.rows if (point := _accuracy(row, measurements, report.machine)) is not None]
    points += [point for row in report.rows if (point := _counted(row)) is not None]
    return KeptRun(
        created_utc=report.created_utc,
        source="check",
        title=report.title,
        tool_version=report.tool_version,
        machine=report.machine,
        environment=report.environment,
        commit=report.commit,
        measurements=tuple(measurements),
        points=_first_of_each(points),
        limits=report.rows,
    )


def run_of_results(results: Results) -> KeptRun:
    """Return what a history keeps of results; models of a run are prefixed with the name of its recipe."""
    machine = hardware_fingerprint(results.environment)
    run = "" if results.recipe is None else str(results.recipe.get("name") or results.title)
    names = {row.label: f"{run}/{row.label}" if run else row.label for row in results.models}
    measurements, points = _of_results(results, names, machine)
    return KeptRun(
        created_utc=results.created_utc,
        source="results",
        title=results.title,
        tool_version=results.tool_version,
        machine=machine,
        environment=results.environment,
        measurements=tuple(measurements),
        points=_first_of_each(points),
    )


def _names_in_check(name: str, results: Results) -> dict[str, str]:
    """Return names by label; the candidate is the last and has the name of the check."""
    *others, candidate = [row.label for row in results.models]
    return {**dict.fromkeys(others, f"{name} (baseline)"), candidate: name}


def _of_results(
    results: Results, names: Mapping[str, str], machine: str
) -> tuple[list[KeptMeasurement], list[KeptPoint]]:
    """Return samples and points; `names` maps labels to names."""
    measurements: list[KeptMeasurement] = []
    points = [point for row in results.models for point in _of_model(row, names[row.label], machine)]
    for alone in results.measurements:  # before pairs: a check may have measured a model both ways
        name = names.get(alone.subject.label, alone.subject.label)
        measurements.append(_kept(alone, name, "alone"))
        points += _of_measurement(alone, name, machine)
        points += _of_score(results.model(alone.subject.label), alone, name, machine)
    for pair in results.comparisons:
        for role, side in (("baseline", pair.baseline), ("candidate", pair.candidate)):
            name = names.get(side.subject.label, side.subject.label)
            measurements.append(_kept(side, name, role))
            points += _of_measurement(side, name, machine)
            points += _of_score(results.model(side.subject.label), side, name, machine)
        points += _of_pair(pair, names.get(pair.candidate.subject.label, pair.candidate.subject.label), machine)
    return measurements, points


def _kept(measurement: Measurement, name: str, role: str) -> KeptMeasurement:
    return KeptMeasurement.model_validate(
        {
            "model": name,
            "role": role,
            "subject": measurement.subject,
            "backend_version": measurement.backend_version,
            "started_utc": measurement.started_utc,
            "unfit": measurement.unfit,
            "failure": measurement.failure,
            "trials": tuple(trial.calls_ns for trial in measurement.trials),
        }
    )


def _of_model(row: ModelRow, name: str, machine: str) -> Iterator[KeptPoint]:
    """Yield the counts, which do not depend on the machine, and the score in torch."""
    counted: tuple[tuple[Metric, int], ...] = (
        ("file_bytes", row.file_bytes),
        ("macs", row.cost.macs),
        ("parameters", row.cost.parameters),
    )
    for metric, value in counted:
        yield KeptPoint(key=SeriesKey(model=name, metric=metric), value=value, sha256=row.sha256)
    if row.score_test is not None:
        key = SeriesKey(model=name, machine=machine, metric=row.metric)
        yield KeptPoint(key=key, value=row.score_test, sha256=row.sha256)


def _of_measurement(measurement: Measurement, name: str, machine: str) -> Iterator[KeptPoint]:
    if measurement.failure is not None:
        return
    summary = summarise(measurement)
    told: tuple[tuple[Metric, float | None, Interval | None], ...] = (
        ("p50_ns", summary.p50_ns, summary.trial_median_ns),
        ("p90_ns", summary.p90_ns, None),
        ("p99_ns", summary.p99_ns, None),
        ("throughput_per_s", summary.throughput_per_s, None),
        ("peak_bytes", summary.peak_bytes, None),
        ("load_ns", summary.load_ns, None),
    )
    for metric, value, interval in told:
        if value is not None:
            yield _point(measurement, name, machine, metric, value, interval)


def _of_score(row: ModelRow | None, measurement: Measurement, name: str, machine: str) -> Iterator[KeptPoint]:
    """Yield the score of the compiled model."""
    if row is not None and (value := row.backend_scores.get(measurement.subject.backend)) is not None:
        yield _point(measurement, name, machine, row.metric, value, None)


def _of_pair(pair: Comparison, name: str, machine: str) -> Iterator[KeptPoint]:
    if pair.speedup is not None:
        point = _point(pair.candidate, name, machine, "speedup", pair.speedup.value, pair.speedup)
        unfit = pair.baseline.unfit or pair.candidate.unfit
        yield point.model_copy(update={"against": pair.baseline.subject.sha256, "unfit": unfit})


def _point(
    measurement: Measurement, name: str, machine: str, metric: Metric, value: float, interval: Interval | None
) -> KeptPoint:
    return KeptPoint(
        key=_key(measurement.subject, name, machine, metric),
        value=value,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        confidence=None if interval is None else interval.confidence,
        n=None if interval is None else interval.n,
        unfit=measurement.unfit,
        sha256=measurement.subject.sha256,
        version=measurement.backend_version,
    )


def _key(subject: Subject, name: str, machine: str, metric: Metric) -> SeriesKey:
    unusual = {field: value for field, usual in _USUAL.items() if (value := getattr(subject, field)) != usual}
    return SeriesKey(
        model=name,
        backend=subject.backend,
        precision=subject.precision,
        threads=subject.threads,
        batch=subject.batch,
        more=json.dumps(unusual, sort_keys=True) if unusual else "",
        machine=machine,
        metric=metric,
    )


def _accuracy(row: CheckRow, measurements: list[KeptMeasurement], machine: str) -> KeptPoint | None:
    """Return the accuracy that a check observed on its own data, if the model ran."""
    if row.limit != "accuracy.at_least" or row.observed is None:
        return None
    ran = [one for one in measurements if one.model == row.model and row.backend in (None, one.subject.backend)]
    if not ran:
        return None
    key = SeriesKey(model=row.model, machine=machine, metric="accuracy")
    if row.backend is not None:
        key = _key(ran[-1].subject, row.model, machine, "accuracy")
    return KeptPoint(
        key=key,
        value=row.observed,
        low=row.low,
        high=row.high,
        sha256=ran[-1].subject.sha256,
        version=ran[-1].backend_version if row.backend is not None else None,
    )


def _counted(row: CheckRow) -> KeptPoint | None:
    """Return a count of a model, also for a model that needed no measurement."""
    metric = _COUNTED.get(row.limit)
    if metric is None or row.observed is None:
        return None
    return KeptPoint(key=SeriesKey(model=row.model, metric=metric), value=row.observed, sha256="")


def _first_of_each(points: list[KeptPoint]) -> tuple[KeptPoint, ...]:
    """Keep the first point of each series: a file may have the same model in two comparisons."""
    first: dict[str, KeptPoint] = {}
    for point in points:
        first.setdefault(point.key.model_dump_json(), point)
    return tuple(first.values())
