"""Update the attributes in which torch's layers repeat the sizes of their tensors.

The table is by type of layer; a subclass (timm's ``LayerNorm2d``, ``BatchNormAct2d``, ``ScaledStdConv2d``) is
treated as its base. Layers that only hold tensors (layer scales, frozen norms, squeeze-and-excitation) need nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import nn

from pruners.errors import SurgeryError
from pruners.forms.slicing import Positions

__all__ = ["LayerSizesError", "Resized", "may_misfit", "update_sizes"]


class LayerSizesError(SurgeryError):
    """The code of one of torch's layers does not allow the remaining sizes; `layer` is its path."""

    def __init__(self, layer: str, why: str) -> None:
        super().__init__(f"{layer}: {why}")
        self.layer = layer


@dataclass(frozen=True, slots=True)
class Resized:
    """One tensor of a layer, before and after.

    Parameters
    ----------
    before, after : tuple of int
        Shapes; equal if nothing was removed.
    gone : Mapping of int to sequence of int
        Axis -> positions that were removed.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    gone: Positions = field(default_factory=dict)


_Tensors: TypeAlias = Mapping[str, Resized]
_Update: TypeAlias = Callable[[str, Any, _Tensors], None]
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)


def update_sizes(name: str, layer: nn.Module, tensors: Mapping[str, Resized]) -> bool:
    """Bring the attributes of a layer in line with its tensors.

    Parameters
    ----------
    name : str
        Name of the layer in its network, for messages.
    tensors : Mapping of str to Resized
        The layer's tensors by the attribute under which its code reads them (``"weight"`` also where a
        parametrization makes the weight from other tensors).

    Returns
    -------
    bool
        Whether the table knows the layer.

    Raises
    ------
    LayerSizesError
        The layer's own code does not allow these sizes.
    """
    for matches, update in _TABLE:
        if matches(layer, tensors):
            update(name, layer, tensors)
            return True
    return False


def may_misfit(layer: nn.Module | None) -> bool:
    """Return whether a layer's code may hold sizes in its own way: all layers but torch's, plus attention."""
    if layer is None or isinstance(layer, _NORMS):
        return False
    return not type(layer).__module__.startswith("torch.nn.") or isinstance(layer, nn.MultiheadAttention)


def _convolution(name: str, layer: Any, tensors: _Tensors) -> None:
    weight = tensors["weight"]
    # axis 0 holds all groups one after the other: output channels, or input channels when transposed
    if layer.groups > 1:
        layer.groups = _groups_left(name, layer.groups, weight.before[0], weight.gone.get(0, ()))
    sides = ("out_channels", "in_channels")
    first, second = reversed(sides) if getattr(layer, "transposed", False) else sides
    setattr(layer, first, weight.after[0])
    setattr(layer, second, weight.after[1] * layer.groups)


def _groups_left(name: str, groups: int, size: int, gone: Sequence[int]) -> int:
    """Return how many groups stay: whole groups go, or the same number of channels from every one."""
    each = size // groups
    lost = Counter(position // each for position in gone)
    if set(lost.values()) <= {each}:
        return groups - len(lost)
    if len(lost) == groups and len(set(lost.values())) == 1:
        return groups
    raise LayerSizesError(name, f"its {groups} groups lose whole groups, or the same number of channels from every one")


def _linear(_: str, layer: Any, tensors: _Tensors) -> None:
    layer.out_features, layer.in_features = tensors["weight"].after


def _bilinear(_: str, layer: Any, tensors: _Tensors) -> None:
    layer.out_features, layer.in1_features, layer.in2_features = tensors["weight"].after


def _features(_: str, layer: Any, tensors: _Tensors) -> None:
    layer.num_features = next(tensor.after[0] for tensor in tensors.values() if len(tensor.after) == 1)


def _layer_norm(_: str, layer: Any, tensors: _Tensors) -> None:
    layer.normalized_shape = tuple(tensors["weight"].after)


def _group_norm(name: str, layer: Any, tensors: _Tensors) -> None:
    weight = tensors["weight"]
    layer.num_groups = _groups_left(name, layer.num_groups, weight.before[0], weight.gone.get(0, ()))
    layer.num_channels = weight.after[0]


def _prelu(_: str, layer: Any, tensors: _Tensors) -> None:
    layer.num_parameters = tensors["weight"].after[0]


def _embedding(_: str, layer: Any, tensors: _Tensors) -> None:
    layer.num_embeddings, layer.embedding_dim = tensors["weight"].after


def _attention(name: str, layer: Any, tensors: _Tensors) -> None:
    """Update `torch.nn.MultiheadAttention`, whose code assumes as many channels in its heads as in its input."""
    joint = layer._qkv_same_embed_dim
    query = tensors["in_proj_weight" if joint else "q_proj_weight"]
    parts = 3 if joint else 1
    inside, outside = query.after[0] // parts, query.after[1]
    if inside != outside or tuple(layer.out_proj.weight.shape) != (outside, inside):
        raise LayerSizesError(
            name,
            "torch's MultiheadAttention runs only with as many channels inside its heads as outside "
            f"({inside} are left inside, {outside} outside)",
        )
    before = query.before[0] // parts
    heads = _groups_left(name, layer.num_heads, before, [p for p in query.gone.get(0, ()) if p < before])
    if inside != heads * layer.head_dim:
        raise LayerSizesError(name, "torch's MultiheadAttention scales its scores by the size of a head")
    layer.embed_dim, layer.num_heads = outside, heads
    layer.kdim = outside if joint else tensors["k_proj_weight"].after[1]
    layer.vdim = outside if joint else tensors["v_proj_weight"].after[1]


def _recurrent(name: str, layer: Any, tensors: _Tensors) -> None:
    inputs, states = tensors["weight_ih_l0"], tensors["weight_hh_l0"]
    gates = inputs.before[0] // layer.hidden_size
    sizes = {tensor.after[0] for attribute, tensor in tensors.items() if not attribute.startswith("weight_hr")}
    if len(sizes) != 1 or inputs.after[0] % gates:
        raise LayerSizesError(name, f"torch's {type(layer).__name__} has one size of its state in all layers")
    layer.input_size, layer.hidden_size = inputs.after[1], inputs.after[0] // gates
    layer.proj_size = states.after[1] if layer.proj_size else 0
    layer._init_flat_weights()


def _recurrent_cell(_: str, layer: Any, tensors: _Tensors) -> None:
    layer.input_size, layer.hidden_size = tensors["weight_ih"].after[1], tensors["weight_hh"].after[1]


def _matcher(attribute: str, *types: type[nn.Module]) -> Callable[[nn.Module, _Tensors], bool]:
    return lambda layer, tensors: isinstance(layer, types) and attribute in tensors


def _attends(layer: nn.Module, _: _Tensors) -> bool:
    return isinstance(layer, nn.MultiheadAttention)


def _convolves(layer: nn.Module, tensors: _Tensors) -> bool:
    """Match torch's convolutions, and layers modelled on them (torchvision's ``DeformConv2d``)."""
    named = all(isinstance(getattr(layer, name, None), int) for name in ("in_channels", "out_channels", "groups"))
    return named and "weight" in tensors and len(tensors["weight"].before) >= 3


def _has_features(layer: nn.Module, tensors: _Tensors) -> bool:
    frozen = "running_var" in tensors and "num_features" in vars(layer)
    return frozen or isinstance(layer, nn.modules.batchnorm._NormBase)


_TABLE: tuple[tuple[Callable[[nn.Module, _Tensors], bool], _Update], ...] = (
    (_convolves, _convolution),
    (_matcher("weight", nn.Linear), _linear),
    (_has_features, _features),
    (_matcher("weight", nn.LayerNorm, nn.RMSNorm), _layer_norm),
    (_matcher("weight", nn.GroupNorm), _group_norm),
    (_attends, _attention),
    (_matcher("weight", nn.Embedding, nn.EmbeddingBag), _embedding),
    (_matcher("weight", nn.PReLU), _prelu),
    (_matcher("weight", nn.Bilinear), _bilinear),
    (_matcher("weight_ih_l0", nn.RNNBase), _recurrent),
    (_matcher("weight_ih", nn.RNNCellBase), _recurrent_cell),
)
