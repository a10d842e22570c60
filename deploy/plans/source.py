"""Read a plan from a file or a bundle, and its network. Imports no torch until a network is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from deploy.bundles.bundle import Bundle, read_manifest
from deploy.bundles.manifest import MANIFEST, PLAN
from deploy.bundles.pruning import PruningRecord
from deploy.errors import SourceError
from deploy.files.strict_yaml import strict_yaml
from deploy.sources.network_spec import NetworkSpec
from pruners.errors import PlanError
from pruners.plan import InputSpec, PruningPlan

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruners.graph import Graph
    from pruners.policy import Policy

__all__ = [
    "NetworkRequest",
    "Traced",
    "image_shape",
    "network_request",
    "read_plan",
    "read_pruning",
    "requested",
    "require_fit",
    "trace_network",
]

_TRACED_BATCH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRequest:
    """A network as requested on the command line.

    Parameters
    ----------
    spec : NetworkSpec
        Name, weights and options.
    n_classes : int or None
        None leaves the network's own.
    input_shape : tuple of int
        (channels, height, width) of one image.
    """

    spec: NetworkSpec
    n_classes: int | None
    input_shape: tuple[int, int, int]

    def __str__(self) -> str:
        classes = "its own number of classes" if self.n_classes is None else f"{self.n_classes} classes"
        return f"{self.spec.name} with {classes} and images of {'x'.join(map(str, self.input_shape))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A built network and its graph."""

    request: NetworkRequest
    model: nn.Module
    graph: Graph
    examples: tuple[Tensor, ...]


def read_plan(path: Path) -> PruningPlan:
    """Read a plan: its own file, or the folder of a bundle or a finished stage that has one.

    Raises
    ------
    PlanError
        There is none, or it is not a legal plan.
    """
    if path.is_dir():
        if not (path / PLAN).is_file():
            raise PlanError(f"{path}: the folder has no {PLAN}; a dense network has no plan")
        return PruningPlan.load(path / PLAN)
    return PruningPlan.load(path)


def read_pruning(path: Path) -> PruningRecord | None:
    """Read from a bundle's manifest how its plan was checked; None for a plan outside a bundle.

    Raises
    ------
    BundleError
        The manifest is broken.
    """
    if not (path / MANIFEST).is_file():
        return None
    return Bundle(folder=path, manifest=read_manifest(path)).pruning


def image_shape(plan: PruningPlan) -> tuple[int, int, int]:
    """Return (channels, height, width) of the images that the plan's network takes.

    Raises
    ------
    PlanError
        The network takes something other than one batch of images.
    """
    if len(plan.inputs) != 1 or len(plan.inputs[0].shape) != 4:
        taken = ", ".join("x".join(map(str, spec.shape)) for spec in plan.inputs)
        raise PlanError(
            f"the plan's network takes {taken}, not one batch of images: networks are built by name for images only; "
            "use pruners.surgery.apply on your own module"
        )
    _, channels, height, width = plan.inputs[0].shape
    return channels, height, width


def requested(
    name: str,
    *,
    plan: PruningPlan,
    weights: str = "none",
    options: Sequence[str] = (),
    n_classes: int | None = None,
    input_shape: str | None = None,
) -> NetworkRequest:
    """Parse a network request; the image shape defaults to the one the plan was made with.

    Parameters
    ----------
    name, weights : str
        As in `NetworkSpec`.
    plan : PruningPlan
        Provides the default shape of an image.
    options : sequence of str
        ``KEY=VALUE``, the value as in YAML.
    n_classes : int, optional
        Size of the classifier.
    input_shape : str, optional
        ``C,H,W``.

    Raises
    ------
    SourceError
        A text is malformed.
    PlanError
        No shape is given and the plan is not of an image network.
    """
    shape = ",".join(map(str, image_shape(plan))) if input_shape is None else input_shape
    return network_request(name, weights=weights, options=options, n_classes=n_classes, input_shape=shape)


def network_request(
    name: str, *, weights: str, options: Sequence[str], n_classes: int | None, input_shape: str
) -> NetworkRequest:
    """Parse a network request with ``C,H,W`` of one image; see `requested`.

    Raises
    ------
    SourceError
        A text is malformed.
    """
    read: dict[str, Any] = {}
    for text in options:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise SourceError(f"option {text!r} of {name}: write KEY=VALUE, for example width=0.25")
        try:
            read[key] = strict_yaml(value)
        except ValueError as error:
            raise SourceError(f"option {text!r} of {name}: {error}") from error
    try:
        spec = NetworkSpec(name=name, weights=weights, options=read)
    except ValidationError as error:
        raise SourceError(f"network {name}: {error.errors()[0]['msg']}") from error
    return NetworkRequest(spec=spec, n_classes=n_classes, input_shape=_shape(input_shape))


def trace_network(request: NetworkRequest, *, seed: int = 0, policy: Policy | None = None) -> Traced:
    """Build the network in evaluation mode, with initial weights drawn from `seed`, and trace it.

    Parameters
    ----------
    request : NetworkRequest
        What to build.
    seed : int
        Seed of torch's generator.
    policy : Policy, optional
        The plan's policy, so that the network is traced as when the plan was made.

    Raises
    ------
    SourceError
        It cannot be built.
    TraceError
        torch.export cannot trace it.
    """
    import torch

    from deploy.sources.network import build
    from pruners.graph import trace

    torch.manual_seed(seed)
    model = build(request.spec, n_classes=request.n_classes, input_shape=request.input_shape).eval()
    examples = _examples(request.input_shape)
    return Traced(request=request, model=model, graph=trace(model, examples, policy=policy), examples=examples)


def require_fit(plan: PruningPlan, traced: Traced, path: Path) -> None:
    """Check that a plan was made for this network.

    Raises
    ------
    PlanError
        It was made for another network; the message names both graphs.
    """
    if plan.graph != traced.graph.fingerprint:
        raise PlanError(
            f"{path} was made for another network: it names graph {plan.graph[:12]}, {traced.request} has graph "
            f"{traced.graph.fingerprint[:12]}; give the network, its options and its number of classes as they were "
            "when the plan was made"
        )
    traced.graph.check(plan)


def _examples(input_shape: tuple[int, int, int]) -> tuple[Tensor, ...]:
    from pruners.modules.random_inputs import random_inputs

    return random_inputs((InputSpec(shape=(_TRACED_BATCH, *input_shape)),))


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise SourceError(f"input shape {text!r}: write C,H,W with whole numbers, for example 3,32,32")
    channels, height, width = map(int, parts)
    return channels, height, width
