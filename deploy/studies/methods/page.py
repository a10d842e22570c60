"""The study as an HTML page or a block of a Markdown page: answers, plots, tables, failures, the machine."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from deploy.files.atomic import write_file
from deploy.report.formatting import score_title
from deploy.report.markdown import markdown, write_block
from deploy.report.pages.rendering import render
from deploy.studies.methods.formatting import answers, failures
from deploy.studies.methods.plot import pareto_picture, pareto_plot
from deploy.studies.methods.results import StudyResults
from deploy.studies.methods.summary import rule
from deploy.studies.methods.tables import (
    against_table,
    equal_time_tables,
    measured_tables,
    paper_table,
    recovery_table,
    tables,
)

__all__ = ["BLOCK", "plots", "study_page", "write_page"]

BLOCK = "study"
"""Name of the block of a page that receives the study."""


def plots(results: StudyResults) -> dict[str, str]:
    """Plot the score against MACs, and against the time on each backend; by file name."""
    backends = dict.fromkeys(("", *(row.backend for row in results.measured)))
    recovery = results.cells[0].recovery
    drawn = {f"pareto-{backend or 'macs'}.svg": pareto_plot(results, recovery, backend) for backend in backends}
    return {name: svg for name, svg in drawn.items() if svg}


def study_page(results: StudyResults) -> str:
    """Return a self-contained page: answers, a plot of the score over each cost, the tables."""
    recovery, named = results.cells[0].recovery, score_title(results.metric)
    pictures = []
    for backend in dict.fromkeys(("", *(row.backend for row in results.measured))):
        if drawn := pareto_picture(results, recovery, backend, f"pareto-{backend or 'macs'}"):
            title = f"{named} against {f'time on {backend}' if backend else 'MACs'}, {recovery}"
            pictures.append({"title": title, "drawn": Markup(drawn)})
    return render(
        "study.html",
        title=f"{results.name}: which method prunes best?",
        answers=answers(results),
        pictures=pictures,
        tables=tables(results),
        failures=failures(results),
        facts=[("images", results.split), ("scores", rule(results.metric)), ("conditions", _conditions(results))],
    )


def write_page(results: StudyResults, page: Path) -> None:
    """Write the study between the marks of a page, and its plots beside it; create a missing page.

    Raises
    ------
    OutputError
        The page lacks the marks, or cannot be written.
    """
    lines = [f"- {answer}" for answer in answers(results)] + ["", rule(results.metric), ""]
    # The first table has the measurements of the first seed.
    seeds = measured_tables(results) if len({row.seed for row in results.measured}) > 1 else ()
    for table in (
        *equal_time_tables(results),
        paper_table(results),
        against_table(results),
        *seeds,
        recovery_table(results),
    ):
        lines += [f"### {table.title}", "", markdown(table)]
    recovery, named = results.cells[0].recovery, score_title(results.metric)
    for name, svg in plots(results).items():
        file = f"{page.stem}-{name}"
        write_file(page.with_name(file), svg)
        lines += [
            f"![{named} after {recovery} against what is left of the dense network's cost]({file})",
            "",
        ]
        lines += ["Bars: one standard deviation over seeds, and the interval of the time that was measured.", ""]
    if failed := failures(results):
        lines += ["### What failed", "", *(f"- {line}" for line in failed), ""]
    lines.append(_conditions(results))
    write_block(page, BLOCK, "\n".join(lines))


def _conditions(results: StudyResults) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    hours = sum(cell.training_seconds for cell in results.cells) / 3600
    shared = f", each shared by {results.processes} processes" if results.processes > 1 else ""
    summary = f"With {versions}. All recoveries together: {hours:.2f} hours of training{shared}."
    machine = next((row.comparison.baseline.environment for row in results.measured if row.comparison), None)
    if machine is None:
        return summary
    return f"{summary} Measured on {machine.cpu or machine.system}, {machine.cpu_cores} cores."
