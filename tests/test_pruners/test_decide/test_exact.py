"""The exact decision keeps as much importance as trying every plan would, within the predicted time."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pruners.decide.budget import Budget, TimeLimit, time_budget
from pruners.decide.choices import Choices
from pruners.decide.decisions import decide
from pruners.decide.exact.plan import exact_counts, exact_plan, kept_importance
from pruners.decide.exact.program import Product
from pruners.decide.latency import BlockCount, LatencyModel, LatencyTerm
from pruners.errors import MethodError, TargetError
from pruners.target import Target

NAMES = ("a", "b", "c")


def model_of(rng, sizes, block=2):
    def factor(name):
        return BlockCount(name, int(rng.integers(1, 3)))

    terms = [LatencyTerm(float(rng.random()), (factor(name),)) for name in sizes]
    terms += [
        LatencyTerm(float(rng.random()), (factor(first), factor(second)))
        for first, second in (("a", "b"), ("b", "c"), ("a", "a"))
    ]
    return LatencyModel(backend="x", graph="g", block=block, base_ns=0.5, terms=tuple(terms), sizes=sizes)


def budget_of(model, share):
    return time_budget([TimeLimit(model, share * model.time_ns())])


@given(st.integers(0, 10**6), st.lists(st.floats(0.35, 0.95), min_size=1, max_size=2))
@example(1322, [0.625, 0.5703125])  # presolved by HiGHS 0.8187 is "optimal", and 0.8225 is there
@settings(max_examples=25, deadline=None)
def test_as_good_as_every_plan_tried(seed, shares):
    rng = np.random.default_rng(seed)
    sizes = {name: int(rng.integers(3, 8)) for name in NAMES}
    models = [model_of(rng, sizes, block=2 + index) for index in range(len(shares))]
    choices = Choices({name: tuple(range(1, size + 1)) for name, size in sizes.items()})
    scores = {name: tuple(rng.random(size)) for name, size in sizes.items()}
    limits = [TimeLimit(model, share * model.time_ns()) for model, share in zip(models, shares, strict=True)]
    budget = time_budget(limits)
    plans = [dict(zip(NAMES, counts, strict=True)) for counts in product(*choices.legal.values())]
    within = [kept_importance(choices, scores, plan) for plan in plans if budget.met(plan)]
    if not within:
        with pytest.raises(TargetError, match=r"between 1x and .*x can be reached"):
            exact_counts(choices, scores, budget)
        return
    plan = exact_plan(choices, scores, budget)
    kept = kept_importance(choices, scores, plan.counts)
    assert all(each.model.time_ns(plan.counts) <= each.limit_ns for each in limits)
    assert kept >= max(within) - 2e-3
    assert max(within) <= kept * (1 + plan.gap) + 1e-6


@given(st.integers(0, 10**6))
def test_no_cut_excludes_a_plan(seed):
    """A fraction of a product is cut off; of a plan only what lies below the product itself."""
    rng = np.random.default_rng(seed)
    first, second = (rng.integers(0, 5, size=rng.integers(2, 6)).astype(float) for _ in range(2))
    first[0], second[0] = 3, 2
    sizes = len(first), len(second)
    product_of = Product(sum(sizes), np.arange(sizes[0]), first, sizes[0] + np.arange(sizes[1]), second)
    true = {(i, j): first[i] * second[j] / (first.max() * second.max()) for i, j in product(*map(range, sizes))}
    plans = {ij: np.concatenate([np.eye(sizes[0])[ij[0]], np.eye(sizes[1])[ij[1]], [true[ij]]]) for ij in true}
    fraction = np.concatenate([rng.dirichlet(np.full(size, 0.3)) for size in sizes] + [[0.0]])
    low = {ij: np.append(plan[:-1], 0.0) for ij, plan in plans.items()}
    for x in (fraction, *low.values()):
        cut = product_of.cut(x)
        if cut is not None:
            assert cut.factors @ x[cut.columns] < cut.least
            assert all(cut.factors @ plan[cut.columns] >= cut.least - 1e-9 for plan in plans.values())
    for ij, plan in plans.items():
        assert product_of.cut(plan) is None
        assert (product_of.cut(low[ij]) is None) == (true[ij] == 0)


@pytest.mark.parametrize("seed", range(2))
def test_a_solution_that_is_too_slow_is_no_plan(seed, monkeypatch):
    """Without cuts every product is 0 for the solver: its solutions are excluded one by one, and made smaller."""
    monkeypatch.setattr(Product, "cut", lambda *_: None)
    monkeypatch.setattr("pruners.decide.exact.plan.TIME_LIMIT_S", 1.0)
    rng = np.random.default_rng(seed)
    sizes = dict.fromkeys(NAMES, 6)
    model, choices = model_of(rng, sizes), Choices({name: tuple(range(1, 7)) for name in NAMES})
    scores, budget = {name: tuple(rng.random(6)) for name in NAMES}, budget_of(model, 0.5)
    plan = exact_plan(choices, scores, budget)
    plans = [dict(zip(NAMES, counts, strict=True)) for counts in product(*choices.legal.values())]
    most = max(kept_importance(choices, scores, each) for each in plans if budget.met(each))
    assert budget.met(plan.counts)
    assert most <= kept_importance(choices, scores, plan.counts) * (1 + plan.gap) + 1e-6


def test_a_solver_without_time_leaves_a_greedy_plan(monkeypatch):
    monkeypatch.setattr("pruners.decide.exact.plan.TIME_LIMIT_S", 0.0)
    rng = np.random.default_rng(3)
    sizes = dict.fromkeys(NAMES, 6)
    model, choices = model_of(rng, sizes), Choices({name: tuple(range(1, 7)) for name in NAMES})
    scores, budget = {name: tuple(rng.random(6)) for name in NAMES}, budget_of(model, 0.5)
    plan = exact_plan(choices, scores, budget)
    plans = [dict(zip(NAMES, counts, strict=True)) for counts in product(*choices.legal.values())]
    most = max(kept_importance(choices, scores, each) for each in plans if budget.met(each))
    assert budget.met(plan.counts)
    assert most <= kept_importance(choices, scores, plan.counts) * (1 + plan.gap) + 1e-6


def test_the_limit_of_a_step_is_kept():
    """A method in several steps asks for a multiple of the final limit first."""
    rng = np.random.default_rng(0)
    sizes = dict.fromkeys(NAMES, 8)
    model, choices = model_of(rng, sizes), Choices({name: tuple(range(1, 9)) for name in NAMES})
    scores, budget = {name: tuple(rng.random(8)) for name in NAMES}, budget_of(model, 0.4)
    shares = [model.time_ns(exact_counts(choices, scores, replace(budget, limit=n))) for n in (1.0, 2.0)]
    assert shares[0] <= 0.4 * model.time_ns() < shares[1] <= 0.8 * model.time_ns()


def test_classes_are_not_for_the_exact_decision():
    choices = Choices({"a": (1, 2)})
    with pytest.raises(MethodError, match="does not rank within classes"):
        decide("exact", choices, {"a": (1.0, 2.0)}, Budget(cost=lambda _: 1.0, limit=1.0, of="macs"), classes=[("a",)])


def test_removed_units_are_limited():
    rng = np.random.default_rng(0)
    sizes = dict.fromkeys(NAMES, 8)
    model, choices = model_of(rng, sizes), Choices({name: tuple(range(1, 9)) for name in NAMES})
    scores = {name: tuple(rng.random(8)) for name in NAMES}
    counts = exact_counts(choices, scores, budget_of(model, 0.9), max_removed=6)
    assert sum(8 - count for count in counts.values()) <= 6
    with pytest.raises(TargetError, match="at most 1 removed units"):
        exact_counts(choices, scores, budget_of(model, 0.3), max_removed=1)


def test_it_needs_a_budget_of_time():
    choices = Choices({"a": (1, 2)})
    with pytest.raises(MethodError, match="solves targets of latency"):
        decide("exact", choices, {"a": (1.0, 2.0)}, Budget(cost=lambda _: 1.0, limit=1.0, of="macs"))


@pytest.mark.parametrize("decision", ["uniform", "local", "global", "greedy", "exact"])
def test_every_decision_meets_several_times(decision):
    """Of two runtimes one is slow where the other is fast: either time alone would leave the other one missed."""
    sizes = {"a": 16, "b": 16}
    first, second = (
        LatencyModel(
            backend=name,
            graph="g",
            block=1,
            base_ns=1.0,
            terms=(LatencyTerm(a, (BlockCount("a", 1),)), LatencyTerm(b, (BlockCount("b", 1),))),
            sizes=sizes,
        )
        for name, a, b in (("x", 9.0, 1.0), ("y", 1.0, 9.0))
    )
    choices = Choices({name: tuple(range(1, 17)) for name in sizes})
    scores = {name: tuple(float(i + 1) for i in range(16)) for name in sizes}
    limits = [TimeLimit(first, 0.6 * first.time_ns()), TimeLimit(second, 0.4 * second.time_ns())]
    counts = decide(decision, choices, scores, time_budget(limits))
    assert all(each.model.time_ns(counts) <= each.limit_ns for each in limits)
    if decision in ("greedy", "exact"):
        assert counts["b"] < counts["a"]
    with pytest.raises(TargetError, match=r"20\.00x the speed on y was asked for, but between 1x and 14\.63x can be"):
        decide(decision, choices, scores, time_budget([limits[0], TimeLimit(second, 0.05 * second.time_ns())]))


@pytest.mark.parametrize("decision", ["exact", "greedy"])
def test_a_speed_out_of_reach_names_the_layers_that_stay_whole(decision):
    model = model_of(np.random.default_rng(0), dict.fromkeys(NAMES, 4))
    limit = TimeLimit(model, 0.05 * model.time_ns())
    budget = time_budget([limit], {"head": "its channels are an output of the network"})
    scores = dict.fromkeys(NAMES, (1.0, 2.0, 3.0, 4.0))
    choices = Choices(dict.fromkeys(NAMES, (1, 2, 3, 4)))
    whole = r"; these layers stay whole: 'head' \(its channels are an output of the network\)$"
    with pytest.raises(
        TargetError, match=r"20\.00x the speed .* but between 1x and .* can be reached, the latter .*" + whole
    ):
        decide(decision, choices, scores, budget)
    with pytest.raises(
        TargetError, match=r"but with every group at its .* is predicted to be no faster than .*" + whole
    ):
        decide(decision, Choices(dict.fromkeys(NAMES, (4,))), scores, budget)


def test_targets_that_are_met_together_have_a_table_each():
    x, y = (model_of(np.random.default_rng(seed), dict.fromkeys(NAMES, 4)) for seed in range(2))
    both = Target(speed_up=2.0, table=x, also=(Target(speed_up=1.5, table=y),))
    assert [each.kept_fraction for each in (both, *both.also)] == [0.5, 1 / 1.5]
    for wrong in (Target(speed_up=1.5, table=x), Target(of="macs", kept_fraction=0.5)):
        with pytest.raises(TargetError, match="each with a latency table of its own"):
            Target(speed_up=2.0, table=x, also=(wrong,))
    with pytest.raises(TargetError, match="only the first may name the others"):
        Target(speed_up=2.0, table=model_of(np.random.default_rng(2), {}), also=(both,))


def test_a_target_of_speed_names_its_table():
    model = model_of(np.random.default_rng(0), dict.fromkeys(NAMES, 4))
    assert Target(speed_up=2.0, table=model).kept_fraction == 0.5
    for wrong, message in (
        ({"speed_up": 2.0}, "needs a latency table"),
        ({"speed_up": 0.9, "table": model}, "more than 1"),
        ({"of": "macs", "kept_fraction": 0.5, "table": model}, "belongs to a target of latency"),
    ):
        with pytest.raises(TargetError, match=message):
            Target(**wrong)
