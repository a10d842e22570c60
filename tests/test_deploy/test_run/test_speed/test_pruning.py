"""Plans of a requested speed: corrected by what they measure, told as they landed, refused where they cannot be."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from benchmarks.errors import WorkerError
from deploy.run.speed.pruning import prune_to_speed
from pruners.errors import SurgeryError, TargetError
from pruners.registry import create
from pruners.removals import RemovalFolder
from pruners.target import Constraints
from pruners.task import PruningTask
from tests.test_deploy.test_run.test_speed.simulated import measured_as, table_of


def test_a_table_that_is_right_needs_one_round(task):
    table, shares = measured_as(task[1], lambda share: share)
    pruned, (landing,) = prune_to_speed(create("uniform"), task[0], [table])
    assert len(shares) == 1
    assert landing.met
    assert pruned.macs_after < pruned.macs_before
    assert landing.macs == pruned.macs_after / pruned.macs_before
    assert str(landing).startswith("asked for 2.00x the speed on simulated, predicted 2.0")
    assert "in 1 round, with " in str(landing)


def test_a_table_that_is_off_is_corrected(task):
    table, shares = measured_as(task[1], lambda share: 0.15 + 0.85 * share)
    _, (landing,) = prune_to_speed(create("uniform"), task[0], [table])
    assert abs(shares[0] - 0.5) > 0.05
    assert abs(landing.measured[landing.kept_round] - 0.5) <= 0.02
    assert 2 <= len(shares) <= 3


def test_what_is_no_faster_than_the_dense_network_is_not_handed_out(task):
    table, _ = measured_as(task[1], lambda share: 1.2)
    with pytest.raises(TargetError, match=r"2\.00x the speed on simulated .* takes 1\.20 of the dense network's time"):
        prune_to_speed(create("uniform"), task[0], [table])


def test_a_corrected_pruning_in_steps_does_not_go_on_from_the_first_one(task, tmp_path):
    table, shares = measured_as(task[1], lambda share: 0.15 + 0.85 * share)
    kept = replace(task[0], keeper=RemovalFolder(tmp_path / "removals"))
    prune_to_speed(create("criterion", steps=2, decision="greedy"), kept, [table])
    assert len(shares) > 1


def test_a_refined_table_decides_the_next_plan(task):
    """The table learns that a call takes 3 ns more than it says, and lands at once."""
    model, learned = task[1], []

    def refine(counts, share):
        learned.append(share)
        return {"model": replace(model, base_ns=model.base_ns + 0.15 * model.time_ns())} if share else {}

    table, shares = measured_as(model, lambda share: 0.15 + 0.85 * share, refine=refine)
    _, (landing,) = prune_to_speed(create("uniform"), task[0], [table])
    assert learned == [None, *shares[:1]]
    assert len(landing.measured) == 2
    assert landing.kept_round == 1


def test_predictions_of_a_refined_table_are_shares_of_its_own_dense_time(task):
    """Measured anew, on a quieter machine, every time is half as long, and the table is right about this plan."""
    model = task[1]

    def refine(counts, share):
        terms = tuple(replace(term, ns=term.ns / 2) for term in model.terms)
        return {"model": replace(model, base_ns=model.base_ns / 2, terms=terms), "dense_ns": model.time_ns() / 2}

    table, _ = measured_as(model, lambda share: 0.1 + 0.9 * share, refine=refine)
    pruned, (landing,) = prune_to_speed(create("uniform"), task[0], [table])
    counts = {name: len(units) for name, units in pruned.plan.kept.items()}
    assert landing.kept_round > 0
    assert landing.predicted[landing.kept_round] == pytest.approx(model.time_ns(counts) / model.time_ns())


def test_a_correction_out_of_reach_keeps_what_there_is(task):
    """As measured, no plan would be fast enough; the first one stands, and is said to miss the target."""
    table = table_of(task[1], lambda _: 0.95, asked=0.12)
    _, (landing,) = prune_to_speed(create("uniform"), task[0], [table])
    assert landing.measured == (0.95,)
    assert not landing.met
    assert landing.why_off == "as measured, no legal plan is predicted to be that fast"


def test_a_table_is_refined_near_the_speed_before_anything_is_pruned(task):
    """It is 10 % off there, and right about the dense network; what it learns before pruning needs no correction."""
    model, learned = task[1], []

    def refine(counts, share):
        learned.append((model.time_ns(counts) / model.time_ns(), share))
        return {"model": replace(model, base_ns=model.base_ns + 0.1 * model.time_ns()), "dense_ns": model.time_ns()}

    table, shares = measured_as(model, lambda share: share + 0.1, refine=refine, tolerance=0.011)
    _, (landing,) = prune_to_speed(create("uniform"), task[0], [table])
    assert learned == [(pytest.approx(0.5, abs=0.01), None)]
    assert len(shares) == 1
    assert landing.met


def test_the_speed_that_is_refused_is_the_one_asked_for(task):
    """Shares are of the measured dense time, which the table predicts 5 % too long."""
    model = task[1]
    measured_ns = model.time_ns() / 1.05
    least = replace(task[0], constraints=Constraints(min_units=32))
    table = table_of(model, lambda _: 1.0, asked=0.25, dense_ns=measured_ns)
    floor = measured_ns / model.time_ns(dict.fromkeys(model.sizes, 32))
    with pytest.raises(TargetError, match=r"^4\.00x the speed on simulated was asked for, but between 1x and ") as told:
        prune_to_speed(create("uniform"), least, [table])
    (highest,) = re.findall(r"and ([0-9.]+)x can be reached", str(told.value))
    assert floor - 0.01 < float(highest) <= floor
    within = table_of(model, lambda counts: model.time_ns(counts) / measured_ns, asked=1 / float(highest))
    _, (landing,) = prune_to_speed(create("uniform"), least, [replace(within, dense_ns=measured_ns)])
    assert landing.met


def test_a_network_faster_than_dense_is_not_given_up_for_one_that_is_not(task):
    """Both are within the tolerance of the target, or below it."""
    given = iter((0.97, 1.001, 1.002, 1.001, 1.003, 0.97))
    table = table_of(task[1], lambda _: next(given), asked=0.995, tolerance=0.01)
    _, (landing,) = prune_to_speed(create("uniform"), task[0], [table])
    assert landing.measured[landing.kept_round] == 0.97


def test_a_correction_that_finds_no_plan_keeps_what_there_is(task):
    once = iter([create("uniform").prune])

    def prune(given):
        for each in once:
            return each(given)
        raise SurgeryError("the user's module cannot be made this small")

    method = SimpleNamespace(trains="", removes_blocks=False, prune=prune)
    _, (landing,) = prune_to_speed(method, task[0], [table_of(task[1], lambda _: 0.6)])
    assert landing.measured == (0.6,)
    assert landing.why_off == "the next plan failed: the user's module cannot be made this small"


def coarse_steps(task):
    """Each group goes whole or by half, so that a network takes 0.54, 0.77 or all of the dense time."""
    return replace(task, constraints=Constraints(min_fraction=0.5, multiple_of=32))


class Counting:
    """Counts the prunings of a method."""

    def __init__(self, trains=""):
        self.method, self.trains, self.name, self.removes_blocks, self.calls = create("l1"), trains, "l1", False, 0

    def prune(self, task):
        self.calls += 1
        return self.method.prune(task)


def test_of_large_steps_the_one_slightly_slower_than_requested_is_taken_at_once(task):
    table, shares = measured_as(task[1], lambda share: share, asked=0.76)
    method = Counting()
    _, (landing,) = prune_to_speed(method, coarse_steps(task[0]), [table])
    assert shares == [pytest.approx(0.768, abs=0.001)]
    assert method.calls == 2
    assert landing.met


def test_where_no_large_step_is_within_the_tolerance_the_network_is_fast_enough(task):
    method, tried = Counting(), []

    def share(counts):
        tried.append((method.calls, task[1].time_ns(counts) / task[1].time_ns()))
        return tried[-1][1]

    _, (landing,) = prune_to_speed(method, coarse_steps(task[0]), [table_of(task[1], share, asked=0.7)])
    assert tried[0] == (2, pytest.approx(0.536, abs=0.001))
    assert landing.measured[landing.kept_round] < 0.7


def test_a_method_that_trains_is_not_asked_again_for_a_larger_step(task):
    table, _ = measured_as(task[1], lambda share: share, asked=0.76)
    method = Counting(trains="train")
    prune_to_speed(method, coarse_steps(task[0]), [table])
    assert method.calls == 1


def test_a_plan_that_the_backend_refuses_does_not_cost_the_measured_one(task):
    def refine(counts, share):
        if share is not None:
            raise WorkerError("openvino refuses 12 channels")
        return {}

    _, (landing,) = prune_to_speed(create("uniform"), task[0], [table_of(task[1], lambda _: 0.6, refine=refine)])
    assert landing.measured == (0.6,)
    assert landing.why_off == "the next plan failed: openvino refuses 12 channels"
    assert str(landing).endswith("; off by more than 0.02: the next plan failed: openvino refuses 12 channels")


def test_the_smallest_network_is_handed_out_if_it_is_within_the_tolerance(task):
    """It takes 0.51 of the dense time; 0.5 were asked for, give or take 0.02."""
    learned = []

    def refine(counts, share):
        learned.append(dict(counts))
        return {}

    model = replace(task[1], base_ns=0.51 / 0.49 * 128 - 64 / 0.49)
    smallest = replace(task[0], constraints=Constraints(min_units=32))
    assert model.time_ns(dict.fromkeys(model.sizes, 32)) / model.time_ns() == pytest.approx(0.51, abs=0.005)
    table, _ = measured_as(model, lambda share: share, refine=refine)
    pruned, (landing,) = prune_to_speed(create("uniform"), smallest, [table])
    assert landing.met
    assert landing.why_off == ""
    assert {len(kept) for kept in pruned.plan.kept.values()} == {32}
    hopeless, _ = measured_as(model, lambda share: share, tolerance=0.005)
    with pytest.raises(TargetError, match="between 1x and"):
        prune_to_speed(create("uniform"), smallest, [hopeless])


def learned_without_a_block(task, share):
    """Ask for `share` of the time of the smallest network without its block, of a method that then refuses.

    Return the group that goes with the block, the plans that were measured, and the time asked for.
    """
    model, learned = task[1], []
    first = next(iter(model.sizes))
    blocks = replace(model, blocks={"block": (first,)}, sizes={**model.sizes, "block": 1})

    def refine(counts, share):
        learned.append(dict(counts))
        return {}

    def prune(given):
        raise TargetError("out of reach")

    method = SimpleNamespace(trains="", removes_blocks=True, prune=prune)
    least = replace(task[0], constraints=Constraints(min_fraction=0.5))
    allowed_ns = share * (model.base_ns + 32)
    table = table_of(blocks, lambda _: 1.0, asked=allowed_ns / model.time_ns(), refine=refine)
    with pytest.raises(TargetError, match="out of reach"):
        prune_to_speed(method, least, [table])
    return first, learned, allowed_ns


def test_the_smallest_network_without_its_blocks_is_measured_before_a_speed_is_refused(task):
    """The units alone are far from that fast."""
    first, learned, _ = learned_without_a_block(task, 0.95)
    assert learned[0] == {**dict.fromkeys(task[1].sizes, 32), first: 0, "block": 0}


def test_plans_without_residual_blocks_are_measured_near_a_speed_that_takes_them(task):
    """The units alone are too slow, the smallest network without its block is fast enough."""
    first, learned, allowed_ns = learned_without_a_block(task, 1.2)
    (near,) = learned
    assert near["block"] == near[first] == 0
    assert task[1].time_ns(near) <= allowed_ns


def test_what_was_learned_about_the_smallest_network_is_not_measured_twice(task):
    """Where it is the only plan of that speed."""
    learned = []

    def refine(counts, share):
        learned.append(dict(counts))
        return {"model": replace(task[1], base_ns=task[1].base_ns - 0.04 * task[1].time_ns())}

    least = replace(task[0], constraints=Constraints(min_fraction=0.5, multiple_of=32))
    table, _ = measured_as(task[1], lambda share: share - 0.04, refine=refine)
    _, (landing,) = prune_to_speed(create("uniform"), least, [table])
    assert landing.met
    assert len(learned) == 1


def test_several_speeds_are_met_together(task):
    """The second backend's times follow the other group: its target decides that one."""
    model = task[1]
    first, second = (replace(model, backend=name, terms=(term,)) for name, term in zip("xy", model.terms, strict=True))
    tables = [
        measured_as(first, lambda share: share)[0],
        measured_as(second, lambda share: 0.05 + 0.95 * share, asked=0.7)[0],
    ]
    pruned, landings = prune_to_speed(create("uniform"), task[0], tables)
    assert [landing.backend for landing in landings] == ["x", "y"]
    assert all(landing.met for landing in landings)
    assert pruned.macs_after < pruned.macs_before


def test_a_backend_that_is_faster_than_asked_says_which_other_one_decides(task):
    model = task[1]
    tables = [
        table_of(replace(model, backend="x"), lambda _: 0.5),
        table_of(replace(model, backend="y"), lambda _: 0.55, asked=0.8),
    ]
    _, landings = prune_to_speed(create("uniform"), task[0], tables)
    assert [landing.why_off for landing in landings] == ["", "the speed on x, threads 1, decides"]


def test_of_several_speeds_with_their_own_tolerances_the_one_that_is_nearest_to_its_limit_decides(task):
    tables = [
        table_of(replace(task[1], backend="x"), lambda _: 0.46, tolerance=0.05),
        table_of(replace(task[1], backend="y"), lambda _: 0.58, asked=0.6, tolerance=0.01),
    ]
    _, landings = prune_to_speed(create("uniform"), task[0], tables)
    assert [landing.why_off for landing in landings] == ["", "the speed on x, threads 1, decides"]


def test_what_flops_pruning_would_have_kept_is_told(task):
    """A runtime computes 16 channels together: what stands off the block keeps less for the same time."""
    model = replace(task[1], block=16, base_ns=1.0)
    aligned = replace(task[0], constraints=Constraints(multiple_of=16))
    table, _ = measured_as(model, lambda share: share, asked=0.6, tolerance=0.1)
    _, (landing,) = prune_to_speed(create("uniform"), aligned, [table])
    assert 0 < landing.importance_by_flops <= landing.importance < 1
    assert 0 < landing.macs_by_flops < 1
    assert "of uniform pruning by FLOPs to the same time" in str(landing)


def test_a_method_that_trains_prunes_once(task):
    calls = []

    class Trains:
        name, trains = "simulated", "train"
        removes_blocks = False

        def prune(self, task):
            task.train(task.model, 1)
            return create("uniform").prune(task)

    table = table_of(task[1], lambda _: calls.append("measured") or 0.9)
    watched = PruningTask(**{**vars(task[0]), "train": lambda model, n: calls.append("trained")})
    _, (landing,) = prune_to_speed(Trains(), watched, [table])
    assert calls == ["trained", "measured"]
    assert landing.measured == (0.9,)
    assert landing.why_off == "method 'simulated' trains, so it prunes once"


def test_a_training_pruning_that_is_resumed_keeps_its_first_plan_too(task, tmp_path):
    """Killed while its plan was measured, it finds all removals done and trains no more."""
    trained, calls = [], []
    method = create("criterion", steps=2, decision="greedy", updates_between=1)
    given = replace(task[0], train=lambda model, n: trained.append(n))

    def killed(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune_to_speed(method, replace(given, keeper=RemovalFolder(tmp_path)), [table_of(task[1], killed)])
    done = list(trained)
    table = table_of(task[1], lambda _: calls.append("measured") or 0.9)
    _, (landing,) = prune_to_speed(method, replace(given, keeper=RemovalFolder(tmp_path)), [table])
    assert done
    assert trained == done
    assert calls == ["measured"]
    assert landing.measured == (0.9,)


def test_a_speed_is_refused_by_what_the_smallest_network_takes(task):
    """The table is 15 % too slow for narrow networks; the smallest is measured before that is believed."""
    model, learned = task[1], []

    def refine(counts, share):
        learned.append((dict(counts), share))
        return {"model": replace(model, base_ns=model.base_ns - 0.1 * model.time_ns())}

    table, shares = measured_as(model, lambda share: share - 0.1, refine=refine)
    least = replace(task[0], constraints=Constraints(min_units=32))
    _, (landing,) = prune_to_speed(create("uniform"), least, [table])
    assert learned[0] == (dict.fromkeys(learned[0][0], 32), None)
    assert landing.met
    hopeless, shares = measured_as(model, lambda share: share, asked=0.3)
    with pytest.raises(TargetError, match="between 1x and"):
        prune_to_speed(create("uniform"), least, [hopeless])
    assert not shares


def test_a_speed_out_of_reach_says_how_far_one_can_get(task):
    table = table_of(task[1], lambda _: 1.0, asked=0.05)
    with pytest.raises(TargetError, match=r"20\.00x the speed on simulated was asked for, but between 1x and .*x can"):
        prune_to_speed(create("uniform"), task[0], [table])
