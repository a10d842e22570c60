"""The study of finders: its histories are what they say, its rates are counted right, its tables are written."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("ruptures", reason="the extra history is not installed")

from deploy.studies.changes import study
from deploy.studies.changes.finders import finders
from deploy.studies.changes.histories import CASES, History, simulated


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_histories_are_what_their_case_says(case):
    for number in range(20):
        made = simulated(case, np.random.default_rng(number))
        assert len(made.values) == 60
        assert len(made.steps) == {"none": 0, "one": 1, "two": 2, "back": 2}[case.steps]
        assert all(3 <= step <= 57 for step in made.steps)
        assert min(made.values) > 0
        assert simulated(case, np.random.default_rng(number)) == made


def test_rates_count_steps_and_histories():
    drawn = [History((1.0,) * 60, (20,)), History((1.0,) * 60, (20, 40)), History((1.0,) * 60, ())]
    answers = [[23], [36, 44], [5]]
    assert study.rates(lambda _: answers, drawn) == study.Rates(found=1 / 3, wrong=2 / 3)
    assert study.rates(lambda _: [[]], drawn[2:]) == study.Rates(found=None, wrong=0.0)


def test_tables_are_written_into_a_page(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "CASES", CASES[:1])
    page = tmp_path / "page.md"
    assert study.main(["--count", "3", "--markdown", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "| normal, no step | 0.0 % false |" in text
    assert text.strip() in f"<!-- changes: begin -->\n\n{capsys.readouterr().out.strip()}\n\n<!-- changes: end -->"
    assert study.main(["--count", "1", "--otava", sys.executable]) == 2
    assert "cannot run Otava" in capsys.readouterr().err
    assert set(finders()) < set(finders(sys.executable))
