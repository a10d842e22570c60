"""Describe a data set in two sentences: how it is split, and how its images are prepared for a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.sources.datasets.data import DataSource

__all__ = ["division_sentence", "preparation_sentence"]


def division_sentence(data: DataSource) -> str:
    """Say how many images are for training, validation and test."""
    sizes = {name: part["n_images"] for name, part in data.provenance["division"].items()}
    classes = f" in {data.n_classes} classes" if data.n_classes else ""
    kind = "images" if data.task == "classification" else "photographs"
    return (
        f"data {data.name}: {sum(sizes.values())} {kind}{classes}: {sizes['train']} to train on, "
        f"{sizes['validation']} to validate on, {sizes['test']} to test on"
    )


def preparation_sentence(data: DataSource) -> str:
    """Say how each image is prepared: size, cropping, colour, normalisation."""
    how, (_, height, width) = data.provenance["preprocessing"], data.input_shape
    parts = [f"{height} x {width} pixels"]
    parts += [f"{how[key]}" for key in ("input", "resize", "colour") if key in how]
    mean, std = (", ".join(f"{value:.3g}" for value in how[key]) for key in ("mean", "std"))
    if all(value == 0 for value in how["mean"]) and all(value == 1 for value in how["std"]):
        parts.append("values in [0, 1], not normalised")
    else:
        parts.append(f"{how['formula']} with mean {mean} and std {std} ({how['statistics']})")
    return f"each image is given as: {'; '.join(parts)}"
