"""The plan space of a network says what its file looks like at any widths; the commands on tables from end to end."""

from __future__ import annotations

import random

import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from benchmarks.tables.narrow import Narrower
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.table import LatencyTable
from deploy.errors import ExportError
from deploy.exporting.export import export_onnx
from deploy.tables.latency_model import latency_model
from deploy.tables.plan_space import plan_space_of
from pruners.errors import NothingToPruneError
from pruners.graph import trace
from pruners.plan import PruningPlan
from pruners.registry import create
from pruners.surgery import apply
from pruners.target import Constraints, Target
from pruners.task import PruningTask

NETWORK = """
from torch import nn

def make():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5),
    )
"""


class Mixed(nn.Module):
    """Convolution, depthwise, concatenation, residual sum, flatten, shape in a view."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.left, self.right = nn.Conv2d(24, 16, 1), nn.Conv2d(24, 20, 1)
        self.join = nn.Conv2d(36, 24, 3, padding=1, bias=False)
        self.hidden, self.out = nn.Linear(24 * 16, 32), nn.Linear(32, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.depthwise(x)
        y = torch.cat([self.left(y), self.right(y)], 1).relu()
        x = nn.functional.adaptive_avg_pool2d(x + self.join(y), 4)
        return self.out(self.hidden(x.flatten(1)).relu())


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    torch.manual_seed(0)
    network, inputs = Mixed().eval(), (torch.randn(2, 3, 8, 8),)
    graph = trace(network, inputs)
    path = tmp_path_factory.mktemp("mixed") / "dense.onnx"
    export_onnx(network, inputs, path)
    return network, graph, inputs, path, plan_space_of(network, graph, inputs, path)


def initializer_shapes(model):
    return sorted(tuple(tensor.dims) for tensor in model.graph.initializer)


def weight_shapes(model):
    """Leave out the sizes, which are integers: an export shares those that happen to be equal."""
    weights = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    return sorted(tuple(tensor.dims) for tensor in weights)


def of_first_units(network, graph, inputs, counts, whole):
    """Prune each group to its first units, in torch."""
    plan = PruningPlan.from_kept(
        {name: tuple(range(count)) for name, count in counts.items()},
        whole,
        graph=graph.fingerprint,
        inputs=graph.inputs,
        method="test",
        settings={},
    )
    return apply(network, plan, graph=graph)


def test_a_narrow_file_has_the_shapes_of_the_exported_network(mixed, tmp_path):
    network, graph, inputs, path, space = mixed
    rng = random.Random(3)
    counts = {group.name: rng.randint(2, group.n_units - 1) for group in space.groups}
    export_onnx(of_first_units(network, graph, inputs, counts, space.whole), inputs, tmp_path / "compact.onnx")
    exported = initializer_shapes(onnx.load(tmp_path / "compact.onnx"))
    assert initializer_shapes(Narrower(path, space).model(counts)) == exported


@pytest.mark.optional
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["yolov8n", "yolo11n"])
def test_a_narrow_detector_has_the_shapes_of_the_exported_one(name, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO_OFFLINE", "true")  # read at import: it would wait for a font
    ultralytics = pytest.importorskip("ultralytics")
    torch.manual_seed(0)
    network, inputs = ultralytics.YOLO(f"{name}.yaml").model.eval(), (torch.randn(1, 3, 64, 64),)
    network.model[-1].export = True  # its head then gives one tensor
    graph = trace(network, inputs)
    dense, compact = tmp_path / "dense.onnx", tmp_path / "compact.onnx"
    export_onnx(network, inputs, dense, dynamic_batch=False)
    space = plan_space_of(network, graph, inputs, dense)
    rng = random.Random(3)
    counts = {group.name: rng.randint(2, group.n_units) for group in space.groups}
    export_onnx(of_first_units(network, graph, inputs, counts, space.whole), inputs, compact, dynamic_batch=False)
    narrow = Narrower(dense, space).model(counts)
    assert weight_shapes(narrow) == weight_shapes(onnx.load(compact))
    answer = ReferenceEvaluator(narrow).run(None, {narrow.graph.input[0].name: inputs[0].numpy()})
    assert answer[0].shape == network(*inputs).shape


@pytest.mark.slow
def test_the_commands_from_network_to_table(tmp_path, here):
    def table(*arguments):
        done = here("table", *arguments)
        return done.returncode, done.stdout, done.stderr

    folder = tmp_path / "space"
    (tmp_path / "net.py").write_text(NETWORK, encoding="utf-8")
    network = ("--network", f"{tmp_path / 'net.py'}:make", "--input-shape", "3,8,8")
    code, _, err = table("space", *network, "-o", folder)
    assert code == 0, err
    space = PlanSpace.load(folder / "plan-space.json")
    dense = folder / "dense.onnx"
    options = ("--plan-space", folder / "plan-space.json", "--threads", 1, "--plans", 20)
    code, out, err = table("build", dense, *options, "-o", tmp_path / "table.json")
    assert code == 0, err
    assert "channels computed together" in out
    made = LatencyTable.load(tmp_path / "table.json")
    assert made.key.graph == space.graph
    assert len(made.plans) == 20

    code, out, _ = table("show", tmp_path / "table.json", "--top", 2)
    assert (code, "rank correlation" in out) == (0, True)
    code, _, _ = table("export", tmp_path / "table.json", "-o", tmp_path / "table.csv")
    lines = (tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "layer,groups,kept_units,ns"
    assert len(lines) > len(made.layers)
    code, _, err = table("build", dense, "--plan-space", dense, "-o", tmp_path / "x.json")
    assert (code, err.count("\n")) == (2, 1)
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("method", ["l1", "uniform", "random", "criterion"])
def test_any_method_prunes_to_a_predicted_time(mixed, method, dense_table):
    network, graph, inputs, _, space = mixed
    model = latency_model(dense_table(space))
    settings = {"decision": "exact"} if method == "criterion" else {}
    task = PruningTask(
        model=network,
        example_inputs=inputs,
        target=Target(speed_up=1.6, table=model),
        constraints=Constraints(multiple_of=model.block),
    )
    pruned = create(method, **settings).prune(task)
    counts = {name: len(kept) for name, kept in pruned.plan.kept.items()}
    assert model.time_ns(counts) <= model.time_ns() / 1.6
    assert all(count % model.block == 0 for count in counts.values())
    assert graph.macs(counts) < graph.macs()


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        ([[(("axis", 9, 1, 0), 24)]], "exported with other nodes"),
        ([[(("axis", 0, 1, 0), size)] for size in (13, 7, 19)], r"axis 1\[0\] of node 0 follows the widths in a way"),
    ],
)
def test_a_file_that_the_groups_do_not_explain_has_no_space(mixed, monkeypatch, draws, message):
    network, graph, inputs, path, _ = mixed
    numbers = iter([[(("axis", 0, 1, 0), 24)], *draws])
    monkeypatch.setattr("deploy.tables.plan_space._numbers", lambda _: next(numbers))
    with pytest.raises(ExportError, match=message):
        plan_space_of(network, graph, inputs, path)


def test_a_network_without_a_group_to_prune_has_no_space(tmp_path):
    network, inputs = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval(), (torch.randn(2, 3, 2, 2),)
    export_onnx(network, inputs, tmp_path / "dense.onnx")
    with pytest.raises(
        NothingToPruneError, match="no layer of the network can lose a channel; these layers stay whole: '1'"
    ):
        plan_space_of(network, trace(network, inputs), inputs, tmp_path / "dense.onnx")


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
def test_a_single_group_of_two_units_is_drawn_narrower(tmp_path, seed):
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Conv2d(2, 5, 3)).eval()
    inputs = (torch.randn(2, 3, 6, 6),)
    export_onnx(network, inputs, tmp_path / "dense.onnx")
    space = plan_space_of(network, trace(network, inputs), inputs, tmp_path / "dense.onnx", seed=seed)
    assert [(group.n_units, group.min_units) for group in space.groups] == [(2, 1)]
