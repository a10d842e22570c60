"""Export promises: valid ONNX with torch's answers, folded, named, written as a whole; or one line saying why not."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.records.disk import file_sha256
from deploy.errors import ExportError
from deploy.exporting.agreement import compare_with_torch
from deploy.exporting.export import export_onnx
from deploy.exporting.export_info import OPSETS
from deploy.exporting.onnx_check import check_onnx, model_files


def randomised(model: nn.Module) -> nn.Module:
    """Give every BatchNorm statistics and weights that matter: those of a fresh one fold to nothing."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
                nn.init.normal_(module.bias, generator=generator)
    return model


class Residual(nn.Module):
    """ResNet-like: depthwise, grouped transposed convolution, linear + BatchNorm1d, with and without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.bn2 = nn.BatchNorm2d(8, eps=1e-2)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2)
        self.bn3 = nn.BatchNorm2d(4, affine=False)
        self.fc = nn.Linear(4, 5, bias=False)
        self.bn4 = nn.BatchNorm1d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = x + torch.relu(self.bn2(self.depthwise(x)))
        x = torch.relu(self.bn3(self.up(x)))
        return self.bn4(self.fc(x.mean((2, 3))))


class PreActivation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 1)
        self.after = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return x + self.after(self.conv(torch.relu(self.norm(x))))


class Siamese(nn.Module):
    """One convolution, used twice, each time with a BatchNorm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(3, 4, 1)
        self.left, self.right = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.left(self.shared(x)) * self.right(self.shared(2 * x))


class Tokens(nn.Module):
    """int64 tokens, a scalar, and a second batched input; a mapping with an integer output."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 6)
        self.head = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))

    def forward(self, tokens: torch.Tensor, scale: torch.Tensor, other: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.embed(tokens).mean(1) * scale + other
        return {"logits": self.head(hidden), "length": (tokens > 0).sum(1)}


class Windows(nn.Module):
    """Attention over `axes` axes: batch and windows, or batch alone, before length and size."""

    def __init__(self, axes: tuple[int, ...], mask: tuple[int, ...], *, causal: bool = False) -> None:
        super().__init__()
        self.layer, self.axes, self.causal = nn.Linear(16, 48), axes, causal
        self.register_buffer("mask", torch.randn(mask) if mask else None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = (part.reshape(x.shape[0], *self.axes) for part in self.layer(x).chunk(3, -1))
        return F.scaled_dot_product_attention(*parts, attn_mask=self.mask, is_causal=self.causal)


class EmptyWrites(nn.Module):
    """A mask written region by region, as windows that are not shifted leave some of them empty."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = x.new_zeros(6, 8)
        for number, rows in enumerate((slice(-3), slice(-3, -3), slice(-3, None)), start=1):
            for columns in (slice(4), slice(4, 4), slice(4, None)):
                mask[rows, columns] = number
        return x + mask


class Grids(nn.Module):
    """A grid put together from two, and a weight with a norm of its own; `side` makes them small or large."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.layer = nn.utils.parametrizations.weight_norm(nn.Linear(side, side))
        for name in ("left", "right"):
            self.register_buffer(name, torch.randn(side, side, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + torch.cat([self.left.reshape(-1, 2), self.right.reshape(-1, 2)]).t().mean()


def images(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(n))


def op_types(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.rounding
@pytest.mark.parametrize("dynamic", [True, False])
def test_residual_network_is_folded_and_agrees(tmp_path: Path, dynamic: bool) -> None:
    model, path = randomised(Residual()), tmp_path / "model.onnx"
    info = export_onnx(model, (images(),), path, dynamic_batch=dynamic)
    assert (info.batch_norms_folded, info.batch_norms_left) == (4, ())
    assert "BatchNormalization" not in op_types(path)
    assert info.inputs[0].shape == ("batch" if dynamic else 4, 3, 8, 8)
    assert info.outputs[0].shape == ("batch" if dynamic else 4, 5)
    assert (info.inputs[0].name, info.outputs[0].name) == ("x", "output")
    assert info.opset == 20 == onnx.load(path).opset_import[0].version
    assert info.sha256 == file_sha256(path)
    assert info.file_bytes == path.stat().st_size
    assert list(tmp_path.iterdir()) == [path]
    agreement = compare_with_torch(path, model, (images(6),))
    assert agreement.ok
    assert agreement.n_inputs == 6
    assert agreement.max_abs_error < 1e-5 * agreement.output_range
    assert agreement.output_range > 0.1


def test_disagreement_is_seen(tmp_path: Path) -> None:
    model, path = randomised(Residual()), tmp_path / "model.onnx"
    export_onnx(model, (images(),), path)
    with torch.no_grad():
        model.fc.weight[0, 0] += 0.5
    assert not compare_with_torch(path, model, (images(),)).ok


def test_preactivation_norms_stay_and_are_reported(tmp_path: Path) -> None:
    model, path = randomised(PreActivation()), tmp_path / "model.onnx"
    info = export_onnx(model, (images(2),), path)
    assert info.batch_norms_folded == 1
    assert info.batch_norms_left == ("norm/BatchNormalization",)
    assert compare_with_torch(path, model, (images(3),)).ok


def test_norms_behind_a_shared_layer_are_folded(tmp_path: Path) -> None:
    model, path = randomised(Siamese()), tmp_path / "model.onnx"
    info = export_onnx(model, (images(2),), path)
    assert (info.batch_norms_folded, info.batch_norms_left) == (2, ())
    assert compare_with_torch(path, model, (images(3),)).ok


def test_norm_with_statistics_of_the_batch_stays(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    info = export_onnx(model, (images(2),), tmp_path / "model.onnx", dynamic_batch=False)
    assert info.batch_norms_folded == 0
    assert len(info.batch_norms_left) == 1


def test_nodes_and_weights_are_named_after_their_modules(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(randomised(Residual()), (images(2),), path)
    graph = onnx.load(path).graph
    names = [node.name for node in graph.node]
    assert {"conv1/Conv", "depthwise/Conv", "up/ConvTranspose", "fc/Gemm"} <= set(names)
    assert len(set(names)) == len(names)
    weights = {tensor.name for tensor in graph.initializer}
    assert {"conv1.weight", "conv1.bias", "depthwise.weight", "fc.weight", "fc.bias"} <= weights


def test_no_path_of_this_machine_is_in_the_file_and_it_is_reproducible(tmp_path: Path) -> None:
    model = randomised(Residual())
    first = export_onnx(model, (images(2),), tmp_path / "a.onnx")
    second = export_onnx(model, (images(2),), tmp_path / "b.onnx")
    assert first.sha256 == second.sha256
    content = (tmp_path / "a.onnx").read_bytes()
    assert b".py" not in content
    assert b"torch.nn" not in content


def test_tokens_scalars_and_several_inputs(tmp_path: Path) -> None:
    model, path = Tokens(), tmp_path / "model.onnx"
    examples = (torch.randint(0, 20, (3, 7)), torch.tensor(2.0), torch.randn(3, 6))
    info = export_onnx(model, examples, path)
    assert [(spec.name, str(spec)) for spec in info.inputs] == [
        ("tokens", "int64(batch, 7)"),
        ("scale", "float32()"),
        ("other", "float32(batch, 6)"),
    ]
    assert [(spec.name, str(spec)) for spec in info.outputs] == [
        ("logits", "float32(batch, 3)"),
        ("length", "int64(batch)"),
    ]
    assert compare_with_torch(path, model, examples).ok


def test_a_batch_of_one_stays_free(tmp_path: Path) -> None:
    model, path = randomised(Residual()), tmp_path / "model.onnx"
    assert export_onnx(model, (images(1),), path).inputs[0].shape[0] == "batch"
    assert compare_with_torch(path, model, (images(1),)).ok


@pytest.mark.parametrize(
    "model",
    [
        Windows((8, 16), ()),
        pytest.param(Windows((2, 2, 2, 16), (), causal=True), marks=pytest.mark.slow),
        pytest.param(Windows((2, 2, 2, 16), (2, 2)), marks=pytest.mark.slow),
        Windows((2, 2, 2, 16), (2, 1, 2, 2)),
        Windows((2, 2, 2, 1, 16), (2, 1, 1)),
    ],
    ids=lambda model: f"{len(model.axes) + 1} axes",
)
def test_attention_of_any_rank_is_exported(tmp_path: Path, model: Windows) -> None:
    tokens = torch.randn(3, 8, 16)
    export_onnx(model, (tokens,), tmp_path / "m.onnx")
    assert compare_with_torch(tmp_path / "m.onnx", model, (tokens,)).ok


@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_writes_into_empty_slices_are_left_out(tmp_path: Path, backend: str) -> None:
    export_onnx(EmptyWrites(), (torch.randn(2, 6, 8),), tmp_path / "m.onnx")
    assert compare_with_torch(tmp_path / "m.onnx", EmptyWrites(), (torch.randn(2, 6, 8),), backend=backend).ok
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert not [tensor.name for tensor in graph.initializer if 0 in tensor.dims]


def test_what_depends_on_no_input_is_computed_at_export_whatever_its_size(tmp_path: Path) -> None:
    nodes = []
    for side in (8, 104):  # the exporter's own limit lies between
        model, x = Grids(side).eval(), torch.randn(2, side)
        export_onnx(model, (x,), tmp_path / "m.onnx")
        assert compare_with_torch(tmp_path / "m.onnx", model, (x,)).ok
        nodes.append(op_types(tmp_path / "m.onnx"))
    assert nodes[0] == nodes[1] == ["Gemm", "Add"]


def test_names_can_be_given(tmp_path: Path) -> None:
    info = export_onnx(
        Tokens(),
        (torch.randint(0, 20, (3, 7)), torch.tensor(2.0), torch.randn(3, 6)),
        tmp_path / "model.onnx",
        input_names=["ids", "mean", "relu"],  # `mean` and `relu` are also values inside the graph
        output_names=["linear", "n"],
    )
    assert [spec.name for spec in info.inputs] == ["ids", "mean", "relu"]
    assert [spec.name for spec in info.outputs] == ["linear", "n"]
    check_onnx(tmp_path / "model.onnx")


def test_none_among_the_outputs_is_left_out(tmp_path: Path) -> None:
    class Optional(nn.Linear):
        def forward(self, x: torch.Tensor) -> tuple[None, torch.Tensor, dict[str, torch.Tensor | None]]:
            return None, super().forward(x), {"mask": None, "twice": 2 * x}

    model, path = Optional(4, 3).eval(), tmp_path / "m.onnx"
    info = export_onnx(model, (torch.randn(2, 4),), path)
    assert [spec.name for spec in info.outputs] == ["output_1", "2.twice"]
    assert compare_with_torch(path, model, (torch.randn(5, 4),)).ok


def test_an_output_that_is_an_input_and_one_given_twice(tmp_path: Path) -> None:
    class Same(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = x + 1
            return y, y, x

    info = export_onnx(Same(), (images(2),), tmp_path / "model.onnx")
    assert [spec.name for spec in info.outputs] == ["output_0", "output_1", "output_2"]
    assert compare_with_torch(tmp_path / "model.onnx", Same(), (images(2),)).ok


def test_external_data_is_hashed_too(tmp_path: Path) -> None:
    model, path = nn.Sequential(nn.Flatten(), nn.Linear(192, 50)), tmp_path / "model.onnx"
    info = export_onnx(model, (images(2),), path, external_data=True)
    data = tmp_path / "model.onnx.data"
    assert info.external_data
    assert model_files(path) == (path, data)
    assert info.sha256 == file_sha256(path, data)
    assert info.file_bytes == path.stat().st_size + data.stat().st_size
    assert compare_with_torch(path, model, (images(2),)).ok
    data.unlink()
    with pytest.raises(ExportError, match=r"model\.onnx\.data") as error:
        check_onnx(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("opset", [18, 23])
def test_opset_is_what_was_asked_for(tmp_path: Path, opset: int) -> None:
    assert opset in OPSETS
    info = export_onnx(nn.Conv2d(3, 2, 1), (images(2),), tmp_path / "model.onnx", opset=opset)
    assert info.opset == opset == onnx.load(tmp_path / "model.onnx").opset_import[0].version


@pytest.mark.parametrize("opset", [17, 24])
def test_other_opsets_are_refused(tmp_path: Path, opset: int) -> None:
    with pytest.raises(ExportError, match="18 to 23"):
        export_onnx(nn.Conv2d(3, 2, 1), (images(2),), tmp_path / "model.onnx", opset=opset)


def test_the_model_is_not_touched(tmp_path: Path) -> None:
    model = randomised(Residual()).train()
    model.bn2.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    export_onnx(model, (images(2),), tmp_path / "model.onnx")
    compare_with_torch(tmp_path / "model.onnx", model, (images(2),))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
