"""The grid of speeds: rows are kept and found again, and the tables say what they say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.errors import WorkerError
from deploy.bundles.pruning import SpeedLanding
from deploy.errors import ResultsError, SourceError
from deploy.studies.coverage.rows import ListedNetwork
from deploy.studies.latency import competitors, grid, running
from deploy.studies.latency.competitors import at_the_time
from deploy.studies.latency.rows import Case, Competitor, GridRow, append, read
from deploy.studies.latency.summary import grid_tables
from pruners.errors import MethodError
from pruners.graph import trace
from pruners.target import Constraints, Target
from pruners.task import PruningTask

NETWORK = """
from torch import nn

def make():
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 4, 1)
    )
"""


def case(name="net", asked=0.5, maker="torchvision", **facts):
    listed = ListedNetwork(set="latency", name=name, maker=maker, inputs=((2, 3, 24, 24),), millions=0.1)
    return Case(network=listed, backend="ort", threads=1, asked=asked, **facts)


def landed(measured, asked=0.5, rivals=(), why_off="", **facts):
    landing = SpeedLanding(
        backend="ort", threads=1, asked=asked, tolerance=0.01, predicted=measured, measured=measured,
        kept_round=len(measured) - 1, macs=0.4, importance=0.9, why_off=why_off,
    )  # fmt: skip
    competitors = tuple(Competitor(name=name, measured=asked, importance=kept) for name, kept in rivals)
    return GridRow(case=case(f"{measured}", asked), landing=landing, competitors=competitors, **facts)


def test_the_shares_count_what_the_rows_landed_on():
    rows = (
        landed((0.505,), mape=0.02, rank_correlation=0.999, rivals=(("uniform", 0.8), ("torch-pruning", 0.85))),
        landed((0.52, 0.495), mape=0.05, rank_correlation=0.98, gap=0.0005, solver_s=2.0, rivals=(("uniform", 0.95),)),
        landed((0.56, 0.545), mape=0.03, rank_correlation=0.999, gap=0.002, solver_s=40.0, why_off="no other plan"),
        GridRow(case=case("refused"), reason="no table can be made"),
    )
    cases, rivals, shares = grid_tables(rows)
    told = dict(shares.rows)
    assert told["within 1% after two corrections at most"] == "2 of 3 (67%)"
    assert told["within 2.5% before any"] == "2 of 3 (67%)"
    assert told["above by more than 3%"] == "1 of 3 (33%)"
    assert told["held-out error of at most 4%"] == "2 of 3 (67%)"
    assert told["solver's gap of at most 0.1%"] == "1 of 2 (50%)"
    assert told["keeps more than every competitor"] == "1 of 2 (50%)"
    assert [row[5] for row in cases.rows][1:3] == ["0.520 → 0.495", "0.560 → 0.545"]
    assert [row[-1] for row in cases.rows] == ["", "", "no other plan", "no table can be made"]
    assert rivals.rows[0][-2:] == ("0.800 at 0.500", "0.850 at 0.500")
    assert grid_tables(())[2].rows[0][1] == "none was tried"


def test_a_third_correction_is_not_counted_as_the_second():
    *_, shares = grid_tables((landed((0.52, 0.53, 0.515, 0.505)), landed((0.52, 0.53, 0.505))))
    assert dict(shares.rows)["within 1% after two corrections at most"] == "1 of 2 (50%)"


def test_the_last_line_of_a_case_counts_and_another_file_is_refused(tmp_path):
    path = tmp_path / "out" / "grid.jsonl"
    append(GridRow(case=case(), reason="it died"), path)
    append(GridRow(case=case("other"), reason="it died"), path)
    row = landed((0.5,)).model_copy(update={"case": case()})
    append(row, path)
    append(GridRow(case=case(), reason="it died"), path)  # a later attempt, which does not cost the landing
    assert read(path) == (row, GridRow(case=case("other"), reason="it died"))
    compared = landed((0.5,), rivals=(("uniform", 0.8),), exported=0.5).model_copy(update={"case": case()})
    append(compared, path)
    append(compared.model_copy(update={"competitors": ()}), path)  # its measurement failed before they were compared
    assert read(path)[0] == compared
    append(compared.model_copy(update={"exported": 0.49}), path)
    assert read(path)[0].exported == 0.49
    refused = GridRow(case=case(), reason="the speed was refused", refused=True)
    append(refused, path)
    append(GridRow(case=case(), reason="it died"), path)
    assert read(path)[0] == refused
    path.write_text("{}\n", encoding="utf-8")
    with pytest.raises(ResultsError, match="line 1 is not a row of this study"):
        read(path)


def test_the_grid_asks_each_network_on_each_backend_for_each_speed():
    names = {one.name for one in grid.cases()}
    assert {"resnet18:ort:1:0.75", "vgg16_bn:openvino:1:0.35", "yolo11n:ort:1:0.5"} <= names
    assert len(names) % 54 == 0
    assert {one.name for one in running.chosen(grid.cases(), ["vit*:ort:1:*"])} == {
        f"vit_tiny_patch16_224:ort:1:{asked}" for asked in (0.75, 0.5, 0.35)
    }
    with pytest.raises(SourceError, match=r"no case matches 'alexnet'; they are called like 'resnet18:ort:1:0\.75'"):
        running.chosen(grid.cases(), ["alexnet"])


def test_competitors_are_brought_to_the_time_of_ours():
    torch.manual_seed(0)
    network, inputs = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 8, 1)), (torch.randn(2, 3, 8, 8),)
    graph = trace(network.eval(), inputs)
    task = PruningTask(
        model=network, example_inputs=inputs, target=Target(of="flops", kept_fraction=0.5),
        constraints=Constraints(multiple_of=16),
    )  # fmt: skip

    def share(counts):
        """Measure: channels cost, in blocks of 16, and a block that is not full costs one more."""
        (count,) = counts.values()
        return (-(-count // 16) + (count % 16 > 0)) / 5

    free, full = (at_the_time(name, task, graph, share, 0.6) for name in ("uniform", "uniform of full blocks"))
    assert (free.measured, full.measured) == (0.6, 0.6)
    assert full.importance == (48 / 64) ** 0.5
    assert free.importance == (19 / 64) ** 0.5
    never = at_the_time("uniform", task, graph, lambda counts: 1.0, 0.6)
    assert (never.measured, never.reason) == (None, "at no width that was tried it is as fast")


def test_a_competitor_that_fails_says_why(monkeypatch):
    network, inputs = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 8, 1)), (torch.randn(2, 3, 8, 8),)
    graph = trace(network.eval(), inputs)
    task = PruningTask(model=network, example_inputs=inputs, target=Target(of="flops", kept_fraction=0.5))

    def refuses(counts):
        raise WorkerError("ort refuses 12 channels")

    def fails(*given):
        raise MethodError("the library fails on this network")

    assert at_the_time("uniform", task, graph, refuses, 0.6) == Competitor(
        name="uniform", reason="ort refuses 12 channels"
    )
    monkeypatch.setattr(competitors, "kept_by_library", fails)
    assert at_the_time("torch-pruning 8", task, graph, lambda counts: 0.5, 0.6) == Competitor(
        name="torch-pruning 8", reason="the library fails on this network"
    )


def test_a_case_is_answered_by_a_refusal_or_a_measured_network_with_its_competitors():
    alone, beside = case(), case(competitors=("uniform",))
    row = landed((0.5,)).model_copy(update={"case": alone})
    assert not row.answers(alone)  # its export failed
    row = row.model_copy(update={"exported": 0.5})
    assert row.answers(alone)
    assert not row.answers(case("other"))
    assert not row.answers(beside)
    assert row.model_copy(update={"competitors": (Competitor(name="uniform", reason="fails"),)}).answers(beside)
    assert GridRow(case=alone, reason="5x the speed was asked for", refused=True).answers(beside)
    assert not GridRow(case=alone, reason="it died").answers(alone)


@pytest.mark.slow
def test_a_case_is_measured_once_and_told(tmp_path, monkeypatch, capsys):
    """From the network to the row, in a process of its own, with what others keep at the same time."""
    file = tmp_path / "net.py"
    file.write_text(NETWORK, encoding="utf-8")
    asked = case("made", 0.6, f"{file}:make", competitors=("uniform",))
    monkeypatch.setattr(grid, "cases", lambda names: (asked,))
    output, page = tmp_path / "grid.jsonl", tmp_path / "grid.md"
    grid.main(["--output", str(output), "--markdown", str(page)])
    (row,) = read(output)
    assert row.reason == ""
    assert row.landing.measured[row.landing.kept_round] < 1
    assert row.exported < 1
    assert row.gap <= 1e-3
    assert row.competitors[0].name == "uniform"
    text = page.read_text(encoding="utf-8")
    assert "| made | ort | 1 | 0.6 |" in text
    assert text == capsys.readouterr().out
    size = output.stat().st_size
    grid.main(["--output", str(output)])
    grid.main(["--output", str(output), "--no-run"])
    assert output.stat().st_size == size
