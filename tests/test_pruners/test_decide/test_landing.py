"""Decisions are legal, land on the budget, and are what a slow, plain loop finds, whatever the network."""

from __future__ import annotations

from itertools import pairwise, product
from math import ceil

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pruners.decide.budget import Budget
from pruners.decide.choices import Choices, choices_of
from pruners.decide.counts import counts_along
from pruners.decide.decisions import decide, decision_names
from pruners.decide.uniform import uniform_counts
from pruners.decide.units import top_units
from pruners.errors import NothingToPruneError, TargetError
from pruners.groups import ChannelGroup, Member
from pruners.target import Constraints

DECISIONS = st.sampled_from(decision_names())
RANKINGS = st.sampled_from(["global", "greedy"])
ANYHOW = 1.0
"""A tolerance that takes any landing, so that no steps are exchanged."""


def group(name, n_units):
    member = Member(path=f"{name}.weight", axis=0, indices=tuple((unit,) for unit in range(n_units)), produces=True)
    return ChannelGroup(name=name, n_units=n_units, members=(member,))


def groups_of(sizes):
    return [group(name, size) for name, size in sizes.items()]


def chain_cost(sizes):
    """MACs of a chain of 1x1 convolutions from 3 channels: products of neighbouring counts."""

    def cost(counts):
        whole = {**sizes, **counts}
        widths = [3, *(whole[name] for name in sizes), 7]
        return sum(a * b for a, b in pairwise(widths))

    return cost


@st.composite
def problems(draw, max_groups=4, max_units=12, free=False, distinct=False):
    """Draw a chain of groups, constraints, scores, and a budget that the constraints allow."""
    sizes = {f"conv{i}": draw(st.integers(2, max_units)) for i in range(draw(st.integers(1, max_groups)))}
    constraints = Constraints()
    if not free:
        bounded = draw(st.lists(st.sampled_from(list(sizes)), unique=True, max_size=2))
        constraints = Constraints(
            multiple_of=draw(st.sampled_from([1, 1, 2, 4])),
            min_units=draw(st.integers(1, 3)),
            min_fraction=draw(st.sampled_from([0.0, 0.25, 0.5])),
            exclude=draw(st.sampled_from([(), (), ("conv0",)])),
            bounds={name: draw(st.sampled_from([(0.0, 0.8), (0.5, 1.0), (0.3, 0.9)])) for name in bounded},
        )
    try:
        choices = choices_of(groups_of(sizes), constraints)
    except (NothingToPruneError, TargetError, ValueError):
        assume(False)
    number = st.integers(0, 10**6) if distinct else st.one_of(st.floats(0, 10), st.sampled_from([0.0, 1.0]))
    drawn = draw(st.lists(number, min_size=sum(sizes.values()), max_size=sum(sizes.values()), unique=distinct))
    scores = {name: [float(drawn.pop()) for _ in range(size)] for name, size in sizes.items()}
    cost = chain_cost(sizes)
    limit = draw(st.integers(cost(choices.floor), cost({})))
    return sizes, constraints, choices, scores, Budget(cost=cost, limit=limit, of="flops")


def units_budget(choices, limit, **changes):
    return Budget(cost=lambda counts: sum((choices.whole | dict(counts)).values()), limit=limit, of="units", **changes)


def assert_legal(counts, sizes, constraints):
    assert counts.keys() == {name for name in sizes if name not in constraints.exclude}
    for name, count in counts.items():
        least, most = constraints.bounds.get(name, (0.0, 1.0))
        assert least * sizes[name] - 1e-9 <= count <= most * sizes[name] + 1e-9
        assert 1 <= count <= sizes[name]
        if count < sizes[name]:
            assert count >= constraints.min_units
            assert count >= ceil(constraints.min_fraction * sizes[name] - 1e-9)
            assert count % constraints.multiple_of == 0


def steps(choices, counts, up):
    found = {name: (choices.above if up else choices.below)(name, count) for name, count in counts.items()}
    return {name: count for name, count in found.items() if count is not None}


@given(problems(), DECISIONS)
def test_what_is_decided_is_legal_and_no_neighbour_lands_closer(problem, decision):
    """Where it is not on the budget, neither one step up nor one group down and another up would be closer."""
    sizes, constraints, choices, scores, budget = problem
    counts = decide(decision, choices, scores, budget)
    assert_legal(counts, sizes, constraints)
    assert budget.met(counts)
    if not budget.landed(counts):
        cost = budget.cost(counts)
        up, down = steps(choices, counts, up=True), steps(choices, counts, up=False)
        for name, larger in up.items():
            assert not budget.met({**counts, name: larger})
            for other, smaller in down.items():
                if other != name:
                    there = budget.cost({**counts, name: larger, other: smaller})
                    assert there <= cost or there > budget.limit


@given(problems(), RANKINGS)
def test_no_group_can_take_a_step_up_in_a_ranking(problem, decision):
    _, _, choices, scores, budget = problem
    anyhow = Budget(cost=budget.cost, limit=budget.limit, of="flops", tolerance=ANYHOW)
    counts = decide(decision, choices, scores, anyhow)
    assert not any(budget.met({**counts, name: larger}) for name, larger in steps(choices, counts, up=True).items())


@given(
    st.lists(st.integers(60, 200), min_size=4, max_size=7),
    st.floats(0.05, 0.95),
    DECISIONS,
    st.sampled_from(["chain", "alike", "one"]),
    st.integers(0, 2**32),
)
def test_within_one_percent_below_the_target_wherever_single_units_are_that_small(widths, kept, decision, kind, seed):
    sizes = {f"conv{i}": width for i, width in enumerate(widths)}
    choices = choices_of(groups_of(sizes), Constraints())
    cost = chain_cost(sizes)
    dense = cost({})
    assume(max(dense - cost({name: size - 1}) for name, size in sizes.items()) < 0.01 * dense)
    assume(cost(choices.floor) <= kept * dense)
    scale = {"chain": lambda i: 10.0**i, "alike": lambda i: 1.0, "one": lambda i: 0.0}[kind]
    scores = {
        name: [scale(i) * ((seed + unit * 7919) % 101) for unit in range(size)]
        for i, (name, size) in enumerate(sizes.items())
    }
    counts = decide(decision, choices, scores, Budget(cost=cost, limit=kept * dense, of="flops"))
    assert 0 <= kept - cost(counts) / dense < 0.01


@given(problems(free=True), DECISIONS, st.data())
def test_a_looser_target_leaves_every_group_at_least_as_large(problem, decision, data):
    """With units of one price, so that none is given back on the way."""
    _, _, choices, scores, _ = problem
    tight = data.draw(st.integers(len(choices.legal), sum(choices.whole.values())))
    loose = data.draw(st.integers(tight, sum(choices.whole.values())))
    less = decide(decision, choices, scores, units_budget(choices, tight))
    more = decide(decision, choices, scores, units_budget(choices, loose))
    assert sum(less.values()) == tight
    assert sum(more.values()) == loose
    assert all(less[name] <= more[name] for name in less)


@given(problems(), DECISIONS)
def test_the_same_question_has_the_same_answer(problem, decision):
    _, _, choices, scores, budget = problem
    counts = decide(decision, choices, scores, budget)
    turned = {name: tuple(scores[name]) for name in reversed(scores)}
    assert decide(decision, choices, turned, budget) == counts
    assert list(counts) == list(choices.legal)


def undone(choices, removed, budget):
    """Make the given steps down until the budget is met, then undo those that fit, last first, one by one."""
    counts, made = choices.ceiling, []
    for name, smaller in removed:
        if budget.met(counts):
            break
        made.append((name, counts[name], smaller))
        counts[name] = smaller
    for name, larger, smaller in reversed(made):
        if counts[name] == smaller and budget.met({**counts, name: larger}):
            counts[name] = larger
    return counts


def lowest_blocks(choices, scores):
    """Yield the step whose units score lowest on average, by looking at all of them each time."""
    counts, whole = choices.ceiling, choices.whole
    ranked = {name: sorted(values) for name, values in scores.items()}
    highest = dict.fromkeys(counts, float("-inf"))
    while down := steps(choices, counts, up=False):
        means = {}
        for name, smaller in down.items():
            block = ranked[name][whole[name] - counts[name] : whole[name] - smaller]
            means[name] = max(highest[name], sum(block) / len(block))
        name = min(means, key=means.__getitem__)
        highest[name] = means[name]
        counts[name] = down[name]
        yield name, down[name]


def under_a_threshold(choices, scores):
    """Yield the steps that groups take while a threshold passes the scores of all units, one after the other."""
    counts = choices.ceiling
    for threshold in sorted(score for name in counts for score in scores[name]):
        for name in counts:
            above = sum(score > threshold for score in scores[name])
            # What is next to the number above, of counts no larger than the present one.
            wanted = min(choices.legal[name], key=lambda count: (abs(count - above), count))
            while counts[name] > wanted:
                counts[name] = choices.below(name, counts[name])
                yield name, counts[name]


@pytest.mark.parametrize(("decision", "by_hand"), [("greedy", lowest_blocks), ("global", under_a_threshold)])
@given(problem=problems(distinct=True))
def test_rankings_are_what_a_plain_loop_finds(problem, decision, by_hand):
    _, _, choices, scores, budget = problem
    anyhow = Budget(cost=budget.cost, limit=budget.limit, of="flops", tolerance=ANYHOW)
    expected = undone(choices, by_hand(choices, scores), anyhow)
    assert decide(decision, choices, scores, anyhow) == expected


@given(problems(free=True, distinct=True))
def test_greedy_and_global_agree_where_every_count_is_legal(problem):
    _, _, choices, scores, budget = problem
    assert decide("greedy", choices, scores, budget) == decide("global", choices, scores, budget)


@given(problems(max_groups=3, max_units=5, free=True, distinct=True), RANKINGS, st.data())
def test_rankings_are_optimal_where_units_cost_alike(problem, decision, data):
    """With one price for every unit, lowest-first keeps the largest sum of scores of all legal choices."""
    sizes, _, choices, scores, _ = problem
    budget = units_budget(choices, data.draw(st.integers(len(sizes), sum(sizes.values()))))

    def worth(counts):
        kept = top_units(scores, counts)
        return sum(scores[name][unit] for name, units in kept.items() for unit in units)

    every = [dict(zip(sizes, counts, strict=True)) for counts in product(*choices.legal.values())]
    best = max(worth(counts) for counts in every if budget.met(counts))
    kept = decide(decision, choices, scores, budget)
    # Every group keeps a unit, whatever it scores: a floor is all that may stand between lowest-first and the best.
    assert worth(kept) == best or any(count == 1 for count in kept.values())


@given(problems(free=True))
def test_uniform_is_one_fraction(problem):
    sizes, _, choices, _, budget = problem
    anyhow = Budget(cost=budget.cost, limit=budget.limit, of="flops", tolerance=ANYHOW)
    counts = uniform_counts(choices, anyhow)
    # One fraction explains all counts: intervals (count - 1.5, count + 0.5) / size have a point in common.
    lowest = max((count - 1.5) / sizes[name] for name, count in counts.items())
    highest = min((count + 0.5) / sizes[name] for name, count in counts.items())
    assert lowest <= highest + 1e-9


@given(problems(), DECISIONS, st.integers(1, 20))
def test_one_removal_takes_no_more_than_it_may(problem, decision, most):
    _, _, choices, scores, budget = problem
    counts = decide(decision, choices, scores, budget, max_removed=most)
    removed = sum(choices.whole[name] - count for name, count in counts.items())
    pairs = [pair for legal in choices.legal.values() for pair in pairwise(legal)]
    forced = [(choices.ceiling[name], size) for name, size in choices.forced.items()]
    assert removed <= max(most, max(b - a for a, b in pairs + forced))
    assert removed > 0 or budget.met(choices.whole)


@given(problems(), DECISIONS, st.integers(1, 4))
def test_removals_of_a_few_units_reach_the_target(problem, decision, most):
    sizes, constraints, choices, scores, budget = problem
    counts, present = choices.whole, {name: sorted(values) for name, values in scores.items()}
    for _ in range(sum(sizes.values())):
        if budget.met(counts) and choices.allow(counts):
            break
        counts = decide(decision, choices.left(counts), present, budget, max_removed=most)
        present = {name: values[len(values) - counts.get(name, 0) :] for name, values in present.items()}
    assert budget.met(counts)
    assert_legal(counts, sizes, constraints)


@given(problems(), st.lists(st.floats(0.01, 1), min_size=4, max_size=4))
def test_any_falling_curve_is_followed_to_the_target(problem, bases):
    sizes, constraints, choices, _, budget = problem

    def fractions(strength):
        exponent = strength / (1 - strength) if strength < 1 else float("inf")
        shares = {name: 0.0 if strength == 1 else base**exponent for name, base in zip(sizes, bases, strict=False)}
        return {name: shares[name] for name in choices.legal}

    counts = counts_along(fractions, choices, budget)
    assert_legal(counts, sizes, constraints)
    assert budget.met(counts)


def test_an_exchange_lands_where_steps_alone_do_not():
    """Lowest first takes `b`, then `c`, and is at 65; with `a` in the place of `b` it is 70."""
    choices = choices_of([group("a", 2), group("b", 2), group("c", 2)], Constraints())
    price = {"a": 15, "b": 20, "c": 15}

    def cost(counts):
        return sum(price[name] * count for name, count in (choices.whole | dict(counts)).items())

    scores = {"a": [3.0, 9.0], "b": [1.0, 9.0], "c": [2.0, 9.0]}
    plain = Budget(cost=cost, limit=70, of="flops", tolerance=ANYHOW)
    assert decide("greedy", choices, scores, plain) == {"a": 2, "b": 1, "c": 1}
    assert decide("greedy", choices, scores, Budget(cost=cost, limit=70, of="flops")) == {"a": 1, "b": 2, "c": 1}


def test_an_exchange_keeps_to_the_most_of_one_removal():
    """Without the cap the block of two `a` goes for the one `b`: closer, but a unit more."""
    choices = Choices({"a": (2, 4), "b": (1, 2)})

    def cost(counts):
        present = choices.whole | dict(counts)
        return 10 * present["a"] + 25 * present["b"]

    budget = Budget(cost=cost, limit=70, of="flops")
    scores = {"a": [3.0, 3.0, 9.0, 9.0], "b": [1.0, 9.0]}
    assert decide("greedy", choices, scores, budget) == {"a": 2, "b": 2}
    assert decide("greedy", choices, scores, budget, max_removed=1) == {"a": 4, "b": 1}


def test_a_thousand_groups_take_little_time():
    """100 000 units in 1000 groups: as many decisions in a step as a large network has."""
    sizes = {f"g{i}": 100 for i in range(1000)}
    choices = Choices({name: tuple(range(1, size + 1)) for name, size in sizes.items()})
    random = np.random.default_rng(0)
    scores = {name: tuple(random.random(size).tolist()) for name, size in sizes.items()}
    evaluations = []

    def cost(counts):
        evaluations.append(1)
        widths = np.fromiter((counts.get(name, size) for name, size in sizes.items()), dtype=np.int64)
        return int((widths[1:] * widths[:-1]).sum())

    for decision in decision_names():
        evaluations.clear()
        budget = Budget(cost=cost, limit=0.5 * cost({}), of="flops")
        assert budget.landed(decide(decision, choices, scores, budget))
        # Each group is tried about once to give back a step; a bisection finds the number of moves.
        assert len(evaluations) < 3 * len(sizes)
