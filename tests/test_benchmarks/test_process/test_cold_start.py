"""What compiling costs, with and without what was compiled before; processes bound to cores; energy per call."""

from __future__ import annotations

import os

import pytest

from backends import registry
from benchmarks.errors import BenchmarkError
from benchmarks.process.cold_start import cold_costs
from benchmarks.process.measured import MeasuredProcess
from benchmarks.runner import Settings, SubjectSpec, compare, measure


@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_a_model_is_compiled_and_then_loaded_from_what_was_kept(conv_model, backend):
    if not registry.probe(backend).ok:
        pytest.skip(f"{backend} is not usable here")
    costs = cold_costs(SubjectSpec(model=conv_model, backend=backend))
    assert not costs.without_cache.from_cache
    assert costs.without_cache.stored_bytes > 0
    assert costs.with_cache.from_cache
    assert costs.with_cache.compiled_ns == costs.without_cache.compiled_ns, "what it cost then is known now"
    assert costs.with_cache.loaded_ns > 0


def test_what_the_runtime_refuses_to_load_again_is_said(conv_model, install_backends):
    source = """
    from backends.errors import ArtefactError
    from backends.null import NullBackend

    class Fickle(NullBackend):
        name = "fickle"

        def _compile(self, model, options):
            compiled = super()._compile(model, options)
            compiled.artefact = lambda: b"1"
            return compiled

        def _import_artefact(self, blob, model, options):
            raise ArtefactError("made by another build")
    """
    install_backends(source, {"fickle": "Fickle"})
    costs = cold_costs(SubjectSpec(model=conv_model, backend="fickle"))
    assert costs.with_cache is None
    assert "made by another build" in costs.without_cache.reason


def test_a_runtime_that_keeps_nothing_says_why(conv_model):
    if not registry.probe("torch").ok:
        pytest.skip("torch is not usable here")
    measurement = measure(
        SubjectSpec(model=conv_model, backend="torch", batch=1), settings=Settings(trials=1, cold=True)
    )
    assert measurement.cold.with_cache is None
    assert measurement.cold.without_cache.reason


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no processes to cores")
def test_a_process_is_bound_to_the_cores_asked_for(conv_model):
    core = min(os.sched_getaffinity(0))
    process = MeasuredProcess(SubjectSpec(model=conv_model, backend="null", cores=(core,)), timeout_s=60)
    try:
        process.compile_cached(conv_model.parent / "kept")
        assert os.sched_getaffinity(process.pid) == {core}
    finally:
        process.close()


def test_cores_that_are_not_there_fail_in_one_line(conv_model):
    measurement = measure(SubjectSpec(model=conv_model, backend="null", cores=(4711,)), settings=Settings(trials=1))
    assert "4711" in measurement.failure


class Meter:
    """Counts 7 microjoules between start and stop."""

    def start(self):
        return self

    def stop(self):
        return 7


def test_energy_is_told_per_call(new_world, specs):
    world = new_world(latency_ns={"baseline": 1e6, "candidate": 1e6}, energy=Meter())
    comparison = compare(*specs, settings=Settings(trials=2), launch=world.launch, machine=world)
    trial = comparison.candidate.trials[0]
    assert trial.energy_uj == 7 * len(trial.blocks_ns)
    assert trial.energy_calls > len(trial.calls_ns), "the calls at hand-over use energy too"
    trials = comparison.candidate.trials
    each = sum(one.energy_uj for one in trials) / sum(one.energy_calls for one in trials)
    assert comparison.candidate.energy_uj_per_call == pytest.approx(each)


def test_without_a_counter_there_is_no_energy(new_world, specs):
    world = new_world(latency_ns={"candidate": 1e6})
    measurement = measure(specs[0], settings=Settings(trials=1), launch=world.launch, machine=world)
    assert measurement.energy_uj_per_call is None


def test_a_broken_model_has_no_cold_costs(tmp_path):
    with pytest.raises(BenchmarkError, match="no such file"):
        cold_costs(SubjectSpec(model=tmp_path / "absent.onnx"))
