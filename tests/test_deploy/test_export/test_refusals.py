"""What cannot be exported is refused in one line that says what to do."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from deploy.errors import ExportError, OutputError
from deploy.exporting.agreement import compare_with_torch
from deploy.exporting.export import export_onnx
from deploy.exporting.onnx_check import check_onnx


def images(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(n))


class BakedBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[i] * i for i in range(x.shape[0])])


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum() > 0 else x


class Untranslatable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svd(x)[1]


def assert_one_line(error: pytest.ExceptionInfo[BaseException], *parts: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    assert "\x1b" not in text
    for part in parts:
        assert part in text


def test_a_baked_in_batch_is_told_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ExportError) as error:
        export_onnx(BakedBatch(), (images(4),), path)
    assert_one_line(error, "BakedBatch", "dynamic batch", "dynamic_batch=False", "(4)")
    assert not path.exists()
    info = export_onnx(BakedBatch(), (images(4),), path, dynamic_batch=False)
    assert info.inputs[0].shape == (4, 3, 8, 8)
    assert compare_with_torch(path, BakedBatch(), (images(4),)).ok


@pytest.mark.parametrize(
    ("model", "examples", "parts"),
    [
        (Branching(), (images(2),), ["Branching", "data-dependent"]),
        (Untranslatable(), (images(2),), ["Untranslatable", "svd"]),
        (nn.Conv2d(4, 2, 1), (images(2),), ["Conv2d fails on inputs float32(2, 3, 8, 8)", "4 channels"]),
        (nn.ReLU(), images(2).numpy(), ["ReLU", "numpy ndarray", "give a tensor"]),
        (nn.ReLU(), (), ["ReLU", "holds no tensor"]),
        (nn.ReLU(), {"inputs": images(2)}, ["no argument 'inputs'; did you mean 'input'?"]),
        (nn.ReLU(), (torch.tensor(1.0),), ["scalars", "dynamic_batch=False"]),
    ],
)
def test_what_cannot_be_exported_is_one_line(tmp_path: Path, model: nn.Module, examples, parts: list[str]) -> None:
    with pytest.raises(ExportError) as error:
        export_onnx(model, examples, tmp_path / "model.onnx")
    assert_one_line(error, *parts)
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    class Counts(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:
            return x, 3

    with pytest.raises(ExportError, match="returns a int"):
        export_onnx(Counts(), (images(2),), tmp_path / "model.onnx")


def test_wrong_names_are_refused(tmp_path: Path) -> None:
    for names in (
        {"input_names": ["a", "b"]},
        {"output_names": ["a", "b"]},
        {"output_names": [""]},
        {"input_names": ["a"], "output_names": ["a"]},
    ):
        with pytest.raises(ExportError):
            export_onnx(nn.ReLU(), (images(2),), tmp_path / "model.onnx", **names)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError) as error:
        export_onnx(nn.ReLU(), (images(2),), tmp_path / "file" / "model.onnx")
    assert_one_line(error, "model.onnx")

    earlier = tmp_path / "model.onnx"
    earlier.write_text("earlier")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save_model", full)
    with pytest.raises(OutputError, match="No space left on device; free some space"):
        export_onnx(nn.ReLU(), (images(2),), earlier)
    assert earlier.read_text() == "earlier"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "model.onnx"]


def test_truncated_files_are_found(tmp_path: Path) -> None:
    path, cut = tmp_path / "model.onnx", tmp_path / "cut.onnx"
    export_onnx(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), (images(2),), path)
    content = path.read_bytes()
    for length in (0, 1, 10, len(content) // 2, len(content) - 30, len(content) - 1):
        cut.write_bytes(content[:length])
        with pytest.raises(ExportError) as error:
            check_onnx(cut)
        assert_one_line(error, "cut.onnx")


def graph_file(path: Path, nodes: list[onnx.NodeProto], output_shape: list[int]) -> None:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape)],
    )
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def test_invalid_graphs_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    graph_file(path, [helper.make_node("NoSuchOperator", ["x"], ["y"])], [1, 4])
    with pytest.raises(ExportError, match="NoSuchOperator") as error:
        check_onnx(path)
    assert_one_line(error)
    graph_file(path, [helper.make_node("Relu", ["x"], ["y"])], [1, 5])
    with pytest.raises(ExportError, match="not valid") as error:
        check_onnx(path)
    assert_one_line(error)
    with pytest.raises(ExportError, match="no such file"):
        check_onnx(tmp_path / "missing.onnx")


def test_the_exporter_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ExportError):
            export_onnx(Branching(), (images(2),), tmp_path / "model.onnx")
        export_onnx(nn.Conv2d(3, 2, 1), (images(2),), tmp_path / "model.onnx", opset=18)
    assert capfd.readouterr() == ("", "")
    assert not caught
    assert logging.root.manager.disable == logging.NOTSET
