"""The counts of a pruned file are read off it, rounded to full blocks, predicted, and measured on request."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from backends import registry
from backends.base import CompileOptions
from benchmarks.errors import NotComparableError, RecordError, SettingError
from benchmarks.subject.given import GivenInputs
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.aligned import aligned_plans, kept_counts, why_whole
from benchmarks.tables.build import build_table
from benchmarks.tables.check import check_table
from benchmarks.tables.narrow import Narrower
from benchmarks.tables.plan_space import BlockPlace, WholeLayer

NAMES = ("first", "depthwise", "second", "fc")
SAME = {name: name for name in NAMES}


@pytest.fixture
def version():
    """Version of the runtime, which a table has to be of."""
    return registry.probe("ort", "cpu").version


@pytest.fixture
def narrow(dense, space, tmp_path):
    def make(counts, rename=""):
        model = Narrower(dense, space).model(counts)
        for node in model.graph.node:
            node.name = rename + node.name
        onnx.save(model, tmp_path / "pruned.onnx")
        return tmp_path / "pruned.onnx"

    return make


def test_counts_are_read_off_the_file_whatever_its_nodes_are_called(dense, space, narrow):
    counts = {"a": 37, "b": 51}
    assert kept_counts(space, dense, narrow(counts), SAME) == counts
    other = {f"x{name}": name for name in NAMES}
    assert kept_counts(space, dense, narrow(counts, "x"), other) == counts
    # Two layers tell everything; one does not.
    assert kept_counts(space, dense, narrow(counts, "x"), {"xsecond": "second"}) == counts
    with pytest.raises(NotComparableError, match="no layer tells how many units of group 'b' it keeps"):
        kept_counts(space, dense, narrow(counts, "x"), {"xfirst": "first"})


def test_a_plan_space_of_another_network_is_refused(dense, space, narrow):
    foreign = space.model_copy(update={"model_sha256": "0" * 64})
    with pytest.raises(RecordError, match="the plan space was made for another file than"):
        kept_counts(foreign, dense, narrow({"a": 37, "b": 51}), SAME)


def test_another_network_is_refused(dense, space, narrow):
    path = narrow({"a": 37, "b": 51})
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)[:, :30], "w2"))
    onnx.save(model, path)
    with pytest.raises(NotComparableError, match="node 'second' has 30 channels where the plan space says 37"):
        kept_counts(space, dense, path, SAME)
    with pytest.raises(SettingError, match="group 'b' keeps 2 to 96 units, got 1"):
        kept_counts(space, dense, _one_unit(narrow({"a": 64, "b": 2})), {"first": "first", "second": "second"})


def test_a_network_with_fewer_layers_is_refused(dense, space, narrow):
    """Its other layers would tell the counts of the missing one, too."""
    path = narrow({"a": 37, "b": 51})
    model = onnx.load(path)
    (depthwise,) = [node for node in model.graph.node if node.name == "depthwise"]
    model.graph.node.remove(depthwise)
    next(node for node in model.graph.node if node.name == "second").input[0] = depthwise.input[0]
    onnx.save(model, path)
    with pytest.raises(NotComparableError, match="it has 3 layers with weights, not 4"):
        kept_counts(space, dense, path, {name: name for name in NAMES if name != "depthwise"})


def _one_unit(path):
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)[:1], "w2"))
    onnx.save(model, path)
    return path


def test_what_stays_whole_is_told_apart(dense, space):
    why = why_whole(dense, space, {"a": 64, "b": 51})
    assert why["first"] == why["depthwise"] == "the plan keeps all of a, which 3 layers produce or consume"
    assert "second" not in why
    assert "fc" not in why
    refused = space.model_copy(update={"whole_layers": (WholeLayer(node=0, reason="an operator was refused"),)})
    assert why_whole(dense, refused, {"a": 64, "b": 51})["first"] == (
        "the plan keeps all of a, which 3 layers produce or consume; "
        "its own channels cannot be pruned: an operator was refused"
    )


def test_rounded_plans_are_predicted_and_measured(dense, space, new_runtime, new_world, version):
    runtime = new_runtime(noise=0.002, version=version)
    spec = SubjectSpec(model=dense, backend="ort", options=CompileOptions())
    table = build_table(spec, space, plans=24, processes=runtime.processes, machine=new_world())
    given = {"where": "table.json", "processes": runtime.processes, "machine": new_world()}
    found = aligned_plans(spec, space, table, {"a": 34, "b": 50}, verify=True, **given)
    assert [(plan.rounded, plan.counts) for plan in found] == [
        ("not", {"a": 34, "b": 50}),
        ("to the nearest", {"a": 32, "b": 48}),
        ("up", {"a": 40, "b": 56}),
    ]
    for plan in found:
        assert abs(plan.measured_share / plan.predicted_share - 1) < 0.05
        assert plan.predicted_share == table.predict_ns(plan.counts) / table.measured_dense_ns
    assert found[1].measured_share < found[0].measured_share
    assert found[1].macs_share < found[0].macs_share < found[2].macs_share < 1
    # The best plan is decided for the time that the MACs promised.
    best = lambda *asked: {"a": 48, "b": 8} if asked == (found[0].macs_share, {"a": 8, "b": 8}) else None  # noqa: E731
    given["processes"] = lambda *_, **__: pytest.fail("a prediction runs nothing")
    *same, chosen = aligned_plans(spec, space, table, {"a": 34, "b": 50}, verify=False, best=best, **given)
    assert [plan.counts for plan in same] == [plan.counts for plan in found]
    assert (chosen.rounded, chosen.counts) == ("best", {"a": 48, "b": 8})
    assert chosen.importance == ((48 / 64) ** 0.5 + (8 / 96) ** 0.5) / 2
    *same, chosen = aligned_plans(
        spec, space, table, {"a": 34, "b": 50}, verify=False, best=lambda *_: {"a": 32, "b": 48}, **given
    )
    assert chosen == same[1].model_copy(update={"rounded": "best"})  # what the answer says of it is true of both
    # A plan that is aligned already is told once, and nothing is measured unasked.
    (only,) = aligned_plans(spec, space, table, {"a": 32, "b": 48}, verify=False, **given)
    assert only.measured_share is None
    foreign = table.model_copy(update={"key": table.key.model_copy(update={"threads": 2})})
    with pytest.raises(NotComparableError, match=r"table\.json was measured for threads 2, not 1"):
        aligned_plans(spec, space, foreign, {"a": 32, "b": 48}, verify=False, **given)


def test_a_network_without_a_block_is_predicted_by_a_table_that_knows_it(dense, space, new_runtime, new_world, version):
    """The block also holds a group that goes only with it, which neither is drawn nor has a time."""
    block = BlockPlace(name="skip", groups=("gate",), nodes=(2,), replaced="c1", by="r0")
    deep = space.model_copy(update={"blocks": (block,)})
    spec = SubjectSpec(model=dense, backend="ort", options=CompileOptions())
    runtime = new_runtime(noise=0.002, version=version)
    given = {"where": "table.json", "processes": runtime.processes, "machine": new_world(), "verify": False}
    known, unknown = (
        build_table(spec, each, plans=24, processes=runtime.processes, machine=new_world()) for each in (deep, space)
    )
    without = deep.complete({"a": 34, "b": 50, "skip": 0})
    assert without["gate"] == 0
    _, nearest, _ = aligned_plans(spec, deep, known, without, **given)
    assert nearest.counts == {"a": 32, "b": 48, "skip": 0, "gate": 0}
    assert nearest.predicted_share == known.predict_ns(nearest.counts) / known.measured_dense_ns
    with pytest.raises(NotComparableError, match=r"table\.json was built with another plan space"):
        aligned_plans(spec, deep, unknown, without, **given)
    # A check of that table measures no network that it does not know.
    for table, absent in ((known, True), (unknown, False)):
        given = {"where": "table.json", "processes": runtime.processes, "machine": new_world()}
        _, plans = check_table(table, spec, deep, plans=12, **given)
        assert any(plan.counts.get("skip", 1) == 0 for plan in plans) == absent


def test_plans_are_measured_with_the_inputs_given(dense, space, new_runtime, new_world, version):
    class Watched(new_runtime):
        def run(self, backend, model, options, feeds, **limits):
            assert np.array_equal(feeds["x"], images)
            return super().run(backend, model, options, feeds, **limits)

    images = np.random.default_rng(0).standard_normal((8, 3, 4, 4)).astype(np.float32)
    spec = SubjectSpec(model=dense, backend="ort", given=GivenInputs(arrays={"x": images}))
    one = SubjectSpec(model=dense, backend="ort")
    runtime, watched = new_runtime(version=version), Watched(version=version)
    of_one = build_table(one, space, plans=20, processes=runtime.processes, machine=new_world())
    of_eight = build_table(spec, space, plans=20, processes=watched.processes, machine=new_world())
    counts, given = {"a": 32, "b": 48}, {"where": "table.json", "processes": watched.processes}
    with pytest.raises(NotComparableError, match=r"table\.json was measured for batch 1, not 8"):
        aligned_plans(spec, space, of_one, counts, verify=False, machine=new_world(), **given)
    (plan,) = aligned_plans(spec, space, of_eight, counts, verify=True, machine=new_world(), **given)
    assert 0 < plan.measured_share < 1
