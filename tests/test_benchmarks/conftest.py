"""Tiny models with counts known by hand, backends that misbehave, and simulated workers."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backends.base import CompileOptions
from benchmarks.errors import WorkerError
from benchmarks.process.measured import Closing, Loaded, Warm
from benchmarks.records.measurement import Conditions, Environment, Fitness, Memory
from benchmarks.runner import SubjectSpec


def save_model(path, nodes, inputs, outputs, initializers=(), *, functions=(), opset=20, domains=()):
    """Write an ONNX file; inputs and outputs are (name, type, shape)."""
    values = [[helper.make_tensor_value_info(*value) for value in values] for values in (inputs, outputs)]
    graph = helper.make_graph(list(nodes), "graph", *values, list(initializers))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    onnx.save(helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=9), path)
    return path


def weight(name, *shape, seed=0):
    """Make a float initializer."""
    return numpy_helper.from_array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32), name)


def save_conv_model(path, *, batch="batch"):
    """Write convolution, ReLU, pooling, matrix product."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "v", "d"], ["y"], name="fc", transB=1),
    ]
    weights = [weight("w", 4, 3, 3, 3), weight("b", 4), weight("v", 5, 4), weight("d", 5)]
    image, scores = ("x", TensorProto.FLOAT, [batch, 3, 8, 8]), ("y", TensorProto.FLOAT, [batch, 5])
    return save_model(path, nodes, [image], [scores], weights)


@pytest.fixture
def conv_model(tmp_path):
    return save_conv_model(tmp_path / "conv.onnx")


_BACKENDS = """
import os, sys, time
from backends.null import NullBackend

print("imported noisily")


class _Calling(NullBackend):
    def _compile(self, model, options):
        compiled = super()._compile(model, options)
        bind = compiled._bind

        def _bind(feeds):
            call = bind(feeds)
            calls = type(call)
            return type("Call", (calls,), {"__call__": lambda this: self.call()})(call._outputs)

        compiled._bind = _bind
        return compiled


class Aborting(NullBackend):
    name = "aborting"

    def _compile(self, model, options):
        os.write(2, b"something broke\\n")
        os.abort()


class Exiting(NullBackend):
    name = "exiting"

    def _compile(self, model, options):
        raise RuntimeError("a bug in the backend")


class OutOfMemory(NullBackend):
    name = "greedy"

    def _compile(self, model, options):
        raise MemoryError("no 3 TB left")


class Hanging(_Calling):
    name = "hanging"

    def call(self):
        time.sleep(3600)


class Noisy(_Calling):
    name = "noisy"

    def call(self):
        os.write(1, b"{not for you}\\n")
        print("nor this", flush=True)


class Zeros(NullBackend):
    name = "zeros"
"""


@pytest.fixture
def odd_backends(install_backends):
    """Install backends that misbehave."""
    kinds = {
        "aborting": "Aborting",
        "exiting": "Exiting",
        "greedy": "OutOfMemory",
        "hanging": "Hanging",
        "noisy": "Noisy",
        "zeros": "Zeros",
    }
    install_backends(_BACKENDS, kinds)


@dataclass
class SimulatedMachine:
    """A simulated machine: its time goes on while its processes call.

    ``luck`` is the spread of a process's own speed, ``noise`` that of single calls, ``drift`` the change of speed in
    one simulated second, ``slow_share`` how many calls take three times as long.
    """

    seed: int = 0
    luck: float = 0.01
    noise: float = 0.05
    drift: float = 0.0
    slow_share: float = 0.0
    latency_ns: dict[str, float] = field(default_factory=dict)
    fail: dict[str, object] = field(default_factory=dict)
    now_ns: float = 0.0
    measured: bool = False
    energy: object = None
    fitness: Fitness | None = None
    running: set = field(default_factory=set)
    log: list = field(default_factory=list)

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)

    def launch(self, spec, *, timeout_s, call_timeout_s=None):
        return SimulatedWorker(self, spec)

    def now_s(self):
        return self.now_ns / 1e9

    @contextmanager
    def measuring(self, purpose, say):
        assert not self.measured, "two measurements overlap"
        self.measured = True
        yield SimulatedObserver(self)
        self.measured = False

    def calls(self, base_ns, n):
        speed = 1 + self.drift * self.now_ns / 1e9
        factors = np.exp(self.noise * self.rng.standard_normal(n)) * np.where(
            self.rng.random(n) < self.slow_share, 3, 1
        )
        samples = np.maximum(1, base_ns * speed * factors).astype(np.int64)
        self.now_ns += float(samples.sum())
        return tuple(samples.tolist())


class SimulatedObserver:
    def __init__(self, world):
        self.world = world

    def environment(self, *, gpu):
        return Environment(system="simulated", cpu=None, cpu_cores=2, memory_bytes=1, python="3", packages={})

    def follow(self, pid):
        assert pid == 0

    def look(self):
        assert self.world.running, "it is too late to look"

    def energy(self):
        return self.world.energy

    def between_trials(self):
        assert not self.world.running, "a process lives on between two trials"

    def so_far(self, versions, *, gpu, threads):
        environment = self.environment(gpu=gpu).model_copy(update={"packages": dict(versions)})
        return Conditions(environment=environment, fitness=self.world.fitness)

    def finish(self, versions, *, gpu, threads):
        assert not self.world.running
        return self.so_far(versions, gpu=gpu, threads=threads)


class SimulatedWorker:
    def __init__(self, world, spec):
        self.world, self.label = world, spec.label
        world.now_ns += 0.5e9
        self.base_ns = world.latency_ns[spec.label] * np.exp(world.luck * world.rng.standard_normal())
        self.closed = False
        world.running.add(self)

    def _step(self, what):
        self.world.log.append((self.label, what))
        failure = self.world.fail.get(self.label)
        if failure is not None and failure[0] == what:
            failure[1] -= 1
            if failure[1] < 0:
                raise WorkerError(f"simulated failure during {what}", "RunError")

    def load(self, feeds, others=()):
        self._step("load")
        return Loaded(
            import_ns=1, load_ns=10, first_run_ns=20, executed_precision="fp32", properties={}, backend_version="1"
        )

    def run(self, feeds):
        raise AssertionError("nothing to check")

    def warm_up(self, limits):
        self._step("warm_up")
        calls = self.world.calls(self.base_ns, 10)
        return Warm(calls_ns=calls, n_calls=10, total_ns=sum(calls), ended="steady", latency_ns=float(np.median(calls)))

    def block(self, n_calls, n_dropped):
        self._step("block")
        awake = {worker.label for worker in self.world.running if not worker.resting}
        assert awake == {self.label}, "somebody else was awake while this one was timed"
        self.world.calls(self.base_ns, n_dropped)
        return self.world.calls(self.base_ns, n_calls)

    pid = 0
    resting = False

    def rest(self):
        self.resting = True

    def wake(self):
        self.resting = False

    def finish(self):
        self._step("finish")
        return Closing(cpu_ns=1, involuntary_switches=0, memory=Memory(baseline_bytes=1, peak_bytes=2))

    def close(self):
        self.closed = True
        self.world.running.discard(self)


@pytest.fixture
def specs(conv_model):
    """Give (candidate, baseline) whose answers nobody checks."""

    def spec(label):
        return SubjectSpec(model=Path(conv_model), label=label, backend="null", options=CompileOptions())

    return spec("candidate"), spec("baseline")


@pytest.fixture(name="new_world")
def _new_world():
    """Give the class of simulated machines."""
    return SimulatedMachine


@pytest.fixture(name="save_model")
def _save_model():
    return save_model


@pytest.fixture(name="save_conv_model")
def _save_conv_model():
    return save_conv_model


@pytest.fixture(name="weight")
def _weight():
    return weight
