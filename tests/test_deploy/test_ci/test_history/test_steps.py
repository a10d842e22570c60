"""Changes of level: those that are there are found, those that are not are not reported."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deploy.ci.history import steps
from deploy.ci.history.steps import FEWEST, changes_of_counts, find_changes
from deploy.errors import ExtraMissingError

SEED = 2026
"""Neither the constants were chosen on these histories, nor is the table of docs made of them."""


@pytest.fixture(scope="module")
def changes():
    pytest.importorskip("ruptures", reason="the extra history is not installed")
    return lambda values: find_changes(values, 0.02)


@pytest.fixture(scope="module")
def study():
    pytest.importorskip("ruptures", reason="the extra history is not installed")
    from deploy.studies.changes import finders, histories, study

    cases = {case.name: case for case in histories.CASES}

    def rates(name, count=200):
        return study.rates(finders.finders()["ours"], study.histories(cases[name], count, SEED))

    return rates


def test_of_200_steps_of_5_percent_95_percent_are_found_within_3_commits(study):
    rates = study("normal, one step")
    assert rates.found >= 0.95
    assert rates.wrong <= 0.05


def test_of_200_histories_without_a_step_5_percent_are_flagged_at_most(study):
    assert study("normal, no step").wrong <= 0.05


@pytest.mark.parametrize(
    ("case", "found"),
    [
        ("outliers, one step", 0.85),
        ("heavy tails, one step", 0.9),
        ("uneven, one step", 0.85),
        ("normal, two steps", 0.9),
        ("normal, a step and back", 0.9),
    ],
)
def test_steps_are_found_where_the_noise_is_harder(study, case, found):
    rates = study(case, 60)
    assert rates.found >= found
    assert rates.wrong <= 0.1


@pytest.mark.parametrize("case", ["outliers", "heavy tails", "uneven", "drift", "correlated", "two levels"])
def test_noise_that_is_harder_is_no_step(study, case):
    assert study(f"{case}, no step", 60).wrong <= 0.1


def _series(n=40, seed=0):
    return 1e7 * np.exp(0.01 * np.random.default_rng(seed).standard_normal(n))


def test_a_change_says_where_how_large_and_how_sure(changes):
    values = _series()
    values[25:] *= 1.05
    [change] = changes(values)
    assert change.at == 25
    assert change.low < 0.05 < change.high
    assert change.change == pytest.approx(0.05, abs=0.01)
    assert change.after / change.before - 1 == pytest.approx(change.change, abs=0.01)
    assert change.p < 1e-3


def test_nothing_is_said_of_the_newest_commits(changes):
    """One or two high values in the end may be outliers; with a third one the step is there."""
    values = _series()
    for n_high in range(1, FEWEST):
        values[-n_high:] = 1.2 * _series()[-n_high:]
        assert not changes(values)
    values[-FEWEST:] = 1.2 * _series()[-FEWEST:]
    assert [change.at for change in changes(values)] == [len(values) - FEWEST]


def test_too_short_a_history_has_no_changes(changes):
    assert changes([]) == []
    assert changes([1e6]) == []
    assert changes([1.0, 1.0, 2.0, 2.0, 2.0]) == []


def test_a_change_that_is_too_small_does_not_count(changes):
    values = 1e7 * np.exp(0.0005 * np.random.default_rng(1).standard_normal(60))
    values[30:] *= 1.01
    assert changes(values) == []
    assert [change.at for change in find_changes(values, 0.005)] == [30]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e12])
def test_the_unit_does_not_matter(changes, scale):
    values = _series()
    values[20:] *= 1.06
    assert [change.at for change in changes(scale * values)] == [change.at for change in changes(values)]


def test_noiseless_values_have_levels(changes):
    values = [7000.0] * 15 + [7400.0] * 15
    assert [(change.at, round(change.change, 4)) for change in changes(values)] == [(15, 0.0571)]
    assert changes([7000.0] * 30) == []


def test_values_that_have_no_logarithm_are_refused(changes):
    with pytest.raises(ValueError, match="positive values"):
        changes([0.0] * 10)


def test_every_change_of_a_count_is_one():
    found = changes_of_counts([10, 10, 11, 11, 10, 0, 5])
    assert [(change.at, change.before, change.after) for change in found] == [
        (2, 10, 11),
        (4, 11, 10),
        (5, 10, 0),
        (6, 0, 5),
    ]
    assert found[0].change == pytest.approx(0.1)
    assert math.isinf(found[-1].change)


def test_without_the_library_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setattr(steps, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissingError, match=r"change points need ruptures: .*\[history\]"):
        find_changes([1.0] * 30, 0.02)
