"""Export networks that pack their sequences, by treating packed sequences as padded ones.

The size of a packed sequence depends on the lengths, which no exporter can follow. During export, `packed_as_padded`
makes packing keep the padding, and each recurrent layer on packed data becomes one operator,
`prune_deploy::packed_recurrence`, which knows the lengths. The longest sequence must fill the input, which is checked
at run time: otherwise the padded result would be longer than the network's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["PACKED_RECURRENCE", "FullSequences", "holds_packed", "packed_as_padded", "packed_recurrence"]

_KINDS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
_SCHEMA = (
    "(str kind, Tensor x, Tensor lengths, Tensor[] states, Tensor[] weights, bool has_biases, bool bidirectional)"
    " -> Tensor[]"
)


def _run(
    kind: str,
    x: Tensor,
    lengths: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    has_biases: bool,
    bidirectional: bool,
) -> list[Tensor]:
    """Run one layer over padded sequences, each up to its length.

    Parameters
    ----------
    kind : {"lstm", "gru", "rnn_tanh", "rnn_relu"}
    x : Tensor of shape (times, batch, features)
    lengths : Tensor of shape (batch,)
        Descending; the first one is `times`.
    states : sequence of Tensor, each of shape (directions, batch, size)
    weights : sequence of Tensor
        In torch's order.

    Returns
    -------
    list of Tensor
        Outputs of shape (times, batch, directions * size), zero beyond the lengths; final states.

    Raises
    ------
    RuntimeError
        The longest sequence does not fill the input.
    """
    _require_full(lengths, len(x))
    functions: Any = torch._VF
    data, sizes = functions._pack_padded_sequence(x, lengths.cpu(), False)
    hidden = list(states) if kind == "lstm" else states[0]
    options = (has_biases, 1, 0.0, torch.is_grad_enabled(), bidirectional)
    y, *final = getattr(functions, kind)(data, sizes, hidden, list(weights), *options)
    padded, _ = functions._pad_packed_sequence(y, sizes, False, 0.0, len(x))
    return [padded, *final]


def _require_full(lengths: Tensor, n_times: int) -> None:
    if int(lengths.max()) != n_times:
        raise RuntimeError(
            f"the longest sequence has {int(lengths.max())} steps, the input {n_times}: a network with packed "
            "sequences that was traced takes inputs padded to the longest sequence"
        )


packed_recurrence = torch.library.custom_op("prune_deploy::packed_recurrence", _run, mutates_args=(), schema=_SCHEMA)


PACKED_RECURRENCE: torch._ops.OpOverload = torch.ops.prune_deploy.packed_recurrence.default
"""The operator as it appears in exported programs."""


@packed_recurrence.register_fake
def _shapes(_kind: str, x: Tensor, _lengths: Tensor, states: Sequence[Tensor], *rest: Any) -> list[Tensor]:
    bidirectional = rest[-1]
    y = x.new_empty(x.shape[0], x.shape[1], states[0].shape[2] * (2 if bidirectional else 1))
    return [y, *(torch.empty_like(state) for state in states)]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 - torch names it
    kind, x, lengths, states, weights, has_biases, bidirectional = inputs
    ctx.save_for_backward(x, lengths, *states, *weights)
    ctx.options = (kind, len(states), has_biases, bidirectional)


def _differentiate(ctx: Any, slopes: Sequence[Tensor]) -> tuple[Any, ...]:
    """Run the layer again, with gradients."""
    again = torch.is_grad_enabled()  # a second derivative is asked for
    kind, n_states, has_biases, bidirectional = ctx.options
    x, lengths, *rest = ctx.saved_tensors
    leaves = [x, *rest] if again else [item.detach().requires_grad_() for item in (x, *rest)]
    with torch.enable_grad():
        outputs = _run(
            kind, leaves[0], lengths, leaves[1 : n_states + 1], leaves[n_states + 1 :], has_biases, bidirectional
        )
    pairs = [(out, slope) for out, slope in zip(outputs, slopes, strict=True) if slope is not None]
    wanted = [item for item in leaves if item.requires_grad]
    found = iter(
        torch.autograd.grad(
            [out for out, _ in pairs], wanted, [slope for _, slope in pairs], create_graph=again, allow_unused=True
        )
    )
    by_leaf = [next(found) if item.requires_grad else None for item in leaves]
    return None, by_leaf[0], None, by_leaf[1 : n_states + 1], by_leaf[n_states + 1 :], None, None


packed_recurrence.register_autograd(_differentiate, setup_context=_remember)


def holds_packed(module: fx.GraphModule) -> bool:
    """Return whether a traced network packs sequences."""
    return any(node.target is PACKED_RECURRENCE for node in module.graph.nodes)


class FullSequences(TorchFunctionMode):
    """While active, refuses to pack sequences if none fills the input: no traced network takes them.

    Raises
    ------
    RuntimeError
        The longest sequence does not fill the input.
    """

    def __torch_function__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Check what is packed."""
        if getattr(func, "__name__", "") == "_pack_padded_sequence":
            x, lengths, batch_first = args
            _require_full(lengths, x.shape[1 if batch_first else 0])
        return func(*args, **(kwargs or {}))


@contextmanager
def packed_as_padded() -> Iterator[None]:
    """Make `torch.nn.utils.rnn` keep the padding of what it packs."""
    original = nn.RNNBase.get_expected_hidden_size

    def expected(layer: nn.RNNBase, x: Tensor, batch_sizes: Tensor | None) -> Any:
        """Keep a dynamic batch size dynamic; the original turns it into a number."""
        if batch_sizes is None:
            return original(layer, x, batch_sizes)
        size = layer.proj_size or layer.hidden_size
        return layer.num_layers * (2 if layer.bidirectional else 1), batch_sizes[0], size

    recurrent: Any = nn.RNNBase
    recurrent.get_expected_hidden_size = expected
    try:
        with _Padded():
            yield
    finally:
        recurrent.get_expected_hidden_size = original


class _Packed:
    """Record of one packing, identified by its batch sizes, which torch passes on."""

    def __init__(self, batch_sizes: Tensor, lengths: Tensor, n_times: int, n_examples: int) -> None:
        self.batch_sizes, self.lengths = batch_sizes, lengths
        self.n_times, self.n_examples = n_times, n_examples


class _Padded(TorchFunctionMode):
    """Replaces packing, unpacking, and the recurrent layers in between."""

    def __init__(self) -> None:
        super().__init__()
        self._packed: list[_Packed] = []

    def __torch_function__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "_pack_padded_sequence":
            return self._pack(*args)
        token = args[min(1, len(args) - 1)] if name in {*_KINDS, "_pad_packed_sequence"} else args[0] if args else None
        packed = next((one for one in self._packed if one.batch_sizes is token), None)
        if packed is not None:
            if name == "__getitem__" and args[1] == 0:
                return packed.n_examples
            if name in _KINDS:
                return _layers(name, packed, *args)
            if name == "_pad_packed_sequence":
                return _pad(packed, *args)
        return func(*args, **(kwargs or {}))

    def _pack(self, x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
        x = x.transpose(0, 1) if batch_first else x
        n_times, n_examples = x.shape[:2]
        batch_sizes = (torch.arange(n_times, device=lengths.device)[:, None] < lengths).sum(1)
        self._packed.append(_Packed(batch_sizes, lengths, n_times, n_examples))
        return x.reshape(n_times * n_examples, *x.shape[2:]), batch_sizes


def _layers(
    kind: str,
    packed: _Packed,
    data: Tensor,
    _: Tensor,
    states: Any,
    weights: Sequence[Tensor],
    has_biases: bool,
    n_layers: int,
    dropout: float,
    training: bool,
    bidirectional: bool,
) -> tuple[Tensor, ...]:
    """Run the layers one by one, with dropout between them."""
    several = list(states) if kind == "lstm" else [states]
    directions = 2 if bidirectional else 1
    each = len(weights) // n_layers
    y = data.reshape(packed.n_times, packed.n_examples, *data.shape[1:])
    finals: list[list[Tensor]] = []
    for layer in range(n_layers):
        if layer:
            y = F.dropout(y, dropout, training)
        start = [state[layer * directions : (layer + 1) * directions] for state in several]
        own = weights[layer * each : (layer + 1) * each]
        y, *final = packed_recurrence(kind, y, packed.lengths, start, own, has_biases, bidirectional)
        finals.append(final)
    ends = (torch.cat(parts) for parts in zip(*finals, strict=True))
    return y.reshape(packed.n_times * packed.n_examples, -1), *ends


def _pad(
    packed: _Packed, data: Tensor, _: Tensor, batch_first: bool, padding: float, total_length: int
) -> tuple[Tensor, Tensor]:
    y = data.reshape(packed.n_times, packed.n_examples, *data.shape[1:])
    inside = torch.arange(packed.n_times, device=y.device)[:, None] < packed.lengths.to(y.device)
    y = y.masked_fill(~inside.reshape(*inside.shape, *[1] * (y.ndim - 2)), padding)
    if total_length > packed.n_times:
        y = F.pad(y, [0, 0] * (y.ndim - 1) + [0, total_length - packed.n_times], value=padding)
    return (y.transpose(0, 1) if batch_first else y), packed.lengths
