"""Seeded stratified choices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.sources.datasets.split import Draw, indices_sha256, stratified

labels_and_n = st.lists(st.integers(0, 6), min_size=2, max_size=200).flatmap(
    lambda labels: st.tuples(st.just(np.array(labels, dtype=np.int64)), st.integers(0, len(labels)))
)


@given(labels_and_n, st.integers(0, 2**31))
def test_choice_is_disjoint_complete_and_proportional(case, seed):
    labels, n = case
    chosen, rest = stratified(labels, n, seed=seed, draw=Draw.TEST)
    assert len(chosen) == n
    assert sorted([*chosen, *rest]) == list(range(len(labels)))
    for label in np.unique(labels):
        quota = n * np.mean(labels == label)
        assert np.floor(quota) <= np.sum(labels[chosen] == label) <= np.ceil(quota)


@given(labels_and_n, st.integers(0, 2**31))
def test_bounds_are_kept_or_refused(case, seed):
    labels, n = case
    counts = np.bincount(labels)
    possible = len(counts[counts > 0]) <= n <= len(labels)
    if not possible:
        with pytest.raises(ValueError, match="possible are"):
            stratified(labels, n, seed=seed, draw=Draw.LIMIT_TRAIN, at_least=1)
        return
    chosen, _ = stratified(labels, n, seed=seed, draw=Draw.LIMIT_TRAIN, at_least=1)
    assert set(labels[chosen]) == set(labels)
    assert len(chosen) == n


def test_no_class_loses_its_last_image():
    labels = np.array([0] * 50 + [1], dtype=np.int64)
    _, rest = stratified(labels, 25, seed=0, draw=Draw.VALIDATION, leave=1)
    assert 1 in labels[rest]
    with pytest.raises(ValueError, match="possible are 0 to 49"):
        stratified(labels, 50, seed=0, draw=Draw.VALIDATION, leave=1)


def test_seed_and_purpose_decide_and_nothing_else():
    labels = np.arange(1000, dtype=np.int64) % 10
    first, _ = stratified(labels, 100, seed=3, draw=Draw.TEST)
    again, _ = stratified(labels, 100, seed=3, draw=Draw.TEST)
    other_seed, _ = stratified(labels, 100, seed=4, draw=Draw.TEST)
    other_draw, _ = stratified(labels, 100, seed=3, draw=Draw.VALIDATION)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other_seed)
    assert not np.array_equal(first, other_draw)


def test_choice_is_the_same_on_every_machine():
    chosen, _ = stratified(np.arange(20, dtype=np.int64) % 2, 6, seed=0, draw=Draw.TEST)
    assert chosen.tolist() == [4, 7, 10, 11, 15, 18]  # recorded with NumPy 2


def test_hash_depends_on_values_and_order():
    a = np.array([1, 2, 3], dtype=np.int64)
    assert indices_sha256(a) == indices_sha256(a.astype(">i8"))
    assert indices_sha256(a) != indices_sha256(a[::-1])
