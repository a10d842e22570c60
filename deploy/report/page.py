"""The page: one HTML file with everything inside. No script, nothing fetched, readable in light, dark and print."""

from __future__ import annotations

import shlex
from html import escape
from importlib.resources import files
from pathlib import Path

import yaml

from benchmarks.records.measurement import Comparison, Environment, Measurement
from deploy.files.atomic import write_file
from deploy.report.formatting import answer, percent, size
from deploy.report.plots import flops_plot, latency_plot
from deploy.report.svg import element
from deploy.report.tables import Table, tables
from deploy.results.results import Results

__all__ = ["page", "write_page"]

_METHOD = (
    "Each model runs in processes of its own, one fresh process per trial; before any timing its answers are compared "
    "with the reference.",
    "Latency is the host's clock around one request, inputs in host memory to outputs in host memory, one request at a "
    "time, after warming up until steady. Percentiles are by nearest rank, rounded up: each is a latency that was "
    "observed.",
    "Calls of one process are not independent; processes are. Both models of a pair are alive together and measured in "
    "turn, block by block: the speed-up is the median over pairs of processes, and its interval is read from the order "
    "statistics of those pairs, without assuming any distribution.",
    "FLOPs = 2 x MACs (multiply-accumulates of the layers), counted on the ONNX file for one example. "
    "FLOP ratio = baseline / candidate. Realised = speed-up / FLOP ratio: 100 % when time followed FLOPs.",
    "Backends were measured one after the other. Compare dense with pruned on one backend; numbers of different "
    "backends were not taken together.",
    "Memory is the largest resident size of the process (VmHWM); the model's share is what loading and running it "
    "added to the peak of interpreter and runtime.",
)

_DISTRIBUTION = "Thin lines: single processes. Marks: p50 and p90. The axis ends behind 99 % of the calls."


def page(results: Results) -> str:
    """Make the whole page. The same results give the same page.

    Parameters
    ----------
    results : Results
        See there.
    """
    style = files("deploy.report").joinpath("page.css").read_text(encoding="utf-8")
    by_title = {table.title: _drawn(table) for table in tables(results)}
    bought = by_title.pop("What the pruning bought", "")
    body = "\n".join(
        part
        for part in (
            element("h1", escape(results.title)),
            element("p", escape(answer(results)), class_="answer"),
            element("p", escape(_made(results)), class_="soft"),
            *(element("p", escape(note)) for note in results.notes),
            bought,
            _plots(results),
            *by_title.values(),
            _models(results),
            _environment(results.environment),
            element("h2", "Method") + _list(_METHOD),
            _reproduce(results),
        )
        if part
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(results.title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def write_page(results: Results, path: Path) -> None:
    """Write the page; it appears whole or not at all.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    write_file(path, page(results))


def _made(results: Results) -> str:
    cpu = results.environment.gpu or results.environment.cpu or "unknown processor"
    return f"Measured on {cpu}, {results.created_utc}, prune-deploy {results.tool_version}."


def _drawn(table: Table) -> str:
    def left(index: int) -> dict[str, str]:
        return {"class_": "left"} if index < table.n_left or table.columns[index] == "verdict" else {}

    head = "".join(element("th", escape(name), scope="col", **left(index)) for index, name in enumerate(table.columns))
    rows = "\n".join(
        element(
            "tr",
            element("th", escape(row[0]), scope="row", **left(0)),
            *(element("td", escape(cell), **left(index)) for index, cell in enumerate(row[1:], 1)),
        )
        for row in table.rows
    )
    # Not a <caption>: that would scroll away with a wide table.
    caption = element("p", escape(table.caption), class_="soft") if table.caption else ""
    drawn = element("table", element("thead", element("tr", head)), "\n", element("tbody", rows))
    return _section(table.title, _scroll(drawn, table.title) + caption + _notes(table.notes))


def _notes(notes: tuple[str, ...]) -> str:
    return element("ol", *(element("li", escape(note)) for note in notes), class_="notes") if notes else ""


def _plots(results: Results) -> str:
    """Draw each backend that has samples: the distribution, and for a pair FLOPs against time beside it."""
    drawn = [_panels(pair, index) for index, pair in enumerate(results.comparisons)]
    for index, found in enumerate(results.measurements, len(drawn)):
        if found.failure is None:
            plot = _figure(latency_plot(None, found, f"latency-{index}"), _DISTRIBUTION)
            title = f"{found.subject.label} on {found.subject.backend}"
            drawn.append(element("h3", escape(title)) + element("div", plot, class_="plots"))
    drawn = [one for one in drawn if one]
    if not drawn:
        return ""
    title = "Latency, and FLOPs against time" if results.comparisons else "Latency"
    return _section(title, "\n".join(drawn))


def _panels(pair: Comparison, index: int) -> str:
    baseline, candidate = (None if side.failure is not None else side for side in pair.sides)
    if baseline is None and candidate is None:
        return ""
    figures = [_figure(latency_plot(baseline, candidate, f"latency-{index}"), _DISTRIBUTION)]
    if baseline is not None and candidate is not None:
        figures.append(_figure(flops_plot(pair, f"flops-{index}"), "Bar: between what was promised and what came."))
    return element("h3", escape(pair.candidate.subject.backend)) + element("div", *figures, class_="plots")


def _figure(plot: str, caption: str) -> str:
    return element("figure", plot, element("figcaption", escape(caption)))


def _models(results: Results) -> str:
    rows = [
        (row.label, f"{row.file}, sha256 {row.sha256}{_pruned_by(row.method, dict(row.settings))}")
        for row in results.models
    ]
    return _section("Models", _facts(rows, "Models"))


def _pruned_by(method: str | None, settings: dict[str, object]) -> str:
    if method is None:
        return ""
    told = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"; pruned by {method}{' with ' if told else ''}{told}"


def _environment(seen: Environment) -> str:
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
        ("versions", ", ".join(f"{name} {found}" for name, found in sorted(seen.packages.items())) or None),
    ]
    rows = [(name, "not known" if value is None else value) for name, value in facts if name != "GPU" or value]
    return _section("Machine", _facts(rows, "Machine"))


def _reproduce(results: Results) -> str:
    if results.recipe is not None:
        text = yaml.safe_dump(results.recipe, sort_keys=False, allow_unicode=True)
        told = "Save this as recipe.yaml, then: deploy run recipe.yaml"
    else:
        text = "\n".join(dict.fromkeys(_bench_command(results, found) for found in results.all_measurements()))
        told = "Measured by (with the files named above):"
    return _section("How to repeat it", element("p", escape(told)) + element("pre", escape(text)))


def _bench_command(results: Results, found: Measurement) -> str:
    subject = found.subject
    names = [row.label if row.file == "model.onnx" else row.file for row in results.models]
    parts = ["deploy", "compare", *names] if results.comparisons else ["deploy", "bench", "--model", names[-1]]
    for option, value in (
        ("backend", subject.backend),
        ("precision", subject.precision),
        ("threads", subject.threads),
        ("device", subject.device),
        ("batch", subject.batch),
        ("seed", found.seed),
    ):
        parts += [f"--{option}", str(value)]
    for name, sizes in subject.shapes.items():
        parts += ["--shape", f"{name}={','.join(map(str, sizes))}"]
    if found.budget_s is not None:
        parts += ["--budget", f"{found.budget_s:g}"]
    return shlex.join(parts)


def _facts(rows: list[tuple[str, str]], name: str) -> str:
    lines = (
        element(
            "tr", element("th", escape(key), scope="row", class_="left"), element("td", escape(value), class_="long")
        )
        for key, value in rows
    )
    return _scroll(element("table", element("tbody", *lines)), name)


def _scroll(table: str, name: str) -> str:
    """Let a wide table scroll by itself, also by keyboard; the page never does."""
    return element("div", table, class_="scroll", role="region", aria_label=name, tabindex="0")


def _section(title: str, body: str) -> str:
    return element("section", element("h2", escape(title)), "\n", body)


def _list(items: tuple[str, ...]) -> str:
    return element("ul", *(element("li", escape(item)) for item in items))
