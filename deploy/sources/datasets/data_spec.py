"""Which data, in which form: what a recipe says about it. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_serializer, model_validator

__all__ = ["ROOT_VARIABLE", "DataSpec", "Normalisation"]

ROOT_VARIABLE = "PRUNE_DEPLOY_DATA"
"""Environment variable with the data root that holds when the specification names none."""


MOST_PIXELS = 8192
"""Of a side: a batch of larger images fits into no memory."""


class Normalisation(BaseModel):
    """Mean and standard deviation of each channel, of pixels scaled to [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @model_validator(mode="after")
    def _matching(self) -> Normalisation:
        if len(self.mean) != len(self.std) or not self.std or min(self.std) <= 0:
            raise ValueError("mean and std have one number a channel, those of std above 0")
        return self


class DataSpec(BaseModel):
    """Which data, in which form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        description="one of `deploy list`; imagefolder:PATH for a folder of one's own, super-resolution:SCALE or "
        "denoising:SIGMA for images to restore"
    )
    root: Path | None = Field(None, description=f"folder the data lies in; default: the variable {ROOT_VARIABLE}")
    image_size: PositiveInt | None = Field(
        None,
        le=MOST_PIXELS,
        description="side of the square that images are resized to; default: their own, 224 for photographs. Images to "
        "restore: side of what the network is given; default: 48 to denoise, 24 to enlarge",
    )
    crop: Annotated[float, Field(gt=0, le=1)] | Literal["none"] | None = Field(
        None,
        description="of image files: share of the shorter side that the square in the middle keeps; 'none' keeps the "
        "whole image, whatever its shape; default: 0.875, as published networks are tested",
    )
    channels: Literal[1, 3] | None = Field(
        None, description="1 grey, 3 colour; default: the data's own, 3 for image files"
    )
    augment: bool = Field(
        True,
        description="shift and mirror training images at random (digits are only shifted); images to restore: cut "
        "pieces out anywhere and mirror them",
    )
    normalise: Literal["train", "imagenet", "none"] | Normalisation | None = Field(
        None,
        description="by the training images' statistics, by ImageNet's (what pretrained networks expect), by a given "
        "mean and std, or not at all: pixels in [0, 1]; default: train, imagenet for photographs, none for images to "
        "restore",
    )
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="share of the training images that validates")
    seed: int = Field(0, ge=0, description="decides which images are validated and tested on")
    limit: PositiveInt | None = Field(
        None, description="at most this many images in each of training, validation and test"
    )

    @model_serializer(mode="wrap")
    def _as_before(self, write: Any) -> dict[str, Any]:
        """Leave `crop` out where it is not given: what was finished before there was such a key stays finished."""
        written: dict[str, Any] = write(self)
        if self.crop is None:
            written.pop("crop", None)
        return written
