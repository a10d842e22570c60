"""Re-estimate the running statistics of BatchNorm after a cut: they describe feature maps that no longer exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruners.channels.program import export
from pruners.channels.propagation import operator_name
from pruners.distributed import reduce_means
from pruners.errors import TrainingError
from pruners.forms.graph_network import GraphNetwork
from pruners.modules.calls import NetworkCall
from pruners.modules.modes import evaluating

__all__ = ["Recalibration", "recalibrate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibration:
    """What was re-estimated.

    Parameters
    ----------
    layers : int
        BatchNorms with new statistics.
    batches, examples : int
        What the statistics are averaged over, on this process.
    reason : str
        Why nothing was done; empty when something was.
    lr : None
        Learning rate: no weight is trained.
    """

    layers: int
    batches: int
    examples: int
    reason: str = ""
    lr: None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def recalibrate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, n_batches: int = 100) -> Recalibration:
    """Re-estimate the mean and variance of every BatchNorm in place, by forward passes alone.

    Each BatchNorm normalises by its batch and averages the batches' statistics evenly (what torch calls
    ``momentum=None``); everything else runs in evaluation mode, so that Dropout and the like have no effect. Modes and
    momenta are restored. Under ``torch.distributed`` the statistics of the processes are averaged.

    Parameters
    ----------
    model : Module
        Any network, also one in graph form.
    batches : iterable of (inputs, labels)
        Of the training data: shuffled, and large, as the statistics are those of single batches.
    n_batches : int
        Maximum number of batches.

    Raises
    ------
    TrainingError
        There are no batches, or a batch has one value per channel. The statistics are then unchanged.
    """
    if n_batches < 1:
        raise TrainingError(f"statistics of BatchNorm are estimated on 1 batch or more, got n_batches={n_batches}")
    drawn = islice(iter(batches), n_batches)
    first = next(drawn, None)
    if first is None:
        raise TrainingError("there are no batches to estimate statistics of BatchNorm on")
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    norms = _NormsOfGraph(model, first[0].to(device)) if isinstance(model, GraphNetwork) else _NormsOfModules(model)
    if not norms.statistics:
        return Recalibration(
            layers=0, batches=0, examples=0, reason="the network has no BatchNorm that keeps running statistics"
        )
    n = examples = 0
    with norms.estimating(), torch.no_grad():
        for n, (images, _) in enumerate(chain([first], drawn), start=1):
            norms.run(images.to(device), 1 / n)
            examples += len(images)
        means, _ = reduce_means(norms.statistics, n)
        for statistic, mean in zip(norms.statistics, means, strict=True):
            statistic.copy_(mean)
    return Recalibration(layers=len(norms.statistics) // 2, batches=n, examples=examples)


class _NormsOfModules:
    """The BatchNorms among a network's modules: SyncBatchNorm and third-party subclasses included."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
        self.statistics = [item for m in self._norms for item in (m.running_mean, m.running_var) if item is not None]

    @contextmanager
    def estimating(self) -> Iterator[None]:
        momenta = [norm.momentum for norm in self._norms]
        try:
            with evaluating(self._model), _unchanged_on_error(self.statistics):
                for norm in self._norms:
                    norm.training = True
                yield
        finally:
            for norm, momentum in zip(self._norms, momenta, strict=True):
                norm.momentum = momentum

    def run(self, images: Tensor, share: float) -> None:
        for norm in self._norms:
            norm.momentum = share
        self._model(images)


class _NormsOfGraph:
    """The BatchNorms of a network in graph form: nodes of its evaluation graph."""

    def __init__(self, model: GraphNetwork, images: Tensor) -> None:
        self._module = export(model, NetworkCall((images,))).module
        nodes = [node for node in self._module.graph.nodes if operator_name(node.target) == "batch_norm"]
        fetched = dict.fromkeys(item for node in nodes for item in node.args[3:5] if isinstance(item, fx.Node))
        self.statistics = [self._module.get_buffer(str(node.target)) for node in fetched]

    @contextmanager
    def estimating(self) -> Iterator[None]:
        with _unchanged_on_error(self.statistics):
            yield

    def run(self, images: Tensor, share: float) -> None:
        _ByBatch(self._module, share).run(images)


class _ByBatch(fx.Interpreter):
    """Lets the BatchNorms of an evaluation graph normalise by the batch, and update their statistics by `share`."""

    def __init__(self, module: fx.GraphModule, share: float) -> None:
        super().__init__(module)
        self._share = share

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if operator_name(target) == "batch_norm" and args[3] is not None:
            args = (*args[:5], True, self._share, *args[7:])
        return super().call_function(target, args, kwargs)


@contextmanager
def _unchanged_on_error(statistics: list[Tensor]) -> Iterator[None]:
    before = [item.clone() for item in statistics]
    try:
        yield
    except BaseException as error:
        with torch.no_grad():
            for item, old in zip(statistics, before, strict=True):
                item.copy_(old)
        if isinstance(error, ValueError) and "more than 1 value per channel" in str(error):
            raise TrainingError(f"statistics of BatchNorm: {error}; take larger batches") from error
        raise
