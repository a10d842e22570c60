"""The whole state of a network as one number: whether anything of it changed.

Importing this module imports no torch.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["checksum", "state_of"]


def state_of(model: nn.Module) -> str:
    """Hash names, values and modes: parameters, buffers (also non-persistent ones) and train/eval flags."""
    digest = hashlib.blake2b()
    for part in _state(model):
        digest.update(part)
    return digest.hexdigest()


def checksum(model: nn.Module) -> int:
    """Return a checksum of what `state_of` hashes, several times as fast: enough to see that something changed."""
    total = 0
    for part in _state(model):
        total = zlib.crc32(part, total)
    return total


def _state(model: nn.Module) -> Iterator[bytes | memoryview]:
    import torch

    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)} {tensor.requires_grad}".encode()
        flat = tensor.detach().to("cpu").contiguous().reshape(-1)
        yield flat.view(torch.uint8).numpy().data
    for name, module in model.named_modules():
        yield f"{name} {module.training}".encode()
