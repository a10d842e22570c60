"""Tables of a recipe's targets are of the network that is handed out, and ask for what a typical call takes."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from benchmarks.tables.narrow import Narrower
from benchmarks.tables.plan_space import GroupRange, PlanSpace
from benchmarks.tables.table import HeldOut, LatencyTable, MeasuredPlan, TableKey
from benchmarks.tables.timer import sizes_of
from deploy.recipe import Recipe
from deploy.run import speed_tables, steps
from deploy.run.progress import Progress
from deploy.run.speed_tables import read_tables
from deploy.run.steps import StepContext, build_dense, examples, measure_dense
from deploy.sources.datasets.data import load
from deploy.tables.plan_space import PLAN_SPACE
from pruners.decide.latency import LatencyModel
from pruners.errors import TargetError
from pruners.forms.compact import save_weights

NETWORK = """
from torch import nn


def make(*, n_classes=10, in_channels=1):
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, n_classes),
    )
"""


def recipe_of(tmp_path, target, **sections):
    (tmp_path / "net.py").write_text(NETWORK)
    given = {
        "name": "tiny",
        "network": {"name": f"{tmp_path / 'net.py'}:make"},
        "data": {"name": "digits", "limit": 30},
        "prune": {"method": "l1", "target": {"on": "ort", "threads": 1, **target}},
    }
    return Recipe.model_validate(given | sections)


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.slow), 50])
def test_a_batch_that_the_export_bakes_in_is_the_one_measured(tmp_path, monkeypatch, batch):
    """Also that of more images than there are to validate on; and the file has the opset that is asked for."""
    monkeypatch.setenv("PRUNE_DEPLOY_STATE", str(tmp_path / "state"))
    seen = []

    def table_of(spec, space, **_):
        seen.append((spec, space))
        return SimpleNamespace(save=lambda path: None)

    monkeypatch.setattr(speed_tables, "table_of", table_of)
    recipe = recipe_of(tmp_path, {"speed_up": 2}, export={"dynamic_batch": False, "opset": 18}, bench={"batch": batch})
    context = StepContext(recipe=recipe, data=load(recipe.data), progress=Progress())
    measure_dense(context, tmp_path / "table", build_dense(context).eval())
    ((spec, space),) = seen
    assert sizes_of(spec).batch == batch
    assert {each.version for each in onnx.load(spec.model).opset_import if not each.domain} == {18}
    narrow = Narrower(spec.model, space).model({group.name: group.n_units // 2 for group in space.groups})
    images = examples(context, 1).expand(batch, -1, -1, -1)
    (answers,) = ReferenceEvaluator(narrow).run(None, {narrow.graph.input[0].name: images.numpy()})
    assert answers.shape == (batch, 10)


def write_table(folder, dense_ms):
    """Write a table whose plans were measured beside dense networks with these fastest calls."""
    space = PlanSpace(
        model_sha256="0" * 64, graph="g", groups=(GroupRange(name="a", n_units=8, min_units=1),), places=()
    )
    key = TableKey(
        model_sha256=space.model_sha256,
        graph=space.graph,
        backend="ort",
        backend_version="1",
        precision="fp32",
        threads=1,
        device="cpu",
        batch=1,
        machine="0" * 16,
    )
    plans = [
        MeasuredPlan(counts=space.whole, whole_ns=1e6, layers_ns={}, dense_ns=1e6 * ms, predicted_ns=1e6)
        for ms in dense_ms
    ]
    table = LatencyTable(
        key=key,
        started_utc="2026-01-01T00:00:00+00:00",
        groups=space.groups,
        block=1,
        base_ns=1.0,
        layers=(),
        held_out=HeldOut(n_plans=1, mape=0, worst=0, rank_correlation=1),
        plans=tuple(plans),
        seconds=1,
    )
    space.save(folder / PLAN_SPACE)
    table.save(folder / "latency-table.json")


def test_a_latency_is_compared_with_a_typical_dense_call(tmp_path):
    """One call in hundreds took 7.9 ms: 8 ms are less than what the network takes, and 6 ms are 0.6 of it."""
    write_table(tmp_path, [10, 10.2, 7.9, 9.9, 10])
    for latency_ms, share in ((8, 0.8), (6, 0.6)):
        (table,) = read_tables(recipe_of(tmp_path, {"latency_ms": latency_ms}), tmp_path, print)
        assert table.asked == pytest.approx(share)
    with pytest.raises(TargetError, match=r"the dense network takes 10 ms on ort: 10 ms are met without pruning"):
        read_tables(recipe_of(tmp_path, {"latency_ms": 10}), tmp_path, print)


class Timer:
    """Measures half of the dense time in every process."""

    def share(self, counts):
        return 0.5


def test_what_is_learned_before_pruning_is_measured_once(tmp_path, monkeypatch):
    """A killed run goes on with the tables it began with, unless they are measured anew; a landed plan is not kept."""
    write_table(tmp_path, [10, 10])
    asked = []

    def refined(table, timer, counts, *, share, **_):
        asked.append((dict(counts), share))
        return table.model_copy(update={"base_ns": table.base_ns + len(asked)})

    def read(speed_up=2.0, **learned):
        return read_tables(recipe_of(tmp_path, {"speed_up": speed_up}), tmp_path, print, **learned)[0]

    monkeypatch.setattr(speed_tables, "plan_timer", lambda *_, **__: nullcontext(Timer()))
    monkeypatch.setattr(speed_tables, "refine_table", refined)
    for _ in range(2):
        table = read(learned=tmp_path / "learned")
        first = table.refine({"a": 4}, None)
        assert [first.model.base_ns, first.refine({"a": 6}, None).model.base_ns] == [2.0, 4.0]
    assert asked == [({"a": 4}, 0.5), ({"a": 6}, 0.5)]
    assert table.refine({"a": 5}, None).model.base_ns == 2.0, "a solver that ran out of time found another plan"
    assert [table.refine({"a": 4}, 0.6).model.base_ns for _ in range(2)] == [4.0, 5.0]
    assert read().refine({"a": 4}, None).model.base_ns == 6.0
    assert read(2.5, learned=tmp_path / "learned").refine({"a": 4}, None).model.base_ns == 7.0
    write_table(tmp_path, [10, 11])
    assert read(learned=tmp_path / "learned").refine({"a": 4}, None).model.base_ns == 8.0


def test_a_stage_keeps_what_it_learns_with_its_removals(tmp_path, monkeypatch):
    """Removals of a killed run are refused under another table."""
    kept = []

    def read(recipe, folder, say, *, learned):
        kept.append(learned)
        model = LatencyModel(backend="simulated", graph="", block=8, base_ns=1.0, terms=(), sizes={})
        return [SimpleNamespace(model=model)]

    def killed(method, task, tables):
        kept.append(task.keeper.folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "read_tables", read)
    monkeypatch.setattr(steps, "prune_to_speed", killed)
    recipe = recipe_of(tmp_path, {"speed_up": 2})
    context = StepContext(recipe=recipe, data=load(recipe.data), progress=Progress(quiet=True))
    save_weights(build_dense(context), tmp_path / steps.WEIGHTS)
    with pytest.raises(KeyboardInterrupt):
        steps.prune_dense(context, tmp_path / "prune", trained=tmp_path, table_folder=tmp_path)
    learned, removals = kept
    assert learned == removals


def test_processes_that_share_a_training_learn_the_same(tmp_path, monkeypatch):
    """While one measured, another one was faster."""
    write_table(tmp_path, [10, 10])
    recipe, learned = recipe_of(tmp_path, {"speed_up": 2}), tmp_path / "learned"
    (first,), (second,) = (read_tables(recipe, tmp_path, print, learned=learned) for _ in range(2))
    bases, others = iter((20.0, 30.0)), []

    def refined(table, timer, counts, **_):
        base = next(bases)
        if not others:
            others.append(base)
            others.append(second.refine(counts, None).model.base_ns)
        return table.model_copy(update={"base_ns": base})

    monkeypatch.setattr(speed_tables, "plan_timer", lambda *_, **__: nullcontext(Timer()))
    monkeypatch.setattr(speed_tables, "refine_table", refined)
    assert first.refine({"a": 4}, None).model.base_ns == others[1] == 30.0
