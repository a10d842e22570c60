"""examples/ci as it stands: in a git repository of two commits, each change is told by its own line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deploy.ci.check_file import load_check_file

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tools"))
import ci_rates  # noqa: E402 - a tool, not a package

FAST = ["wrong-answers", "more-memory", "larger-file", "lower-accuracy"]


def test_the_check_file_of_the_example_is_legal():
    file = load_check_file(ROOT / "examples" / "ci" / "deploy-check.yaml")
    assert file.names() == ("model",)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["none", "slower", *FAST])
def test_each_change_is_told_by_its_own_line(tmp_path, change):
    ci_rates.make_repository(tmp_path, change)
    found = ci_rates.run(tmp_path)
    wanted = ci_rates.BROKEN_BY[change]
    if wanted is None:
        assert not found["broken"]
    elif found["verdicts"][wanted] != "unfit":  # a busy machine tells no times
        assert wanted in found["broken"]


def test_rates_are_counted_by_change():
    rows = [
        {"change": "none", "load": 1, "exit_code": 0, "broken": [], "seconds": 31.2},
        {"change": "none", "load": 1, "exit_code": 1, "broken": ["slower"], "seconds": 40.0},
        {"change": "slower", "load": 0, "exit_code": 1, "broken": ["slower"], "seconds": 50.0},
    ]
    assert list(ci_rates.table(rows))[2:] == [
        "| none | 1 | 2 | 1 | 0: 1, 1: 1 | 40 |",
        "| slower | 0 | 1 | 1 | 1: 1 | 50 |",
    ]
