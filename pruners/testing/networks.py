"""Small networks that couple channels in different ways, and tasks for them that any method can work with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from pruners.gates.gate import Gate
from pruners.recover.fit import History, TrainProgress, fit
from pruners.recover.settings import TrainSettings
from pruners.target import Constraints, Target
from pruners.task import PruningTask

__all__ = ["CLASSES", "NETWORKS", "SIDE", "RandomFit", "make_network", "make_task"]

CLASSES = 5
SIDE = 8


class _Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 12, 3, padding=1)
        self.hidden = nn.Linear(12 * 16, 16)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.stem(x))), 2)
        x = torch.flatten(F.relu(self.conv(x)), 1)
        logits: Tensor = self.fc(F.relu(self.hidden(x)))
        return logits


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.expand = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False)
        self.blocks = nn.Sequential(_Block(12), _Block(12))
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.expand(F.relu(self.stem(x)))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class _Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.pointwise = nn.Conv2d(8, 16, 1)
        self.depthwise2 = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.head = nn.Conv2d(16, 12, 1)
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.norm(self.depthwise(F.relu6(self.stem(x)))))
        x = F.relu6(self.depthwise2(F.relu6(self.pointwise(x))))
        logits: Tensor = self.fc(F.hardswish(self.head(x)).mean((2, 3)))
        return logits


class _Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.left = nn.Conv2d(8, 6, 1)
        self.right = nn.Conv2d(8, 10, 3, padding=1)
        self.norm = nn.BatchNorm2d(24)
        self.mix = nn.Conv2d(24, 12, 1)
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = self.norm(torch.cat([x, F.relu(self.left(x)), F.silu(self.right(x))], 1))
        logits: Tensor = self.fc(F.relu(self.mix(x)).mean((2, 3)))
        return logits


NETWORKS: Mapping[str, type[nn.Module]] = {
    "plain": _Plain,
    "residual": _Residual,
    "depthwise": _Depthwise,
    "concat": _Concat,
}
"""Small networks, each coupling channels in a different way; inputs of shape (batch, 3, 8, 8), 5 classes."""


def make_network(name: str) -> nn.Module:
    """Build one of `NETWORKS`, with the same weights each time, in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[name]()


def make_task(model: nn.Module, **changes: Any) -> PruningTask:
    """Make a task on random data that any method can work with: 60 % of the FLOPs, the stem excluded, even counts."""
    task = PruningTask(
        model=model,
        example_inputs=(torch.zeros(2, 3, SIDE, SIDE),),
        target=Target(of="flops", kept_fraction=0.6),
        constraints=Constraints(exclude=("stem",), multiple_of=2, min_units=2),
        batches=_batches,
        loss=F.cross_entropy,
        train=_train,
        fit=RandomFit(),
    )
    return replace(task, **changes)


def _batches() -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    while True:
        images = torch.randn(8, 3, SIDE, SIDE, generator=generator)
        yield images, torch.randint(0, CLASSES, (8,), generator=generator)


def _train(model: nn.Module, n_updates: int) -> None:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for (images, labels), _ in zip(_batches(), range(n_updates), strict=False):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


class RandomFit:
    """Trains on the task's random data; saves checkpoints if it has a folder."""

    def __init__(self, folder: Path | None = None, progress: TrainProgress | None = None) -> None:
        self.folder = folder
        self.progress = progress
        self.epochs = 0

    def __call__(self, model: nn.Module, settings: TrainSettings, *, name: str, gate: Gate | None = None) -> History:
        """Train `model` in place; see `pruners.task.Fit`."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(24, 3, SIDE, SIDE, generator=generator)
        data = TensorDataset(images, torch.randint(0, CLASSES, (24,), generator=generator))
        checkpoints = None if self.folder is None else self.folder / name
        history = fit(model, data, data, settings, gate=gate, checkpoints=checkpoints, progress=self.progress)
        self.epochs += len(history.epochs)
        return history
