"""Decisions are pure: floors, multiples, exclusions and targets hold for any group sizes, scores and costs."""

from __future__ import annotations

from itertools import pairwise, product
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruners.decide.budget import Budget
from pruners.decide.choices import Choices, choices_of, excluded_groups, groups_by_ratio
from pruners.decide.counts import counts_along, ratio_counts
from pruners.decide.uniform import uniform_counts
from pruners.decide.greedy import greedy_counts
from pruners.decide.units import top_units
from pruners.errors import NothingToPruneError, SelectorError, TargetError
from pruners.groups import ChannelGroup, Member
from pruners.task import Constraints


def group(name, n_units, *, layers=(), width=1, fixed="", min_units=1):
    members = tuple(
        Member(
            path=f"{layer}.weight",
            axis=0,
            indices=tuple(tuple(range(unit * width, (unit + 1) * width)) for unit in range(n_units)),
            produces=True,
        )
        for layer in (name, *layers)
    )
    return ChannelGroup(name=name, n_units=n_units, members=members, fixed=fixed, min_units=min_units)


def chain_cost(sizes):
    """MACs of a chain of 1x1 convolutions from 3 channels: products of neighbouring counts."""

    def cost(counts):
        whole = {**sizes, **counts}
        widths = [3, *(whole[name] for name in sizes), 7]
        return sum(a * b for a, b in pairwise(widths))

    return cost


@st.composite
def problems(draw, max_groups=4, max_units=12):
    """Draw a chain of groups, constraints, scores, and a target that the constraints allow."""
    sizes = {f"conv{i}": draw(st.integers(2, max_units)) for i in range(draw(st.integers(1, max_groups)))}
    constraints = Constraints(
        multiple_of=draw(st.sampled_from([1, 1, 2, 4])),
        min_units=draw(st.integers(1, 3)),
        min_fraction=draw(st.sampled_from([0.0, 0.25, 0.5])),
    )
    try:
        choices = choices_of([group(name, size) for name, size in sizes.items()], constraints)
    except NothingToPruneError:
        sizes = dict.fromkeys(sizes, max_units)
        choices = choices_of([group(name, size) for name, size in sizes.items()], constraints)
    number = st.floats(0, 10, allow_nan=False)
    scores = {name: draw(st.lists(number, min_size=size, max_size=size)) for name, size in sizes.items()}
    cost = chain_cost(sizes)
    limit = draw(st.integers(cost(choices.floor), cost({})))
    return sizes, constraints, choices, scores, Budget(cost=cost, limit=limit, of="flops")


def assert_legal(counts, sizes, constraints):
    assert counts.keys() == sizes.keys()
    for name, count in counts.items():
        assert 1 <= count <= sizes[name]
        if count < sizes[name]:
            assert count >= constraints.min_units
            assert count >= ceil(constraints.min_fraction * sizes[name] - 1e-9)
            assert count % constraints.multiple_of == 0


def steps_up(choices, counts, budget):
    larger = {name: choices.above(name, count) for name, count in counts.items()}
    return {
        name: budget.cost({**counts, name: count}) - budget.cost(counts)
        for name, count in larger.items()
        if count is not None
    }


@given(problems())
def test_greedy_lands_at_or_below_the_target_and_no_group_can_take_a_step_up(problem):
    sizes, constraints, choices, scores, budget = problem
    counts = greedy_counts(choices, scores, budget)
    assert_legal(counts, sizes, constraints)
    assert budget.met(counts)
    slack = budget.limit - budget.cost(counts)
    assert all(step > slack for step in steps_up(choices, counts, budget).values())


@given(problems())
def test_uniform_lands_within_one_step_of_the_target_and_of_one_fraction(problem):
    sizes, constraints, choices, _, budget = problem
    counts = uniform_counts(choices, budget)
    assert_legal(counts, sizes, constraints)
    assert budget.met(counts)
    steps = steps_up(choices, counts, budget)
    if steps:
        assert budget.limit - budget.cost(counts) < max(steps.values())
    if constraints == Constraints():
        # One fraction explains all counts: intervals (count - 1.5, count + 0.5) / size have a point in common.
        lowest = max((count - 1.5) / sizes[name] for name, count in counts.items())
        highest = min((count + 0.5) / sizes[name] for name, count in counts.items())
        assert lowest <= highest + 1e-9


@given(problems(), st.floats(0.0, 1.0))
def test_a_looser_target_never_removes_more_in_all(problem, share):
    _, _, choices, scores, budget = problem
    loose = Budget(cost=budget.cost, limit=budget.limit + share * (budget.cost({}) - budget.limit), of="flops")
    for decide in (uniform_counts, lambda c, b: greedy_counts(c, scores, b)):
        assert budget.cost(decide(choices, budget)) <= budget.limit
        assert budget.cost(decide(choices, loose)) <= loose.limit
    tight, wide = greedy_prefix(choices, scores, budget), greedy_prefix(choices, scores, loose)
    assert all(tight[name] <= wide[name] for name in tight)


def greedy_prefix(choices, scores, budget):
    """Remove units strictly lowest first, one legal step at a time, without giving back: by hand."""
    counts = choices.whole
    ranked = {name: sorted(scores[name]) for name in counts}
    while not budget.met(counts):
        candidates = []
        for order, name in enumerate(counts):
            smaller = [legal for legal in choices.legal[name] if legal < counts[name]]
            if smaller:
                size = choices.whole[name]
                block = ranked[name][size - counts[name] : size - smaller[-1]]
                candidates.append((sum(block) / len(block), order, name, smaller[-1]))
        _, _, name, count = min(candidates)
        counts[name] = count
    return counts


@given(problems())
def test_greedy_keeps_at_least_what_a_hand_written_loop_keeps(problem):
    _, _, choices, scores, budget = problem
    by_hand = greedy_prefix(choices, scores, budget)
    counts = greedy_counts(choices, scores, budget)
    assert all(counts[name] >= by_hand[name] for name in counts)
    assert budget.cost(counts) >= budget.cost(by_hand)


@given(st.lists(st.integers(2, 5), min_size=1, max_size=3), st.data())
def test_greedy_is_optimal_where_units_cost_alike(sizes, data):
    """With one price for every unit, lowest-first keeps the largest sum of scores of all legal choices."""
    names = [f"conv{i}" for i in range(len(sizes))]
    choices = choices_of([group(n, s) for n, s in zip(names, sizes, strict=True)], Constraints())
    scores = {
        n: data.draw(st.lists(st.integers(0, 100), min_size=s, max_size=s, unique=True))
        for n, s in zip(names, sizes, strict=True)
    }
    limit = data.draw(st.integers(len(sizes), sum(sizes)))
    budget = Budget(cost=lambda counts: sum({**choices.whole, **counts}.values()), limit=limit, of="units")

    def worth(counts):
        kept = top_units(scores, counts)
        return sum(scores[name][unit] for name, units in kept.items() for unit in units)

    every = [dict(zip(names, counts, strict=True)) for counts in product(*(choices.legal[name] for name in names))]
    best = max(worth(counts) for counts in every if budget.met(counts))
    assert worth(greedy_counts(choices, scores, budget)) == best


@given(problems(), st.integers(1, 20))
def test_max_units_bounds_what_one_step_removes(problem, max_units):
    _, _, choices, scores, budget = problem
    counts = greedy_counts(choices, scores, budget, max_units=max_units)
    removed = sum(choices.whole[name] - count for name, count in counts.items())
    one_move = max(b - a for legal in choices.legal.values() for a, b in pairwise(legal))
    assert removed <= max(max_units, one_move)
    assert removed > 0 or budget.met(choices.whole)


@given(problems())
def test_steps_of_a_few_units_reach_the_target(problem):
    sizes, constraints, choices, scores, budget = problem
    counts, present = choices.whole, {name: sorted(values) for name, values in scores.items()}
    for _ in range(sum(sizes.values())):
        if budget.met(counts):
            break
        counts = greedy_counts(choices.left(counts), present, budget, max_units=2)
        present = {name: values[len(values) - counts[name] :] for name, values in present.items()}
    assert budget.met(counts)
    assert_legal(counts, sizes, constraints)


@given(problems(), st.lists(st.floats(0.01, 1), min_size=4, max_size=4))
def test_any_falling_curve_is_followed_to_the_target(problem, bases):
    sizes, constraints, choices, _, budget = problem

    def fractions(strength):
        exponent = strength / (1 - strength) if strength < 1 else float("inf")
        return {name: 0.0 if strength == 1 else base**exponent for name, base in zip(sizes, bases, strict=False)}

    counts = counts_along(fractions, choices, budget)
    assert_legal(counts, sizes, constraints)
    assert budget.met(counts)


def test_lowest_first_by_hand():
    choices = choices_of([group("a", 3), group("b", 3)], Constraints())
    scores = {"a": [5.0, 1.0, 3.0], "b": [2.0, 9.0, 4.0]}
    budget = Budget(cost=lambda counts: sum({**choices.whole, **counts}.values()), limit=3, of="units")
    assert greedy_counts(choices, scores, budget) == {"a": 1, "b": 2}
    assert top_units(scores, {"a": 1, "b": 2}) == {"a": (0,), "b": (1, 2)}


def test_units_that_still_fit_are_given_back():
    """Removing the cheap unit was needed only until the dear one went: it comes back."""
    choices = Choices({"cheap": (1, 2), "dear": (1, 2)})
    budget = Budget(
        cost=lambda counts: {**choices.whole, **counts}["cheap"] + 10 * {**choices.whole, **counts}["dear"],
        limit=13,
        of="flops",
    )
    assert greedy_counts(choices, {"cheap": [1.0, 2.0], "dear": [1.5, 3.0]}, budget) == {"cheap": 2, "dear": 1}


def test_uniform_gives_back_where_groups_step_at_once():
    choices = choices_of([group("a", 4), group("b", 4)], Constraints())
    budget = Budget(cost=lambda counts: sum({**choices.whole, **counts}.values()), limit=7, of="units")
    assert uniform_counts(choices, budget) == {"a": 4, "b": 3}


def test_a_block_falls_by_the_mean_of_its_units():
    choices = choices_of([group("a", 4), group("b", 4)], Constraints(multiple_of=2))
    scores = {"a": [0.0, 10.0, 20.0, 20.0], "b": [3.0, 4.0, 20.0, 20.0]}
    budget = Budget(cost=lambda counts: sum({**choices.whole, **counts}.values()), limit=6, of="units")
    assert greedy_counts(choices, scores, budget) == {"a": 4, "b": 2}


def test_equal_scores_fall_in_a_fixed_order():
    assert top_units({"a": [1.0, 1.0, 1.0, 1.0]}, {"a": 2}) == {"a": (0, 1)}
    choices = choices_of([group("a", 3), group("b", 3)], Constraints())
    budget = Budget(cost=lambda counts: sum({**choices.whole, **counts}.values()), limit=4, of="units")
    flat = {"a": [1.0] * 3, "b": [1.0] * 3}
    assert greedy_counts(choices, flat, budget) == {"a": 1, "b": 3}


def test_scores_of_another_length_are_our_own_mistake():
    choices = Choices({"a": (1, 2)})
    with pytest.raises(ValueError, match="2 units but 3 scores"):
        greedy_counts(choices, {"a": [1.0, 2.0, 3.0]}, Budget(cost=lambda counts: 1, limit=1, of="flops"))


@pytest.mark.parametrize(
    ("n_units", "width", "constraints", "legal"),
    [
        (8, 1, Constraints(), (1, 2, 3, 4, 5, 6, 7, 8)),
        (8, 1, Constraints(min_units=6), (6, 7, 8)),
        (8, 1, Constraints(min_units=20), (8,)),
        (10, 1, Constraints(min_fraction=0.7), (7, 8, 9, 10)),
        (20, 1, Constraints(multiple_of=8), (8, 16, 20)),
        (4, 1, Constraints(multiple_of=8), (4,)),
        (12, 2, Constraints(multiple_of=8), (4, 8, 12)),
        (6, 8, Constraints(multiple_of=8), (1, 2, 3, 4, 5, 6)),
        (6, 3, Constraints(multiple_of=4), (4, 6)),
    ],
)
def test_legal_counts(n_units, width, constraints, legal):
    other = group("other", 64)
    assert choices_of([group("a", n_units, width=width), other], constraints).legal["a"] == legal


def test_a_groups_own_floor_counts():
    choices = choices_of([group("a", 4, min_units=2)], Constraints())
    assert choices.legal["a"] == (2, 3, 4)


def test_units_of_unequal_width_are_not_aligned():
    ragged = ChannelGroup(
        name="a",
        n_units=3,
        members=(Member(path="a.weight", axis=0, indices=((0,), (1, 2), (3,)), produces=True),),
    )
    assert choices_of([ragged, group("b", 8)], Constraints(multiple_of=2)).legal["a"] == (3,)
    assert choices_of([ragged], Constraints()).legal["a"] == (1, 2, 3)


def test_a_layer_is_excluded_with_all_that_share_its_channels():
    stage = group("stem", 8, layers=("block1.conv2", "block2.conv2"))
    groups = [stage, group("block1.conv1", 8), group("block2.conv1", 8)]
    assert excluded_groups(groups, ["block2.*"]) == {"stem", "block2.conv1"}
    assert excluded_groups(groups, ["stem"]) == {"stem"}
    assert choices_of(groups, Constraints(exclude=("block2.*",))).whole == {"block1.conv1": 8}


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("layr1.conv1", "did you mean 'layer1.conv1'"), ("zzz", "there are: layer1.conv1, fc")],
)
def test_a_pattern_that_matches_nothing_is_an_error(pattern, said):
    groups = [group("layer1.conv1", 8), group("fc", 10, fixed="it is an output")]
    with pytest.raises(SelectorError, match=said):
        excluded_groups(groups, [pattern])
    with pytest.raises(SelectorError, match="matches no group"):
        groups_by_ratio(groups, {pattern: 0.5})


def test_ratios_name_groups():
    groups = [group("stem", 8, layers=("block.conv2",)), group("block.conv1", 10), group("fc", 5, fixed="an output")]
    assert groups_by_ratio(groups, {"*": 0.5, "stem": 0.0}) == {"stem": 0.0, "block.conv1": 0.5}
    with pytest.raises(SelectorError, match="may not be pruned: an output"):
        groups_by_ratio(groups, {"fc": 0.5})
    with pytest.raises(SelectorError, match="group 'stem', name that"):
        groups_by_ratio(groups, {"block.conv2": 0.5})


@pytest.mark.parametrize(
    ("n_units", "removed", "kept"),
    [(64, 0.5, 32), (16, 0.1, 14), (64, 0.3, 44), (10, 0.9, 1), (3, 0.99, 1), (5, 0.2, 4), (10, 0.8, 2)],
)
def test_ratios_round_as_li_2017(n_units, removed, kept):
    groups = [group("a", n_units), group("b", 4)]
    assert ratio_counts(choices_of(groups, Constraints()), groups, {"a": removed}) == {"a": kept, "b": 4}


def test_ratios_take_the_nearest_legal_count():
    groups = [group("a", 16), group("b", 32)]
    choices = choices_of(groups, Constraints(multiple_of=8, exclude=("b",)))
    assert ratio_counts(choices, groups, {"*": 0.3}) == {"a": 8}
    with pytest.raises(NothingToPruneError, match="remove no unit"):
        ratio_counts(choices, groups, {"*": 0.1})


def test_an_unreachable_target_says_how_far_one_gets():
    choices = choices_of([group("a", 8)], Constraints(min_units=4))
    budget = Budget(cost=lambda counts: {**choices.whole, **counts}["a"], limit=2, of="params")
    for decide in (uniform_counts, lambda c, b: greedy_counts(c, {"a": [1.0] * 8}, b)):
        with pytest.raises(TargetError, match=r"params: at most 0\.25 .* 0\.5 is left"):
            decide(choices, budget)


@pytest.mark.parametrize(
    ("groups", "constraints", "said"),
    [
        ([], Constraints(), "no group"),
        ([group("a", 4, fixed="an output")], Constraints(), "fixed, e.g. 'a': an output"),
        ([group("a", 4)], Constraints(exclude=("*",)), "excluded"),
        ([group("a", 4)], Constraints(multiple_of=8), "multiple_of=8"),
        ([group("a", 4)], Constraints(min_fraction=1.0), "min_fraction=1.0"),
    ],
)
def test_nothing_to_prune_says_why(groups, constraints, said):
    with pytest.raises(NothingToPruneError, match=said):
        choices_of(groups, constraints)
