"""Load weights from a file into a network: tensors only, and every key accounted for."""

from __future__ import annotations

import logging
import pickle
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.errors import SourceError
from deploy.sources.boundary import cause

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["load_weights", "log_untrained", "read_weights", "transplant_classifier", "weights_path"]

_log = logging.getLogger(__name__)

_SAFETENSORS = (".safetensors",)
_TORCH = (".pt", ".pth", ".ckpt", ".bin", ".tar")
_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "params",
    "state_dict_ema",
    "model_ema",
    "ema",
)
"""Keys under which checkpoints keep the state dict; averaged weights are used only if there are no others."""
_ADDED = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before each key."""
_NAMED = 3
"""Keys of each kind that a message names."""


def weights_path(text: str) -> Path:
    """Check that `text` names a weights file that exists.

    Raises
    ------
    SourceError
        It does not, or its suffix is not that of a known format.
    """
    path = Path(text)
    if path.suffix not in _SAFETENSORS + _TORCH:
        raise SourceError(
            f"weights {text!r}: allowed are 'none', 'DEFAULT' (torchvision and timm), or a "
            f"{', '.join(_SAFETENSORS + _TORCH)} file"
        )
    if not path.is_file():
        raise SourceError(f"weights file {path}: {'it is a folder' if path.is_dir() else 'no such file'}")
    return path


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict.

    A torch file is read with ``weights_only=True``; the state dict may be under a key that checkpoints commonly use,
    such as ``"state_dict"`` or ``"model"``, and the prefixes ``"module."`` and ``"_orig_mod."`` that DataParallel and
    torch.compile add to each key are removed.

    Returns
    -------
    dict of str to Tensor
        On the CPU. Carries the file's ``_metadata`` (versions of the modules), if it has any.

    Raises
    ------
    SourceError
        The file is truncated, holds objects other than tensors, or holds no state dict.
    """
    if path.suffix in _SAFETENSORS:
        return _read_safetensors(path)
    import torch

    try:
        with warnings.catch_warnings():  # TorchScript archives, which are refused below, warn
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SourceError(
            f"weights file {path} is damaged or holds more than tensors (a whole pickled module?): "
            "save model.state_dict() instead"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        if "TorchScript" in str(error):
            raise SourceError(
                f"weights file {path} is a TorchScript archive: save the state_dict() of the module it was made from"
            ) from error
        raise SourceError(f"weights file {path} cannot be read, it may be truncated ({cause(error)})") from error
    return _state_dict(content, path)


def load_weights(model: nn.Module, path: Path, *, n_classes: int | None, new_classifier: bool) -> tuple[str, ...]:
    """Load the weights of a file into `model`, in place.

    Parameters
    ----------
    model : Module
        Changed in place; untouched when an error is raised.
    path : Path
        See `read_weights`.
    n_classes : int or None
        Classes of the data.
    new_classifier : bool
        The weights were trained for another number of classes: tensors whose shapes differ only in that number (their
        first dimension) keep the initial values of `model`.

    Returns
    -------
    tuple of str
        Keys that were left untrained.

    Raises
    ------
    SourceError
        A key is missing, unexpected or of another shape; the first ones are named, the others counted.
    """
    wanted = model.state_dict()
    state = _without_attribute(read_weights(path), wanted)
    if all(key.startswith("module.") for key in wanted):  # the network itself is wrapped in DataParallel
        metadata = getattr(state, "_metadata", None) or {}
        state = _with_metadata(
            {f"module.{key}": tensor for key, tensor in state.items()},
            {f"module.{path}".rstrip("."): version for path, version in metadata.items()} or None,
        )
    # Files from before BatchNorm counted its batches lack the counters; inference does not need them.
    counters = {key: value for key, value in wanted.items() if key.endswith("num_batches_tracked") and key not in state}
    state.update(counters)
    missing = [key for key in wanted if key not in state]
    unexpected = [key for key in state if key not in wanted]
    different = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    untrained: tuple[str, ...] = ()
    if new_classifier:
        untrained = _classifier(different, wanted, state, n_classes)
        if not different:
            raise SourceError(
                f"weights file {path}: new_classifier is set, but no layer differs in the number of "
                "classes; leave it out"
            )
        different = [key for key in different if key not in untrained]
    _refuse_mismatch(path, wanted, state, missing, unexpected, different, n_classes)
    for key in untrained:
        state[key] = wanted[key]
    # Modules with versioned layouts read their version from here; a file without any was written by today's code.
    metadata = getattr(state, "_metadata", None) or getattr(wanted, "_metadata", None)
    ordered = _with_metadata(state, metadata)
    model.load_state_dict(ordered, strict=True)
    return untrained


def transplant_classifier(pretrained: nn.Module, fresh: nn.Module) -> tuple[str, ...]:
    """Replace the layers of `pretrained` whose shapes differ in `fresh` by those of `fresh`, in place.

    Both are the same architecture, built for different numbers of classes.

    Returns
    -------
    tuple of str
        Paths of the replaced layers.
    """
    old, new = pretrained.state_dict(), fresh.state_dict()
    keys = [key for key in new if key in old and old[key].shape != new[key].shape]
    paths = tuple(dict.fromkeys(key.rpartition(".")[0] for key in keys))
    for path in paths:
        pretrained.set_submodule(path, fresh.get_submodule(path), strict=True)
    return paths


def log_untrained(name: str, layers: tuple[str, ...]) -> None:
    """Log which parts of network `name` start untrained, if any do."""
    if layers:
        _log.info("network %s: untrained, because the classes are others: %s", name, ", ".join(layers))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise SourceError(f"weights file {path} is not a readable safetensors file ({cause(error)})") from error
    return _state_dict(state, path)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    from torch import Tensor
    from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

    if isinstance(content, dict):
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not content:
        raise SourceError(f"weights file {path} holds {type(content).__name__}, not a state dict of names and tensors")
    stranger = next((key for key, value in content.items() if not isinstance(value, Tensor)), None)
    if stranger is not None:
        raise SourceError(
            f"weights file {path}: {stranger!r} is {type(content[stranger]).__name__}, not a tensor; a state dict "
            f"may also be under {', '.join(map(repr, _WRAPPERS))}"
        )
    state = _with_metadata(content, getattr(content, "_metadata", None))
    if all(key.startswith("module.") for key in state if key != "n_averaged"):
        state.pop("n_averaged", None)  # torch's AveragedModel counts what it averaged
    while prefix := next((added for added in _ADDED if state and all(key.startswith(added) for key in state)), None):
        consume_prefix_in_state_dict_if_present(state, prefix)
    return state


def _without_attribute(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the attribute name that the network had in a wrapper, such as Lightning's, if the rest then fits."""
    from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

    prefix = next(iter(state), "").partition(".")[0] + "."
    if all(key.startswith(prefix) and key not in wanted and key.removeprefix(prefix) in wanted for key in state):
        consume_prefix_in_state_dict_if_present(state, prefix)
    return state


def _with_metadata(state: dict[str, Tensor], metadata: Any) -> dict[str, Tensor]:
    ordered = OrderedDict(state)
    if metadata is not None:
        ordered._metadata = metadata  # type: ignore[attr-defined]
    return ordered


def _classifier(
    different: list[str], wanted: dict[str, Tensor], state: dict[str, Tensor], n_classes: int | None
) -> tuple[str, ...]:
    """Choose the keys that differ only in the number of classes; none if the file has several such numbers."""
    keys = tuple(
        key
        for key in different
        if wanted[key].ndim == state[key].ndim >= 1
        and wanted[key].shape[1:] == state[key].shape[1:]
        and wanted[key].shape[0] == n_classes
    )
    return keys if len({state[key].shape[0] for key in keys}) == 1 else ()


def _refuse_mismatch(
    path: Path,
    wanted: dict[str, Tensor],
    state: dict[str, Tensor],
    missing: list[str],
    unexpected: list[str],
    different: list[str],
    n_classes: int | None,
) -> None:
    shapes = [
        f"{key!r} has shape {tuple(state[key].shape)}, the network wants {tuple(wanted[key].shape)}"
        for key in different
    ]
    wrong = [
        *([f"{_some([repr(key) for key in missing])} missing"] if missing else []),
        *([f"{_some([repr(key) for key in unexpected])} unexpected"] if unexpected else []),
        *shapes[:_NAMED],
        *([f"{len(shapes) - _NAMED} more of another shape"] if len(shapes) > _NAMED else []),
    ]
    if not wrong:
        return
    hint = ""
    if not missing and not unexpected and _classifier(different, wanted, state, n_classes) == tuple(different):
        trained = state[different[0]].shape[0]
        hint = (
            f"; the data has {n_classes} classes: if it was trained for {trained} classes, set new_classifier: true "
            "and train the classifier"
        )
    raise SourceError(f"weights file {path} does not fit the network: {'; '.join(wrong)}{hint}")


def _some(keys: list[str]) -> str:
    named = ", ".join(keys[:_NAMED])
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return f"{named}{more} {'is' if len(keys) == 1 else 'are'}"
