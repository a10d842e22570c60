"""The store of labels: unions, locks and the closure."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from pruners.channels.labels import Labels, Lock, Value

WHY = Lock("because")


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), max_size=40), st.sets(st.integers(1, 20)))
def test_solve_finds_connected_classes_and_spreads_locks(pairs, locked):
    labels = Labels()
    labels.fresh(20)
    half = len(pairs) // 2
    for part in (pairs[:half], pairs[half:]):  # solving in between must not matter
        for a, b in part:
            labels.unite(torch.tensor([a]), torch.tensor([b]), WHY)
        labels.solve()
    for label in locked:
        labels.lock(torch.tensor([label]), WHY)
    labels.solve()

    classes = {label: {label} for label in range(1, 21)}
    for a, b in pairs:
        merged = classes[a] | classes[b]
        classes.update(dict.fromkeys(merged, merged))
    for label, members in classes.items():
        expected = 0 if members & locked else min(members)
        assert int(labels.roots(torch.tensor(label))) == expected
        assert int(labels.classes(torch.tensor(label))) == min(members)
        assert (labels.lock_of(label) == WHY) == bool(members & locked)


def test_uniting_with_no_label_locks():
    labels = Labels()
    own = labels.fresh(3)
    labels.unite(own, torch.tensor([0, 2, 0]), WHY)
    labels.solve()
    assert labels.roots(own).tolist() == [0, 2, 0]


def test_a_tensor_that_vanishes_by_what_another_one_ties_is_locked():
    labels = Labels()
    square = labels.fresh(4).reshape(2, 2)
    row = square[0]
    labels.close([Value((2,), (row,)), Value((2, 2), (square,))])
    assert labels.roots(row).tolist() == [0, 0], "one class once the columns of the square are tied"
    assert labels.roots(square[1]).unique().numel() == 1
    assert labels.roots(square[1]).all()


def test_the_closure_keeps_the_axis_with_most_classes():
    labels = Labels()
    slot = labels.fresh(6).reshape(2, 3)
    labels.close([Value((2, 3), (slot,))])
    assert labels.roots(slot).tolist() == [[1, 2, 3], [1, 2, 3]]


def test_a_tensor_that_would_vanish_is_locked():
    labels = Labels()
    slot = labels.fresh(3)
    labels.tie(slot, [0], WHY)
    labels.close([Value((3,), (slot,))])
    assert labels.roots(slot).tolist() == [0, 0, 0]


def test_two_kinds_of_channels_on_one_axis_are_locked():
    labels = Labels()
    a, b = labels.fresh(4), labels.fresh(4)
    labels.close([Value((4,), (a, b))])
    assert not labels.roots(torch.cat([a, b])).any()
