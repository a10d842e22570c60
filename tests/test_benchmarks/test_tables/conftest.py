"""A network of three convolutions and a runtime whose times follow blocks of 8 channels, noise aside."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backends.base import LayerInfo
from benchmarks.layers.process import Ran
from benchmarks.subject.subject import content_sha256
from benchmarks.tables.plan_space import AttributePlace, AxisPlace, GroupRange, PlanSpace, Size, ValuePlace

WIDE, DEEP = 64, 96


def _a(n):
    return Size(terms=(("a", n),))


B = Size(terms=(("b", 1),))


@pytest.fixture(scope="session")
def dense(tmp_path_factory):
    """A convolution of group a, a depthwise one, one of group b, then 5 scores of the flattened 4 x 4 images."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], name="depthwise", pads=[1, 1, 1, 1], group=WIDE),
        helper.make_node("Conv", ["c1", "w2"], ["c2"], name="second"),
        helper.make_node("Reshape", ["c2", "shape"], ["flat"], name="reshape"),
        helper.make_node("Gemm", ["flat", "w3"], ["y"], name="fc", transB=1),
    ]
    rng = np.random.default_rng(0)
    shapes = {"w0": (WIDE, 3, 3, 3), "w1": (WIDE, 1, 3, 3), "w2": (DEEP, WIDE, 1, 1), "w3": (5, 16 * DEEP)}
    constants = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    constants.append(numpy_helper.from_array(np.array([-1, 16 * DEEP]), "shape"))
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("x", ["batch", 3, 4, 4]), ("y", ["batch", 5]))
    ]
    graph = helper.make_graph(nodes, "graph", *values, constants)
    path = tmp_path_factory.mktemp("tables") / "dense.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


@pytest.fixture(scope="session")
def space(dense):
    return PlanSpace(
        model_sha256=content_sha256(dense),
        graph="network",
        groups=(GroupRange(name="a", n_units=WIDE), GroupRange(name="b", n_units=DEEP, min_units=2)),
        places=(
            AxisPlace(node=0, input=1, axis=0, size=_a(1)),
            AxisPlace(node=2, input=1, axis=0, size=_a(1)),
            AttributePlace(node=2, name="group", size=_a(1)),
            AxisPlace(node=3, input=1, axis=0, size=B),
            AxisPlace(node=3, input=1, axis=1, size=_a(1)),
            ValuePlace(node=4, input=1, index=1, size=Size(terms=(("b", 16),))),
            AxisPlace(node=5, input=1, axis=1, size=Size(terms=(("b", 16),))),
        ),
    )


class SimulatedRuntime:
    """Takes as long as the blocks of channels say; the addition of a reorder shows where a block is not full."""

    def __init__(self, block=8, noise=0.01, seed=0, slower=0.0, version="1.0"):
        self.block, self.noise, self.slower, self.version = block, noise, slower, version
        self.rng = np.random.default_rng(seed)
        self.n_models = 0

    def widths(self, model):
        sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
        return sizes["w0"][0], sizes["w2"][0]

    def whole_ns(self, model):
        return 300 + 0.9 * sum(self.layer_times(model).values())

    def layer_times(self, model):
        a, b = self.widths(model)
        blocks_a, blocks_b = -(-a // self.block), -(-b // self.block)
        return {
            "first": 2000 + 900 * blocks_a,
            "depthwise": 500 + 300 * blocks_a,
            "reorder": 700 if a % self.block else 0,
            "second": 1000 + 250 * blocks_a * blocks_b,
            "fc": 800 + 100 * blocks_b,
        }

    @contextmanager
    def processes(self, backend, *, threads):
        yield self.run

    def run(self, backend, model, options, feeds, *, sessions, most_calls, budget_s, total_s, turns=1, beside=None):
        self.n_models += 1
        times, whole_ns = self.layer_times(onnx.load(model)), self.whole_ns(onnx.load(model))
        fused = {"first": ("first", "relu"), "reorder": (), "fc": ("reshape", "fc")}
        layers = []
        for _ in range(sessions):
            speed = 1 + self.noise * abs(self.rng.standard_normal())
            layers.append(
                tuple(
                    LayerInfo(name=name, kind="Kernel", nodes=fused.get(name, (name,)), time_ns=round(speed * ns))
                    for name, ns in times.items()
                    if ns
                )
            )
        slow = [1 + self.slower * self.rng.integers(2) for _ in range(sessions * turns)]
        return Ran(
            calls_ns=tuple(self.calls(whole_ns, most_calls, slowed) for slowed in slow),
            beside_ns=tuple(self.calls(self.whole_ns(onnx.load(beside)), most_calls, slowed) for slowed in slow)
            if beside
            else (),
            layers=tuple(layers) if options.profile else (),
            executed_precision="fp32",
            backend_version=self.version,
        )

    def calls(self, whole_ns, n, slowed):
        luck = slowed * (1 + self.noise * np.abs(self.rng.standard_normal(n)))
        return tuple(np.round(whole_ns * luck).astype(int).tolist())


@pytest.fixture
def new_runtime():
    return SimulatedRuntime
