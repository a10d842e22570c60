"""Build the torch network of a bundle again."""

from __future__ import annotations

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn

from backends.errors import one_line as first_line
from deploy.bundle.bundle import Bundle
from deploy.errors import BundleError
from deploy.files.validation_errors import one_line
from deploy.sources.network import build, provenance
from deploy.sources.network_spec import NetworkSpec
from pruners.forms.compact import load
from pruners.plan import PruningPlan

__all__ = ["load_network"]


def load_network(bundle: Bundle) -> nn.Module:
    """Build the torch network of a bundle from the original code, the plan and the weights.

    Returns
    -------
    nn.Module
        In evaluation mode, on the CPU.

    Raises
    ------
    BundleError
        The bundle does not say how the network was built, or the code it was built from has changed.
    SourceError
        The network cannot be built here.
    PruneError
        Plan or weights do not fit the code.
    """
    origin = bundle.manifest.provenance.network
    if origin is None:
        raise BundleError(
            f"{bundle.folder} does not say how its network was built; load its weights into your own code"
        )
    # The bundle has the weights: those that the network once started from are not fetched again.
    fields = {key: value for key, value in origin.spec.items() if key in NetworkSpec.model_fields}
    try:
        spec = NetworkSpec.model_validate({**fields, "weights": "none", "new_classifier": False})
    except ValidationError as error:
        raise BundleError(f"{bundle.folder}: its network {one_line(error, NetworkSpec)}") from error
    if (known := origin.spec.get("file_sha256")) and provenance(spec)["file_sha256"] != known:
        raise BundleError(f"{bundle.folder}: the file of {spec.name} has changed since; restore it to load the network")
    network = build(spec, n_classes=origin.n_classes, input_shape=origin.input_shape, target_shape=origin.target_shape)
    if bundle.plan is not None:
        return load(network, PruningPlan.load(bundle.plan), bundle.weights).eval()
    try:
        load_model(network, bundle.weights)
    except (RuntimeError, SafetensorError) as error:
        raise BundleError(f"{bundle.folder}: its weights do not fit {spec.name}: {first_line(error)}") from error
    return network.eval()
