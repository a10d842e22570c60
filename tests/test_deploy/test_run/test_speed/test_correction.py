"""The next plan after one that missed the requested speed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from deploy.run.speed.pruning import prune_to_speed
from pruners.registry import create
from pruners.target import Constraints
from tests.test_deploy.test_run.test_speed.simulated import Restless, measured_as, table_of


@pytest.mark.parametrize(
    ("measured", "kept"),
    [
        ((0.53, 0.8, 0.3, 0.44, 0.45), 4),
        pytest.param((0.53, 0.8, 0.3, 0.6, 0.56), 2, marks=pytest.mark.slow),
        ((0.53, 0.45, 0.3, 0.56), 1),
        ((0.2, 0.51), 1),
        ((0.6, 0.53, 0.45, 0.56), 2),
        pytest.param((0.7, 0.65, 0.6, 0.55, 0.51), 4, marks=pytest.mark.slow),
    ],
)
def test_the_kept_plan_is_the_closest_that_is_not_slower(task, measured, kept):
    """Within the tolerance first; then the closest that is faster than asked for; then the closest at all.

    It ends after four corrections, or where no plan is left between a faster and a slower one.
    """
    given = iter((*measured, measured[kept]))  # after the last correction the kept one once more
    table = table_of(task[1], lambda _: next(given))
    pruned, (landing,) = prune_to_speed(create("uniform"), task[0], [table])
    assert (landing.measured, landing.kept_round) == (measured, kept)
    counts = {name: len(units) for name, units in pruned.plan.kept.items()}
    assert task[1].time_ns(counts) / task[1].time_ns() == landing.predicted[kept]
    assert landing.met == (measured[kept] <= 0.52)


@pytest.fixture
def corrected(task):
    """Prune by blocks of 8 channels; return how far the second plan is from the first, measured at `first`; and it."""
    model = replace(task[1], block=8, terms=tuple(replace(term, ns=8.0) for term in task[1].terms))
    given = replace(task[0], constraints=Constraints(multiple_of=8))

    def apart(method, first):
        plans, shares = [], iter([first, 0.7])

        def share(counts):
            plans.append({**model.sizes, **counts})
            return next(shares)

        pruned, _ = prune_to_speed(method(model.sizes), given, [table_of(model, share, asked=0.7, tolerance=0.06)])
        return max(abs(plans[1][name] - plans[0][name]) for name in model.sizes), pruned

    return apart


@pytest.mark.parametrize("first", [0.8, 0.6])
def test_a_corrected_plan_is_near_the_one_that_was_measured(corrected, first):
    """What the table gets wrong is about the same there."""
    apart, _ = corrected(Restless, first)
    assert 0 < apart <= 8


def test_between_a_faster_and_a_slower_plan_the_next_is_interpolated(task):
    """Times grow faster than predicted: the factor that is right for either plan leads too far from it."""
    table, shares = measured_as(task[1], lambda share: 0.42 + 2.2 * (share - 0.5))
    _, (landing,) = prune_to_speed(create("uniform"), task[0], [table])
    assert shares[0] < 0.48
    assert shares[1] > 0.52
    assert landing.met
    assert len(shares) == 3


def test_a_correction_goes_as_far_as_it_takes(corrected):
    apart, _ = corrected(lambda _: create("uniform"), 0.95)
    assert apart > 8


def test_a_method_that_removes_blocks_is_not_kept_near_a_plan(corrected):
    """A block more or less is no small step."""
    apart, _ = corrected(partial(Restless, removes_blocks=True), 0.8)
    assert apart > 8


def test_a_correction_does_not_cost_the_own_class(corrected):
    """Few groups are free near a plan, which may take one that the network's class needs whole."""
    _, pruned = corrected(partial(Restless, changes_form=True), 0.8)
    assert pruned.form == "module"


def test_a_plan_between_two_others_takes_the_place_of_one_however_it_measures(task):
    """The third is predicted between the first two and measures faster than both: the next is above it."""
    given = iter((0.53, 0.45, 0.3, 0.5))
    _, (landing,) = prune_to_speed(create("uniform"), task[0], [table_of(task[1], lambda _: next(given))])
    slower, faster, third, last = landing.predicted
    assert faster < third < last < slower


def test_halfway_is_tried_where_interpolation_leads_to_a_known_plan(task):
    """The second plan is as good as right, but for the tolerance, and the first far off."""
    given = iter((0.9, 0.4995, 0.5))
    table = table_of(task[1], lambda _: next(given), tolerance=1e-4)
    _, (landing,) = prune_to_speed(create("uniform"), task[0], [table])
    first, second, third = landing.predicted
    assert third == pytest.approx((first + second) / 2, abs=0.02)
    assert landing.why_off == ""


class Watched:
    """Prune uniformly, and note the ranges near a plan once two are measured."""

    trains, removes_blocks = "", False

    def __init__(self, plans, ranges):
        self.plans, self.ranges = plans, ranges

    def prune(self, given):
        if len(self.plans) == 2 and given.constraints.ranges:
            self.ranges.append(given.constraints.ranges)
        return create("uniform").prune(given)


@pytest.mark.parametrize(("measured", "centre"), [((0.53, 0.3), 0), ((0.7, 0.48), 1), ((0.47, 0.6), 0)])
def test_a_correction_is_near_the_plan_that_measured_closest(task, measured, centre):
    """Not near the one that would be kept: a plan far too fast is kept rather than one slightly too slow."""
    plans, ranges = [], []

    shares = iter((*measured, 0.5))

    def share(counts):
        plans.append({**task[1].sizes, **counts})
        return next(shares)

    prune_to_speed(Watched(plans, ranges), task[0], [table_of(task[1], share, tolerance=0.01)])
    assert all(low < plans[centre][name] < high for name, (low, high) in ranges[0].items())
    assert not all(low < plans[1 - centre][name] < high for name, (low, high) in ranges[0].items())


def test_several_speeds_are_each_interpolated(task):
    """The times of both backends grow faster than predicted, with other factors."""
    model = task[1]
    names = iter("xy")
    tables = [
        table_of(replace(model, backend=next(names), terms=(term,)), lambda _: 0.0, asked=asked, tolerance=0.02)
        for term, asked in zip(model.terms, (0.5, 0.7), strict=True)
    ]
    rounds = {"x": [], "y": []}

    def watched(table, slope):
        def share(counts):
            told = table.asked - 0.08 + slope * (table.predicted(counts) - table.asked)
            rounds[table.model.backend].append(told)
            return told

        return replace(table, share=share, refine=lambda counts, share: watched(table, slope))

    _, landings = prune_to_speed(
        create("criterion", criterion="l1", decision="greedy"),
        task[0],
        [watched(tables[0], 2.2), watched(tables[1], 1.8)],
    )
    assert all(landing.met for landing in landings)
    assert all(max(each) > landing.asked > min(each) for each, landing in zip(rounds.values(), landings, strict=True))


def test_with_several_speeds_a_correction_is_near_the_plan_that_is_closest_to_the_one_that_decides(task):
    """The other one is met easily, and more so the closer the first."""
    model = task[1]
    plans, ranges = [], []

    first, second = iter((0.51, 0.6, 0.5)), iter((0.56, 0.65, 0.5))

    def share(counts):
        plans.append({**model.sizes, **counts})
        return next(first)

    tables = [
        table_of(replace(model, backend="x"), share, tolerance=0.005),
        table_of(replace(model, backend="y"), lambda _: next(second), asked=0.9),
    ]
    prune_to_speed(Watched(plans, ranges), task[0], tables)
    assert all(low < plans[0][name] < high for name, (low, high) in ranges[0].items())


@pytest.mark.optional
def test_the_plan_of_another_library_is_corrected_too(task):
    pytest.importorskip("torch_pruning")
    table, shares = measured_as(task[1], lambda share: 0.15 + 0.85 * share)
    _, (landing,) = prune_to_speed(create("torch-pruning"), task[0], [table])
    assert abs(shares[0] - 0.5) > 0.05
    assert landing.met
