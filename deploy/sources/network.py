"""Build a network by name: one that ships, one of torchvision's or timm's, or a factory in the user's own file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.errors import did_you_mean
from benchmarks.records.disk import file_sha256
from deploy.errors import SourceError
from deploy.sources.boundary import require, versions
from deploy.sources.factory import call_factory, read_source
from deploy.sources.libraries import LIBRARIES, make_timm, make_torchvision
from deploy.sources.network_spec import FORMS, NetworkSpec
from deploy.sources.registry import NETWORKS, network_names
from deploy.sources.shipped import DECIDED_BY_DATA, ENLARGING, SHIPPED, make_shipped
from deploy.sources.weights import load_weights, log_untrained, weights_path

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build", "fingerprint", "provenance"]


def build(
    spec: NetworkSpec,
    *,
    n_classes: int | None,
    input_shape: tuple[int, int, int],
    target_shape: tuple[int, int, int] | None = None,
) -> nn.Module:
    """Build the network, with its weights, for data of this shape; a forward pass checks that it accepts it.

    Initial weights are drawn from torch's global generator: seed it to get the same network again.

    Parameters
    ----------
    spec : NetworkSpec
        What to build.
    n_classes : int or None
        Size of the classifier; None leaves the network's own.
    input_shape : tuple of int
        (channels, height, width) of one image.
    target_shape : tuple of int, optional
        (channels, height, width) of the restored image, for networks that restore images. It decides the ``scale`` of
        our super-resolution networks.

    Returns
    -------
    Module
        On the CPU and in training mode (a factory's network: as the factory left it). It returns one tensor: if its own
        code returns several, a hook picks the one that the specification names.

    Raises
    ------
    SourceError
        Unknown name or option, a factory that fails, weights that are missing, unreadable or do not fit, or a network
        that does not map such images to ``n_classes`` scores, or to images of ``target_shape``, in the output that
        ``spec.output`` names.
    ExtraMissingError
        torch, torchvision or timm is not installed.
    """
    kind, name = _parse(spec.name)
    require(f"network {spec.name}", "torch", *((kind,) if kind in LIBRARIES else ()))
    from deploy.sources.forward import try_forward

    _check_weights(spec, kind)
    options = _options(spec, n_classes, input_shape, target_shape)
    if kind == "file":
        file, _, factory = name.rpartition(":")
        network = call_factory(Path(file), factory, options, n_classes=n_classes, input_shape=input_shape)
    else:
        network = _MAKERS[kind](spec, options, n_classes, input_shape[0])
    if spec.weights not in ("none", "DEFAULT"):
        path = weights_path(spec.weights)
        untrained = load_weights(network, path, n_classes=n_classes, new_classifier=spec.new_classifier)
        log_untrained(spec.name, untrained)
    try_forward(network, spec, n_classes, input_shape, target_shape)
    return network


def provenance(spec: NetworkSpec) -> dict[str, Any]:
    """Return what is needed to build the network again, in JSON types. Cheap: nothing is built.

    Holds the specification, the versions of the libraries it comes from, and the sha256 of the factory's file and of
    the weights file.

    Raises
    ------
    SourceError
        The name is unknown, or a file is missing.
    """
    kind, name = _parse(spec.name)
    _check_weights(spec, kind)
    record: dict[str, Any] = spec.model_dump(mode="json", exclude_none=True)
    libraries = [kind] if kind in LIBRARIES else ["prune-deploy"] if kind in SHIPPED else []
    record["versions"] = versions("torch", *libraries)
    if kind == "file":
        path = Path(name.rpartition(":")[0])
        read_source(path)
        record["file_sha256"] = file_sha256(path)
    if spec.weights not in ("none", "DEFAULT"):
        record["weights_sha256"] = file_sha256(weights_path(spec.weights))
    return record


def fingerprint(spec: NetworkSpec) -> str:
    """Hash the record of `provenance`: a different value means that the network may differ.

    Raises
    ------
    SourceError
        The name is unknown, or a file is missing.
    """
    return hashlib.sha256(json.dumps(provenance(spec), sort_keys=True).encode()).hexdigest()


def _parse(name: str) -> tuple[str, str]:
    """Split a name into its kind and the rest; our names are checked here, a library's when it is imported."""
    path, colon, factory = name.rpartition(":")
    if colon and path.endswith(".py"):
        if not factory.isidentifier():
            raise SourceError(f"network {name!r}: {factory!r} is not a function name; write path/to/file.py:factory")
        return "file", name
    if name.endswith(".py"):
        raise SourceError(f"network {name!r} names a file but no factory in it; write {name}:factory")
    kind, colon, rest = name.partition(":")
    if not colon:
        # A near match is more likely a library's network: resnet18 is not a misspelling of one of ours.
        own = [f"{ours}:{name}" for ours in SHIPPED if f"{ours}:{name}" in NETWORKS]
        meant = f"; did you mean {own[0]!r}?" if own else ""
        raise SourceError(f"unknown network {name!r}{meant} (a network is {FORMS})")
    if kind in SHIPPED:
        if name not in NETWORKS:
            own = [known for known in network_names() if known.startswith(f"{kind}:")]
            near = did_you_mean(rest, [known.partition(":")[2] for known in own], prefix=f"{kind}:")
            meant = near or f" (there are: {', '.join(own)})"
            raise SourceError(f"unknown network {name!r}{meant}")
        return kind, rest
    if kind not in LIBRARIES:
        raise SourceError(f"unknown network {name!r}: nothing is called {kind!r} (a network is {FORMS})")
    return kind, rest


def _check_weights(spec: NetworkSpec, kind: str) -> None:
    if spec.weights == "none":
        if spec.new_classifier:
            raise SourceError(f"network {spec.name}: new_classifier without weights means nothing; leave it out")
    elif spec.weights == "DEFAULT":
        if kind not in LIBRARIES:
            raise SourceError(f"network {spec.name} has no published weights: allowed are 'none' or a weights file")
    elif spec.weights.lower() in ("none", "default"):
        meant = "none" if spec.weights.lower() == "none" else "DEFAULT"
        raise SourceError(f"network {spec.name}: unknown weights {spec.weights!r}; did you mean {meant!r}?")
    else:
        weights_path(spec.weights)


def _options(
    spec: NetworkSpec,
    n_classes: int | None,
    input_shape: tuple[int, int, int],
    target_shape: tuple[int, int, int] | None,
) -> dict[str, Any]:
    """Return the options without those that the data decides; a contradiction is an error."""
    options = dict(spec.options)
    decided = {key: n_classes if key.endswith("classes") else input_shape[0] for key in DECIDED_BY_DATA}
    scale = None
    if target_shape is not None and spec.name in ENLARGING:
        scale = decided["scale"] = target_shape[1] // input_shape[1]
    for key, value in decided.items():
        if key in options and value is not None and options.pop(key) != value:
            raise SourceError(
                f"network {spec.name}: option {key}={spec.options[key]!r} contradicts the data, which has {value}; "
                "leave it out"
            )
    return options if scale is None else {**options, "scale": scale}


_MAKERS: Mapping[str, Callable[[NetworkSpec, dict[str, Any], int | None, int], nn.Module]] = {
    **dict.fromkeys(SHIPPED, make_shipped),
    "torchvision": make_torchvision,
    "timm": make_timm,
}
