"""torchvision's detectors without their data-dependent parts: a core that torch.export can trace.

A whole detector decides in Python how many boxes it keeps, so torch.export refuses every one of them. Everything
that has parameters comes before or between those decisions, so a core runs all of it on fixed boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from deploy.errors import SourceError

if TYPE_CHECKING:
    from torchvision.ops import MultiScaleRoIAlign

__all__ = ["DetectorCore"]


class DetectorCore(nn.Module):
    """Backbone, dense heads and, for R-CNNs, box, mask and keypoint heads on one fixed box per pyramid level.

    The core holds the detector itself: pruning a core prunes ``core.detector``, which then runs with its own code
    (resizing, proposals, suppression).

    Parameters
    ----------
    detector : Module
        One of torchvision's: R-CNN (Faster, Mask, Keypoint), RetinaNet, FCOS or SSD.

    Raises
    ------
    SourceError
        It is not one of these.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

        self.two_stages = isinstance(detector, GeneralizedRCNN)
        if not self.two_stages and not all(hasattr(detector, part) for part in ("backbone", "head", "transform")):
            raise SourceError(
                f"{type(detector).__name__} is not a detector of torchvision's (R-CNN, RetinaNet, FCOS or SSD)"
            )
        self.detector = detector

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Run everything that has parameters.

        Parameters
        ----------
        images : Tensor of shape (n, 3, height, width)
            Normalised and resized, as the detector's transform leaves them.

        Returns
        -------
        dict of str to Tensor
            Raw outputs of each head.
        """
        detector: Any = self.detector
        features: Any = detector.backbone(images)
        maps: dict[str, Tensor] = {"0": features} if isinstance(features, Tensor) else dict(features)
        if not self.two_stages:
            return dict(detector.head(list(maps.values())))
        objectness, deltas = detector.rpn.head(list(maps.values()))
        outputs = {f"objectness_{level}": value for level, value in enumerate(objectness)}
        outputs.update({f"deltas_{level}": value for level, value in enumerate(deltas)})
        heads = detector.roi_heads
        boxes = heads.box_head(_pool(heads.box_roi_pool, maps, images))
        outputs["class_logits"], outputs["box_regression"] = heads.box_predictor(boxes)
        if heads.has_mask():
            outputs["masks"] = heads.mask_predictor(heads.mask_head(_pool(heads.mask_roi_pool, maps, images)))
        if heads.has_keypoint():
            points = heads.keypoint_head(_pool(heads.keypoint_roi_pool, maps, images))
            outputs["keypoints"] = heads.keypoint_predictor(points)
        return outputs


def _pool(pool: MultiScaleRoIAlign, maps: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Align one box per image in each pyramid level; the levels are concatenated along the first axis."""
    import torch
    from torchvision.ops import roi_align

    n, _, height, width = images.shape
    corners = images.new_tensor([0.1 * width, 0.2 * height, 0.7 * width, 0.9 * height])
    boxes = torch.cat([torch.arange(n, dtype=images.dtype, device=images.device)[:, None], corners.expand(n, 4)], dim=1)
    size = (pool.output_size[0], pool.output_size[1])
    return torch.cat(
        [
            roi_align(maps[name], boxes, size, maps[name].shape[-1] / width, pool.sampling_ratio)
            for name in pool.featmap_names
            if name in maps
        ]
    )
