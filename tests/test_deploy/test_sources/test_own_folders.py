"""Folders of images as people have them: hidden files, other names, more bits than eight."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from deploy.errors import SourceError
from deploy.sources.datasets.data import DataSpec, load, read_raw
from deploy.sources.datasets.images import FileImages, Normalise


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path)


def write_classes(root):
    for label in ("cat", "dog"):
        for number in range(3):
            write_image(root / label / f"{number}.png")


def test_what_is_hidden_is_no_class_and_no_image(tmp_path):
    write_classes(tmp_path)
    spec = DataSpec(name=f"imagefolder:{tmp_path}", image_size=8)
    before = load(spec).provenance["sha256"]
    for folder in (".ipynb_checkpoints", "__MACOSX", "cat/.ipynb_checkpoints"):
        (tmp_path / folder).mkdir()
    write_image(tmp_path / "cat" / ".ipynb_checkpoints" / "0-checkpoint.png")
    (tmp_path / "cat" / "._0.png").write_bytes(b"no image")
    assert load(spec).provenance["sha256"] == before


def test_order_and_classes_are_those_of_torchvision(tmp_path):
    write_classes(tmp_path)
    for path in ("cat/b/1.PNG", "cat/a b/2.png", "dog/ä.png"):
        write_image(tmp_path / path)
    theirs, ours = ImageFolder(tmp_path), read_raw(DataSpec(name=f"imagefolder:{tmp_path}"))
    assert list(ours.classes) == theirs.classes
    assert [str(tmp_path / path) for path in ours.train.paths] == [path for path, _ in theirs.samples]
    assert ours.train.labels.tolist() == theirs.targets


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_validation_images_by_another_name(tmp_path, name):
    for part in ("train", name, "test"):
        write_classes(tmp_path / part)
    data = load(DataSpec(name=f"imagefolder:{tmp_path}", image_size=8))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [6, 6, 6]


def test_the_high_byte_of_16_bits_is_taken(tmp_path):
    write_classes(tmp_path)
    eight = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    Image.fromarray(eight.astype(np.uint16) * 256 + 7).save(tmp_path / "cat" / "0.png")
    files = read_raw(DataSpec(name=f"imagefolder:{tmp_path}")).train
    images = FileImages(files, channels=1, size=8, normalise=Normalise((0.0,), (1.0,)), crop=None)
    assert np.array_equal(images.pixels(0)[0].numpy(), eight)
    Image.fromarray(eight.astype(np.float32)).save(tmp_path / "cat" / "0.png", format="TIFF")
    with pytest.raises(SourceError, match=r"cat/0\.png has pixels of 32 bits"):
        images.pixels(0)


def test_names_that_are_no_text_can_be_hashed(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "cat" / "0.png").rename(tmp_path / "cat" / os.fsdecode(b"\xff.png"))
    assert load(DataSpec(name=f"imagefolder:{tmp_path}", image_size=8)).provenance["sha256"]
