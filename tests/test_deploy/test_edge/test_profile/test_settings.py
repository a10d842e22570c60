"""Which settings are tried, in which order, how far the budget reaches, and which is best."""

from __future__ import annotations

import pytest

from benchmarks.errors import WorkerError
from benchmarks.machine.board.records import CoreKind
from benchmarks.settings import Settings
from benchmarks.validation.simulated_machine import Service, SimulatedMachine
from deploy.edge.profile.choice import choose, settings_of
from deploy.edge.profile.points import points_of
from deploy.edge.profile.record import Point
from deploy.edge.profile.settings import candidates_of, main_point
from deploy.edge.profile.sweep import Candidate, sweep

from .conftest import BIG, BOARD, swept

MAIN = Point(backend="ort", precision="fp32", threads=8, batch=1)


def points(main=MAIN, kinds=BOARD.kinds, usable=range(8), **options):
    options = {"physical": 8, "free_batch": True, "backends": ("openvino",), "precisions": (), **options}
    return points_of(main, kinds, tuple(usable), **options)


def test_threads_kinds_of_cores_batches_and_backends_are_tried():
    titles = [point.title for point in points()]
    assert titles[0] == MAIN.title
    assert titles.index("ort fp32, 1 thread, batch 1") == 1
    assert {f"ort fp32, {number} threads, batch 1" for number in (2, 4)} <= set(titles)
    assert f"ort fp32, 4 threads on {BIG}, batch 1" in titles
    assert f"ort fp32, 1 thread on {BIG}, batch 1" in titles
    assert "ort fp32, 8 threads, batch 8" in titles
    assert titles[-1] == "openvino fp32, 8 threads, batch 1"
    assert len(set(titles)) == len(titles)


def test_one_thread_for_each_physical_core_is_tried():
    found = points(kinds=BOARD.kinds[:1], usable=range(12), physical=6)
    assert 6 in {point.threads for point in found}


def test_a_fixed_batch_and_cores_that_were_chosen_are_kept():
    bound = MAIN.model_copy(update={"cores": (4, 5), "threads": 2})
    found = points(bound, free_batch=False)
    assert {point.batch for point in found} == {1}
    assert {point.cores for point in found} == {(4, 5)}
    assert {point.threads for point in found} == {1, 2}


def test_cores_that_may_not_be_used_are_not_tried():
    found = points(usable=range(4))
    assert not any(point.on == BIG for point in found)


def test_a_machine_of_one_kind_has_no_kinds_to_try():
    found = points(kinds=(CoreKind(name="core", cores=(0, 1)),), usable=(0, 1), physical=2)
    assert all(point.cores is None for point in found)


@pytest.fixture
def swept_for(arm):
    """Sweep three settings on a simulated machine."""

    def run(budget_s, launch=None, **options):
        machine = SimulatedMachine({"pruned": Service(median_ns=10e6)}, seed=0)
        ready = [Candidate(MAIN.model_copy(update={"threads": n}), (arm(),)) for n in (8, 1, 4)]
        return sweep(ready, budget_s, timeout_s=1.0, launch=launch or machine.launch, clock=machine.now_s, **options)

    return run


def test_each_setting_is_measured_once_in_each_pass(swept_for):
    swept, left_out = swept_for(1000)
    assert [len(one.trials) for one in swept] == [5, 5, 5]
    assert left_out == ()


def test_what_the_budget_has_no_room_for_is_named(swept_for):
    swept, left_out = swept_for(1.0)
    assert [one.point.threads for one in swept] == [8]
    assert left_out == ("ort fp32, 1 thread, batch 1", "ort fp32, 4 threads, batch 1")


def test_the_main_setting_is_measured_whatever_the_budget(swept_for):
    swept, _ = swept_for(1e-9)
    assert len(swept[0].trials) == 1


def test_a_setting_that_fails_is_a_row_and_not_tried_again(swept_for):
    tried = []

    def fail(spec, **_):
        tried.append(spec)
        raise WorkerError("its process was killed by SIGKILL (out of memory?)")

    swept, _ = swept_for(1000, launch=fail)
    assert [one.failure for one in swept] == ["its process was killed by SIGKILL (out of memory?)"] * 3
    assert len(tried) == 3


def test_the_batch_of_the_file_decides(arm):
    prepared = arm()
    ready, refused = candidates_of([prepared], BOARD, (), Settings(), lambda _: None)
    assert {one.point.batch for one in ready} == {1, 2, 4, 8}
    assert ready[0].point == main_point(prepared)
    assert all(one.arms[0].spec.batch == one.point.batch for one in ready)
    assert refused == ()


def test_the_best_is_marked_for_latency_and_for_throughput():
    fast, wide, slow = (MAIN.model_copy(update=one) for one in ({"threads": 4}, {"batch": 8}, {"threads": 1}))
    rows = [
        swept("pruned", MAIN, 9e6, 9.2e6, peak=100),
        swept("pruned", fast, 7e6, 7.4e6, peak=120),
        swept("pruned", wide, 40e6, 41e6, peak=300),
        swept("pruned", slow, 12e6, 13e6, peak=90),
        swept("dense", MAIN, 1e6),
        swept("pruned", MAIN.model_copy(update={"backend": "openvino"}), failure="no"),
    ]
    choice = choose(settings_of(rows, "pruned"), "fp32")
    assert choice.latency.point == fast
    assert choice.throughput.point == wide
    assert choice.throughput.per_s == pytest.approx(8e9 / 40.5e6)
    assert [one.point for one in choice.efficient] == [fast, MAIN, slow], "what takes more memory and time is not there"
    assert choice.alike == choice.frugal == ()
    assert choose(settings_of(rows, "nobody"), "fp32") is None


def test_another_precision_is_no_best_setting():
    coarse = MAIN.model_copy(update={"precision": "bf16"})
    rows = [swept("a", MAIN, 9e6), swept("a", coarse, 5e6)]
    assert choose(settings_of(rows, "a"), "fp32").latency.point == MAIN


def test_settings_that_noise_does_not_tell_apart_are_named():
    other = MAIN.model_copy(update={"threads": 4})
    rows = [swept("a", MAIN, 7e6, 9e6), swept("a", other, 7.5e6, 9.5e6)]
    choice = choose(settings_of(rows, "a"), "fp32")
    assert choice.latency.point == MAIN
    assert [one.point for one in choice.alike] == [other]


def test_energy_has_a_front_of_its_own_where_it_is_counted():
    lean = MAIN.model_copy(update={"threads": 1})
    rows = [swept("a", MAIN, 5e6, energy_uj=50_000), swept("a", lean, 9e6, energy_uj=20_000)]
    choice = choose(settings_of(rows, "a"), "fp32")
    assert [one.point for one in choice.frugal] == [MAIN, lean]
    assert choice.frugal[1].energy_uj == 20_000
