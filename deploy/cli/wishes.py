"""Flags of ``deploy run`` and ``deploy init`` that are keys of a recipe."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from deploy.cli import options as given
from deploy.errors import RecipeError
from deploy.run.wishes import Wishes

__all__ = ["Flags", "require_whole"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The flags, as given on the command line."""

    network: Annotated[
        str | None, typer.Option("--network", help="FILE.py:FUNCTION that builds it, torchvision:NAME or timm:NAME.")
    ] = None
    weights: Annotated[
        str | None, typer.Option("--weights", help="Its state dict: .pt, .ckpt, .safetensors, ...; or DEFAULT.")
    ] = None
    data: Annotated[
        str | None,
        typer.Option(
            "--data", help="imagefolder:PATH, with a folder of images for each class, or a data set of `deploy list`."
        ),
    ] = None
    data_root: given.DataRoot = None
    image_size: Annotated[
        int | None, typer.Option("--image-size", min=1, help="Side of the square images that the network takes.")
    ] = None
    crop: Annotated[
        str | None, typer.Option("--crop", help="Side of the centre crop as a share of the shorter side, or none.")
    ] = None
    normalise: Annotated[str | None, typer.Option("--normalise", help="train, imagenet or none.")] = None
    method: Annotated[str | None, typer.Option("--method", help="Pruning method; one of `deploy list`.")] = None
    speed_up: Annotated[float | None, typer.Option("--speed-up", help="Measured speed-up to reach.")] = None
    latency_ms: Annotated[
        float | None, typer.Option("--latency-ms", help="Measured latency to reach, in milliseconds.")
    ] = None
    flops: Annotated[float | None, typer.Option("--flops", help="Share of the FLOPs to keep, at most.")] = None
    on: Annotated[
        list[str] | None,
        typer.Option("--on", help="Backend to be fast on; repeat for several; default: ort."),
    ] = None
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            help="Largest allowed drop of accuracy on validation images, in points. "
            "Without a target: the smallest network within it.",
        ),
    ] = None
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs of fine-tuning.")] = None
    threads: given.Threads = None
    budget_s: Annotated[
        float | None,
        typer.Option("--budget", help="Seconds for each measurement on a backend; no process is started after that."),
    ] = None

    def wishes(self) -> Wishes:
        """Return what the flags ask for.

        Raises
        ------
        RecipeError
            ``--crop`` is neither a number nor none.
        """
        share: float | str | None = self.crop
        if self.crop is not None and self.crop != "none":
            try:
                share = float(self.crop)
            except ValueError as error:
                raise RecipeError(f"--crop {self.crop!r} is neither a share, such as 0.875, nor none") from error
        return Wishes(**{**asdict(self), "crop": share, "on": tuple(self.on or ())})


def require_whole(wishes: Wishes, opening: str) -> None:
    """Refuse flags that do not make a recipe on their own.

    Parameters
    ----------
    wishes : Wishes
        From the command line.
    opening : str
        Start of the message, before the list of what is missing.

    Raises
    ------
    RecipeError
        Network, data or target is missing; the message names all that are.
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
