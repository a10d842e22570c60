"""Checkpoints that are never half-written, and belong to one network and one set of settings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from pruners.errors import TrainingError
from pruners.files import replacing

__all__ = ["fingerprint", "read", "write"]


def fingerprint(model: nn.Module, settings: dict[str, Any], n_examples: int, n_processes: int = 1) -> dict[str, str]:
    """Hash each item that a checkpoint must match, separately, so that a mismatch can be named."""
    shapes = [(name, list(value.shape), str(value.dtype)) for name, value in model.state_dict().items()]
    return {
        name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
        for name, value in (
            ("network", shapes),
            ("settings", settings),
            ("number of examples", n_examples),
            ("number of processes", n_processes),
        )
    }


def write(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint at `path`: the old one stays until the new one is on disk."""
    with replacing(path) as part:
        torch.save(state, part)


def read(path: Path, expected: dict[str, str]) -> dict[str, Any] | None:
    """Return the checkpoint at `path`, or None if there is none.

    Raises
    ------
    TrainingError
        It is broken, or belongs to another network, other settings or other data.
    """
    if not path.exists():
        return None
    try:
        state = cast("dict[str, Any]", torch.load(path, map_location="cpu", weights_only=True))
        stored = state["fingerprint"]
    except (RuntimeError, EOFError, KeyError, TypeError, ValueError, OSError, AttributeError) as error:
        raise TrainingError(f"checkpoint {path} is broken ({type(error).__name__}); delete it to start over") from error
    except Exception as error:
        # torch.load reports refused or damaged content by an exception of the pickle module.
        if type(error).__name__ != "UnpicklingError":
            raise
        raise TrainingError(f"checkpoint {path} is broken or not ours; delete it to start over") from error
    for name, value in expected.items():
        if stored.get(name) != value:
            raise TrainingError(f"checkpoint {path} was made with another {name}; delete it to start over")
    return state
