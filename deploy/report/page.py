"""HTML page of results: readable in light mode, dark mode and print."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup, escape

from benchmarks.errors import NotComparableError
from benchmarks.layers.comparison import LayerReport
from deploy import exit_codes
from deploy.files.atomic import write_file
from deploy.files.printable import printable
from deploy.report.answer.deriving import answer_of
from deploy.report.answer.doubts import noise_parts
from deploy.report.answer.machine import machine_facts
from deploy.report.answer.records import Answer, Ending
from deploy.report.answer.wishes import wishes_of
from deploy.report.drawing.plots import flops_plot, latency_plot, latency_range
from deploy.report.formatting import answer, minute
from deploy.report.layer_tables import comparison_tables
from deploy.report.pages.charts import group_bars, pair_bars
from deploy.report.pages.commands import layers_commands, repeat_command
from deploy.report.pages.first_screen import bars, doubts, tiles
from deploy.report.pages.rendering import render
from deploy.report.plan_rows import group_table
from deploy.report.tables import tables_by_name
from deploy.results.results import ModelRow, Results

__all__ = ["model_parts", "page", "write_page"]

_ALARMING = {
    exit_codes.INCONCLUSIVE,
    exit_codes.UNFIT,
    exit_codes.WRONG_ANSWERS,
    exit_codes.TARGET_NOT_REACHED,
}
"""Exit codes shown as a banner above everything else."""


def page(results: Results, layers: LayerReport | None = None) -> str:
    """Make the whole page. The same results give the same page.

    Parameters
    ----------
    results : Results
        Of this version or an older one.
    layers : LayerReport, optional
        The same models layer by layer, in pairs.

    Raises
    ------
    NotComparableError
        The layers belong to other models, or to a single model.
    """
    return render("results.html", **_context(results), **_layers(results, layers))


def write_page(results: Results, path: Path, layers: LayerReport | None = None) -> None:
    """Write the page atomically.

    Raises
    ------
    OutputError
        The page cannot be written.
    NotComparableError
        See `page`.
    """
    write_file(path, page(results, layers))


def model_parts(results: Results, name: str) -> dict[str, Any]:
    """Collect one result's part of a multi-result page: bars, how far to trust them, plots and tables.

    Parameters
    ----------
    results : Results
        Of this version or an older one.
    name : str
        Identifier that is unique on the page.
    """
    told = answer_of(results)
    return {
        "bars": bars(told, f"{name}-bar"),
        "answer": answer(results),
        "notes": results.notes,
        "panels": list(_panels(results, f"{name}-latency")),
        "tables": list(tables_by_name(results).values()),
        **_trust(told),
    }


def _trust(told: Answer) -> dict[str, Any]:
    """Collect what speaks against the numbers."""
    return {
        "noise": told.noise,
        "noise_parts": [part.replace("+-", "\N{PLUS-MINUS SIGN}") for part in noise_parts(told)],
        "signs": doubts(told, noise=True),
        "doubts": doubts(told, noise=False),
    }


def _context(results: Results) -> dict[str, Any]:
    """Collect everything the template shows, from the answer to its tables."""
    derived, told = tables_by_name(results), answer_of(results)
    proof = derived.pop("proof", None)
    if results.recipe is not None:
        folder, repeat_by = "In the folder of the run:", "Save this as recipe.yaml, then: deploy run recipe.yaml"
        repeat = yaml.safe_dump(results.recipe, sort_keys=False, allow_unicode=True)
    else:
        folder, repeat_by = "With the files named above:", "Measured by (with the files named above):"
        repeat = "\n".join(dict.fromkeys(printable(repeat_command(results, one)) for one in results.all_measurements()))
    return {
        "title": results.title,
        "banner": _banner(told.ending),
        "tiles": tiles(told),
        "bars": bars(told),
        "wishes": wishes_of(told),
        **_trust(told),
        "measured_on": told.machine,
        "day": minute(told.created_utc),
        "version": results.tool_version,
        "answer": answer(results),
        "notes": results.notes,
        "plots_title": "Latency, and FLOPs against time" if results.comparisons else "Latency",
        "panels": list(_panels(results, "latency")),
        "proof": proof,
        "tables": list(derived.values()),
        "prunings": list(_prunings(results)),
        "models": [(row.label, f"{row.file}, sha256 {row.sha256}{_pruned_by(row)}") for row in results.models],
        "machine": machine_facts(results.environment),
        "repeat_by": repeat_by,
        "repeat": escape(repeat),
        "folder": folder,
    }


def _banner(ending: Ending) -> tuple[str, str] | None:
    """Return the meaning of an alarming exit code and its remedy, as two sentences."""
    if ending.code not in _ALARMING:
        return None
    said, remedy = (f"{words[:1].upper()}{words[1:]}" for words in (ending.sentence, ending.remedy))
    return f"{said} (exit code {ending.code}).", f"{remedy}." if remedy else ""


def _panels(results: Results, name: str) -> Iterator[dict[str, Any]]:
    """Draw each backend that has samples: the distribution and, for a pair, FLOPs against time beside it."""
    timed = [one for one in results.all_measurements() if one.failure is None]
    if not timed:
        return
    within = latency_range(timed)
    for index, pair in enumerate(results.comparisons):
        baseline, candidate = (None if side.failure is not None else side for side in pair.sides)
        if baseline is None and candidate is None:
            continue
        both = baseline is not None and candidate is not None
        yield {
            "title": pair.candidate.subject.backend,
            "latency": Markup(latency_plot(baseline, candidate, f"{name}-{index}", within)),
            "flops": Markup(flops_plot(pair, f"{name}-flops-{index}")) if both and pair.flop_ratio is not None else "",
        }
    for index, one in enumerate(results.measurements, len(results.comparisons)):
        if one.failure is None:
            yield {
                "title": f"{one.subject.label} on {one.subject.backend}",
                "latency": Markup(latency_plot(None, one, f"{name}-{index}", within)),
                "flops": "",
            }


def _prunings(results: Results) -> Iterator[dict[str, Any]]:
    """Draw and count the groups of each network that lost channels or blocks."""
    kept = [(row.label, row.pruning) for row in results.models if row.pruning is not None]
    kept = [(label, pruning) for label, pruning in kept if pruning.groups or pruning.blocks]
    for index, (label, pruning) in enumerate(kept):
        whose = "" if len(kept) == 1 else f" of {label}"
        yield {
            "chart": group_bars(pruning.groups, f"groups-{index}") if pruning.groups else None,
            "table": group_table(pruning, f"Where the channels{whose} went"),
        }


def _layers(results: Results, report: LayerReport | None) -> dict[str, Any]:
    """Draw the layers of the two models, or give the commands that time them."""
    if report is None:
        commands = escape("\n".join(map(printable, layers_commands(results))))
        return {"layers": None, "layers_commands": commands}
    known = {row.sha256 for row in results.models}
    subjects = [side.subject for pair in report.comparisons for side in (pair.baseline, pair.candidate)]
    strange = next((one for one in subjects if one.sha256 not in known), None)
    if strange is not None:
        raise NotComparableError(f"layers of {strange.model} (sha256 {strange.sha256}): no model of these results")
    if not subjects:
        raise NotComparableError("no two models were profiled layer by layer: deploy layers MODEL --against BASELINE")
    charts = [pair_bars(pair, f"layers-{index}") for index, pair in enumerate(report.comparisons)]
    compared = [table for pair in report.comparisons for table in comparison_tables(pair)]
    return {"layers": {"charts": charts, "tables": compared}, "layers_commands": ""}


def _pruned_by(row: ModelRow) -> str:
    if row.method is None:
        return ""
    settings = ", ".join(f"{name} {value}" for name, value in row.settings.items())
    return f"; pruned by {row.method}{' with ' if settings else ''}{settings}"
