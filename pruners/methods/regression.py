"""Channel pruning by LASSO regression and feature reconstruction."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, NonNegativeFloat, PositiveInt

from pruners.base import Method, MethodSettings, Outcome
from pruners.methods.loops.layerwise import Chosen, Layer, prune_layer_by_layer
from pruners.task import Stream

if TYPE_CHECKING:
    from pruners.graph import Graph
    from pruners.task import PruningTask

__all__ = ["Regression", "RegressionSettings"]


class RegressionSettings(MethodSettings):
    """Settings of `Regression`; its docstring gives the paper's values."""

    images: PositiveInt = Field(1000, description="training examples that each layer is reconstructed on")
    positions: PositiveInt = Field(10, description="positions of the next layer's output per example, on average")
    ridge: NonNegativeFloat = Field(
        1e-3, description="ridge of the least squares, towards the current weights, in units of the inputs' mean square"
    )
    residual: bool = Field(True, description="the last layer of a residual branch makes up for the shortcut's error")


class Regression(Method):
    """Choose the channels of each layer by LASSO, and fit the next layer's weights to its former outputs.

    For a layer that reads channels ``X_i`` (rows are patches at sampled positions) through filters ``W_i``, and gives Y
    in the dense network:

    ``min over beta, W of 1/(2N) ||Y - sum_i beta_i X_i W_i^T||_F^2 + lambda ||beta||_1`` subject to
    ``||beta||_0 <= c'``

    in two steps, once each: (a) with W fixed, lambda is raised by bisection until c' coefficients are left: these units
    stay; (b) beta is merged into W, and W is fitted by least squares. Layers follow in the order of the network: X is
    what the network pruned so far computes, Y what the dense one does, so that errors do not accumulate. Nothing is
    trained; fine-tuning afterwards is left to the caller.

    **Residual branches.** The last layer of a branch, whose sum with the shortcut is what counts, gets the target
    ``Y1 - Y1' + Y2``: shortcut and branch of the dense network minus the shortcut of the pruned one, taken back through
    the BatchNorm between the layer and the sum. The paper's formula is unconfirmed (from memory); the authors' code has
    this one, with the division by the BatchNorm's scale, and leaves it off by default. The paper thins the inputs of
    the *first* layer of a branch by a sampling layer, and leaves the stream whole. No compact network here has
    such a layer: the channels of a stream are a group like any other, cut from all layers that produce or read them, or
    left whole by ``exclude``.

    ====================== ==================================================== ======================================
    paper (code), ImageNet there                                                here, by default
    ====================== ==================================================== ======================================
    samples                5000 images x 10 positions; LASSO on at most 400     1000 x 10, LASSO on all of them
                           of them
    LASSO                  scikit-learn, bisection from 1e-3, 10 % more units   scikit-learn, on the Gram matrix;
                           than c' accepted; ``||W_i|| = 1`` in the paper, not  exactly c' units; W as it is
                           in the code
    least squares          plain                                                ridge towards the present weights
    fine-tuning            lr 1e-5, a tenth of the original epochs              left to the caller
    ====================== ==================================================== ======================================

    Deviations. Coupled channels are one unit, with one beta; if several layers read them, their objectives add up
    and each is fitted separately. A layer that reads other groups too (behind a concatenation) is fitted as a whole.
    If the layer has a bias, both steps work without means and the bias is set from them, as in the authors' code; a
    layer without bias gets none: re-estimate the BatchNorm behind it (`pruners.recover.recalibrate`). The paper's 3C
    (spatial and channel decompositions) is not included. Groups read by anything but plain convolutions and linear
    layers are refused by name.

    ``Pruned.history`` has a row for each layer: ``layer``, ``units_removed``, ``units_kept``, ``macs``,
    ``parameters``, ``rows`` (sampled), ``penalty`` (lambda), ``filled`` (units that LASSO would not have kept, as no
    lambda left c'), over all layers that read it ``error_chosen`` (relative, after the choice) and ``error`` (after
    least squares), and ``lr`` (None: nothing is trained).

    References
    ----------
    He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, arXiv:1707.06168,
    section 3.
    """

    name: ClassVar[str] = "regression"
    paper: ClassVar[str] = (
        "He, Zhang, Sun, Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017, arXiv:1707.06168"
    )
    needs_data: ClassVar[bool] = True
    Settings: ClassVar[type[MethodSettings]] = RegressionSettings
    settings: RegressionSettings

    def _decide(self, task: PruningTask, graph: Graph) -> Outcome:
        from pruners.methods.regression_choice import choose_by_lasso

        assert task.batches is not None, "the base class checked it"
        batches = Stream(task.batches())

        def choose(layer: Layer) -> Chosen:
            return choose_by_lasso(layer, batches, **dict(self.settings), seed=task.seed, who=self.name)

        return prune_layer_by_layer(self, task, graph, choose, batches=batches)
