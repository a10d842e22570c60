"""Rules for recurrent layers and cells.

A hidden unit is a row in each gate's part of the matrices, a column of the matrix that reads the state, and an entry of
the state. All layers and directions of one operator share one state size, which is one axis of a tensor: unit `j` of
one layer is removed with unit `j` of all others.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pruners.channels.labels import Lock, Value
from pruners.channels.propagation import MacTerm, Propagation, always
from pruners.channels.rules.contraction import contract
from pruners.channels.rules.elementwise import along

__all__: list[str] = []


@always("lstm", "gru", "rnn_tanh", "rnn_relu")
def recurrent(walk: Propagation, x: Value, states: Any, weights: Any, *rest: Any, **__: Any) -> Any:
    """Run over padded sequences; `rest` is has_biases, num_layers, dropout, train, bidirectional, batch_first."""
    if not isinstance(weights, (list, tuple)):
        tensors = [item for item in (x, states) if isinstance(item, Value)]
        return walk.refuse(tensors, f"{walk.node.name} is a recurrent layer on sequences that were packed outside")
    has_biases, n_layers, _, _, bidirectional, *_ = rest
    several = states if isinstance(states, (list, tuple)) else [states]
    return _layers(walk, x, several, weights, bool(has_biases), int(n_layers), 2 if bidirectional else 1)


@always("prune_deploy::packed_recurrence")
def packed_recurrence(
    walk: Propagation,
    _kind: str,
    x: Value,
    _lengths: Value,
    states: Sequence[Value],
    weights: Sequence[Value],
    has_biases: bool,
    bidirectional: bool,
) -> list[Value]:
    """Run one layer over padded sequences, each up to its length; counted as if all were as long as the longest."""
    return _layers(walk, x, states, weights, has_biases, 1, 2 if bidirectional else 1)


def _layers(
    walk: Propagation,
    x: Value,
    states: Sequence[Value],
    weights: Sequence[Value],
    has_biases: bool,
    n_layers: int,
    directions: int,
) -> list[Value]:
    state = [_features(walk, item) for item in states]
    features = _features(walk, x)
    per_direction = len(weights) // (n_layers * directions)
    own = [weights[start : start + per_direction] for start in range(0, len(weights), per_direction)]
    for layer in range(n_layers):
        made = [
            _step(walk, features, state, _Cell.of(one, has_biases), [(x, 0), (x, 1)])[0]
            for one in own[layer * directions : (layer + 1) * directions]
        ]
        width = sum(item.shape[1] for item in made)
        features = Value((1, width), (torch.cat([_along(item, 1) for item in made]).reshape(1, -1),))
    _starts(walk)
    outputs = [features, *state]
    return [_spread(item, plain) for item, plain in zip(outputs, walk.plain(walk.node.meta["val"]), strict=True)]


@always("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
def cell(walk: Propagation, x: Value, states: Any, *weights: Value) -> Any:
    """Take one step of a recurrence; `weights` are two matrices and, where it has them, two biases."""
    several = list(states) if isinstance(states, (list, tuple)) else [states]
    state = [_features(walk, item) for item in several]
    biases = [item for item in weights[2:] if item is not None]
    made = _step(walk, _features(walk, x), state, _Cell(weights[0], weights[1], biases), [(x, a) for a in x.axes[:-1]])
    plain = walk.plain(walk.node.meta["val"])
    _starts(walk)
    return (
        [_spread(one, item) for one, item in zip(made, plain, strict=True)]
        if isinstance(plain, list)
        else (_spread(made[0], plain))
    )


@dataclass(frozen=True, slots=True)
class _Cell:
    """Weights of one layer and direction: rows are gates times units."""

    of_input: Value
    of_state: Value
    biases: Sequence[Value]
    projection: Value | None = None

    @classmethod
    def of(cls, weights: Sequence[Value], has_biases: bool) -> _Cell:
        """Take weights in torch's order: matrices, biases if any, projection if any."""
        first, second, *rest = weights
        return cls(first, second, rest[:2] if has_biases else (), rest[-1] if len(rest) % 2 else None)


def _step(
    walk: Propagation, x: Value, state: Sequence[Value], cell: _Cell, positions: Sequence[tuple[Value, int]]
) -> list[Value]:
    """Unite the results of one step with the state that it starts from; return hidden state and cell state."""
    rows = ("nk", "mk", "nm")
    parts = [contract(walk, x, cell.of_input, rows), contract(walk, state[0], cell.of_state, rows)]
    gates = walk.join([*parts, *(along(bias, 1, 2) for bias in cell.biases)], wait=False)
    width = state[-1].shape[1]
    pieces = [piece for slot in gates.slots for piece in slot.chunk(slot.shape[1] // width, 1)]
    units = [Value((1, width), (piece,)) for piece in pieces if width > 1]
    projects = cell.projection is not None
    held = walk.join([*units, *(state[1:] if projects else state)], wait=False)
    if width == 1:
        walk.lock(gates.slots, Lock(f"{walk.node.name} has one hidden unit"))
    hidden = held
    if cell.projection is not None:
        for slot in held.slots:  # torch recognises a projection by its size, smaller than the state's
            walk.labels.floor(slot, cell.projection.shape[0] + 1)
        hidden = walk.join([contract(walk, held, cell.projection, rows), state[0]], wait=False)
        walk.mac_terms.append(
            MacTerm(walk.node.name, (*positions, (cell.projection, 0), (cell.projection, 1)), Value((0,)))
        )
    both = torch.cat([_along(cell.of_input, 1), _along(cell.of_state, 1)]).reshape(1, -1)
    matrix = Value((cell.of_input.shape[0], both.shape[1]), (*_slots_along(cell.of_input, 0), both))
    sizes = tuple(value.shape[axis] for value, axis in positions)
    made = Value((*sizes, hidden.shape[1]), tuple(slot.reshape(*[1] * len(sizes), -1) for slot in hidden.slots))
    walk.mac_terms.append(MacTerm(walk.node.name, (*positions, (matrix, 0), (matrix, 1)), made))
    return [hidden, held][: len(state)]


def _features(walk: Propagation, value: Value) -> Value:
    """Return the labels of the last axis: (1, features). The other axes are times, examples and layers."""
    slots = []
    for slot in value.slots:
        tied = walk.tie(slot, range(slot.ndim - 1))
        if tied.numel() > 1:
            slots.append(tied.reshape(1, -1))
        else:
            walk.labels.lock(slot, Lock(f"{walk.node.name} runs along its positions"))
    return walk.join([Value((1, value.shape[-1]), tuple(slots))], wait=False)


def _slots_along(value: Value, axis: int) -> Iterator[Tensor]:
    return (slot for slot in value.slots if slot.shape[axis] > 1)


def _along(value: Value, axis: int) -> Tensor:
    """Return the labels along an axis as a vector, 0 where there are none."""
    for slot in _slots_along(value, axis):
        return slot.reshape(-1)
    return torch.zeros(value.shape[axis], dtype=torch.int64)


def _spread(features: Value, plain: Value) -> Value:
    """View labels (1, features) as those of a tensor with other axes before."""
    shape = [*[1] * (len(plain.shape) - 1), -1]
    return Value(plain.shape, tuple(slot.reshape(shape) for slot in features.slots if slot.numel() > 1))


def _starts(walk: Propagation) -> None:
    """Record the node as a feature map, or those of its several results that are read."""
    taken = [user.name for user in walk.node.users if user.target is operator.getitem]
    walk.starts.extend(taken or [walk.node.name])
