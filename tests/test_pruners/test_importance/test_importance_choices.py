"""Reductions over members and normalisations of groups: properties, and numbers worked out on paper."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners.errors import MethodError
from pruners.importance.normalise import normalisation_names, normalise
from pruners.importance.reduce import reduce_members, reduction_names

NUMBERS = st.floats(-1e6, 1e6).map(lambda value: value if abs(value) > 1e-250 else 0.0)
GROUP = st.lists(NUMBERS, min_size=1, max_size=6)
SCORES = st.dictionaries(st.text(max_size=2), GROUP.map(tuple), max_size=3)
NORMS = st.sampled_from([name for name in normalisation_names() if name != "none"])


@given(SCORES)
def test_no_normalisation_changes_nothing(scores):
    assert normalise(scores, "none") == scores


@given(SCORES, NORMS)
def test_normalisation_keeps_the_order_within_a_group(scores, how):
    for name, values in normalise(scores, how).items():
        by_score = sorted(range(len(values)), key=scores[name].__getitem__)
        assert all(values[a] <= values[b] + 1e-12 for a, b in pairwise(by_score))


@given(SCORES, NORMS.filter(lambda how: how != "log"), st.floats(1e-3, 1e3))
def test_normalisation_forgets_the_scale_of_a_group(scores, how, factor):
    scaled = {name: tuple(factor * value for value in values) for name, values in scores.items()}
    for name, values in normalise(scores, how).items():
        if how == "std" and max(scores[name]) - min(scores[name]) < 1e-6 * max(map(abs, scores[name])):
            continue  # the spread is rounding
        assert normalise(scaled, how)[name] == pytest.approx(values, rel=1e-6, abs=1e-6)


@given(SCORES)
def test_norms_have_the_length_that_they_say(scores):
    lengths = {
        "l1": lambda v: math.fsum(map(abs, v)),
        "l2": lambda v: math.hypot(*v),
        "max": lambda v: max(map(abs, v)),
    }
    for how, length in lengths.items():
        for name, values in normalise(scores, how).items():
            assert length(values) == pytest.approx(1.0 if any(scores[name]) else 0.0)


@given(GROUP, st.randoms())
def test_normalisation_moves_with_its_units(values, rng):
    order = list(range(len(values)))
    rng.shuffle(order)
    for how in normalisation_names():
        first = normalise({"a": values}, how)["a"]
        second = normalise({"a": [values[unit] for unit in order]}, how)["a"]
        assert second == pytest.approx([first[unit] for unit in order], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("none", (3.0, 4.0, 5.0)),
        ("l1", (0.25, 1 / 3, 5 / 12)),
        ("l2", (3 / 50**0.5, 4 / 50**0.5, 5 / 50**0.5)),
        ("max", (0.6, 0.8, 1.0)),
        ("mean", (0.75, 1.0, 1.25)),
        ("std", (-(1.5**0.5), 0.0, 1.5**0.5)),
        ("lamp", (9 / 50, 16 / 41, 1.0)),
        ("log", (12 * math.log(12 / 9), 12 * math.log(9 / 5), 12 * math.log(2))),
    ],
)
def test_normalisations_by_hand(how, expected):
    assert normalise({"a": (3.0, 4.0, 5.0)}, how)["a"] == pytest.approx(expected)


@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=6, unique=True), st.floats(1e-3, 1e3))
def test_what_a_group_keeps_counts_by_its_logarithm(values, factor):
    """Differences between kept counts are those of the logarithm, in the unit of the scores."""
    worth = normalise({"a": values}, "log")["a"]
    best = sorted(range(len(values)), key=lambda unit: -values[unit])
    for most in range(2, len(values) + 1):
        kept = math.fsum(values[unit] for unit in best[:most])
        gain = math.fsum(worth[unit] for unit in best[1:most])
        assert gain == pytest.approx(math.fsum(values) * math.log(kept / values[best[0]]), rel=1e-6, abs=1e-9)
    assert normalise({"a": [factor * value for value in values]}, "log")["a"] == pytest.approx(
        [factor * value for value in worth], rel=1e-6
    )


def test_equal_scores_have_equal_lamp_scores():
    assert normalise({"a": (2.0, 2.0, 1.0)}, "lamp")["a"] == pytest.approx((0.5, 0.5, 1 / 9))


@pytest.mark.parametrize("how", normalisation_names())
def test_a_group_of_zeros_stays_zero(how):
    assert normalise({"a": (0.0, 0.0)}, how) == {"a": (0.0, 0.0)}


def test_reductions_by_hand():
    rows = {"a": [(1.0, 2.0, None), (3.0, None, -1.0)]}
    assert reduce_members(rows, "sum") == {"a": (4.0, 2.0, -1.0)}
    assert reduce_members(rows, "mean") == {"a": (2.0, 2.0, -1.0)}
    assert reduce_members(rows, "max") == {"a": (3.0, 2.0, -1.0)}


@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=4), st.randoms())
def test_reductions_do_not_ask_for_the_order_of_members(rows, rng):
    shuffled = rng.sample(rows, len(rows))
    for how in reduction_names():
        found = reduce_members({"a": rows}, how)["a"]
        assert found == reduce_members({"a": shuffled}, how)["a"]
        if len(rows) == 1:
            assert found == tuple(rows[0])


def test_what_cannot_be_reduced_is_refused():
    with pytest.raises(MethodError, match="unit 1 of group 'a' has no score in any member"):
        reduce_members({"a": [(1.0, None)]}, "sum")
    with pytest.raises(MethodError, match="unknown reduction 'median'"):
        reduce_members({"a": [(1.0,)]}, "median")
    with pytest.raises(MethodError, match="unknown normalisation 'softmax'"):
        normalise({"a": (1.0,)}, "softmax")
