"""A detector's core runs everything that has parameters, and is the detector itself."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
detection = pytest.importorskip("torchvision.models.detection")

from torch import nn  # noqa: E402
from torchvision.models.detection.anchor_utils import AnchorGenerator  # noqa: E402
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead  # noqa: E402
from torchvision.ops import MultiScaleRoIAlign  # noqa: E402

from deploy.errors import SourceError  # noqa: E402
from deploy.sources.detection import DetectorCore  # noqa: E402


def backbone(channels=8):
    layers = nn.Sequential(nn.Conv2d(3, channels, 3, stride=8, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
    layers.out_channels = channels
    return layers


def rcnn(kind, **more):
    return kind(
        backbone(),
        rpn_anchor_generator=AnchorGenerator(((16, 32),), ((0.5, 1.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 3, 2),
        box_head=TwoMLPHead(8 * 9, 12),
        box_predictor=FastRCNNPredictor(12, 3),
        min_size=64,
        max_size=64,
        **more,
    )


def mask_rcnn():
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

    return rcnn(
        detection.MaskRCNN,
        mask_roi_pool=MultiScaleRoIAlign(["0"], 4, 2),
        mask_head=MaskRCNNHeads(8, (6,), 1),
        mask_predictor=MaskRCNNPredictor(6, 5, 3),
    )


def keypoint_rcnn():
    from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor

    return rcnn(
        detection.KeypointRCNN,
        keypoint_roi_pool=MultiScaleRoIAlign(["0"], 4, 2),
        keypoint_head=KeypointRCNNHeads(8, (6,)),
        keypoint_predictor=KeypointRCNNPredictor(6, 4),
    )


def retinanet():
    return detection.RetinaNet(backbone(), 3, anchor_generator=AnchorGenerator(((16,),), ((1.0,),)))


DETECTORS = {"faster": lambda: rcnn(detection.FasterRCNN), "mask": mask_rcnn, "keypoint": keypoint_rcnn,
             "retina": retinanet}  # fmt: skip


@pytest.mark.parametrize("name", DETECTORS)
def test_every_parameter_has_a_part_in_the_outputs(name):
    core = DetectorCore(DETECTORS[name]()).eval()
    outputs = core(torch.randn(2, 3, 64, 64))
    sum(value.square().sum() for value in outputs.values()).backward()
    idle = [path for path, parameter in core.named_parameters() if parameter.grad is None]
    assert idle == []


@pytest.mark.parametrize("name", DETECTORS)
def test_core_can_be_traced_where_the_detector_can_not(name):
    detector = DETECTORS[name]().eval()
    with pytest.raises(RuntimeError):
        torch.export.export(detector, ([torch.rand(3, 64, 64)],), strict=False)
    core = DetectorCore(detector).eval()
    images = torch.randn(2, 3, 64, 64)
    program = torch.export.export(core, (images,), strict=False).module()
    torch.testing.assert_close(program(images), core(images), rtol=1e-4, atol=1e-5)


def test_core_holds_the_detector_itself():
    detector = DETECTORS["faster"]().eval()
    assert DetectorCore(detector).detector is detector


def test_what_is_no_detector_is_refused():
    with pytest.raises(SourceError, match="Sequential is not a detector of torchvision's"):
        DetectorCore(nn.Sequential())
