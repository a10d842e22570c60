"""``deploy explain`` as people meet it; the slow tests let a real runtime take its time."""

from __future__ import annotations

import json
import subprocess
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backends.base import CompileOptions, LayerInfo
from benchmarks.errors import WorkerError
from benchmarks.layers.aligned_plan import AlignedPlan
from benchmarks.layers.explanation import Explanation
from benchmarks.layers.process import Ran
from benchmarks.layers.profiler import profile_in_turn
from benchmarks.layers.roofline import Roofline
from benchmarks.subject.subject import SubjectSpec, content_sha256
from benchmarks.tables.block import find_block
from benchmarks.tables.build import build_table
from benchmarks.tables.plan_space import AxisPlace, GroupRange, PlanSpace, Size, WholeLayer
from benchmarks.tables.table import LatencyTable
from deploy.bundles.pruning import MaskedCheck, Proof, PruningRecord

ROOFLINE = Roofline(
    backend="ort", precision="fp32", threads=1, device="cpu", peak_flops=50e9, peak_bytes_per_s=10e9, gemm_size=512,
    copied_bytes=1 << 20,
)  # fmt: skip


def convnet(path, widths, prefix="", size=8):
    """Write convolutions of these widths on images of three channels, pooling and ten scores."""
    sizes = [3, *widths]
    rng = np.random.default_rng(0)
    nodes, weights = [], []
    for i, (before, after) in enumerate(zip(sizes, widths, strict=False)):
        weights.append((f"w{i}", (after, before, 3, 3)))
        nodes += [
            helper.make_node("Conv", [f"r{i}", f"w{i}"], [f"c{i}"], name=f"{prefix}conv{i}", pads=[1] * 4),
            helper.make_node("Relu", [f"c{i}"], [f"r{i + 1}"], name=f"{prefix}relu{i}"),
        ]
    weights.append(("v", (widths[-1], 10)))
    nodes += [
        helper.make_node("GlobalAveragePool", [f"r{len(widths)}"], ["p"], name=f"{prefix}pool"),
        helper.make_node("Flatten", ["p"], ["f"], name=f"{prefix}flat"),
        helper.make_node("Gemm", ["f", "v"], ["y"], name=f"{prefix}fc"),
    ]
    tensors = [
        numpy_helper.from_array((rng.standard_normal(shape) / 10).astype(np.float32), name) for name, shape in weights
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("r0", ["batch", 3, size, size]), ("y", ["batch", 10]))
    ]
    graph = helper.make_graph(nodes, "net", *ends, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def space_of(path, widths):
    """Return the plan space of such a network: one group for each convolution."""
    names = [f"conv{i}" for i in range(len(widths))]
    units = [Size(terms=((name, 1),)) for name in names]
    places = [AxisPlace(node=2 * i, input=1, axis=0, size=size) for i, size in enumerate(units)]
    places += [AxisPlace(node=2 * i + 2, input=1, axis=1, size=size) for i, size in enumerate(units[:-1])]
    places.append(AxisPlace(node=2 * len(widths) + 2, input=1, axis=0, size=units[-1]))
    groups = tuple(GroupRange(name=name, n_units=width) for name, width in zip(names, widths, strict=True))
    return PlanSpace(model_sha256=content_sha256(path), graph="network", groups=groups, places=tuple(places))


@pytest.fixture
def explain(here):
    def run(*arguments):
        done = here("explain", *arguments)
        return done.returncode, done.stdout, done.stderr

    return run


def run_in_blocks_of_16(backend, model, options, feeds, *, sessions, most_calls, budget_s, total_s):
    """Take 1 us for each 16 x 16 channels; counts off the block cost as much again, and a reorder."""
    layers = []
    for node in onnx.load(model).graph.node:
        if node.op_type == "Conv":
            shape = next(t.dims for t in onnx.load(model).graph.initializer if t.name == node.input[1])
            out, into = (-(-n // 16) for n in shape[:2])
            odd = shape[0] % 16 > 0
            layers.append(
                LayerInfo(name=node.name, kind="Conv", nodes=(node.name,), time_ns=50_000 * out * into << odd)
            )
            if odd:
                layers.append(LayerInfo(name=f"r{len(layers)}", kind="ReorderOutput", time_ns=9_000))
    whole = sum(layer.time_ns for layer in layers) + 20_000
    return Ran(
        calls_ns=((whole,) * 3,) * sessions,
        layers=(tuple(layers),) * sessions if options.profile else (),
        executed_precision="fp32",
        backend_version="1.0",
    )


@pytest.fixture
def simulated(monkeypatch):
    processes = lambda backend, *, threads: nullcontext(run_in_blocks_of_16)  # noqa: E731
    measure = partial(profile_in_turn, processes=processes, measure_roofline=lambda *_: ROOFLINE)
    monkeypatch.setattr("deploy.cli.measure.explain.profile_in_turn", measure)
    monkeypatch.setattr("deploy.cli.measure.explain.measure_layer_overhead", lambda *_: 2000.0)
    monkeypatch.setattr("benchmarks.tables.block.find_block", lambda *_, **__: 16)


@pytest.fixture
def dense(tmp_path):
    return convnet(tmp_path / "dense.onnx", (64, 128, 128))


def test_the_baseline_may_be_the_model_as_it_was_at_a_commit(simulated, explain, dense, monkeypatch):
    monkeypatch.chdir(dense.parent)
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    for command in (("init", "--quiet"), ("add", dense.name), ("commit", "--quiet", "--message", "dense")):
        subprocess.run(["git", *identity, *command], check=True)
    convnet(dense, (45, 91, 91))
    code, out, err = explain(dense.name, "--against", "git:HEAD", "--threads", 1)
    assert code == 0, err
    assert "45 output channels are not a multiple of 16" in " ".join(out.split())
    code, out, err = explain(dense.name, "--against", "git:v9")
    assert (code, out) == (2, "")
    assert err.startswith("deploy: git:v9: there is no such commit, branch or tag here")


def test_the_answer_comes_first_then_the_reasons_then_the_layers(simulated, explain, dense, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    pruned = convnet(tmp_path / "pruned.onnx", (45, 91, 91), prefix="theirs/")  # other people's names
    page = tmp_path / "page.html"
    code, out, err = explain(pruned, "--against", dense, "--threads", 1, "--page", page)
    assert code == 0, err
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("On ort, pruned takes")
    assert "counts off the block of 16" in " ".join(" ".join(lines[:4]).split())
    titles = [lines.index(title) for title in ("Time beyond the promise, by reason", "Layer by layer")]
    assert titles == sorted(titles)
    assert titles[0] < titles[1] < 25
    told = " ".join(out.split())
    for words in (
        "45 output channels are not a multiple of 16 (dense: 64)",
        "3 of them instead of 0",
        "Channels computed together: 16 (measured)",
        "50.0 GFLOP/s, 10.0 GB/s",
    ):
        assert words in told
    html = page.read_text(encoding="utf-8")
    for words in ("counts off the block of 16", "pruned against dense on ort", "conv1", "50.0 GFLOP/s"):
        assert words in html


def test_json_holds_everything_and_is_all_that_is_printed(simulated, explain, dense, tmp_path):
    pruned = convnet(tmp_path / "pruned.onnx", (45, 91, 91))
    code, out, err = explain(pruned, "--against", dense, "--threads", 1, "--json")
    assert code == 0, err
    found = Explanation.model_validate(json.loads(out))
    assert (found.dense.label, found.pruned.label, found.block, found.block_from) == ("dense", "pruned", 16, "measured")
    reasons = {layer.name: layer.reason for layer in found.layers}
    assert {reasons[f"conv{i}"] for i in range(3)} == {"counts off the block"}
    assert reasons["layout conversion"] == "reorders put in"
    assert found.reasons[0].reason == "counts off the block"


def test_aligned_counts_follow_their_macs(simulated, explain, dense, tmp_path):
    pruned = convnet(tmp_path / "pruned.onnx", (48, 96, 96))
    code, out, err = explain(pruned, "--against", dense, "--threads", 1)
    assert code == 0, err
    assert "The time followed the MACs." in out
    assert "counts off the block" not in out


def test_what_could_not_be_measured_is_not_known_and_stops_nothing(simulated, explain, dense, tmp_path, monkeypatch):
    def refuses(*_, **__):
        raise WorkerError("it times no layer", kind="OptionError")

    monkeypatch.setattr("deploy.cli.measure.explain.measure_layer_overhead", refuses)
    monkeypatch.setattr("benchmarks.tables.block.find_block", refuses)
    pruned = convnet(tmp_path / "pruned.onnx", (45, 91, 91))
    code, out, err = explain(pruned, "--against", dense, "--threads", 1, "--json")
    assert code == 0, err
    found = Explanation.model_validate_json(out)
    assert (found.layer_overhead_ns, found.block, found.block_from) == (None, None, "unknown")
    for what in ("shortest layer", "number of channels computed together"):
        assert f"the {what} is not known: the layers are shorter than its clock resolves" in found.notes


def test_a_bundle_tells_what_was_left_whole(simulated, explain, dense, tmp_path, monkeypatch):
    proof = Proof(verification=MaskedCheck(reference="masked values"), form="module", left_whole="conv1: its code")
    bundle = SimpleNamespace(pruning=PruningRecord(groups=(), proof=proof))
    monkeypatch.setattr("deploy.cli.measure.explain.bundle_of", lambda _: bundle)
    pruned = convnet(tmp_path / "pruned.onnx", (48, 128, 128))
    code, out, err = explain(pruned, "--against", dense, "--threads", 1, "--json")
    assert code == 0, err
    found = Explanation.model_validate_json(out)
    assert found.notes[0] == "left whole, according to the bundle: conv1: its code"
    assert next(layer.reason for layer in found.layers if layer.name == "conv2") == "left whole"


def test_mistakes_are_one_line(explain, dense, tmp_path):
    def refused(*arguments):
        code, out, err = explain(*arguments)
        lines = [line for line in err.splitlines() if line.startswith("deploy: ")]
        assert (code, len(lines), out) == (2, 1, ""), err
        return lines[0]

    pruned = convnet(tmp_path / "pruned.onnx", (45, 91, 91))
    assert "none.onnx: no such file" in refused(tmp_path / "none.onnx", "--against", dense)
    assert "none.onnx: no such file" in refused(pruned, "--against", tmp_path / "none.onnx")
    assert "unknown backend 'onnx'" in refused(pruned, "--against", dense, "--backend", "onnx")
    assert "'null' has no layers to profile" in refused(pruned, "--against", dense, "--backend", "null")
    assert "cannot write" in refused(pruned, "--against", dense, "--page", tmp_path / "no" / "page.html")
    assert "given together" in refused(pruned, "--against", dense, "--table", tmp_path / "table.json")
    assert "--verify measures aligned plans" in refused(pruned, "--against", dense, "--verify")
    assert "dense.onnx" in refused(pruned, "--against", dense, "--plan-space", dense, "--table", dense)
    (tmp_path / "cut.onnx").write_bytes(pruned.read_bytes()[:100])
    assert "cut.onnx" in refused(tmp_path / "cut.onnx", "--against", dense)


def test_a_plan_space_of_another_network_is_refused_before_anything_is_measured(explain, dense, tmp_path, monkeypatch):
    larger, widths = tmp_path / "larger.onnx", (64, 128, 128, 128, 128)
    space_of(convnet(larger, widths), widths).save(tmp_path / "space.json")
    monkeypatch.setattr(LatencyTable, "load", lambda path: None)
    given = ("--plan-space", tmp_path / "space.json", "--table", tmp_path / "table.json")
    code, out, err = explain(convnet(tmp_path / "pruned.onnx", (45, 91, 91)), "--against", dense, *given)
    assert (code, out) == (2, "")
    assert err.startswith(f"deploy: the plan space was made for another file than {dense}: make it again")


@pytest.fixture
def kept(dense, monkeypatch):
    """Let a latency table and a plan space be kept for the dense network; return what aligned plans are asked of."""
    space, asked = space_of(dense, (64, 128, 128)), []
    last = WholeLayer(node=4, reason="its channels are an output of the network")
    space = space.model_copy(update={"whole_layers": (last,)})
    table = SimpleNamespace(block=16)

    def plans(spec, *known, where, best, **options):
        asked.append((*known, where, best))
        return (AlignedPlan(rounded="not", counts=known[2], importance=0.9, macs_share=0.5, predicted_share=0.6),)

    other = SimpleNamespace(block=8)  # of a plan space that is not kept
    tables = ((Path("newer.json"), other), (Path("kept.json"), table))
    monkeypatch.setattr("deploy.cli.measure.explain.tables_kept_for", lambda spec, say: (tables, ""))
    monkeypatch.setattr("deploy.cli.measure.explain.space_of_table", lambda of, model: space if of is table else None)
    monkeypatch.setattr("deploy.cli.measure.explain.aligned_plans", plans)
    return space, table, asked


def test_what_is_kept_for_the_dense_network_is_used(simulated, explain, dense, tmp_path, kept):
    pruned = convnet(tmp_path / "pruned.onnx", (45, 128, 128))
    code, out, err = explain(pruned, "--against", dense, "--threads", 1, "--json")
    assert code == 0, err
    assert "the latency table kept for the dense network is used: kept.json" in err
    found = Explanation.model_validate_json(out)
    assert found.plans[0].counts == {"conv0": 45, "conv1": 128, "conv2": 128}
    assert (found.block, found.block_from) == (16, "table")
    ((space, table, counts, where, best),) = kept[2]
    assert (space, table, counts, where) == (*kept[:2], found.plans[0].counts, "kept.json")
    assert best is not None
    (last,) = [layer for layer in found.layers if layer.name == "conv2"]
    assert last.why[-1] == (
        "the plan keeps all of conv2, which 2 layers produce or consume; "
        "the plan keeps all of conv1, which 2 layers produce or consume; "
        "its own channels cannot be pruned: its channels are an output of the network"
    )


def test_a_network_that_does_not_fit_what_is_kept_is_explained_without_plans(simulated, explain, dense, tmp_path, kept):
    code, out, err = explain(convnet(tmp_path / "pruned.onnx", (45, 91)), "--against", dense, "--threads", 1, "--json")
    assert code == 0, err
    found = Explanation.model_validate_json(out)
    assert not found.plans
    (note,) = found.notes
    assert note.startswith("no aligned plans are predicted: ")
    assert note.endswith("it has 3 layers with weights, not 4")
    assert not kept[2]
    code, out, err = explain(tmp_path / "pruned.onnx", "--against", dense, "--threads", 1, "--verify")
    assert (code, out) == (2, "")
    assert "give --plan-space and --table (" in err
    assert "it has 3 layers with weights, not 4)" in err


def test_without_the_solver_a_note_says_that_the_best_plan_is_not_known(
    simulated, explain, dense, tmp_path, kept, monkeypatch
):
    monkeypatch.setattr("deploy.cli.measure.explain.missing", lambda *names: names)
    pruned = convnet(tmp_path / "pruned.onnx", (45, 91, 128))
    code, out, err = explain(pruned, "--against", dense, "--threads", 1, "--json")
    assert code == 0, err
    ((*_, best),) = kept[2]
    assert best is None
    (note,) = [note for note in Explanation.model_validate_json(out).notes if "best aligned plan" in note]
    assert "scipy is not installed: pip install" in note


def test_why_nothing_kept_fits_is_what_the_newest_fitting_table_lacks(simulated, explain, dense, tmp_path, monkeypatch):
    tables = ((Path("newer.json"), SimpleNamespace(block=8)), (Path("older.json"), SimpleNamespace(block=4)))
    monkeypatch.setattr("deploy.cli.measure.explain.tables_kept_for", lambda spec, say: (tables, "of another backend"))
    monkeypatch.setattr("deploy.cli.measure.explain.space_of_table", lambda of, model: None)
    pruned = convnet(tmp_path / "pruned.onnx", (48, 96, 96))
    code, out, err = explain(pruned, "--against", dense, "--threads", 1, "--json")
    assert code == 0, err
    found = Explanation.model_validate_json(out)
    assert found.notes == ("no aligned plans are predicted: the plan space of newer.json is not kept",)
    assert (found.block, found.block_from) == (8, "table")


def test_where_macs_are_not_known_a_note_says_that_the_best_plan_is_not_either(
    simulated, explain, dense, tmp_path, kept, monkeypatch
):
    def plans(spec, *known, **options):
        return (AlignedPlan(rounded="not", counts=known[2], importance=0.9, macs_share=None, predicted_share=0.6),)

    monkeypatch.setattr("deploy.cli.measure.explain.aligned_plans", plans)
    pruned = convnet(tmp_path / "pruned.onnx", (45, 91, 128))
    code, out, err = explain(pruned, "--against", dense, "--threads", 1, "--json")
    assert code == 0, err
    assert Explanation.model_validate_json(out).notes == (
        "the best aligned plan is not known, because not all MACs are, and they set its time limit",
    )


@pytest.mark.slow
def test_what_aligned_counts_buy_is_predicted_and_measured(explain, tmp_path):
    widths = (128, 128, 192, 192)
    dense = convnet(tmp_path / "dense.onnx", widths, size=24)
    odd = convnet(tmp_path / "odd.onnx", (91, 91, 135, 135), prefix="x", size=24)
    space, spec = space_of(dense, widths), SubjectSpec(model=dense, backend="ort", options=CompileOptions(threads=1))
    space.save(tmp_path / "space.json")
    build_table(spec, space, plans=20).save(tmp_path / "table.json")
    given = ("--plan-space", tmp_path / "space.json", "--table", tmp_path / "table.json", "--verify", "--threads", 1)
    code, out, err = explain(odd, "--against", dense, *given, "--json", "--duration", 0.5)
    assert code == 0, err
    plans = Explanation.model_validate_json(out).plans
    assert plans[0].counts == {"conv0": 91, "conv1": 91, "conv2": 135, "conv3": 135}
    assert [plan.rounded for plan in plans][:2] == ["not", "to the nearest"]
    assert plans[-1].rounded == "best"
    assert plans[-1].importance > plans[0].importance - 0.05
    assert all(plan.predicted_share > 0 and plan.measured_share > 0 for plan in plans)
    code, out, err = explain(odd, "--against", dense, *given, "--duration", 0.5)
    assert code == 0, err
    assert "of the dense time (measured; predicted:" in " ".join(out.split())
    assert "The best plan for the promised time keeps" in " ".join(out.split())


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_a_real_runtime_is_explained(explain, tmp_path, backend, monkeypatch):
    once = cache(lambda _: find_block(SubjectSpec(model=dense, backend=backend, options=CompileOptions())))
    monkeypatch.setattr("benchmarks.tables.block.find_block", lambda *_, **__: once(backend))
    dense = convnet(tmp_path / "dense.onnx", (128, 128, 192, 192), size=24)
    odd = convnet(tmp_path / "odd.onnx", (91, 91, 135, 135), prefix="x", size=24)
    even = convnet(tmp_path / "even.onnx", (96, 96, 128, 128), size=24)
    found = []
    for pruned in (odd, even):
        code, out, err = explain(
            pruned, "--against", dense, "--backend", backend, "--threads", 1, "--json", "--duration", 0.5
        )
        assert code == 0, err
        found.append(Explanation.model_validate_json(out))
    assert {layer.name for layer in found[0].layers if layer.dense.macs} == {"conv0", "conv1", "conv2", "conv3", "fc"}
    for one in found:
        assert abs(sum(reason.missing_ns for reason in one.reasons) - one.missing_ns) < 1
        # OpenVINO's clock tells whole microseconds: less is not known.
        assert backend == "openvino" or one.layer_overhead_ns > 0
        assert one.roofline.peak_flops > 0
    if None in (block := {one.block for one in found}):
        pytest.skip("the machine is too busy for its blocks to show")
    if backend == "ort":
        assert min(block) >= 4
        assert "counts off the block" in {reason.reason for reason in found[0].reasons}
    assert "counts off the block" not in {reason.reason for reason in found[1].reasons}
