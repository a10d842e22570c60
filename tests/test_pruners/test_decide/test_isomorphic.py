"""Groups that are built alike are ranked together, and every class pays its share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pruners.decide.budget import Budget
from pruners.decide.choices import Choices
from pruners.decide.decisions import decide
from pruners.decide.isomorphic import isomorphic_classes, tensor_kinds
from pruners.graph import trace
from pruners.groups import ChannelGroup, Member
from pruners.testing import make_network, make_task


def classes_of(model):
    graph = trace(model, make_task(model).example_inputs)
    return isomorphic_classes(graph.groups, tensor_kinds(model))


def test_what_blocks_have_in_common_is_one_class():
    classes = classes_of(make_network("residual"))
    assert ("blocks.0.conv1", "blocks.1.conv1") in classes
    # The residual stream joins three convolutions, the stem has no norm: neither is built like anything else.
    assert ("expand",) in classes
    assert ("stem",) in classes


def test_a_norm_or_another_layer_makes_another_class():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3), nn.Conv2d(4, 8, 3), nn.Flatten()
    )
    model.append(nn.Linear(8 * 16, 12)).append(nn.Linear(12, 9)).append(nn.Linear(9, 2))
    classes = classes_of(model)
    # A convolution read by a convolution, whatever the sizes of its kernel; one with a norm; one that is flattened.
    assert ("0", "3") in classes
    assert ("1",) in classes
    assert ("4",) in classes
    assert ("6", "7") in classes


def test_units_of_other_width_make_another_class():
    """A map of 4 positions is flattened into 4 columns of the next layer, one of 16 into 16."""

    def flattened(name, reader, width):
        indices = tuple(tuple(range(unit * width, (unit + 1) * width)) for unit in range(3))
        made = Member(path=f"{name}.weight", axis=0, indices=((0,), (1,), (2,)), produces=True)
        read = Member(path=f"{reader}.weight", axis=1, indices=indices, produces=False)
        return ChannelGroup(name=name, n_units=3, members=(made, read))

    groups = [flattened("a", "x", 4), flattened("b", "y", 16), flattened("c", "z", 4)]
    kinds = {f"{name}.weight": "Conv2d.weight" for name in "abc"} | {
        f"{name}.weight": "Linear.weight" for name in "xyz"
    }
    assert isomorphic_classes(groups, kinds) == (("a", "c"), ("b",))


def units(choices, limit):
    return Budget(cost=lambda counts: sum((choices.whole | dict(counts)).values()), limit=limit, of="units")


def test_each_class_is_ranked_within_and_pays_its_share():
    choices = Choices({name: tuple(range(1, 5)) for name in "abcd"})
    scores = {"a": [1.0, 2.0, 3.0, 4.0], "b": [5.0, 6.0, 7.0, 8.0]}
    scores |= {name: [100 * score for score in scores[other]] for name, other in (("c", "a"), ("d", "b"))}
    budget = units(choices, 12)
    assert decide("greedy", choices, scores, budget) == {"a": 1, "b": 3, "c": 4, "d": 4}
    classes = [("a", "b"), ("c", "d", "fixed")]
    assert decide("greedy", choices, scores, budget, classes=classes) == {"a": 2, "b": 4, "c": 2, "d": 4}


@given(st.lists(st.integers(4, 30), min_size=2, max_size=6), st.data())
def test_shares_are_equal_to_the_nearest_unit(sizes, data):
    choices = Choices({f"g{i}": tuple(range(1, size + 1)) for i, size in enumerate(sizes)})
    names = list(choices.legal)
    half = data.draw(st.integers(1, len(names) - 1))
    classes = [names[:half], names[half:]]
    score = st.floats(0, 1)
    scores = {name: data.draw(st.lists(score, min_size=n, max_size=n)) for name, n in zip(names, sizes, strict=True)}
    budget = units(choices, data.draw(st.integers(sum(sizes) * 3 // 4, sum(sizes))))
    for decision in ("global", "greedy"):
        counts = decide(decision, choices, scores, budget, classes=classes)
        lost = [(sum(choices.whole[n] - counts[n] for n in own), sum(choices.whole[n] for n in own)) for own in classes]
        (first, of_first), (second, of_second) = lost
        floors = any(count == 1 for count in counts.values())
        assert floors or abs(first / of_first - second / of_second) <= 0.5 / of_first + 0.5 / of_second + 1e-9


def test_a_group_of_no_class_is_our_own_mistake():
    choices = Choices({"a": (1, 2), "b": (1, 2)})
    scores = {"a": [1.0, 2.0], "b": [1.0, 2.0]}
    with pytest.raises(ValueError, match="'b' is in no class"):
        decide("greedy", choices, scores, units(choices, 3), classes=[("a",)])
    with pytest.raises(ValueError, match="'a' is in two classes"):
        decide("greedy", choices, scores, units(choices, 3), classes=[("a", "b"), ("a",)])
