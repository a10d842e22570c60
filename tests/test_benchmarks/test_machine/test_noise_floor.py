"""The noise floor of a machine: what it says, and that it is found again."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.errors import RecordError, SettingError
from benchmarks.machine import noise_floor as floors
from benchmarks.machine.noise_floor import NoiseFloor, fingerprint, hardware_fingerprint, noise_floor
from benchmarks.machine.state import state_folder
from benchmarks.records.measurement import Environment
from benchmarks.stats.group_sequential import InterimAnalyses, plan_analyses
from benchmarks.stats.sequential_test import decide

FINGERPRINT = "0123456789abcdef"
ABOUT = {
    "fingerprint": FINGERPRINT,
    "backend": "torch-compile",
    "model_latency_ns": 5_000_000,
    "started_utc": "2026-01-01T00:00:00+00:00",
}


def pairs(spread, n=400, seed=0):
    return (spread * np.random.default_rng(seed).standard_normal(n)).tolist()


def floor_of(spread, **options):
    return noise_floor(pairs(spread), n_resamples=400, **{**ABOUT, **options})


def test_the_spread_is_found_and_a_wild_pair_does_not_matter():
    assert floor_of(0.01).spread == pytest.approx(0.01, rel=0.1)
    wild = noise_floor([*pairs(0.01), 5.0, -5.0], n_resamples=10, **ABOUT)
    assert wild.spread == pytest.approx(0.01, rel=0.1)
    assert wild.n_pairs == 402


def test_a_side_that_is_favoured_shows():
    favoured = noise_floor([0.02 + value for value in pairs(0.005)], n_resamples=400, margin=0.015, **ABOUT)
    assert favoured.centre == pytest.approx(0.02, abs=0.002)
    assert favoured.false_alarm_rate > 0.9
    assert floor_of(0.005, margin=0.015).false_alarm_rate <= 0.01


@pytest.mark.parametrize("spread", [0.002, 0.01, 0.04])
def test_equal_models_are_found_equal_at_the_smallest_margin_and_not_at_half_of_it(spread):
    floor = floor_of(spread)
    fresh = np.reshape(pairs(spread, 1000 * 20, seed=1), (1000, 20)).tolist()

    def equivalent(margin):
        return sum(decide(one, margin, InterimAnalyses()).verdict == "equivalent" for one in fresh) / 1000

    assert equivalent(floor.smallest_margin) == pytest.approx(0.95, abs=0.03)
    assert equivalent(floor.smallest_margin / 2) < 0.6


@pytest.mark.parametrize("spread", [0.005, 0.02])
def test_a_change_as_large_as_the_smallest_margin_is_told_from_none(spread):
    margin = floor_of(spread).smallest_margin
    fresh = np.reshape(pairs(spread, 1000 * 20, seed=2), (1000, 20))

    def shares(shift):
        decisions = [decide(one, margin, InterimAnalyses()) for one in (fresh - shift).tolist()]
        to_the_end = [
            decide(one, margin, InterimAnalyses(schedule=(InterimAnalyses().schedule[-1],)))
            for one in (fresh - shift).tolist()
        ]
        found = sum(one.verdict == "slower" for one in decisions) / 1000
        return found, sum(one.speedup.high < 1 for one in to_the_end) / 1000

    assert shares(math.log1p(margin))[1] >= 0.93
    assert shares(2 * math.log1p(margin))[0] >= 0.99


def test_more_pairs_decide_smaller_margins():
    margins = [floor_of(0.02, looks=plan_analyses(0.05, n)).smallest_margin for n in (8, 20, 60)]
    assert margins[0] > margins[1] > margins[2]


def test_it_says_which_margins_can_be_decided():
    floor = floor_of(0.012)
    assert floor.can_decide(0.03)
    assert not floor.can_decide(0.005)
    hopeless = noise_floor([-3.0, 3.0] * 10, n_resamples=50, **ABOUT)
    assert hopeless.smallest_margin is None
    assert not hopeless.can_decide(0.99)


def test_the_same_pairs_give_the_same_floor():
    assert floor_of(0.01) == floor_of(0.01)


def test_a_handful_of_pairs_is_refused():
    with pytest.raises(SettingError, match="at least 8 pairs, got 7"):
        noise_floor([0.0] * 7, **ABOUT)


def test_it_is_found_again(tmp_path):
    floor = floor_of(0.01)
    path = floors.store(floor, tmp_path / "new" / "folder")
    assert floors.load(FINGERPRINT, "torch-compile", tmp_path / "new" / "folder") == floor
    assert [one.name for one in path.parent.iterdir()] == [path.name], "nothing else is left behind"


def test_another_machine_or_backend_has_another_floor(tmp_path):
    floors.store(floor_of(0.01), tmp_path)
    assert floors.load("f" * 16, "torch-compile", tmp_path) is None
    assert floors.load(FINGERPRINT, "ort", tmp_path) is None
    floors.store(floor_of(0.02, backend="ort"), tmp_path)
    assert floors.load(FINGERPRINT, "torch-compile", tmp_path) == floor_of(0.01)


def test_the_newest_takes_the_place_of_the_older(tmp_path):
    floors.store(floor_of(0.01), tmp_path)
    floors.store(floor_of(0.02), tmp_path)
    assert floors.load(FINGERPRINT, "torch-compile", tmp_path) == floor_of(0.02)


def test_a_write_that_fails_leaves_the_old_one_and_no_part(tmp_path, monkeypatch):
    path = floors.store(floor_of(0.01), tmp_path)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match="No space left"):
        floors.store(floor_of(0.02), tmp_path)
    assert floors.load(FINGERPRINT, "torch-compile", tmp_path) == floor_of(0.01)
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="PRUNE_DEPLOY_STATE"):
        floors.store(floor_of(0.01), tmp_path / "file")


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-20], lambda _: "{}", lambda t: t.replace('version":1', 'version":9')]
)
def test_a_broken_or_unknown_file_is_said(tmp_path, damage):
    path = floors.store(floor_of(0.01), tmp_path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(RecordError, match="calibrate again"):
        floors.load(FINGERPRINT, "torch-compile", tmp_path)


def test_a_name_cannot_leave_the_folder():
    with pytest.raises(ValueError, match="backend"):
        floor_of(0.01, backend="../../elsewhere")


def machine(**changes):
    facts = {
        "system": "Linux-6",
        "cpu": "A",
        "cpu_cores": 2,
        "memory_bytes": 8 * 2**30,
        "python": "3.11",
        "packages": {"x": "1"},
    }
    return Environment(**{**facts, **changes})


def test_a_machine_is_known_by_what_does_not_change_from_run_to_run():
    same = machine(load_average=3.0, busy_fraction=0.5, steal_fraction=0.1, memory_bytes=8 * 2**30 - 4 * 2**20)
    assert fingerprint(same) == fingerprint(machine())
    NoiseFloor.model_validate_json(
        json.dumps({**json.loads(floor_of(0.01).model_dump_json()), "fingerprint": fingerprint(same)})
    )


@pytest.mark.parametrize(
    "change",
    [{"cpu": "B"}, {"cpu_cores": 4}, {"memory_bytes": 16 * 2**30}, {"system": "Linux-7"}, {"packages": {"x": "2"}}],
)
def test_what_makes_it_another_machine(change):
    assert fingerprint(machine(**change)) != fingerprint(machine())


def test_another_gpu_or_driver_makes_another_machine_where_it_is_known():
    known = machine(gpu="A100", driver="570")
    prints = {
        fingerprint(each) for each in (known, machine(gpu="H100", driver="570"), machine(gpu="A100", driver="580"))
    }
    assert len(prints | {fingerprint(machine())}) == 4


def test_fingerprints_that_are_stored_stay_what_they_are():
    assert (fingerprint(machine()), hardware_fingerprint(machine())) == ("1861137916d7bdb0", "8ff2961668cc5048")
    newer = machine(system="Linux-7", packages={"x": "2"})
    assert hardware_fingerprint(newer) == "8ff2961668cc5048"


def test_where_it_is_kept():
    assert state_folder({"PRUNE_DEPLOY_STATE": "/s", "XDG_STATE_HOME": "/x", "HOME": "/h"}) == Path("/s")
    assert state_folder({"XDG_STATE_HOME": "/x", "HOME": "/h"}) == Path("/x/prune-deploy")
    assert state_folder({"XDG_STATE_HOME": "relative", "HOME": "/h"}) == Path("/h/.local/state/prune-deploy")
    assert state_folder({"HOME": "/h"}) == Path("/h/.local/state/prune-deploy")


def test_it_is_kept_there_when_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNE_DEPLOY_STATE", str(tmp_path))
    assert floors.store(floor_of(0.01)).is_relative_to(tmp_path)
    assert floors.load(FINGERPRINT, "torch-compile") == floor_of(0.01)
