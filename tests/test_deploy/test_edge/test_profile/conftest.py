"""Boards, clocks and processes that exist only in numbers, and a whole profile made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.arm import PreparedArm
from benchmarks.machine.board.records import Board, CoreKind, Temperature
from benchmarks.machine.board.watch import Reading
from benchmarks.settings import Settings
from benchmarks.subject.subject import SubjectSpec
from benchmarks.validation.simulated_machine import Service, SimulatedMachine
from deploy.edge.profile.record import Absent, ColdStart, Cooling, Point, Profile, SweepTrial, Swept
from deploy.edge.profile.sustain import Clocks, put_under_load
from deploy.results.results import load

GOLDEN = Path(__file__).parents[3] / "golden"
BIG, LITTLE = "Cortex-A76 (big)", "Cortex-A55 (little)"
BOARD = Board(
    model="Orange Pi 5 Plus",
    soc="rockchip,rk3588",
    cpu="Cortex-A76",
    architecture="aarch64",
    kinds=(
        CoreKind(
            name="Cortex-A76",
            role="big",
            role_from="the scheduler's capacity",
            cores=(4, 5, 6, 7),
            max_khz=2_400_000,
            governor="ondemand",
        ),
        CoreKind(name="Cortex-A55", role="little", cores=(0, 1, 2, 3), max_khz=1_800_000),
    ),
    memory_bytes=16 << 30,
    temperatures=(Temperature(name="bigcore0-thermal", celsius=41.0, of_cores=True),),
    throttling=("the kernel's cooling devices",),
    energy=("VDD_IN",),
)
START_S = 0.6
"""From the start of a simulated process to its load: half a second, and ten calls of 10 ms to warm it."""


class HotBoard:
    """Gets hotter under load, and holds its clock down after some seconds; implements `Watching`."""

    def __init__(self, machine, cap_s=float("inf"), flags=()):
        self.machine, self.cap_s, self.flags = machine, cap_s + START_S, flags

    def read(self):
        now_s = self.machine.now_s()
        capped = now_s >= self.cap_s
        return Reading(
            khz={BIG: 1_500_000 if capped else 2_400_000, LITTLE: 1_800_000},
            celsius=min(41.0 + now_s, 85.0),
            sensor="bigcore0-thermal",
            throttled=self.flags if capped else (),
            events=None,
        )


class Meter:
    """Counts five watts of simulated time."""

    def __init__(self, machine):
        self.machine = machine

    def start(self):
        self.begin_ns = self.machine.now_ns

    def stop(self):
        return 5 * (self.machine.now_ns - self.begin_ns) // 1000


@pytest.fixture
def model(tmp_path):
    """Write a small network with a free batch."""
    weight = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, 8, 8])
        for name, channels in (("x", 3), ("y", 4))
    ]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="c")], "g", ends[:1], ends[1:], [weight]
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def arm(model):
    """Prepare the network for a process that computes nothing."""

    def make(label="pruned", **options):
        spec = SubjectSpec(model=model, label=label, backend="null", **options)
        return PreparedArm.prepare(spec, None, None, Settings(), lambda _: None)

    return make


@pytest.fixture
def loaded(arm):
    """Put a load on a simulated board whose clock is capped after some seconds."""

    prepared = {}

    def put(seconds, cap_s=float("inf"), *, label="pruned", flags=(), factor=1.6, watch=None, seed=1, **calls):
        calls = {"sigma": 0.02, "throttled_after_s": cap_s + START_S, "throttled_factor": factor, **calls}
        machine = SimulatedMachine({label: Service(median_ns=10e6, **calls)}, seed=seed)
        if label not in prepared:
            prepared[label] = arm(label)
        return put_under_load(
            prepared[label],
            seconds,
            watch or HotBoard(machine, cap_s, flags),
            timeout_s=1.0,
            meter=Meter(machine),
            clocks=Clocks(machine.launch, lambda: machine.now_ns),
        )

    return put


def swept(label, point, *medians_ns, peak=100 << 20, failure=None, energy_uj=None):
    trials = tuple(
        SweepTrial(
            calls_ns=(int(ns),) * 20,
            cpu_ns=int(40 * ns),
            peak_bytes=peak,
            energy_uj=None if energy_uj is None else 20 * energy_uj,
            energy_calls=0 if energy_uj is None else 20,
        )
        for ns in medians_ns
    )
    return Swept(label=label, point=point, trials=trials, failure=failure)


@pytest.fixture
def profile(loaded):
    """Make a whole profile of a pair, on a board that throttles."""
    results = load(GOLDEN / "results-v1.json")
    results = results.model_copy(update={"comparisons": results.comparisons[:1], "skipped": ()})
    dense, pruned = (row.label for row in results.models)
    main = Point(backend="ort", precision="fp32", threads=8, batch=1)
    on_big = main.model_copy(update={"threads": 4, "cores": (4, 5, 6, 7), "on": BIG})
    eight = main.model_copy(update={"batch": 8})
    times = {main: (20e6, 9e6), on_big: (16e6, 7e6), eight: (120e6, 40e6)}
    steps = {"process_ns": 300_000_000, "import_ns": 90_000_000, "load_ns": 80_000_000, "first_run_ns": 20_000_000}
    return Profile(
        created_utc="2026-11-29T12:00:00+00:00",
        tool_version="0.1.0",
        board=BOARD,
        results=results,
        cold=tuple(ColdStart(label=label, **steps) for label in (dense, pruned)),
        cooling=(
            Cooling(
                before="load on pruned",
                target_celsius=45.0,
                start_celsius=85.0,
                end_celsius=45.0,
                waited_s=40.0,
                ended="cool",
            ),
        ),
        idle_watts=2.0,
        idle_s=2.0,
        sustained=(loaded(60, 20, label=dense), loaded(60, 41, label=pruned)),
        sweep=tuple(
            swept(label, point, ns, 1.05 * ns, energy_uj=round(ns / 1e3))
            for point, pair in times.items()
            for label, ns in zip((dense, pruned), pair, strict=True)
        ),
        left_out=("openvino fp32, 8 threads, batch 1",),
        refused=("ort bf16: the file is fp32",),
        absent=(Absent(part="layers", why="left out by --skip"),),
    )
