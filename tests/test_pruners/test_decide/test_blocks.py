"""Which residual blocks go, and what holds them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pruners.base import Method, Outcome, plan_of
from pruners.decide.blocks import groups_inside, held_blocks, removed_blocks, without_blocks
from pruners.decide.budget import Budget
from pruners.decide.choices import Choices
from pruners.decide.decisions import decide
from pruners.errors import MethodError
from pruners.graph import trace
from pruners.target import Constraints, Target
from pruners.testing import make_network, make_task


@dataclass
class Costs:
    """A stem of 10 units of cost 1, and blocks of a cost each."""

    blocks: dict[str, float]
    limit: float

    def __call__(self, removed):
        left = sum(cost for name, cost in self.blocks.items() if name not in removed)
        return Budget(
            cost=lambda counts: left + counts.get("stem", 10),
            limit=self.limit,
            of="flops",
            dense_cost=10 + sum(self.blocks.values()),
        )


UNITS = Choices({"stem": tuple(range(1, 11))})
NO_UNITS = Choices({"stem": (10,)})
HIGH = {"stem": [0.9] * 10}


@pytest.mark.parametrize(
    ("scales", "scores", "limit", "expected"),
    [
        ({"a": 0.0, "b": 0.5, "c": 0.2}, HIGH, 20, ("a", "c")),  # lowest first, as many as are needed
        ({"a": 0.0, "b": 0.5, "c": 0.2}, HIGH, 39, ()),  # each would land below: units do it
        ({"a": 0.95, "b": 0.95, "c": 0.95}, HIGH, 32, ()),  # units below the blocks are enough
        ({"a": 0.95, "b": 0.95, "c": 0.95}, HIGH, 29, ("a",)),  # and here they are not
        ({"a": 0.0, "b": 0.0, "c": 0.0}, {"stem": [0.0] * 10}, 29, ("a",)),  # blocks before units at the same score
        ({"a": 0.3, "b": 0.2, "c": 0.1}, HIGH, 2, ("c", "b", "a")),  # units have a floor
    ],
)
def test_structures_fall_in_the_order_of_their_scores(scales, scores, limit, expected):
    assert removed_blocks(scales, scores, UNITS, Costs({"a": 10, "b": 10, "c": 10}, limit)) == expected


def test_a_block_that_overshoots_stays_and_the_next_one_goes():
    costs = Costs({"large": 20, "small": 5}, limit=28)
    assert removed_blocks({"large": 0.0, "small": 0.1}, HIGH, UNITS, costs) == ("small",)


def test_without_units_blocks_land_below_and_the_highest_come_back():
    costs = Costs({"a": 8, "b": 8, "c": 3, "d": 1}, limit=17.5)
    assert removed_blocks({"a": 0.0, "b": 0.1, "c": 0.2, "d": 0.3}, {}, NO_UNITS, costs) == ("a", "b")


@given(
    st.lists(st.tuples(st.integers(1, 30), st.floats(0, 1)), min_size=1, max_size=6),
    st.lists(st.floats(0, 1), min_size=10, max_size=10),
    st.floats(0.05, 0.95),
    st.booleans(),
)
def test_the_budget_is_met_with_what_is_left(blocks, scores, kept, with_units):
    names = {f"b{number}": cost for number, (cost, _) in enumerate(blocks)}
    scales = {f"b{number}": scale for number, (_, scale) in enumerate(blocks)}
    costs = Costs(names, kept * (10 + sum(names.values())))
    choices = UNITS if with_units else NO_UNITS
    if not costs(names).met(choices.floor):
        return
    removed = removed_blocks(scales, {"stem": scores}, choices, costs)
    counts = decide("global", choices, {"stem": scores}, costs(removed))
    assert costs(removed).met(counts)
    if not with_units:
        assert not any(costs([n for n in removed if n != name]).met(counts) for name in removed[-1:])
    order = [scales[name] for name in removed]
    assert order == sorted(order)


def graph_of(name="residual"):
    return trace(make_network(name), (torch.zeros(2, 3, 8, 8),))


@pytest.mark.parametrize(
    ("constraints", "held"),
    [
        (Constraints(exclude=("stem",)), set()),
        (Constraints(exclude=("blocks.0.conv1",)), {"blocks.0"}),
        (Constraints(exclude=("expand",)), {"blocks.0", "blocks.1"}),  # their second layers share its channels
        (Constraints(bounds={"blocks.1.conv1": (0.5, 1.0)}), {"blocks.1"}),
        (Constraints(min_units=4, min_fraction=0.5), set()),
    ],
)
def test_blocks_with_layers_that_are_spoken_for_stay(constraints, held):
    graph = graph_of()
    assert held_blocks(graph.blocks, graph.groups, constraints).keys() == held


def test_groups_inside_blocks_go_with_them():
    graph = graph_of()
    inside = groups_inside(graph.groups, graph.blocks[:1])
    assert inside == {"blocks.0.conv1"}
    choices = Choices({"expand": (4, 8), "blocks.0.conv1": (2,)}, {"blocks.0.conv1": 8})
    assert without_blocks(choices, inside) == Choices({"expand": (4, 8)})


class Fixed(Method):
    """Removes what it is told to."""

    name = "fixed"
    paper = "none"

    def __init__(self, kept, blocks):
        super().__init__()
        self.kept, self.blocks = kept, blocks

    def _decide(self, task, graph):
        return Outcome(plan=plan_of(self, graph, self.kept, self.blocks))


FLOPS = Target(of="flops", kept_fraction=0.7)


@pytest.mark.parametrize(
    ("kept", "blocks", "changes", "said"),
    [
        (
            {},
            ("blocks.0",),
            {"constraints": Constraints(exclude=("blocks.0.conv1",))},
            "'blocks.0' goes, but 'blocks.0.conv1'",
        ),
        ({}, ("blocks.7",), {}, "names block 'blocks.7', which the network does not have"),
        ({}, ("blocks.0",), {"target": Target(of="flops", kept_fraction=0.3)}, "does not meet the target of 0.3"),
        (
            {"blocks.0.conv1": tuple(range(6))},
            ("blocks.1",),
            {"target": Target(of="ratios", ratios={"blocks.0.conv1": 0.5})},
            "does not follow the ratios",
        ),
    ],
)
def test_a_plan_that_removes_a_wrong_block_is_a_broken_promise(kept, blocks, changes, said):
    task = make_task(make_network("residual"), **{"target": FLOPS, "constraints": Constraints(), **changes})
    with pytest.raises(MethodError, match=said):
        Fixed(kept, blocks).prune(task)


def test_landing_counts_the_blocks_and_says_what_could_come_back():
    network = make_network("residual")
    graph = graph_of()
    share = graph.macs(blocks=("blocks.1",)) / graph.macs()
    both = graph.macs(blocks=("blocks.0", "blocks.1")) / graph.macs()
    near = make_task(network, target=Target(of="macs", kept_fraction=share + 0.005), constraints=Constraints())
    assert Fixed({}, ("blocks.1",)).prune(near).landing == ""
    far = make_task(network, target=Target(of="macs", kept_fraction=share - 0.05), constraints=Constraints())
    pruned = Fixed({}, ("blocks.0", "blocks.1")).prune(far)
    assert pruned.macs_after == round(both * graph.macs())
    assert pruned.landing == (
        f"macs: {both:.2%} of the dense network are kept, at most {share - 0.05:.2%} were asked for; the smallest "
        f"legal step up, of 'block blocks.0', would give {share:.2%}"
    )
