"""Derive the answer from results."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from benchmarks.records.measurement import Comparison, Measurement
from benchmarks.settings import NOT_A_VERDICT
from benchmarks.stats.summary import summarise
from deploy.exit_codes import code_of
from deploy.files.advice import fitting
from deploy.report.answer.doubts import doubts_of, noise_of, whose
from deploy.report.answer.ending import ending_of
from deploy.report.answer.explain_command import explain_command
from deploy.report.answer.records import (
    AllowedDrop,
    Answer,
    AskedSpeed,
    BackendAnswer,
    Checked,
    ScoreChange,
    Sizes,
    Timed,
    Verdict,
)
from deploy.report.answer.scores import score_change_of
from deploy.report.formatting import flop_ratio, place, why_failed, why_open
from deploy.results.results import ModelRow, Results

__all__ = ["answer_of"]

_TRADEMARKS = re.compile(r"\((?:R|TM|C)\)|\b\d+-Core\b|\bProcessor\b|\bCPU\b|@.*$", re.IGNORECASE)


def answer_of(results: Results, code: int | None = None, paths: Mapping[str, str] | None = None) -> Answer:
    """Return the answer: what a reader wants to know first about results.

    Parameters
    ----------
    results : Results
        Of a run, a bench or a journal.
    code : int, optional
        Exit code of the command that measured; derived from the results by default.
    paths : Mapping of str to str, optional
        Paths of the models, by label; with both, the answer names a command that explains a shortfall.
    """
    measured = results.all_measurements()
    before, after = (results.models[0] if len(results.models) == 2 else None), results.models[-1]
    scores = score_change_of(before, after)
    rows = tuple(_pair(results, pair, scores) for pair in results.comparisons)
    rows += tuple(_alone(results, one) for one in results.measurements)
    rows += tuple(
        BackendAnswer(place=one.backend, verdict="skipped", reason=fitting(one.reason), hint=fitting(one.hint))
        for one in results.skipped
    )
    checked, doubts = _checked(results), doubts_of(results)
    explain, short_of = _shortfall(results.comparisons, rows, before, after, paths or {})
    memory, memory_place = _memory(rows)
    return Answer(
        subject=_subject(results, before, after),
        machine=_machine(results),
        created_utc=results.created_utc,
        backends=rows,
        scores=scores,
        asked=_asked(after),
        drop=_drop(after),
        checked=checked,
        size=Sizes(before=None if before is None else before.file_bytes, after=after.file_bytes),
        memory=memory,
        memory_place=memory_place,
        noise=noise_of(measured, doubts),
        doubts=doubts,
        notes=results.notes,
        ending=ending_of(
            code_of(results) if code is None else code,
            rows,
            checked,
            unfit=next((one.fitness.reasons[0].words for one in measured if one.unfit and one.fitness), ""),
            fast=any(NOT_A_VERDICT in one.doubts for one in measured),
            budget_s=next((one.budget_s for one in measured if one.budget_s is not None), None),
            why_slower=_why_slower(results.comparisons, rows, before, after, paths or {}),
            lost=scores is not None and scores.lost,
        ),
        explain=explain,
        short_of=short_of,
    )


def _pair(results: Results, pair: Comparison, scores: ScoreChange | None) -> BackendAnswer:
    promised, verdict, reason = flop_ratio(pair), _verdict(pair), ""
    if pair.speedup is None:
        reason = why_failed(pair)
    elif verdict == "inconclusive":
        reason = why_open(pair, pair.speedup)
    kept = promised is not None and promised > 1 and not (scores is not None and scores.lost)
    return BackendAnswer(
        place=place(results, pair.candidate),
        verdict=verdict,
        baseline=_timed(pair.baseline),
        candidate=_timed(pair.candidate),
        speedup=pair.speedup,
        promised=promised,
        realised=pair.speedup.value / promised if kept and pair.speedup is not None and promised else None,
        margin=pair.margin,
        reason=fitting(reason),
    )


def _verdict(pair: Comparison) -> Verdict:
    if any(side.failure_kind == "WrongAnswersError" for side in pair.sides):
        return "wrong"
    return pair.verdict


def _alone(results: Results, measurement: Measurement) -> BackendAnswer:
    failed: Verdict = "wrong" if measurement.failure_kind == "WrongAnswersError" else "failed"
    return BackendAnswer(
        place=place(results, measurement),
        verdict="measured" if measurement.failure is None else failed,
        candidate=_timed(measurement),
        reason=fitting(measurement.failure or ""),
    )


def _timed(measurement: Measurement) -> Timed | None:
    if measurement.failure is not None:
        return None
    told = summarise(measurement)
    return Timed(
        p50_ns=told.p50_ns,
        p90_ns=told.p90_ns,
        p99_ns=told.p99_ns,
        per_second=told.throughput_per_s,
        peak_bytes=told.peak_bytes,
    )


def _checked(results: Results) -> Checked:
    """Sort the places by whether all their models answered right."""
    wrong: list[str] = []
    right: dict[str, bool] = {}
    for measurement, found in zip(results.all_measurements(), results.answers(), strict=True):
        where = place(results, measurement)
        if not found.agrees:
            wrong.append(whose(results, measurement))
        right[where] = right.get(where, True) and found.agrees and found.agreement is not None
    at_fault = {name.rpartition(" on ")[2] for name in wrong}
    return Checked(
        right=tuple(where for where, is_right in right.items() if is_right),
        wrong=tuple(dict.fromkeys(wrong)),
        unchecked=tuple(where for where, is_right in right.items() if not is_right and where not in at_fault),
    )


def _asked(row: ModelRow) -> tuple[AskedSpeed, ...]:
    proof = None if row.pruning is None else row.pruning.proof
    return tuple(
        AskedSpeed(
            backend=one.backend,
            threads=one.threads,
            asked=1 / one.asked,
            got=1 / one.measured[one.kept_round],
            met=one.met,
        )
        for one in (() if proof is None else proof.speeds)
    )


def _drop(row: ModelRow) -> AllowedDrop | None:
    search = row.pruning.proof.drop if row.pruning is not None and row.pruning.proof is not None else None
    if search is None or row.metric is None or search.best.drop is None:
        return None
    return AllowedDrop(
        metric=row.metric,
        allowed=search.allowed,
        lost=search.best.drop,
        kept=search.best.asked,
        others=tuple((one.asked, one.drop) for one in search.tries if one is not search.best),
        reached=search.reached,
    )


def _memory(rows: tuple[BackendAnswer, ...]) -> tuple[Sizes | None, str]:
    """Return the memory on the first backend that ran both models, or the single model."""
    for row in rows:
        if row.candidate is not None and (row.baseline is not None or row.verdict == "measured"):
            before = None if row.baseline is None else row.baseline.peak_bytes
            return Sizes(before=before, after=row.candidate.peak_bytes), row.place
    return None, ""


def _subject(results: Results, before: ModelRow | None, after: ModelRow) -> str:
    """Name the models; all runs use the same model names, so the name of the run comes first."""
    run = "" if results.recipe is None else f"{results.recipe.get('name', 'run')}: "
    return f"{run}{_name(after)}" if before is None else f"{run}{_name(after)} against {_name(before)}"


def _name(row: ModelRow) -> str:
    """Return the label or file name: all bundles use the same file name, so their label says more."""
    return row.label if row.file == "model.onnx" or row.label != row.file.removesuffix(".onnx") else row.file


def _machine(results: Results) -> str:
    """Return processor, threads and precision: ``"AMD EPYC 9V74, 2 threads, fp32"``."""
    subjects = [one.subject for one in results.all_measurements()]
    seen = results.environment
    processor = seen.cpu or "unknown processor"
    if seen.gpu is not None and all(one.device != "cpu" for one in subjects):
        processor = seen.gpu
    threads = sorted({one.threads for one in subjects})
    counted = " and ".join(map(str, threads)) + (" thread" if threads == [1] else " threads")
    precisions = dict.fromkeys(one.precision for one in subjects)
    return ", ".join([" ".join(_TRADEMARKS.sub(" ", processor).split()), counted, *precisions])


def _shortfall(
    pairs: Sequence[Comparison],
    rows: Sequence[BackendAnswer],
    before: ModelRow | None,
    after: ModelRow,
    paths: Mapping[str, str],
) -> tuple[str, float]:
    """Return the explaining command and the promised speed-up if FLOPs fell and the speed-up is certain to be below it.

    It is for the first such comparison on a backend that can be profiled by layer. `rows` begins with those of `pairs`.
    """
    if before is None or not {before.label, after.label} <= paths.keys():
        return "", 0.0
    for pair, row in zip(pairs, rows, strict=False):
        if row.verdict not in ("faster", "equivalent", "slower") or not row.speedup or not row.promised:
            continue
        short = row.promised > max(1, row.speedup.high)
        if short and (command := _explain(pair, paths[before.label], paths[after.label])):
            return command, row.promised
    return "", 0.0


def _why_slower(
    pairs: Sequence[Comparison],
    rows: Sequence[BackendAnswer],
    before: ModelRow | None,
    after: ModelRow,
    paths: Mapping[str, str],
) -> str:
    """Return the command that explains the first slower comparison on a backend that can be profiled by layer."""
    if before is None:
        return ""
    dense, pruned = paths.get(before.label, "BASELINE"), paths.get(after.label, "MODEL")
    slower = (pair for pair, row in zip(pairs, rows, strict=False) if row.verdict == "slower")
    return next(filter(None, (_explain(pair, dense, pruned) for pair in slower)), "")


def _explain(pair: Comparison, dense: str, pruned: str) -> str:
    subject = pair.candidate.subject
    return explain_command(
        pruned,
        dense,
        backend=subject.backend,
        threads=subject.threads,
        precision=subject.precision,
        device=subject.device,
        batch=None if subject.batch == 1 else subject.batch,
        shapes=subject.shapes,
    )
