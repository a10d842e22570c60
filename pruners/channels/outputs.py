"""Outputs of a network, by name: those that a caller uses keep their channels, others may shrink."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import fx, nn
from torch.utils import _pytree as pytree

from pruners.errors import SelectorError, did_you_mean

__all__ = ["output_names", "path_name", "usual_outputs", "wanted_outputs"]

_ALL_BUT_FEATURES = "!*feats"


def output_names(module: fx.GraphModule) -> tuple[str, ...]:
    """Return the names of the outputs of an exported network, in the order of its graph.

    Keys, attributes and positions in its containers, joined by dots (``"1.boxes"``); ``"0"`` if it returns one
    tensor.
    """
    info: Any = getattr(module.graph._codegen, "pytree_info", None)
    spec = info.out_spec
    paths = pytree.tree_flatten_with_path(pytree.tree_unflatten(range(spec.num_leaves), spec))[0]
    return tuple(path_name(path) or "0" for path, _ in paths)


def wanted_outputs(names: Sequence[str], selectors: Sequence[str]) -> frozenset[str]:
    """Return the names that `selectors` select; all if there are no selectors.

    Parameters
    ----------
    selectors : sequence of str
        Patterns (``fnmatch``) of names or of their leading parts (``"1"`` selects ``"1.boxes"`` too). A pattern that
        starts with ``!`` excludes names; if all patterns do, they exclude from all names.

    Raises
    ------
    SelectorError
        A selector matches no output.
    """
    given, taken = set[str](), set[str]()
    for selector in selectors:
        pattern = selector.removeprefix("!")
        hits = {name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")}
        if not hits and selector != _ALL_BUT_FEATURES:
            hint = did_you_mean(pattern, list(names)) or f"; it has {', '.join(dict.fromkeys(names))}"
            raise SelectorError(f"outputs: {selector!r} names no output of the network{hint}")
        (taken if selector.startswith("!") else given).update(hits)
    positive = any(not selector.startswith("!") for selector in selectors)
    return frozenset((given if positive else set(names)) - taken)


def usual_outputs(model: nn.Module) -> tuple[str, ...]:
    """Return selectors of the outputs that callers of a known network use; for others none, which means all.

    The detectors of ultralytics also return the features below their head, of which neither losses nor predictors read
    a channel.
    """
    of_ultralytics = type(model).__module__ == "ultralytics.nn.tasks"
    heads = any(type(layer).__module__ == "ultralytics.nn.modules.head" for layer in model.modules())
    return (_ALL_BUT_FEATURES,) if of_ultralytics and heads else ()


def path_name(path: Sequence[Any]) -> str:
    """Return keys, attributes and positions on the way to a leaf (of `torch.utils._pytree`), joined by dots."""
    return ".".join(str(next(getattr(key, n) for n in ("key", "idx", "name") if hasattr(key, n))) for key in path)
