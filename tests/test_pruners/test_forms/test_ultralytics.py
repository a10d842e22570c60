"""The detectors of ultralytics come back as themselves."""

from __future__ import annotations

import copy
import os
import pickle
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from pruners import Target
from pruners.registry import create
from pruners.task import PruningTask

pytestmark = [pytest.mark.optional, pytest.mark.filterwarnings("ignore")]
os.environ.setdefault("YOLO_OFFLINE", "true")  # read at import: it would wait for a font
ultralytics = pytest.importorskip("ultralytics")
IMAGE = torch.rand(1, 3, 64, 64)
NAMES = [
    "yolov8n", "yolov10n", "yolo11n", "yolo12n", "yolo26n", "yolo11n-seg", "yolo11n-pose", "yolo26n-seg",
    "yolo26n-pose", "yolo11n-cls", "yolo11n-obb",
]  # fmt: skip


def predictions(model, image):
    with torch.no_grad():
        found = model(image)[0]
    return found[0] if isinstance(found, (tuple, list)) else found


@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_ultralytics_comes_back_as_itself(name):
    torch.manual_seed(0)
    yolo = ultralytics.YOLO(f"{name}.yaml")
    target = Target(of="flops", kept_fraction=0.6)
    dense = yolo.model.eval()
    result = create("l1").prune(PruningTask(model=dense, example_inputs=(IMAGE,), target=target))
    assert type(result.model) is type(dense)
    assert "attn" in result.left_whole or name in ("yolov8n", "yolo12n")
    if not name.endswith("cls"):
        feature = next(layer for layer in result.model.model[-1].f if f"model.{layer}.cv2.conv" in result.plan.kept)
        assert len(result.plan.kept[f"model.{feature}.cv2.conv"]) < result.plan.sizes[f"model.{feature}.cv2.conv"]

    other = pickle.loads(pickle.dumps(result.model))
    image = torch.rand(1, 3, 96, 64)
    expected = predictions(result.model, image)
    assert torch.equal(predictions(other, image), expected)
    fused = copy.deepcopy(result.model).fuse(verbose=False)
    assert fused.is_fused()
    assert torch.allclose(predictions(fused, image), expected, atol=1e-2, rtol=1e-3)

    yolo.model = result.model
    (found,) = yolo.predict(torch.rand(1, 3, 64, 64), imgsz=64, verbose=False)
    assert found.orig_shape == (64, 64)


@pytest.mark.parametrize("name", ["yolo11n", "yolov10n", "yolo11n-seg", "yolo11n-pose"])
def test_a_detector_goes_on_learning(name):
    torch.manual_seed(0)
    model = ultralytics.YOLO(f"{name}.yaml").model.eval()
    target = Target(of="flops", kept_fraction=0.6)
    result = create("l1").prune(PruningTask(model=model, example_inputs=(IMAGE,), target=target))
    small = result.model.train()
    small.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5, pose=12.0, kobj=1.0, overlap_mask=True, epochs=10)
    batch = {
        "img": torch.rand(2, 3, 64, 64),
        "batch_idx": torch.tensor([0.0, 1.0]),
        "cls": torch.zeros(2, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4]] * 2),
        "masks": torch.ones(2, 16, 16),
        "keypoints": torch.rand(2, 17, 3),
    }
    loss, _ = small.loss(batch)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert all(p.grad is None or p.grad.shape == p.shape for p in small.parameters())
    small.eval()
    assert torch.isfinite(small.loss(batch)[0]).all(), "validation computes the loss from what evaluation returns"


def test_a_pruned_detector_is_validated_by_ultralytics(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for number in range(2):
        Image.new("RGB", (64, 64), (40 * number, 80, 120)).save(tmp_path / "images" / f"{number}.png")
        (tmp_path / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n", encoding="utf-8")
    data = tmp_path / "data.yaml"
    data.write_text(f"path: {tmp_path}\ntrain: images\nval: images\nnames: {{0: box}}\n", encoding="utf-8")
    yolo = ultralytics.YOLO("yolo11n.yaml")
    target = Target(of="flops", kept_fraction=0.6)
    task = PruningTask(model=yolo.model.eval(), example_inputs=(IMAGE,), target=target)
    yolo.model = create("l1").prune(task).model
    metrics = yolo.val(data=str(data), imgsz=64, batch=2, plots=False, workers=0, verbose=False, project=str(tmp_path))
    assert 0 <= metrics.box.map <= 1
