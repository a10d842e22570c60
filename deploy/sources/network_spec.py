"""Specification of a network: the part of a recipe that names it and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["FORMS", "NetworkSpec"]

FORMS = "cifar:NAME, restoration:NAME, torchvision:NAME, timm:NAME or path/to/file.py:factory"


class NetworkSpec(BaseModel):
    """A network's name, weights and options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description=f"one of {FORMS}")
    weights: str = Field(
        "none",
        description="'none', 'DEFAULT' (the published ones of torchvision or timm), a .safetensors, .pt or .ckpt file",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="options of the network's factory, for example width: 0.5"
    )
    new_classifier: bool = Field(
        False,
        description="the weights were trained for another number of classes: start the last layer untrained",
    )
    output: str | None = Field(
        None,
        description="which of several outputs holds the class scores, or the image: keys and positions joined by dots, "
        "such as logits or 0; default: logits, where it has them",
    )

    @field_validator("weights", "output", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path | int) else value
