"""The oracle: the measured change of the loss when each unit is removed alone (Molchanov et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from pruners.distributed import reduce_means
from pruners.errors import MethodError
from pruners.importance.evidence import Evidence
from pruners.importance.gates import GateRow, gate_rows
from pruners.importance.scores import Scores, require_finite

__all__ = ["Oracle", "ablate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """Change of the loss by ablating each unit alone.

    Parameters
    ----------
    loss : float
        Mean loss of the whole network.
    changes : dict of str to tuple of float
        For each unit, the mean loss without it minus `loss`: "oracle-loss", signed.
    n_examples : int
        Number of examples that losses are averaged over.
    """

    loss: float
    changes: Scores
    n_examples: int

    @property
    def absolute(self) -> Scores:
        """Absolute changes: "oracle-abs", which criteria are compared with."""
        return {name: tuple(map(abs, values)) for name, values in self.changes.items()}


def ablate(evidence: Evidence, progress: Callable[[str, float], None] | None = None) -> Oracle:
    """Measure the mean loss with the maps of one unit at a time set to zero.

    A unit's maps are those that gates act on (`Graph.sites`), all zeroed at once since they are removed together. The
    network runs in evaluation mode. What does not depend on a group's maps is computed once for all of its units.

    Parameters
    ----------
    evidence : Evidence
        Network, groups, batches and loss. In a distributed run each process has its own batches.
    progress : callable, optional
        ``progress(message, fraction_done)``.

    Raises
    ------
    MethodError
        There are no batches or no loss, a group has no feature map, or a loss is not finite.

    References
    ----------
    Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural Networks for Resource Efficient Inference",
    ICLR 2017, arXiv:1611.06440, sections 2.2 (oracle pruning) and 3.1.
    """
    if evidence.loss is None:
        raise MethodError("oracle: there is no loss to measure; hand one in")
    rows = gate_rows(evidence.graph, evidence.groups, "oracle", joint=True)
    losses = [torch.zeros(1 + sum(row.n_units for row in rows), dtype=torch.float64)]
    n_examples = 0
    for number, (inputs, labels) in enumerate(evidence.pieces("oracle")):
        done = n_examples
        with torch.no_grad():
            ablation = _Ablation(evidence.graph.module, inputs)
            own = [float(evidence.loss(ablation.whole, labels))]
            for position, row in enumerate(rows):
                own += [float(evidence.loss(outputs, labels)) for outputs in ablation.without(row, len(inputs))]
                if progress is not None:
                    share = (number + (position + 1) / len(rows)) / max(1, len(evidence.batches))
                    progress(f"{done} examples, group {row.group}", min(1.0, share))
        losses.append(torch.tensor(own, dtype=torch.float64) * len(inputs))
        n_examples += len(inputs)
    (means,), n_examples = reduce_means([torch.stack(losses).sum(0) / n_examples], n_examples)
    loss, *changed = means.tolist()
    changes: Scores = {}
    for row in rows:
        changes[row.group] = tuple(value - loss for value in changed[: row.n_units])
        del changed[: row.n_units]
    require_finite(changes, "oracle")
    return Oracle(loss=loss, changes=changes, n_examples=n_examples)


class _Ablation(fx.Interpreter):
    """Runs one batch once unchanged, then again from a group's maps onwards with single units set to zero."""

    def __init__(self, module: fx.GraphModule, inputs: Tensor) -> None:
        super().__init__(module, garbage_collect_values=False)
        self._masks: dict[str, list[tuple[int, list[int]]]] = {}
        self.whole = self.run(inputs)
        self._values: dict[fx.Node, Any] = dict(self.env)
        self._inputs = inputs
        self._nodes = tuple(module.graph.nodes)

    def without(self, row: GateRow, n_examples: int) -> Any:
        """Yield the outputs without each unit of a row."""
        tapped = {site.node: site.examples for site in row.sites}
        after: set[fx.Node] = set()
        for node in self._nodes:  # in order, so one pass finds everything downstream
            if node.name in tapped and (n := self._values[node].shape[tapped[node.name]]) != n_examples:
                raise MethodError(
                    f"oracle: the first axis of the feature map {node.name!r} has {n} entries for {n_examples} "
                    "examples; exclude the layers that make it"
                )
            if node.name in tapped or node.op == "output" or any(item in after for item in node.all_input_nodes):
                after.add(node)
        known = {node: value for node, value in self._values.items() if node not in after}
        for unit in range(row.n_units):
            self._masks = {}
            for site in row.sites:
                self._masks.setdefault(site.node, []).append((site.axis, list(site.indices[unit])))
            yield self.run(self._inputs, initial_env=dict(known))

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        for axis, channels in self._masks.get(n.name, ()):
            value = value.index_fill(axis, torch.tensor(channels, dtype=torch.long, device=value.device), 0)
        return value
