"""Bundle the result of a pruning method, or any torch network."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from deploy.bundles.bundle import Bundle
from deploy.bundles.manifest import NetworkScores, NominalCost, Provenance
from deploy.bundles.pruning import MaskedCheck, Proof, SpeedLanding
from deploy.bundles.write import write_bundle
from deploy.errors import as_call_errors
from deploy.exporting.export_info import DEFAULT_OPSET
from deploy.sources.boundary import versions
from pruners.graph import trace
from pruners.registry import PrunedNetwork
from pruners.task import Pruned

__all__ = ["bundle", "proof_of"]


@as_call_errors()
def bundle(
    pruned: Pruned | nn.Module,
    example_inputs: Any,
    folder: str | PathLike[str],
    *,
    name: str | None = None,
    scores: NetworkScores | None = None,
    opset: int = DEFAULT_OPSET,
    dynamic_batch: bool = True,
) -> Bundle:
    """Export a network, check it against torch, and write it as a bundle: ONNX, weights, plan, proof, reference.

    Parameters
    ----------
    pruned : Pruned or Module
        What `pruners.prune` returned, fine-tuned since or not; or a network that was not pruned.
    example_inputs : Tensor, tuple, Mapping or (tuple, Mapping)
        Real examples, used for the check and kept as the reference.
    folder : str or path
        New, empty, or an earlier bundle.
    name : str, optional
        For tables; defaults to the folder's name.
    scores : NetworkScores, optional
        Scores of the network in torch.
    opset, dynamic_batch
        See `deploy.exporting.export.export_onnx`.

    Raises
    ------
    DeployError
        The network cannot be exported or does not agree with torch, or the folder cannot be written.
    """
    where = Path(folder)
    if isinstance(pruned, Pruned):
        model, plan, proof = pruned.model, pruned.plan, proof_of(pruned)
        cost = NominalCost(macs=pruned.macs_after, parameters=pruned.params_after, zeros=pruned.zeros)
    else:
        graph = trace(pruned, example_inputs)
        model, plan, proof = pruned, None, None
        cost = NominalCost(macs=graph.macs(), parameters=graph.parameters())
    return write_bundle(
        where,
        model,
        example_inputs,
        name=name or where.absolute().name,
        plan=plan,
        scores=scores or NetworkScores(),
        cost=cost,
        provenance=Provenance(
            method=None if plan is None else plan.method,
            settings={} if plan is None else dict(plan.settings),
            versions=versions("prune-deploy", "torch"),
        ),
        opset=opset,
        dynamic_batch=dynamic_batch,
        proof=proof,
    )


def proof_of(pruned: Pruned, landings: Sequence[SpeedLanding] = ()) -> Proof:
    """Return how a pruned network was checked and where it landed, by `landings` or its own record."""
    if not landings and isinstance(pruned, PrunedNetwork) and isinstance(pruned.speed, SpeedLanding):
        landings = (pruned.speed,)
    return Proof(
        verification=MaskedCheck.model_validate(dict(pruned.verification)),
        landing="; ".join(filter(None, (*map(str, landings), pruned.landing))),
        speeds=tuple(landings),
        form=pruned.form,
        form_reason=pruned.form_reason,
        left_whole=pruned.left_whole,
        unranked=pruned.unranked,
    )
