"""Rows of the study as tables: totals for the terminal, everything for a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from deploy.report.markdown import markdown as as_markdown
from deploy.report.table import Table, left
from deploy.studies.coverage.catalogue import OPTIONAL_SET, SETS
from deploy.studies.coverage.rows import CoverageRow, Engine, ListedNetwork

__all__ = ["block_of", "lost", "markdown", "totals"]

_NOTHING = "-"
_NO_TIME = 0.0


class _Pair:
    """Rows of both engines for one network."""

    def __init__(self, entry: ListedNetwork) -> None:
        self.entry = entry
        self.rows: dict[Engine, CoverageRow] = {}

    def is_ok(self, engine: Engine) -> bool:
        return engine in self.rows and self.rows[engine].outcome == "ok"


def block_of(part: str) -> str:
    """Return the name of the page block for the tables of a part of the list."""
    return f"coverage-{part}" if part == OPTIONAL_SET else "coverage"


def _pairs(rows: Iterable[CoverageRow]) -> list[_Pair]:
    pairs: dict[str, _Pair] = {}
    for row in rows:
        entry = row.job.entry
        pairs.setdefault(f"{entry.set}:{entry.name}", _Pair(entry)).rows[row.job.engine] = row
    return list(pairs.values())


def lost(rows: Iterable[CoverageRow]) -> tuple[str, ...]:
    """List the networks that the other library handles and this project does not."""
    return tuple(
        f"{pair.entry.set}:{pair.entry.name}"
        for pair in _pairs(rows)
        if "ours" in pair.rows and pair.is_ok("torch-pruning") and not pair.is_ok("ours")
    )


def totals(rows: Sequence[CoverageRow]) -> Table:
    """Count the outcomes per set, or per optional library, with both engines side by side."""
    pairs = _pairs(rows)
    known = [*SETS, *dict.fromkeys(_part(pair) for pair in pairs if pair.entry.set not in SETS[:-1])]
    lines = [
        _counts(name, [pair for pair in pairs if _part(pair) == name])
        for name in known
        if any(_part(pair) == name for pair in pairs)
    ]
    if len(lines) > 1:
        lines.append(_counts("all", pairs))
    return Table(
        title="Coverage",
        columns=(
            *left("set"),
            "models",
            "ok",
            "own class",
            "refused",
            "WRONG",
            "runtime",
            "failed",
            "TP ok",
            "TP wrong",
            "TP failed",
        ),
        rows=tuple(lines),
        caption="own class: pruned networks of the user's own class. "
        "runtime: one that is wrong where another is right on the same file, or on the unpruned network too. "
        "TP: Torch-Pruning, which refuses nothing: what it raises is a failure",
    )


def _part(pair: _Pair) -> str:
    return pair.entry.maker if pair.entry.set == OPTIONAL_SET else pair.entry.set


def _counts(name: str, pairs: Sequence[_Pair]) -> tuple[str, ...]:
    def count(engine: Engine, *outcomes: str) -> str:
        rows = [pair.rows[engine] for pair in pairs if engine in pair.rows]
        n = sum(_outcome(row) in outcomes for row in rows)
        if not rows:
            return _NOTHING
        return f"{n} ({n / len(rows):.0%})" if outcomes == ("ok",) else str(n)

    return (
        name,
        str(len(pairs)),
        count("ours", "ok"),
        _own_class([pair.rows["ours"] for pair in pairs if "ours" in pair.rows]),
        *(count("ours", outcome) for outcome in ("refused", "wrong", "runtime", "failed")),
        count("torch-pruning", "ok"),
        count("torch-pruning", "wrong", "runtime"),
        count("torch-pruning", "failed"),
    )


def _own_class(rows: Sequence[CoverageRow]) -> str:
    n = sum(row.form == "module" for row in rows)
    return f"{n} ({n / len(rows):.0%})" if rows else _NOTHING


def markdown(rows: Sequence[CoverageRow]) -> str:
    """Return all tables as Markdown: totals, lost networks, a line per network, and why networks are not ok."""
    pairs = _pairs(rows)
    parts = [_conditions(rows), as_markdown(totals(rows)).rstrip()]
    missing = lost(rows)
    parts.append(
        f"Networks that Torch-Pruning handles and this project does not: {', '.join(missing) if missing else 'none'}."
    )
    for name in dict.fromkeys(pair.entry.set for pair in pairs):
        own = [pair for pair in pairs if pair.entry.set == name]
        table = Table(title=name, columns=_COLUMNS, rows=tuple(_line(pair) for pair in own))
        parts += [f"### {name}", as_markdown(table).rstrip()]
    for title, engine in (("What this project did not do", "ours"), ("What Torch-Pruning did not do", "torch-pruning")):
        lines = [_why(row) for row in rows if row.job.engine == engine and row.outcome != "ok"]
        if lines:
            parts += [f"### {title}", "\n".join(lines)]
    lines = [
        f"* {row.job.entry.set}:{row.job.entry.name}: {what}"
        for row in rows
        if row.job.engine == "ours"
        for what in row.beside
    ]
    if lines:
        parts += ["### What the unpruned network does not do either", "\n".join(lines)]
    forms: dict[str, list[str]] = {}
    for row in rows:
        if row.job.engine == "ours" and row.form == "graph":
            forms.setdefault(row.form_reason, []).append(row.job.entry.name)
    if forms:
        listed = "\n".join(f"* {', '.join(names)}: {reason or 'no reason given'}" for reason, names in forms.items())
        parts += ["### Where the graph form came back", listed]
    return "\n\n".join(parts) + "\n"


_COLUMNS = (
    *left("network", "input", "outcome"),
    "units",
    "FLOPs",
    "masked = compact",
    "form",
    "reload",
    "batch",
    "ORT",
    "OpenVINO",
    "trains",
    "trace s",
    "prune s",
    "all s",
    "GB",
    "TP",
    "TP FLOPs",
    "TP prune s",
)


def _line(pair: _Pair) -> tuple[str, ...]:
    ours, other = pair.rows.get("ours"), pair.rows.get("torch-pruning")
    sizes = " + ".join("x".join(map(str, shape[1:])) for shape in pair.entry.shapes)
    cells = [pair.entry.name, sizes]
    if ours is None:
        cells += [_NOTHING] * 14
    else:
        cells += [
            "**WRONG**" if (outcome := _outcome(ours)) == "wrong" else outcome,
            _gone(None if not ours.units or ours.removed_units is None else ours.removed_units / ours.units),
            _gone(ours.saved),
            _equality(ours),
            ours.form or _NOTHING,
            _small(ours.reload_error),
            _NOTHING if ours.free_batch is None else "free" if ours.free_batch else "fixed",
            _small(ours.ort_error),
            _small(ours.openvino_error),
            _NOTHING if ours.loss is None else "yes",
            _seconds(ours.trace_s),
            _seconds(ours.prune_s),
            _seconds(_all(ours)),
            _gigabytes(ours),
        ]
    if other is None:
        cells += [_NOTHING] * 3
    else:
        attempt = " (hints)" if other.attempt == "hints" else ""
        cells += [f"{other.outcome}{attempt}", _gone(other.saved), _seconds(other.prune_s)]
    return tuple(cells)


def _all(row: CoverageRow) -> float:
    # torch.export runs inside `onnx` too; `export` and `analysis` are the two parts of the trace
    return row.seconds.get("all", sum(row.seconds.values(), _NO_TIME))


def _equality(row: CoverageRow) -> str:
    if row.equality_error is None:
        return _NOTHING
    return f"{_small(row.equality_error)}{' (norm)' if row.inexact else ''}"


def _gone(share: float | None) -> str:
    return _NOTHING if share is None else f"-{share:.0%}"


def _small(error: float | None) -> str:
    return _NOTHING if error is None else f"{error:.0e}"


def _seconds(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.1f}"


def _outcome(row: CoverageRow) -> str:
    return "runtime" if row.runtime_at_fault else row.outcome


def _gigabytes(row: CoverageRow) -> str:
    return _NOTHING if row.peak_bytes is None else f"{row.peak_bytes / 1e9:.1f}"


def _why(row: CoverageRow) -> str:
    entry = row.job.entry
    dense = f" (unpruned: {row.dense_error})" if row.dense_error else ""
    unknown = f" [not known: {'; '.join(row.unknown)}]" if row.unknown and row.job.engine == "ours" else ""
    return f"* {entry.set}:{entry.name}: {_outcome(row)} at {row.phase}: {row.reason}{dense}{unknown}"


def _conditions(rows: Sequence[CoverageRow]) -> str:
    versions = {name: version for row in rows for name, version in row.job.versions.items()}
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return f"With {libraries}; one thread, fp32, CPU."
