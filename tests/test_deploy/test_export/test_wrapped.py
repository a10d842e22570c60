"""Networks that hand on whatever they get, and pruned ones in graph form, are exported with a free batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from deploy.exporting.agreement import compare_with_torch
from deploy.exporting.export import export_onnx
from pruners.forms.graph_network import GraphNetwork
from pruners.registry import create
from pruners.target import Constraints, Target
from pruners.task import PruningTask


class Baked(nn.Module):
    """A size is written into the code; two inputs, one of integers; a mapping with a tuple comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        self.a, self.b, self.c = nn.Linear(8, 32), nn.Linear(32, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor, tokens: torch.Tensor) -> dict[str, object]:
        hidden = torch.relu(self.a(x + self.embed(tokens).mean(1))).view(-1, 32)
        logits = self.c(torch.relu(self.b(hidden)))
        return {"logits": logits, "parts": (logits.softmax(1), x)}


class Wrapper(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: object, **kwargs: object) -> object:
        return self.inner(*args, **kwargs)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def examples(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, 8), torch.randint(0, 9, (n, 5))


def pruned(model: nn.Module) -> nn.Module:
    task = PruningTask(
        model=model,
        example_inputs=examples(3),
        target=Target(of="params", kept_fraction=0.5),
        constraints=Constraints(form="graph"),
    )
    return create("l1").prune(task).model


@pytest.mark.parametrize("wrap", [nn.DataParallel, AveragedModel, Wrapper, lambda net: Wrapper(nn.DataParallel(net))])
def test_wrappers_are_exported_with_a_free_batch_and_the_names_of_the_network(tmp_path: Path, wrap) -> None:
    model, path = wrap(Baked()), tmp_path / "m.onnx"
    info = export_onnx(model, examples(2), path)
    assert [(spec.name, spec.shape) for spec in info.inputs] == [("x", ("batch", 8)), ("tokens", ("batch", 5))]
    assert [spec.name for spec in info.outputs] == ["logits", "parts.0", "parts.1"]
    assert compare_with_torch(path, model, examples(5)).ok


@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_the_graph_form_is_exported_with_a_free_batch(tmp_path: Path, backend: str) -> None:
    model, path = pruned(Baked()), tmp_path / "m.onnx"
    assert isinstance(model, GraphNetwork)
    info = export_onnx(model, examples(1), path)
    assert [(spec.name, spec.shape) for spec in info.inputs] == [("x", ("batch", 8)), ("tokens", ("batch", 5))]
    assert compare_with_torch(path, model, examples(5), backend=backend).ok  # at a batch of 5, and one by one


def test_the_graph_form_of_a_wrapper_and_a_wrapped_graph_form_are_exported(tmp_path: Path) -> None:
    for model in (pruned(nn.DataParallel(Baked())), nn.DataParallel(pruned(Baked()))):
        info = export_onnx(model, examples(3), tmp_path / "m.onnx")
        assert [spec.shape[0] for spec in (*info.inputs, *info.outputs)] == ["batch"] * 5
        assert compare_with_torch(tmp_path / "m.onnx", model, examples(5)).ok
