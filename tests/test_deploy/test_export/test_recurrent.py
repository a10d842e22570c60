"""Pruned recurrent networks are exported with a free batch and give the same answers on the runtimes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from deploy.errors import ExportError
from deploy.exporting.agreement import compare_with_torch
from deploy.exporting.export import export_onnx
from pruners.registry import create
from pruners.target import Constraints, Target
from pruners.task import PruningTask


class Text(nn.Module):
    """Words to a class: the outputs at the last step, and the last state."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.words, self.layer = nn.Embedding(30, 8), layer
        width = layer.proj_size or layer.hidden_size
        self.head = nn.Linear(width * (3 if layer.bidirectional else 2), 3)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        y, states = self.layer(self.words(words))
        last = states[0] if isinstance(states, tuple) else states
        return self.head(torch.cat([y[:, -1], last[-1]], 1))


class Packed(Text):
    """The same on sequences of several lengths, longest first."""

    def forward(self, words: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        packed, states = self.layer(pack_padded_sequence(self.words(words), lengths, batch_first=True))
        y, _ = pad_packed_sequence(packed, batch_first=True)
        last = states[0] if isinstance(states, tuple) else states
        return self.head(torch.cat([y.mean(1), last[-1]], 1))


def pruned(model: nn.Module, inputs: tuple[torch.Tensor, ...], form: str) -> nn.Module:
    target = Target(of="params", kept_fraction=0.7)
    task = PruningTask(model=model, example_inputs=inputs, target=target, constraints=Constraints(form=form))
    return create("l1").prune(task).model


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize(
    ("layer", "form"),
    [
        (nn.LSTM(8, 12, num_layers=2, bidirectional=True, batch_first=True), "graph"),
        pytest.param(nn.GRU(8, 12, bidirectional=True, batch_first=True), "module", marks=pytest.mark.slow),
        pytest.param(nn.RNN(8, 12, batch_first=True, nonlinearity="relu"), "module", marks=pytest.mark.slow),
        pytest.param(
            nn.LSTM(8, 12, proj_size=4, bidirectional=True, batch_first=True), "module", marks=pytest.mark.slow
        ),
    ],
    ids=["lstm", "gru", "rnn", "projected"],
)
def test_runtimes_agree_with_a_pruned_recurrent_network(layer: nn.RNNBase, form: str, tmp_path: Path) -> None:
    words = torch.randint(0, 30, (5, 6))
    model = pruned(Text(layer), (words[:2],), form)
    assert export_onnx(model, (words[:2],), tmp_path / "model.onnx").dynamic_batch
    for backend in ("ort", "openvino"):
        assert compare_with_torch(tmp_path / "model.onnx", model, (words,), backend=backend).ok, backend


@pytest.mark.parametrize("form", ["module", pytest.param("graph", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "layer",
    [nn.LSTM(8, 12, bidirectional=True, batch_first=True), nn.GRU(8, 12, batch_first=True, num_layers=2)],
    ids=["lstm", "gru"],
)
def test_packed_sequences_keep_their_lengths(layer: nn.RNNBase, form: str, tmp_path: Path) -> None:
    words, lengths = torch.randint(0, 30, (5, 6)), torch.tensor([6, 5, 5, 3, 1])
    model = pruned(Packed(layer), (words, lengths), form)
    export_onnx(model, (words, lengths), tmp_path / "model.onnx", dynamic_batch=False)
    for backend in ("ort", "openvino"):
        assert compare_with_torch(tmp_path / "model.onnx", model, (words, lengths), backend=backend).ok, backend


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_a_projection_on_packed_sequences_is_refused_in_one_line(tmp_path: Path) -> None:
    model = Packed(nn.LSTM(8, 12, proj_size=4, batch_first=True))
    inputs = (torch.randint(0, 30, (2, 6)), torch.tensor([6, 4]))
    with pytest.raises(ExportError, match="ONNX has no LSTM with a projection on sequences of several lengths"):
        export_onnx(model, inputs, tmp_path / "model.onnx")
