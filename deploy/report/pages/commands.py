"""Commands shown on a page: to repeat its measurements, and to add the time of each layer."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from benchmarks.records.measurement import Measurement
from benchmarks.settings import NOT_A_VERDICT
from deploy.report.answer.explain_command import shape_options
from deploy.results.results import Results

__all__ = ["layers_commands", "repeat_command"]


def repeat_command(results: Results, measurement: Measurement) -> str:
    """Write the command that repeats a measurement.

    Parameters
    ----------
    results : Results
        Results with the measurement and its models.
    measurement : Measurement
        Measurement to repeat.
    """
    subject = measurement.subject
    names = _files(results)
    parts = ["deploy", "compare", *names] if results.comparisons else ["deploy", "bench", names[-1]]
    parts += ["--backend", subject.backend, *_options(measurement), "--seed", str(measurement.seed)]
    parts += shape_options(subject.shapes)
    if measurement.budget_s is not None:
        parts += ["--budget", f"{measurement.budget_s:g}"]
    if NOT_A_VERDICT in measurement.doubts:
        parts.append("--fast")
    return shlex.join(parts)


def layers_commands(results: Results) -> tuple[str, ...]:
    """Write the commands that add the time of each layer to the page; none if no pair was measured.

    For a run, they are to be typed in its folder.
    """
    pair = next((pair for pair in results.comparisons if pair.speedup is not None), None)
    if pair is None:
        return ()
    subject = pair.candidate.subject
    baseline, candidate = _files(results)
    if results.recipe is not None:
        baseline, candidate = (f"export/{row.label}" for row in results.models)
    profile = ["deploy", "layers", candidate, "--against", baseline, "--backend", subject.backend]
    profile += [*_options(pair.candidate), *shape_options(subject.shapes), "--output", "layers.json"]
    show = ["deploy", "report", "results.json", "--layers", "layers.json", "--page", "report.html"]
    return shlex.join(profile), shlex.join(show)


def _files(results: Results) -> Sequence[str]:
    return [row.label if row.file == "model.onnx" else row.file for row in results.models]


def _options(measurement: Measurement) -> list[str]:
    subject = measurement.subject
    options: list[tuple[str, object]] = [("precision", subject.precision), ("threads", subject.threads)]
    options += [("device", subject.device), ("batch", subject.batch)]
    return [part for option, value in options for part in (f"--{option}", str(value))]
