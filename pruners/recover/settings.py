"""Settings of a training. Imports no torch, so that recipes can be read without it."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pruners.recover.metric import Loss

__all__ = ["TrainSettings"]


class TrainSettings(BaseModel):
    """Settings of one training or fine-tuning.

    The defaults are those of the CIFAR experiments in He et al. 2016 (section 4.2), with a cosine schedule
    (Loshchilov and Hutter 2017, without restarts) in place of two steps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: PositiveInt
    batch_size: PositiveInt = Field(128, description="examples per update, over all processes")
    lr: PositiveFloat = Field(0.1, description="peak learning rate, reached after warm-up")
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD only")
    nesterov: bool = Field(True, description="SGD only")
    weight_decay: NonNegativeFloat = Field(1e-4, description="on every parameter")
    schedule: Literal["cosine", "step", "constant"] = Field("cosine", description="cosine ends at 0")
    milestones: tuple[PositiveInt, ...] = Field((), description="epochs at which 'step' multiplies by gamma")
    gamma: float = Field(0.1, gt=0, lt=1)
    warmup_epochs: NonNegativeFloat = Field(0.0, description="the rate rises linearly from 0 over this many epochs")
    loss: Loss | None = Field(None, description="default: cross-entropy for classes, l1 for images")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="of classes")
    clip_norm: PositiveFloat | None = Field(None, description="largest l2 norm of the gradient; None: not clipped")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="bf16 and fp16: autocast, fp32 weights")
    channels_last: bool = False
    keep: Literal["last", "best"] = Field("last", description="'best': weights of the best *validation* score")
    num_workers: NonNegativeInt = Field(0, description="processes that load data")
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> TrainSettings:
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError("milestones go with schedule 'step', and only with it")
        if any(b <= a for a, b in pairwise(self.milestones)):
            raise ValueError("milestones must ascend")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} leaves nothing of {self.epochs} epochs")
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self
