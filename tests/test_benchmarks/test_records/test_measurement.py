"""Records refuse nonsense, survive the disk, and stay readable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from benchmarks.errors import NotComparableError, RecordError, SettingError
from benchmarks.records.file import load_comparison, load_measurement, save
from benchmarks.records.measurement import Agreement, Fitness, Interval, Measurement, Reason
from benchmarks.registry import describe, names
from benchmarks.settings import Settings
from benchmarks.stats.caveats import caveats_about
from benchmarks.stats.log_ratios import log_ratios, require_comparable
from benchmarks.stats.summary import summarise
from benchmarks.stopping import judge_pairs

GOLDEN = Path(__file__).parents[2] / "golden" / "comparison-1.json"


@pytest.fixture
def comparison():
    return load_comparison(GOLDEN)


def test_files_of_version_1_stay_readable(comparison):
    assert (comparison.baseline.subject.label, comparison.candidate.subject.label) == ("dense", "pruned")
    assert comparison.flop_ratio == 4
    assert comparison.speedup.value == pytest.approx(2, rel=1e-3)
    assert comparison.realised == pytest.approx(0.5, rel=1e-3)
    assert comparison.candidate.trials[1].blocks_ns[0] == (1_000_010, 1_000_020, 1_000_030)
    assert log_ratios(comparison.candidate.trials, comparison.baseline.trials) == pytest.approx(comparison.log_ratios)
    settings = Settings(trials=len(comparison.log_ratios), margin=comparison.margin)
    assert judge_pairs(comparison.log_ratios, settings, spent=True).speedup == comparison.speedup


def test_a_summary_is_derived_from_the_samples(comparison):
    summary = summarise(comparison.candidate)
    assert (summary.n_trials, summary.n_calls) == (2, 18)
    assert summary.p50_ns == 1_000_020
    assert (summary.p90_ns, summary.p99_ns, summary.p999_ns) == (None, None, None), "18 calls show no tail"
    assert summary.throughput_per_s == pytest.approx(1e9 / summary.mean_ns)
    assert (summary.load_ns, summary.first_run_ns) == (7_000_000, 2_000_000)
    assert (summary.peak_bytes, summary.model_bytes) == (72_000_000, 12_000_000)
    assert summary.trial_median_ns.n == 2


def test_a_single_call_has_a_median_and_no_more(comparison):
    trial = comparison.candidate.trials[0].model_copy(update={"blocks_ns": ((7,),)})
    summary = summarise(comparison.candidate.model_copy(update={"trials": (trial,)}))
    assert (summary.p50_ns, summary.p90_ns, summary.trial_median_ns) == (7, None, None)


def test_what_is_saved_is_read_again(comparison, tmp_path):
    path = tmp_path / "comparison.json"
    save(comparison, path)
    assert load_comparison(path) == comparison
    save(comparison.baseline, path)
    assert load_measurement(path) == comparison.baseline
    assert [entry.name for entry in tmp_path.iterdir()] == ["comparison.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 3}, r"version 3; versions 1 to 2 can be read"),
        ({"schema_version": None}, r"version None"),
        ({"margin": -1}, r"margin: Input should be greater than 0"),
        ({"novelty": 1}, r"novelty: Extra inputs"),
        ({"speedup": {"value": 3, "low": 1, "high": 2, "confidence": 0.9, "n": 6}}, r"does not hold its value"),
    ],
)
def test_broken_files_are_one_line(comparison, tmp_path, change, message):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(json.loads(GOLDEN.read_text()) | change))
    with pytest.raises(RecordError, match=message) as caught:
        load_comparison(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_records_are_one_line(tmp_path):
    path = tmp_path / "c.json"
    with pytest.raises(RecordError, match="no such file"):
        load_comparison(path)
    for text, message in (("{", "not JSON"), ("[]", "not a comparison")):
        path.write_text(text)
        with pytest.raises(RecordError, match=message):
            load_comparison(path)
    with pytest.raises(RecordError, match="cannot be read"):
        load_comparison(tmp_path)


def test_a_folder_that_cannot_be_written_is_one_line(comparison, tmp_path):
    with pytest.raises(RecordError, match=r"cannot write .*; choose another place"):
        save(comparison, tmp_path / "absent" / "c.json")


def test_a_measurement_has_trials_or_a_failure(comparison):
    record = comparison.baseline.model_dump()
    with pytest.raises(ValidationError, match="either trials or a failure"):
        Measurement.model_validate(record | {"failure": "it died"})
    with pytest.raises(ValidationError, match="either trials or a failure"):
        Measurement.model_validate(record | {"trials": ()})
    failed = Measurement.model_validate(record | {"trials": (), "failure": "it died", "failure_kind": "RunError"})
    assert Measurement.model_validate_json(failed.model_dump_json()) == failed
    with pytest.raises(SettingError, match="dense has no samples to summarise: it died"):
        summarise(failed)


def test_an_infinite_error_survives_the_disk():
    agreement = Agreement(
        reference="r", max_abs_error=float("inf"), output_range=1, tolerance=0.1, n_inputs=1, ok=False
    )
    assert Agreement.model_validate_json(agreement.model_dump_json()) == agreement


def test_an_interval_holds_its_value():
    with pytest.raises(ValidationError, match="does not hold"):
        Interval(value=2, low=0, high=1, confidence=0.9, n=6)


def test_unlike_measurements_are_not_compared(comparison):
    candidate, baseline = comparison.candidate, comparison.baseline
    other = candidate.model_copy(update={"subject": candidate.subject.model_copy(update={"batch": 8})})
    with pytest.raises(NotComparableError, match="batch differs: 1 of dense, 8 of pruned"):
        require_comparable(other, baseline)
    with pytest.raises(NotComparableError, match="do not pair off"):
        log_ratios(candidate.trials[:1], baseline.trials)
    shorter = candidate.trials[0].model_copy(update={"blocks_ns": candidate.trials[0].blocks_ns[:2]})
    with pytest.raises(NotComparableError, match="do not pair off"):
        log_ratios((shorter, candidate.trials[1]), baseline.trials)


def test_doubts_are_said_in_words(comparison):
    measurement = comparison.candidate
    trial = measurement.trials[0]
    good = tuple(trial.model_copy(update={"blocks_ns": ((1_000_000,) * 40,) * 3}) for _ in range(6))
    assert caveats_about(good, None) == ()
    slow = good[0].model_copy(update={"blocks_ns": ((1_200_000,) * 40,) * 3, "warmup_ended": "budget"})
    drifting = tuple(
        trial.model_copy(update={"blocks_ns": tuple((n * 1_000_000,) * 40 for n in (10, 11, 12))}) for _ in range(6)
    )
    busy = Fitness(reasons=(Reason(severity="doubtful", words="other processes used 50% of the cores' time"),))
    assert caveats_about((slow, *good[1:]), busy) == (
        "the processes' medians differ by 20 %",
        "1 of 6 warm-ups ended by their budget, not in a steady state",
        "other processes used 50% of the cores' time",
    )
    assert caveats_about(drifting, Fitness()) == (
        "latency moved by +20 % from the first to the last third of the blocks",
    )
    few = caveats_about((trial,), None)
    assert few[:2] == ("1 trial; a 95 % interval needs at least 6", "only 9 timed calls: too few for a p99")


def test_scenarios_say_what_a_call_contains():
    assert names() == ("request", "multi-stream", "server", "offline", "device")
    assert "host memory" in describe("request")
    assert "scheduled arrival" in describe("server")
