"""The list of networks, from ``networks.yaml``."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml

from deploy.studies.coverage.rows import ListedNetwork

__all__ = ["OPTIONAL_SET", "SETS", "entries"]

SETS = ("torchvision", "segmentation", "detection", "video", "flow", "timm", "libraries")
OPTIONAL_SET = "libraries"
"""Needs more than the ``prune`` extra; included only if requested by name."""


@cache
def entries() -> tuple[ListedNetwork, ...]:
    """Return every network, small ones first."""
    document = yaml.safe_load(files("deploy.studies.coverage").joinpath("networks.yaml").read_text(encoding="utf-8"))
    networks = []
    for name, section in document.items():
        if "networks" not in section:
            continue
        shared = {"set": name, **section}
        for network, own in shared.pop("networks").items():
            options = {**shared.get("options", {}), **own.get("options", {})}
            networks.append(ListedNetwork(**{**shared, **own, "name": network, "options": options}))
    return tuple(sorted(networks, key=lambda network: network.millions))
