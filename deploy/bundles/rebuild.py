"""Rebuild the torch network of a bundle."""

from __future__ import annotations

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn

from backends.errors import one_line as first_line
from deploy.bundles.bundle import Bundle
from deploy.errors import BundleError
from deploy.files.validation_errors import one_line
from deploy.sources.network import build, provenance
from deploy.sources.network_spec import NetworkSpec
from pruners.forms.compact import load
from pruners.plan import PruningPlan

__all__ = ["load_network"]


def load_network(bundle: Bundle, *, trust_code: bool = False, file_sha256: str | None = None) -> nn.Module:
    """Rebuild the torch network of a bundle from the original code, the plan and the weights.

    If the bundle names a network file, loading runs that Python file, so the caller must consent.

    Parameters
    ----------
    bundle : Bundle
        What `deploy.bundles.bundle.read_bundle` returned.
    trust_code : bool, default=False
        Run the network file that the bundle names, whatever its contents.
    file_sha256 : str, optional
        Run it if this is its sha256; the hash does not cover its imports.

    Returns
    -------
    nn.Module
        In evaluation mode, on the CPU.

    Raises
    ------
    BundleError
        The bundle does not say how the network was built, its code has changed, or consent to run it is missing.
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
    # The weights come from the bundle: the initial ones are not downloaded again.
    fields = {key: value for key, value in origin.spec.items() if key in NetworkSpec.model_fields}
    try:
        spec = NetworkSpec.model_validate({**fields, "weights": "none", "new_classifier": False})
    except ValidationError as error:
        raise BundleError(f"{bundle.folder}: its network {one_line(error, NetworkSpec)}") from error
    if (present := provenance(spec).get("file_sha256")) is not None:
        if origin.spec.get("file_sha256", present) != present:
            raise BundleError(
                f"{bundle.folder}: the file of {spec.name} has changed since; restore it to load the network"
            )
        if not trust_code and file_sha256 != present:
            raise BundleError(
                f"{bundle.folder} names the network {spec.name}, and loading it runs the code of that file; read the "
                f"file, then pass file_sha256={present!r}, or trust_code=True"
            )
    network = build(spec, n_classes=origin.n_classes, input_shape=origin.input_shape, target_shape=origin.target_shape)
    if bundle.plan is not None:
        pruning = bundle.manifest.pruning
        form = pruning.proof.form if pruning is not None and pruning.proof is not None else "auto"
        return load(network, PruningPlan.load(bundle.plan), bundle.weights, form=form).eval()
    try:
        load_model(network, bundle.weights)
    except (RuntimeError, SafetensorError) as error:
        raise BundleError(f"{bundle.folder}: its weights do not fit {spec.name}: {first_line(error)}") from error
    return network.eval()
