"""The tables of the coverage study say what the rows say."""

from __future__ import annotations

from deploy.studies.coverage.rows import CoverageJob, CoverageRow, CoverageSettings, ListedNetwork
from deploy.studies.coverage.table import lost, markdown, totals


def row(name, engine, outcome, part="torchvision", **facts):
    entry = ListedNetwork(set=part, name=name, maker="torchvision", inputs=((1, 3, 64, 64),), millions=1.0)
    job = CoverageJob(entry=entry, engine=engine, settings=CoverageSettings(), source="s", versions={"torch": "2.15.0"})
    return CoverageRow(job=job, outcome=outcome, **facts)


ROWS = (
    row("a", "ours", "ok", macs_before=100, macs_after=50, units=10, removed_units=3, form="module"),
    row("a", "torch-pruning", "failed", reason="IndexError: out of | range", phase="prune"),
    row("b", "ours", "refused", reason="all groups are fixed", phase="plan", unknown=("lstm: not known",)),
    row("b", "torch-pruning", "ok", macs_before=100, macs_after=60, attempt="hints"),
    row("c", "ours", "wrong", reason="they differ", phase="verify", dense_error=""),
    row("c", "torch-pruning", "wrong"),
    row("e", "ours", "wrong", part="timm", reason="they differ", phase="openvino", dense_error="differs by 0.1"),
    row("f", "ours", "wrong", part="timm", reason="they differ", phase="openvino", ort_error=1e-7),
    row("d", "ours", "ok", part="timm", form="graph", form_reason="a size is written in forward", inexact="a norm",
        equality_error=2e-7),
)  # fmt: skip


def test_totals_count_each_outcome_of_each_set():
    table = totals(ROWS)
    cells = {line[0]: dict(zip(table.columns, line, strict=True)) for line in table.rows}
    assert cells["torchvision"]["models"] == "3"
    assert cells["torchvision"]["ok"] == "1 (33%)"
    assert [cells["torchvision"][name] for name in ("refused", "WRONG", "failed")] == ["1", "1", "0"]
    assert [cells["torchvision"][name] for name in ("TP ok", "TP wrong", "TP failed")] == ["1 (33%)", "1", "1"]
    assert cells["timm"]["ok"] == "1 (33%)"
    assert [cells["timm"][name] for name in ("WRONG", "runtime", "failed")] == ["0", "2", "0"]
    assert cells["timm"]["TP ok"] == "-"  # was not run, which is not the same as 0
    assert cells["all"]["models"] == "6"
    assert cells["all"]["ok"] == "2 (33%)"


def test_lost_are_those_that_only_the_other_library_handles():
    assert lost(ROWS) == ("torchvision:b",)
    assert lost([one for one in ROWS if one.job.engine == "ours"]) == ()


def test_markdown_has_a_line_a_network_and_a_reason_for_each_that_is_not_ok():
    text = markdown(ROWS)
    line = next(line for line in text.splitlines() if line.startswith("| a |"))
    assert "| ok | -30% | -50% |" in line
    assert "failed" in line
    assert "| **WRONG** |" in next(line for line in text.splitlines() if line.startswith("| c |"))
    assert "| ok (hints) | -40% |" in next(line for line in text.splitlines() if line.startswith("| b |"))
    assert "2e-07 (norm)" in next(line for line in text.splitlines() if line.startswith("| d |"))
    assert "* torchvision:b: refused at plan: all groups are fixed [not known: lstm: not known]" in text
    assert "* torchvision:a: failed at prune: IndexError: out of | range" in text
    assert "* timm:e: runtime at openvino: they differ (unpruned: differs by 0.1)" in text
    assert "* d: a size is written in forward" in text
    assert "and this project does not: torchvision:b." in text
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in tables}) == 2  # totals and networks: no cell broke a line
