"""ThiNet: keep the channels that reproduce the next layer's outputs best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from pruners.base import Method, MethodSettings, Outcome, Trains
from pruners.methods.loops.layerwise import Chosen, Layer, prune_layer_by_layer
from pruners.recover.settings import TrainSettings
from pruners.task import Stream

if TYPE_CHECKING:
    from torch import nn

    from pruners.graph import Graph
    from pruners.task import PruningTask

__all__ = ["ThiNet", "ThiNetSettings"]


class ThiNetSettings(MethodSettings):
    """Settings of `ThiNet`; its docstring gives the papers' values."""

    form: Literal["iccv", "tpami"] = Field(
        "tpami", description="iccv: grow the removed set by smallest contribution; tpami: grow the kept set by best fit"
    )
    images: PositiveInt = Field(1000, description="training examples that each layer's choice is made on")
    positions: PositiveInt = Field(10, description="outputs of the next layer sampled from each example, on average")
    scale: bool = Field(True, description="multiply the next layer's input channels by the least-squares scale")
    updates_between: NonNegativeInt = Field(100, description="fine-tuning updates after each layer but the last")
    training: TrainSettings | None = Field(None, description="train like this after each layer but the last, instead")


class ThiNet(Method):
    """Choose the channels of each layer by how well the outputs of the layers that read them are preserved.

    An output of the next layer, without its bias, is a sum of one number per unit: ``y = sum_c x_c`` with
    ``x_c = sum W_c (.) patch_c`` over the unit's channels and the kernel. Rows ``(x_m1 ... x_mC)`` are sampled at
    random positions and for random filters of random training examples; then, layer by layer in the order of the
    network:

    * **iccv**: the removed set T starts empty and grows greedily by the unit that leaves
      ``sum_m (sum_{j in T} x_mj)^2`` smallest;
    * **tpami**: the kept set S grows greedily by the unit that fits the residual of y best, and y is refitted on S
      after each step (orthogonal matching pursuit);
    * the kept units are scaled by ``w = (X_S^T X_S)^-1 X_S^T y``, multiplied into the next layer's weights;
    * the layer is cut, and the network fine-tuned before the next one. Fine-tuning after the last one is left to the
      caller.

    How many units stay is decided beforehand, by ratios or the same fraction of each group. Both greedy choices are
    made on the Gram matrix of the samples, O(C) and O(C^2) per step.

    ================================= ================================================= ================================
    papers (ImageNet)                 there                                             here, by default
    ================================= ================================================= ================================
    samples                           10 images of each of 1000 classes x 10            `images` = 1000 x `positions`
                                                                                        = 10, positions of a batch are
                                                                                        drawn together
    after each layer                  about one epoch, SGD with lr 1e-4, momentum 0.9,  `updates_between` = 100 of
                                      weight decay 5e-4 (ResNet-50)                     ``task.train``, or `training`
    after the last                    90 k iterations, lr 1e-3 divided by 10 at each    the caller's
                                      third
    pruned layers of ResNet-50        the first two convolutions of each block          every group; exclude the
                                                                                        stages' outputs to do likewise
    ================================= ================================================= ================================

    Deviations. Coupled channels are one unit: if several layers read them, their rows are stacked (the objectives add
    up), and each of these layers gets its own least-squares scale. For a layer that reads other groups too (behind a
    concatenation), only this group's share is reproduced. If the samples do not determine the scale of a unit, it stays
    at 1. The authors' TPAMI code chooses the channels that fully-connected layers read by another rule (no refit in
    between); here all layers are treated alike. Groups read by anything but plain convolutions and linear layers
    (transposed or grouped convolutions, parametrised weights, attention's products) are refused by name.

    ``Pruned.history`` has a row for each layer: ``layer``, ``units_removed``, ``units_kept``, ``macs``,
    ``parameters``, ``rows`` (sampled), ``error`` (of y, relative, with the kept units unscaled), ``error_scaled``,
    and for a training after it ``updates`` or ``epochs`` and ``lr`` (None: that of ``task.train``).

    References
    ----------
    Luo, Wu, Lin, "ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression", ICCV 2017,
    arXiv:1707.06342; Luo, Zhang, Zhou, Xie, Wu, Lin, "ThiNet: Pruning CNN Filters for a Thinner Net", TPAMI 2018. The
    rules and numbers are those of the authors' code.
    """

    name: ClassVar[str] = "thinet"
    paper: ClassVar[str] = "Luo et al., ThiNet, ICCV 2017, arXiv:1707.06342, and TPAMI 2018"
    needs_data: ClassVar[bool] = True
    Settings: ClassVar[type[MethodSettings]] = ThiNetSettings
    settings: ThiNetSettings

    @property
    def trains(self) -> Trains:
        """``fit`` for the setting ``training``, else ``train`` for its updates, if there are any."""
        return super().trains if self.settings.training is None else "fit"

    def _decide(self, task: PruningTask, graph: Graph) -> Outcome:
        from pruners.methods.thinet_choice import choose_by_error

        assert task.batches is not None, "the base class checked it"
        batches = Stream(task.batches())

        def choose(layer: Layer) -> Chosen:
            return choose_by_error(
                layer,
                batches,
                form=self.settings.form,
                scale=self.settings.scale,
                images=self.settings.images,
                positions=self.settings.positions,
                seed=task.seed,
                who=self.name,
            )

        def train(model: nn.Module, number: int) -> Mapping[str, Any]:
            return self._train(task, model, number)

        return prune_layer_by_layer(self, task, graph, choose, train if self.trains else None, batches=batches)

    def _train(self, task: PruningTask, model: nn.Module, number: int) -> Mapping[str, Any]:
        settings = self.settings
        if settings.training is not None:
            assert task.fit is not None, "the base class checked it"
            task.fit(model, settings.training, name=f"layer-{number}")
            return {"epochs": settings.training.epochs, "lr": settings.training.lr}
        assert task.train is not None, "the base class checked it"
        task.train(model, settings.updates_between)
        return {"updates": settings.updates_between, "lr": None}
