"""The small form of the study runs to its end as a user runs it, with every method that ships."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.studies.methods.recipe import load_study
from deploy.studies.methods.results import load_results
from deploy.studies.methods.study import RESULTS
from pruners.registry import names

RECIPE = Path(__file__).parents[4] / "recipes" / "study-quick.yaml"
AT_EQUAL_TIME = RECIPE.with_name("latency-digits.yaml")


def test_it_has_every_method():
    assert {method.method for method in load_study(RECIPE).all_methods} == set(names())


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_every_cell_is_pruned_and_recovered(tmp_path):
    command = [sys.executable, "-m", "deploy", "study", str(RECIPE), "--jobs", "2", "--no-measure"]
    done = subprocess.run([*command, "--output", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = load_results(tmp_path / RESULTS)
    assert {cell.method for cell in results.cells if cell.outcome == "ok"} == set(names())
    assert all(cell.recovered is not None for cell in results.cells)
    assert "At 50 % flops, fine-tuned:" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_methods_are_compared_at_equal_time(tmp_path):
    command = [sys.executable, "-m", "deploy", "study", str(AT_EQUAL_TIME), "--no-measure", "--only", "exact"]
    command += ["--only", "by-flops", "--only", "uniform", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("jobs/table-*"))) == 1
    results = load_results(tmp_path / RESULTS)
    cells = {cell.method: cell for cell in results.cells if cell.budget == "1.6x on ort"}
    for method in ("exact", "by-flops", "uniform"):
        (landing,) = cells[method].speeds
        assert (landing.backend, landing.asked) == ("ort", 1 / 1.6)
        kept = landing.measured[landing.kept_round]
        assert kept < 1
        assert bool(landing.why_off) == (abs(kept - landing.asked) > landing.tolerance)
        assert cells[method].recovered is not None
    assert "At equal time, 1.6x on ort" in done.stdout
