"""Specification of a data set and its preparation: the part of a recipe about data. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_serializer, model_validator

__all__ = ["ROOT_VARIABLE", "DataSpec", "Normalisation"]

ROOT_VARIABLE = "PRUNE_DEPLOY_DATA"
"""Environment variable with the data root to use if the specification names none."""


MOST_PIXELS = 8192
"""Largest side of an image: a batch of larger ones fits into no memory."""


class Normalisation(BaseModel):
    """Mean and standard deviation of each channel, for pixels scaled to [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @model_validator(mode="after")
    def _matching(self) -> Normalisation:
        if len(self.mean) != len(self.std) or not self.std or min(self.std) <= 0:
            raise ValueError("mean and std have one number a channel, those of std above 0")
        return self


class DataSpec(BaseModel):
    """A data set, and how its images are prepared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        description="one of `deploy list`; imagefolder:PATH for your own folder, super-resolution:SCALE or "
        "denoising:SIGMA for image restoration"
    )
    root: Path | None = Field(None, description=f"folder of the data; default: the variable {ROOT_VARIABLE}")
    image_size: PositiveInt | None = Field(
        None,
        le=MOST_PIXELS,
        description="side of the square that images are resized to; default: their own, 224 for photographs. Image "
        "restoration: side of the network's input; default: 48 for denoising, 24 for super-resolution",
    )
    crop: Annotated[float, Field(gt=0, le=1)] | Literal["none"] | None = Field(
        None,
        description="image files only: side of the centre crop as a share of the shorter side; 'none' keeps the whole "
        "image, whatever its shape; default: 0.875, as published networks are tested",
    )
    channels: Literal[1, 3] | None = Field(
        None, description="1 grey, 3 colour; default: the data's own, 3 for image files"
    )
    augment: bool = Field(
        True,
        description="shift and mirror training images at random (digits are only shifted); image restoration: crop at "
        "random positions and mirror",
    )
    normalise: Literal["train", "imagenet", "none"] | Normalisation | None = Field(
        None,
        description="by the training images' statistics, by ImageNet's (what pretrained networks expect), by a given "
        "mean and std, or not at all: pixels in [0, 1]; default: train, imagenet for photographs, none for "
        "image restoration",
    )
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="share of the training images used for validation")
    seed: int = Field(0, ge=0, description="decides which images are used for validation and testing")
    limit: PositiveInt | None = Field(
        None, description="at most this many images in each of training, validation and test"
    )

    @model_serializer(mode="wrap")
    def _as_before(self, write: Any) -> dict[str, Any]:
        """Omit `crop` if it is not given: steps finished before this key existed stay finished."""
        written: dict[str, Any] = write(self)
        if self.crop is None:
            written.pop("crop", None)
        return written
