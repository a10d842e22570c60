"""Scenarios from question to record: settings, samples, derived numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from backends import registry
from backends.base import CompileOptions
from benchmarks.errors import SettingError
from benchmarks.scenarios import (
    EQUIVALENTS,
    SCENARIOS,
    MultiStream,
    MultiStreamResult,
    Offline,
    OfflineResult,
    ScenarioResult,
    Server,
    ServerProbe,
    ServerResult,
    parse,
    question_of,
    run_scenario,
    settings_of,
)

MS = 1_000_000
SMALL = [
    MultiStream(streams=2, min_calls=64, min_duration_ns=0),
    Server(bound_ns=10**9, streams=2, rate_per_s=5000.0, share=0.9, queries=64),
    Offline(calls=50, streams=2),
]


def travelled(message):
    return json.loads(json.dumps(message))


@pytest.mark.parametrize("settings", SMALL, ids=lambda settings: settings.scenario)
def test_a_scenario_goes_to_the_measured_process_and_back(settings, conv_model):
    compiled = registry.create("null").compile(conv_model, CompileOptions(streams=2))
    feeds = {"x": np.zeros((1, 3, 8, 8), np.float32)}
    question = travelled(question_of(settings))
    answer, arrays = run_scenario(question, [compiled.bind(feeds) for _ in range(2)])
    assert all(array.dtype == np.int64 for array in arrays.values())
    record = parse(question, travelled(answer), arrays, batch=4)
    assert (record.scenario, record.settings, record.batch) == (settings.scenario, settings, 4)
    assert TypeAdapter(ScenarioResult).validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize("settings", SMALL, ids=lambda settings: settings.scenario)
def test_settings_travel_unchanged(settings):
    assert settings_of(travelled(question_of(settings))) == settings


def test_throughput_of_callers_is_the_sum_of_their_own_rates():
    # One caller takes 10 ms a call, the other 5 ms; the second stops a little earlier.
    result = MultiStreamResult(
        settings=MultiStream(streams=2),
        batch=3,
        issued_ns=(tuple(10 * MS * i for i in range(10)), tuple(5 * MS * i for i in range(19))),
        done_ns=(tuple(10 * MS * (i + 1) for i in range(10)), tuple(5 * MS * (i + 1) for i in range(19))),
    )
    assert result.throughput_per_s == pytest.approx(3 * (100 + 200))
    assert result.latencies_ns[:3].tolist() == [10 * MS, 5 * MS, 5 * MS]
    assert sorted(result.latencies_ns.tolist()) == [5 * MS] * 19 + [10 * MS] * 10
    assert result.percentile_ns(0.5) == 5 * MS
    with pytest.raises(SettingError, match="662"):
        result.percentile_ns(0.99)


def test_offline_counts_examples_to_the_last_answer():
    result = OfflineResult(
        settings=Offline(calls=3, streams=2), batch=8, issued_ns=(0, 0, 10 * MS), done_ns=(10 * MS, 12 * MS, 20 * MS)
    )
    assert result.throughput_per_s == pytest.approx(8 * 3 / 0.020)


def probe(rate, latencies, *, planned=None, bound_ns=10):
    scheduled = tuple(100 * i for i in range(len(latencies)))
    done = tuple(start + latency for start, latency in zip(scheduled, latencies, strict=True))
    return ServerProbe(
        rate_per_s=rate,
        seed=0,
        planned=planned or len(latencies),
        bound_ns=bound_ns,
        share=0.9,
        streams=1,
        scheduled_ns=scheduled,
        issued_ns=tuple(start + 3 for start in scheduled),
        done_ns=done,
    )


def test_a_probe_says_what_its_samples_say():
    good, bad = probe(5.0, [11] + [10] * 63), probe(6.0, [11, 11] + [10] * 62)
    assert (good.holds, good.n_over, bad.holds, bad.n_over) == (True, 1, False, 2)
    assert good.percentile_ns(0.9) == 10
    unfinished = probe(7.0, [10] * 64, planned=200)
    assert not unfinished.holds


def test_the_number_of_a_server_is_the_highest_rate_below_all_that_failed():
    good, bad = [10] * 64, [11] * 64
    result = ServerResult(
        settings=Server(bound_ns=10, share=0.9, queries=64),
        probes=(probe(5.0, good), probe(9.0, bad), probe(7.0, bad), probe(8.0, good), probe(6.0, good)),
        ended="probes",
    )
    assert (result.found.held_per_s, result.found.failed_per_s) == (6.0, 7.0)


@pytest.mark.parametrize(
    "broken",
    [
        lambda: MultiStreamResult(settings=MultiStream(streams=2), issued_ns=((0,),), done_ns=((1,),)),
        lambda: MultiStreamResult(settings=MultiStream(streams=1), issued_ns=((0, 1),), done_ns=((1,),)),
        lambda: OfflineResult(settings=Offline(calls=2), issued_ns=(0,), done_ns=(1,)),
        lambda: ServerResult(settings=Server(bound_ns=1), probes=(), ended="time"),
        lambda: probe(1.0, []),
    ],
)
def test_records_of_nothing_are_refused(broken):
    with pytest.raises(ValidationError):
        broken()


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"scenario": "serve"}, "multi-stream, server, offline"),
        ({"scenario": "offline", "settings": {"bogus": 1}}, "bogus"),
        ({"scenario": "offline", "settings": {"calls": 0}}, "calls must be at least 1, got 0"),
        ({"scenario": "multi-stream", "settings": {"streams": 2, "min_calls": 9, "max_calls": 4}}, "at most 4"),
        ({"scenario": "server", "settings": {"bound_ns": 5, "queries": 458}}, "p99; it wants 459 or more"),
        ({"scenario": "server", "settings": {"bound_ns": 5, "rate_per_s": 0.0}}, "rate_per_s must be positive"),
        ({"scenario": "server", "settings": {"bound_ns": 5, "share": 1.5}}, "share between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(question, message):
    with pytest.raises(SettingError, match=message):
        run_scenario(question, [lambda: None])


def test_every_stream_wants_a_call_of_its_own():
    with pytest.raises(SettingError, match="3 streams want as many bound calls, got 1"):
        run_scenario(question_of(Offline(calls=5, streams=3)), [lambda: None])


def test_a_probe_of_p99_has_2010_queries_unless_said_otherwise():
    settings = Server(bound_ns=1)
    assert settings.probe_queries == 2010
    assert replace(settings, share=0.9).probe_queries == 197
    assert replace(settings, queries=662).probe_queries == 662


def test_every_scenario_says_what_it_measures_and_what_it_equals():
    assert all(len(kind.definition) > 60 for kind in SCENARIOS.values())
    assert all("MLPerf result" not in kind.definition for kind in SCENARIOS.values())
    for name in SCENARIOS:
        assert any(row.scenario == name for row in EQUIVALENTS)
