"""Apply a plan: make a smaller copy of the user's network."""

from __future__ import annotations

from torch import nn

from pruners.channels.outputs import usual_outputs
from pruners.errors import NothingToPruneError
from pruners.forms.forms import Form, compact_network
from pruners.forms.masking import graph_of
from pruners.forms.own_class import for_own_class
from pruners.forms.reference import Reference
from pruners.graph import Graph
from pruners.modules.plain import plain
from pruners.plan import PruningPlan
from pruners.policy import Policy
from pruners.task import PruningTask
from pruners.verify import verify

__all__ = ["apply", "for_own_class", "policy_of"]


def policy_of(task: PruningTask) -> Policy:
    """Return the pruning policy that a task's constraints choose."""
    return Policy(attention=task.constraints.attention, outputs=task.constraints.outputs or usual_outputs(task.model))


def apply(
    model: nn.Module,
    plan: PruningPlan,
    *,
    graph: Graph | None = None,
    check: bool = True,
    form: Form = "auto",
    reference: Reference | None = None,
) -> nn.Module:
    """Return a compact copy of `model`.

    Two forms are made and compared: the user's own module with smaller tensors, and a program cut
    from the exported graph, which always exists.

    Parameters
    ----------
    model : Module
        The network that the plan was made for; not modified.
    graph : Graph, optional
        Its graph; traced again from the plan's inputs if not given.
    check : bool, default=True
        Whether to run `pruners.verify.verify` on the result.
    form : {"auto", "module", "graph"}
        ``"auto"``: the user's own module where the two agree, else the graph form, whose `reason` says why.
        ``"module"``: the user's own module, or an error. ``"graph"``: the graph form.
    reference : Reference, optional
        Runs of the original, to be shared with `pruners.verify.verify`.

    Returns
    -------
    Module
        One of the same class, with the same hooks, names and mode; or a `pruners.forms.graph_network.GraphNetwork`.

    Raises
    ------
    PlanError
        The plan was made for another network, or is not legal for it.
    NothingToPruneError
        The plan removes nothing.
    SurgeryError
        ``form="module"``, and the module's own code does not let it shrink.
    VerificationError
        `check` is on, and masked and compact network differ or the comparison is vacuous.
    """
    if not plan.removes:
        raise NothingToPruneError("the plan removes nothing")
    model = plain(model)
    graph = graph_of(model, plan) if graph is None else graph
    graph.check(plan)
    reference = Reference(model, plan, graph, checked=check) if reference is None else reference
    compact = compact_network(model, plan, graph, reference, form)
    if check:
        verify(model, plan, compact, graph=graph, reference=reference)
    return compact
