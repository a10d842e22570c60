"""Share the GPUs of this machine among jobs; needs no library except, inside a job, torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from deploy.errors import DeployError

__all__ = ["gpu_environment", "require_gpus", "visible_gpus"]

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_GIVEN = "PRUNE_DEPLOY_GPUS"
_DRIVER_GPUS = Path("/proc/driver/nvidia/gpus")


def visible_gpus() -> tuple[str, ...]:
    """List the GPUs that a process started now would see, as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = os.environ.get(_VISIBLE)
    if visible is not None:
        # CUDA ignores everything from the first invalid name on.
        return tuple(takewhile(lambda name: name and not name.startswith("-"), map(str.strip, visible.split(","))))
    with suppress(OSError):
        return tuple(str(index) for index, _ in enumerate(_DRIVER_GPUS.iterdir()))
    return ()


def gpu_environment(gpus: Sequence[str], slot: int, processes: int) -> Mapping[str, str]:
    """Return the variables that give a job its GPUs, one for each process; slots share GPUs if there are too few."""
    if not gpus:
        return {}
    own = [gpus[(slot * processes + number) % len(gpus)] for number in range(processes)]
    return {_VISIBLE: ",".join(own), _GIVEN: str(processes)}


def require_gpus() -> None:
    """Check that a job sees its GPUs; otherwise it would silently train on the CPU.

    Raises
    ------
    DeployError
        It does not see them.
    """
    given = int(os.environ.get(_GIVEN, "0"))
    if not given:
        return
    import torch

    if torch.cuda.device_count() < given:
        raise DeployError(
            f"the job was given {_VISIBLE}={os.environ[_VISIBLE]}, and torch sees {torch.cuda.device_count()} GPUs: "
            f"mend the driver or torch's build, or set {_VISIBLE} to what may be used (to nothing: train on the CPU)"
        )
