"""Apply a plan to a network given by name, verify it, and write a bundle as a run does, but without data."""

from __future__ import annotations

from pathlib import Path

from deploy.bundles.bundle import Bundle
from deploy.bundles.manifest import NetworkOrigin, NetworkScores, NominalCost, Provenance
from deploy.bundles.pruning import MaskedCheck, Proof
from deploy.bundles.write import write_bundle
from deploy.plans.source import Traced
from deploy.sources.boundary import versions
from deploy.sources.network import provenance
from pruners.errors import VerificationError
from pruners.forms.graph_network import GraphNetwork
from pruners.graph import trace
from pruners.modules.random_inputs import random_inputs
from pruners.plan import InputSpec, PruningPlan
from pruners.surgery import apply
from pruners.verify import verify

__all__ = ["apply_and_write"]

_EXAMPLES = 16


def apply_and_write(plan: PruningPlan, traced: Traced, folder: Path, *, seed: int) -> Bundle:
    """Make the compact network, verify it, and write its bundle.

    The bundle has no scores and no data; its reference inputs are drawn from `seed`.

    Parameters
    ----------
    plan : PruningPlan
        Made for this network.
    traced : Traced
        The network, with the weights for the compact one.
    folder : Path
        New, empty, or an earlier bundle.
    seed : int
        Seed the network was built with.

    Returns
    -------
    Bundle
        With the proof.

    Raises
    ------
    PlanError, NothingToPruneError, SurgeryError
        The plan does not fit the network, removes nothing, or the module cannot be made smaller.
    VerificationError
        Masked and compact network differ, or the compact one does not cost what the plan predicted.
    ExportError, OutputError
        The bundle cannot be made or written.
    """
    request, graph = traced.request, traced.graph
    compact = apply(traced.model, plan, graph=graph, check=False)
    verification = verify(traced.model, plan, compact, graph=graph)
    specs = (InputSpec(shape=(_EXAMPLES, *request.input_shape)),)
    after = trace(compact, random_inputs(specs, batch=2, seed=seed), policy=graph.policy)
    counts = {name: len(kept) for name, kept in plan.kept.items()}
    cost = NominalCost(macs=after.macs(), parameters=after.parameters())
    predicted = NominalCost(macs=graph.macs(counts, plan.blocks), parameters=graph.parameters(counts, plan.blocks))
    if cost != predicted:
        raise VerificationError(f"the compact network costs {cost}, the plan predicted {predicted}")
    record = provenance(request.spec)
    return write_bundle(
        folder,
        compact,
        random_inputs(specs, seed=seed),
        name=folder.absolute().name,
        plan=plan,
        scores=NetworkScores(),
        cost=cost,
        provenance=Provenance(
            network=NetworkOrigin(spec=record, n_classes=request.n_classes, input_shape=request.input_shape),
            method=plan.method,
            settings=dict(plan.settings),
            seeds={"network": seed, "inputs": seed},
            versions=versions("prune-deploy", "torch", "torchvision"),
            parent_sha256=record.get("weights_sha256"),
        ),
        proof=Proof(
            verification=MaskedCheck.model_validate(verification.to_json()),
            form="graph" if isinstance(compact, GraphNetwork) else "module",
            form_reason=compact.reason if isinstance(compact, GraphNetwork) else "",
        ),
    )
