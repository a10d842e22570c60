"""The size of a runtime's blocks is found from its times, and not where they show none."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from backends.base import CompileOptions, LayerInfo
from benchmarks.layers.process import Ran
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.block import find_block, known_block


class Convolutions:
    """Computes channels in blocks; `noise` is the share by which each time is longer."""

    def __init__(self, block, noise=0.02):
        self.block, self.noise, self.rng = block, noise, np.random.default_rng(0)

    @contextmanager
    def processes(self, backend, *, threads):
        yield self.run

    def run(self, backend, model, options, feeds, *, most_calls, turns=1, beside=None, sessions, **limits):
        whole, layers = self.times(model)
        return Ran(
            calls_ns=((whole,) * most_calls,) * max(sessions, turns),
            beside_ns=() if beside is None else ((self.times(beside)[0],) * most_calls,) * turns,
            layers=(layers,) * sessions if options.profile else (),
            executed_precision="fp32",
            backend_version="1.0",
        )

    def times(self, model):
        weights = [tuple(tensor.dims) for tensor in onnx.load(model).graph.initializer]
        blocks = [[-(-size // self.block) for size in shape[:2]] for shape in weights]
        times = [
            2000 + 50 * self.block**2 * out * into * shape[2] ** 2
            for (out, into), shape in zip(blocks, weights, strict=True)
        ]
        slow = 1 + self.noise * abs(self.rng.standard_normal())
        layers = tuple(
            LayerInfo(name=f"conv{i}", kind="Conv", nodes=(f"conv{i}",), time_ns=round(slow * ns))
            for i, ns in enumerate(times)
        )
        return round(slow * sum(times)), layers


@pytest.mark.parametrize(("block", "noise", "found"), [(1, 0.01, 1), (8, 0.02, 8), (16, 0.02, 16), (16, 3.0, None)])
def test_the_block_is_found_or_not_known(new_world, block, noise, found):
    runtime = Convolutions(block, noise)
    spec = SubjectSpec(model=Path("none.onnx"), backend="ort", options=CompileOptions())
    assert find_block(spec, processes=runtime.processes, machine=new_world()) == found


def test_layers_that_take_no_time_by_the_clock_leave_it_unknown(new_world, tmp_path, dense):
    class Coarse(Convolutions):
        """Another layer shows in each session, so none has a time in all of them."""

        def run(self, backend, model, options, feeds, **given):
            ran = super().run(backend, model, options, feeds, **given)
            shown = [
                tuple(
                    replace(layer, time_ns=layer.time_ns * (at % 2 == session % 2)) for at, layer in enumerate(layers)
                )
                for session, layers in enumerate(ran.layers)
            ]
            return replace(ran, layers=tuple(shown))

    spec = SubjectSpec(model=dense, backend="ort", options=CompileOptions())
    world = new_world()
    found = known_block(spec, folder=tmp_path, processes=Coarse(8).processes, machine=world)
    assert found == (None, "unknown", "the layers are shorter than its clock resolves")
