"""Recurrent layers that the exporter does not support: LSTMs with a projection, and layers on packed sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import opset18
from torch import Tensor
from torch.export import ExportedProgram
from torch.nn import functional as F

from pruners.channels.packed import PACKED_RECURRENCE

__all__ = ["RECURRENCES", "without_projections"]

op: Any = opset18
_LSTM = torch.ops.aten.lstm.input
_ORDERS = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn_tanh": (0,), "rnn_relu": (0,)}
"""Gates in the order in which ONNX stacks them, by their number in torch's."""


def without_projections(program: ExportedProgram) -> ExportedProgram:
    """Unroll each LSTM with a projection, which ONNX does not have; other layers stay unchanged."""
    if not any(node.target is _LSTM and _projects(node.args[1]) for node in program.graph.nodes):
        return program
    written_out: ExportedProgram = program.run_decompositions({_LSTM: _steps})
    return written_out


def _projects(states: Any) -> bool:
    h, c = (item.meta["val"] if isinstance(item, torch.fx.Node) else item for item in states)
    return bool(h.shape[2] != c.shape[2])


def _steps(
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    has_biases: bool,
    n_layers: int,
    _dropout: float,
    _training: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Any:
    if not _projects(states):
        return NotImplemented
    x = x.transpose(0, 1) if batch_first else x
    directions, each = (2 if bidirectional else 1), (5 if has_biases else 3)
    finals: list[tuple[Tensor, Tensor]] = []
    for _ in range(n_layers):
        outputs = []
        for backwards in range(directions):
            number = len(finals)
            of_input, of_state, *biases, projection = weights[number * each : (number + 1) * each]
            h, c = states[0][number], states[1][number]
            made = []
            for step in reversed(x.unbind()) if backwards else x.unbind():
                gates = F.linear(step, of_input, biases[0] if biases else None)
                gates = gates + F.linear(h, of_state, biases[1] if biases else None)
                i, f, g, o = gates.chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = F.linear(o.sigmoid() * c.tanh(), projection)
                made.append(h)
            outputs.append(torch.stack(made[::-1] if backwards else made))
            finals.append((h, c))
        x = torch.cat(outputs, -1)
    h_last, c_last = (torch.stack(items) for items in zip(*finals, strict=True))
    return (x.transpose(0, 1) if batch_first else x), h_last, c_last


def _packed_recurrence(
    kind: str,
    x: Any,
    lengths: Any,
    states: Sequence[Any],
    weights: Sequence[Any],
    has_biases: bool,
    bidirectional: bool,
) -> Sequence[Any]:
    """Translate `pruners.channels.packed.packed_recurrence`; ONNX takes the sequence lengths as an input."""
    directions = 2 if bidirectional else 1
    each = len(weights) // directions
    if each % 2:
        raise NotImplementedError("ONNX has no LSTM with a projection on sequences of several lengths")
    own = [weights[start : start + each] for start in range(0, len(weights), each)]

    def stacked(position: int) -> Any:
        """Stack one kind of weight over the directions: (directions, gates * units, ...)."""
        return op.Concat(*(op.Unsqueeze(_reordered(kind, one[position]), [0]) for one in own), axis=0)

    biases = op.Concat(stacked(2), stacked(3), axis=1) if has_biases else None
    size = weights[1].shape[1]
    options: dict[str, Any] = {"hidden_size": size, "direction": "bidirectional" if bidirectional else "forward"}
    inputs = (x, stacked(0), stacked(1), biases, op.Cast(lengths, to=6), states[0])
    if kind == "lstm":
        y, *final = op.LSTM(*inputs, states[1], **options)
    elif kind == "gru":
        y, *final = op.GRU(*inputs, linear_before_reset=1, **options)
    else:
        y, *final = op.RNN(*inputs, activations=[kind.removeprefix("rnn_").capitalize()] * directions, **options)
    # (times, directions, batch, size) -> (times, batch, directions * size)
    y = op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), op.Constant(value_ints=[0, 0, -1]))
    return [y, *final]


def _reordered(kind: str, weight: Any) -> Any:
    order = _ORDERS[kind]
    if len(order) == 1:
        return weight
    gates = op.Split(weight, axis=0, num_outputs=len(order))
    return op.Concat(*(gates[number] for number in order), axis=0)


RECURRENCES: dict[Callable[..., Any], Callable[..., Any]] = {PACKED_RECURRENCE: _packed_recurrence}
"""Custom translation table for `torch.onnx.export`."""
