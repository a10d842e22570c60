"""Convert a measured latency table to the model that pruning decides by."""

from __future__ import annotations

from benchmarks.tables.table import LatencyTable
from pruners.decide.latency import BlockCount, LatencyModel, LatencyTerm

__all__ = ["latency_model"]


def latency_model(table: LatencyTable) -> LatencyModel:
    """Return the table as the model that `pruners.target.Target` takes."""
    terms = [term for layer in table.layers for term in layer.terms]
    return LatencyModel(
        backend=table.key.backend,
        graph=table.key.graph,
        block=table.block,
        base_ns=table.base_ns + sum(term.ns for term in terms if not term.factors),
        terms=tuple(
            LatencyTerm(term.ns, tuple(BlockCount(each.group, each.width, each.off) for each in term.factors))
            for term in terms
            if term.factors
        ),
        sizes=table.whole,
        blocks=table.blocks,
    )
