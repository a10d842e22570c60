"""Networks are exported as they are called: by keyword, with nested containers and None; dataclasses come out."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from deploy.errors import ExportError
from deploy.exporting.agreement import compare_with_torch
from deploy.exporting.export import export_onnx
from deploy.tables.plan_space import write_plan_space
from pruners.forms.graph_network import GraphNetwork
from pruners.graph import trace
from pruners.registry import create
from pruners.target import Constraints, Target
from pruners.task import PruningTask


@dataclass
class Scores:
    logits: Tensor
    extra: dict[str, list[Tensor | None]]
    hidden: Tensor | None = None


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 5)

    def forward(self, x, flag=True, *, mask=None, scale=1.0, states=None, mode="hard", **more):
        x = torch.relu(self.first(x) * scale * (1.0 if mask is None else mask))
        x = self.last(x) if flag else -self.last(x)
        if states is not None and mode == "soft":
            x = x + states["h"][0] + more["shift"]
        return Scores(x, {"soft": [x.softmax(1), None]})


class Wrapper(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: object, **kwargs: object) -> object:
        return self.inner(*args, **kwargs)


def keywords(n: int) -> dict[str, object]:
    draw = torch.Generator().manual_seed(n)
    mask, h, shift = (torch.rand(n, size, generator=draw) for size in (1, 5, 5))
    return {"states": {"h": [h], "c": None}, "mask": mask, "mode": "soft", "scale": 2, "shift": shift}


def image(n: int) -> Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(n))


EVERYTHING = ["x", "mask", "states.h.0", "shift"]


@pytest.mark.parametrize(
    ("inputs", "names", "form"),
    [
        (image, ["x"], "graph"),
        (lambda n: ((image(n), False), keywords(n)), EVERYTHING, "graph"),
        (lambda n: UserDict({**keywords(n), "x": image(n)}), EVERYTHING, "module"),
    ],
    ids=["tensor", "both", "keywords"],
)
def test_a_pruned_network_is_exported_as_it_is_called(tmp_path: Path, inputs, names, form) -> None:
    path = tmp_path / "m.onnx"
    target, constraints = Target(of="params", kept_fraction=0.6), Constraints(form=form)
    pruned = create("l1").prune(
        PruningTask(model=Network(), example_inputs=inputs(3), target=target, constraints=constraints)
    )
    assert isinstance(pruned.model, GraphNetwork) == (form == "graph")
    info = export_onnx(pruned.model, inputs(1), path)
    assert [spec.name for spec in info.inputs] == names
    assert [(spec.name, spec.shape) for spec in info.outputs] == [
        ("logits", ("batch", 5)),
        ("extra.soft.0", ("batch", 5)),
    ]
    assert compare_with_torch(path, pruned.model, inputs(5)).ok  # at a batch of 5, and one by one


@pytest.mark.parametrize("wrap", [Wrapper, pytest.param(nn.DataParallel, marks=pytest.mark.slow)])
def test_wrappers_are_exported_with_the_names_of_the_network(tmp_path: Path, wrap) -> None:
    model, path = wrap(Network()), tmp_path / "m.onnx"
    info = export_onnx(model, ((image(2), True), keywords(2)), path)
    assert sorted(spec.name for spec in info.inputs) == sorted(EVERYTHING)
    assert compare_with_torch(path, model, ((image(5), True), keywords(5))).ok


def test_a_result_that_is_no_tensor_is_named(tmp_path: Path) -> None:
    class Cached(Network):
        def forward(self, x):
            return {"scores": x, "cache": Path()}

    with pytest.raises(ExportError, match="in 'cache'; an ONNX graph returns tensors only: leave it out"):
        export_onnx(Cached(), image(2), tmp_path / "m.onnx")


@pytest.mark.optional
@pytest.mark.parametrize("form", ["module", "graph"])
def test_hugging_face(tmp_path: Path, form) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    model, path = transformers.BertForSequenceClassification(config).eval(), tmp_path / "m.onnx"

    def inputs(n: int) -> dict[str, Tensor]:
        lengths = torch.arange(12, 12 - n, -1)
        mask = (torch.arange(12) < lengths[:, None]).long()
        return {"input_ids": torch.randint(0, 100, (n, 12)), "attention_mask": mask}

    target, constraints = Target(of="params", kept_fraction=0.6), Constraints(form=form)
    task = PruningTask(model=model, example_inputs=inputs(2), target=target, constraints=constraints)
    pruned = create("l1").prune(task).model
    info = export_onnx(pruned, inputs(1), path)
    assert [(spec.name, spec.shape) for spec in info.inputs] == [
        ("input_ids", ("batch", 12)),
        ("attention_mask", ("batch", 12)),
    ]
    assert [spec.name for spec in info.outputs] == ["logits"]
    assert onnx.load(path).graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert compare_with_torch(path, pruned, inputs(5)).ok
    if form == "module":
        assert write_plan_space(model, trace(model, inputs(2)), inputs(2), tmp_path).groups
