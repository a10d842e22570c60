"""The page of results: readable in light, dark and print."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup, escape

from benchmarks.records.measurement import Environment, Measurement
from benchmarks.settings import NOT_A_VERDICT
from deploy import exit_codes
from deploy.files.atomic import write_file
from deploy.files.printable import printable
from deploy.report.answer.deriving import answer_of
from deploy.report.answer.records import Ending
from deploy.report.drawing.plots import flops_plot, latency_plot
from deploy.report.formatting import answer, percent, size
from deploy.report.pages.first_screen import bars, signs, tiles
from deploy.report.pages.rendering import render
from deploy.report.plan_picture import plan_picture
from deploy.report.plan_rows import group_table
from deploy.report.proof_table import proof_table
from deploy.report.tables import tables
from deploy.results.results import ModelRow, Results

__all__ = ["page", "write_page"]

_ALARMING = {
    exit_codes.INCONCLUSIVE,
    exit_codes.UNFIT,
    exit_codes.WRONG_ANSWERS,
    exit_codes.TARGET_NOT_REACHED,
}
"""Exit codes that stand above everything else."""


def page(results: Results) -> str:
    """Make the whole page. The same results give the same page.

    Parameters
    ----------
    results : Results
        Of this or an older version.
    """
    return render("results.html", **_context(results))


def write_page(results: Results, path: Path) -> None:
    """Write the page; it appears whole or not at all.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    write_file(path, page(results))


def _context(results: Results) -> dict[str, Any]:
    """Collect what the template shows, from the answer to the tables behind it."""
    derived, proof, told = tables(results), proof_table(results), answer_of(results)
    if results.recipe is not None:
        repeat_by = "Save this as recipe.yaml, then: deploy run recipe.yaml"
        repeat = yaml.safe_dump(results.recipe, sort_keys=False, allow_unicode=True)
    else:
        repeat_by = "Measured by (with the files named above):"
        repeat = "\n".join(
            dict.fromkeys(printable(_repeat_command(results, one)) for one in results.all_measurements())
        )
    return {
        "title": results.title,
        "banner": _banner(told.ending),
        "tiles": tiles(told),
        "bars": bars(told),
        "noise": told.noise,
        "signs": signs(told.doubts),
        "made": f"Measured on {told.machine}, {_day(told.created_utc)}, prune-deploy {results.tool_version}.",
        "answer": answer(results),
        "notes": results.notes,
        "plots_title": "Latency, and FLOPs against time" if results.comparisons else "Latency",
        "panels": list(_panels(results)),
        "proof": proof,
        "tables": [table for table in derived if table != proof],
        "prunings": list(_prunings(results)),
        "models": [(row.label, f"{row.file}, sha256 {row.sha256}{_pruned_by(row)}") for row in results.models],
        "machine": _machine(results.environment),
        "repeat_by": repeat_by,
        "repeat": escape(repeat),
    }


def _banner(ending: Ending) -> tuple[str, str] | None:
    """Write what an alarming exit code says, and what to do about it, as two sentences."""
    if ending.code not in _ALARMING:
        return None
    said, remedy = (f"{words[:1].upper()}{words[1:]}" for words in (ending.sentence, ending.remedy))
    return f"{said} (exit code {ending.code}).", f"{remedy}." if remedy else ""


def _day(created_utc: str) -> str:
    """Write a point of time to the minute: ``"2026-11-28 13:35 UTC"``."""
    return f"{created_utc[:16].replace('T', ' ')} UTC"


def _panels(results: Results) -> Iterator[dict[str, Any]]:
    """Draw each backend that has samples: the distribution, and for a pair FLOPs against time beside it."""
    for index, pair in enumerate(results.comparisons):
        baseline, candidate = (None if side.failure is not None else side for side in pair.sides)
        if baseline is None and candidate is None:
            continue
        both = baseline is not None and candidate is not None
        yield {
            "title": pair.candidate.subject.backend,
            "latency": Markup(latency_plot(baseline, candidate, f"latency-{index}")),
            "flops": Markup(flops_plot(pair, f"flops-{index}")) if both and pair.flop_ratio is not None else "",
        }
    for index, one in enumerate(results.measurements, len(results.comparisons)):
        if one.failure is None:
            yield {
                "title": f"{one.subject.label} on {one.subject.backend}",
                "latency": Markup(latency_plot(None, one, f"latency-{index}")),
                "flops": "",
            }


def _prunings(results: Results) -> Iterator[dict[str, Any]]:
    """Draw and count the groups of each network that lost channels or blocks."""
    for index, row in enumerate(results.models):
        if row.pruning is not None and (row.pruning.groups or row.pruning.blocks):
            title, groups = f"Units kept in each group of {row.label}", row.pruning.groups
            yield {
                "picture": Markup(plan_picture(groups, title, f"groups-{index}")) if groups else "",
                "table": group_table(row.pruning, title),
            }


def _pruned_by(row: ModelRow) -> str:
    if row.method is None:
        return ""
    settings = ", ".join(f"{name} {value}" for name, value in row.settings.items())
    return f"; pruned by {row.method}{' with ' if settings else ''}{settings}"


def _machine(seen: Environment) -> list[tuple[str, str]]:
    facts: list[tuple[str, str | None]] = [
        ("processor", seen.cpu),
        ("cores usable", str(seen.cpu_cores)),
        ("memory", size(seen.memory_bytes)),
        ("GPU", None if seen.gpu is None else f"{seen.gpu}{', driver ' if seen.driver else ''}{seen.driver or ''}"),
        ("system", seen.system),
        ("virtual machine", None if seen.virtual_machine is None else ("yes" if seen.virtual_machine else "no")),
        ("frequency governor", seen.governor),
        ("load at the start", None if seen.load_average is None else f"{seen.load_average:.2f} (1 minute)"),
        ("used by others", None if seen.busy_fraction is None else percent(seen.busy_fraction)),
        ("taken by hypervisor", None if seen.steal_fraction is None else percent(seen.steal_fraction)),
        ("Python", seen.python),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(seen.packages.items())) or None),
    ]
    return [(name, "unknown" if value is None else value) for name, value in facts if name != "GPU" or value]


def _repeat_command(results: Results, measurement: Measurement) -> str:
    subject = measurement.subject
    names = [row.label if row.file == "model.onnx" else row.file for row in results.models]
    parts = ["deploy", "compare", *names] if results.comparisons else ["deploy", "bench", names[-1]]
    for option, value in (
        ("backend", subject.backend),
        ("precision", subject.precision),
        ("threads", subject.threads),
        ("device", subject.device),
        ("batch", subject.batch),
        ("seed", measurement.seed),
    ):
        parts += [f"--{option}", str(value)]
    for name, sizes in subject.shapes.items():
        parts += ["--shape", f"{name}={','.join(map(str, sizes))}"]
    if measurement.budget_s is not None:
        parts += ["--budget", f"{measurement.budget_s:g}"]
    if NOT_A_VERDICT in measurement.doubts:
        parts.append("--fast")
    return shlex.join(parts)
