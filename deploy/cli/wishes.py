"""Flags of ``deploy run`` and ``deploy init`` that are keys of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import typer

from deploy.errors import RecipeError
from deploy.run.wishes import Wishes

__all__ = [
    "Crop",
    "Data",
    "Epochs",
    "Flops",
    "ImageSize",
    "LatencyMs",
    "MaxDrop",
    "Method",
    "Network",
    "Normalise",
    "On",
    "RunBudget",
    "SpeedUp",
    "Weights",
    "require_whole",
    "wishes_of",
]

Network: TypeAlias = Annotated[
    str | None,
    typer.Option("--network", help="FILE.py:FUNCTION that makes it, torchvision:NAME, timm:NAME."),
]
Weights: TypeAlias = Annotated[
    str | None, typer.Option("--weights", help="Its state dict: .pt, .ckpt, .safetensors, ...; or DEFAULT.")
]
Data: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="imagefolder:PATH, with a folder of images for each class, or a data set of `deploy list`.",
    ),
]
ImageSize: TypeAlias = Annotated[
    int | None,
    typer.Option("--image-size", min=1, help="Side of the square that the network gets."),
]
Crop: TypeAlias = Annotated[
    str | None,
    typer.Option("--crop", help="Share of the shorter side that is cut out of the middle, or none."),
]
Normalise: TypeAlias = Annotated[str | None, typer.Option("--normalise", help="train, imagenet or none.")]
Method: TypeAlias = Annotated[str | None, typer.Option("--method", help="Pruning method; one of `deploy list`.")]
SpeedUp: TypeAlias = Annotated[
    float | None,
    typer.Option("--speed-up", help="How many times faster it has to be, measured."),
]
LatencyMs: TypeAlias = Annotated[
    float | None,
    typer.Option("--latency-ms", help="Milliseconds that a call may take, measured."),
]
Flops: TypeAlias = Annotated[float | None, typer.Option("--flops", help="Share of the FLOPs that is kept, at most.")]
On: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--on", help="Backend that it has to be fast on; repeat for several; default: ort."),
]
MaxDrop: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--max-drop",
        help="Points of accuracy that may be lost on validation images. Without a target: the smallest network within.",
    ),
]
Epochs: TypeAlias = Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs of fine-tuning.")]
RunBudget: TypeAlias = Annotated[
    float | None,
    typer.Option("--budget", help="Seconds for each measurement on a backend; no process is started after them."),
]


def wishes_of(*, crop: str | None, on: list[str] | None, **flags: Any) -> Wishes:
    """Collect the flags.

    Raises
    ------
    RecipeError
        `crop` is neither a number nor none.
    """
    share: float | str | None = crop
    if crop is not None and crop != "none":
        try:
            share = float(crop)
        except ValueError as error:
            raise RecipeError(f"--crop {crop!r} is neither a share, such as 0.875, nor none") from error
    return Wishes(crop=share, on=tuple(on or ()), **flags)


def require_whole(wishes: Wishes, opening: str) -> None:
    """Refuse flags that do not make a recipe on their own.

    Parameters
    ----------
    wishes : Wishes
        From the command line.
    opening : str
        What the command needs, before what is lacking.

    Raises
    ------
    RecipeError
        Network, data or what to reach is missing; all that is are named.
    """
    lacking = []
    if wishes.network is None:
        lacking.append("--network own_net.py:build")
    if wishes.data is None:
        lacking.append("--data imagefolder:PATH")
    if (wishes.speed_up, wishes.latency_ms, wishes.flops, wishes.max_drop) == (None,) * 4:
        lacking.append("what to reach: --speed-up 2, --latency-ms 8, --flops 0.5 or --max-drop 1")
    if lacking:
        raise RecipeError(f"{opening} {'; '.join(lacking)}")
