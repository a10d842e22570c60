"""Knowledge distillation: the pruned network learns from the labels and from the dense network's outputs."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruners.errors import TrainingError
from pruners.modules.copies import copy_of

__all__ = ["Distillation"]


class Distillation:
    """Cross-entropy with the labels, plus the divergence from the softened outputs of a teacher.

    ``(1 - weight) * CE(z, y) + weight * T^2 * KL(softmax(z_teacher / T) || softmax(z / T))``, both averaged over the
    batch. The factor T^2 keeps the size of the second term's gradient when T changes (section 2.1 of the paper).
    Training with it takes one extra pass through the teacher per batch.

    Parameters
    ----------
    teacher : Module
        Maps images to class scores, like the network being trained; usually the dense network. It is copied and never
        trained: it runs in evaluation mode, without gradients, under the training's autocast.
    temperature : float
        T, above 0. The default is a convention of later work, not the paper's.
    weight : float
        Weight of the teacher's term, in [0, 1]; 0 is cross-entropy alone. The paper found a considerably lower weight
        on the labels best; the number is a convention too.

    Raises
    ------
    TrainingError
        The temperature or the weight is out of range; when called, the targets are not classes, or the teacher's scores
        differ in shape from the network's.

    Examples
    --------
    ::

        fit(compact, train, validation, settings, objective=Distillation(dense, temperature=4.0, weight=0.9))

    and in your own loop ``loss = objective(compact(images), images, labels)``.

    References
    ----------
    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531, section 2.
    """

    def __init__(self, teacher: nn.Module, *, temperature: float = 4.0, weight: float = 0.9) -> None:
        if not temperature > 0:
            raise TrainingError(f"the temperature of a distillation is above 0, got {temperature}")
        if not 0 <= weight <= 1:
            raise TrainingError(f"the weight of the teacher is in [0, 1], got {weight}")
        self.temperature = temperature
        self.weight = weight
        self._teacher = copy_of(teacher).eval().requires_grad_(requires_grad=False)

    def __call__(self, outputs: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch: scores of shape (B, n_classes), images (B, C, H, W), labels (B,)."""
        if labels.is_floating_point():
            raise TrainingError("distillation softens class scores; the targets are images: fine-tune instead")
        parameter = next(self._teacher.parameters(), None)
        if parameter is not None and parameter.device != images.device:
            self._teacher.to(images.device)
        with torch.no_grad():
            targets = self._teacher(images).float()
        if targets.shape != outputs.shape:
            raise TrainingError(f"the teacher gives scores of shape {tuple(targets.shape)}, not {tuple(outputs.shape)}")
        scores = outputs.float()
        soft = F.kl_div(
            F.log_softmax(scores / self.temperature, 1),
            F.log_softmax(targets / self.temperature, 1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - self.weight) * F.cross_entropy(scores, labels) + self.weight * self.temperature**2 * soft

    def to_json(self) -> dict[str, Any]:
        """Return temperature, weight and a hash of the teacher's state."""
        digest = hashlib.sha256()
        for name, tensor in self._teacher.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return {"temperature": self.temperature, "weight": self.weight, "teacher": digest.hexdigest()}
