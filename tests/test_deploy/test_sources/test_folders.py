"""Data sets made of files: ImageNet's and CUB's layouts, Flowers-102 and CIFAR through torchvision. All synthetic."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from deploy.errors import SourceError
from deploy.sources.datasets.data import ROOT_VARIABLE, DataSpec, load
from deploy.sources.datasets.told import division_sentence, preparation_sentence

CLASSES = ("cat", "dog")


@pytest.fixture(autouse=True)
def no_root_from_outside(monkeypatch):
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)


def write_image(path, *, seed, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_imagenet(root, parts=("train", "val"), n=10):
    for index, part in enumerate(parts):
        for label in CLASSES:
            for number in range(n):
                write_image(root / part / label / f"{number}.png", seed=(index, number))


def write_cub(root):
    rows = [(f"001.Albatross/{i}.jpg", 1, int(i < 6)) for i in range(10)]
    rows += [(f"002.Crow/{i}.jpg", 2, int(i < 6)) for i in range(10)]
    for number, (path, _, _) in enumerate(rows):
        write_image(root / "images" / path, seed=number)
    (root / "images.txt").write_text("".join(f"{i} {row[0]}\n" for i, row in enumerate(rows, 1)))
    (root / "image_class_labels.txt").write_text("".join(f"{i} {row[1]}\n" for i, row in enumerate(rows, 1)))
    (root / "train_test_split.txt").write_text("".join(f"{i} {row[2]}\n" for i, row in enumerate(rows, 1)))
    (root / "classes.txt").write_text("1 001.Albatross\n2 002.Crow\n")


def test_imagenet_layout_reports_on_val_and_validates_on_a_part_of_train(tmp_path):
    write_imagenet(tmp_path)
    data = load(DataSpec(name=f"imagefolder:{tmp_path}", image_size=16))
    assert data.classes == CLASSES
    assert data.input_shape == (3, 16, 16)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [18, 2, 20]
    assert {name: part["of"] for name, part in data.provenance["division"].items()} == {
        "train": "train",
        "validation": "train",
        "test": "test",
    }
    assert not set(data.indices["train"]) & set(data.indices["validation"])
    assert data.provenance["preprocessing"]["statistics"] == "ImageNet"
    images, labels = next(iter(DataLoader(data.test, batch_size=20)))
    assert images.shape == (20, 3, 16, 16)
    assert labels.tolist() == [0] * 10 + [1] * 10


def test_test_folder_beside_val_makes_val_the_validation(tmp_path):
    write_imagenet(tmp_path, ("train", "val", "test"), n=4)
    data = load(DataSpec(name=f"imagefolder:{tmp_path}", image_size=16))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [8, 8, 8]
    assert data.provenance["division"]["validation"]["of"] == "validation"


def test_imagenets_own_flat_test_folder_is_not_used(tmp_path):
    write_imagenet(tmp_path, n=4)
    write_image(tmp_path / "test" / "secret.png", seed=0)
    assert load(DataSpec(name=f"imagefolder:{tmp_path}", image_size=16)).provenance["division"]["test"]["n_images"] == 8


def test_plain_images_are_the_centre_of_the_resized_photograph(tmp_path):
    from torchvision.transforms import v2

    write_imagenet(tmp_path)
    data = load(DataSpec(name=f"imagefolder:{tmp_path}", image_size=14, normalise="train"))
    how = data.provenance["preprocessing"]
    with Image.open(tmp_path / "val" / "cat" / "0.png") as image:
        cut = v2.functional.center_crop(v2.functional.resize(image.convert("RGB"), [16], antialias=True), [14])
    expected = np.asarray(cut).transpose(2, 0, 1) / 255
    mean, std = (np.array(how[key])[:, None, None] for key in ("mean", "std"))
    np.testing.assert_allclose(data.test[0][0].numpy(), (expected - mean) / std, atol=1e-5)


def test_statistics_of_files_are_those_of_the_plain_training_images(tmp_path):
    write_imagenet(tmp_path)
    data = load(DataSpec(name=f"imagefolder:{tmp_path}", image_size=14, normalise="train"))
    images = torch.stack([image for image, _ in data.train_plain])
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)


def test_augmented_files_come_from_torchs_generator(tmp_path):
    write_imagenet(tmp_path, n=4)
    data = load(DataSpec(name=f"imagefolder:{tmp_path}", image_size=16))
    torch.manual_seed(0)
    first = data.train[0][0]
    assert not torch.equal(first, data.train[0][0])
    torch.manual_seed(0)
    torch.testing.assert_close(first, data.train[0][0], rtol=0, atol=0)
    torch.testing.assert_close(data.train_plain[0][0], data.train_plain[0][0], rtol=0, atol=0)


def test_relative_folder_lies_under_the_root(tmp_path, monkeypatch):
    write_imagenet(tmp_path / "pets", n=4)
    assert len(load(DataSpec(name="imagefolder:pets", root=tmp_path, image_size=8)).test) == 8
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    monkeypatch.chdir(tmp_path.parent)
    assert len(load(DataSpec(name="imagefolder:pets", image_size=8)).test) == 8


def test_grey_photographs(tmp_path):
    write_imagenet(tmp_path, n=4)
    data = load(DataSpec(name=f"imagefolder:{tmp_path}", image_size=8, channels=1))
    assert data.test[0][0].shape == (1, 8, 8)
    assert data.provenance["preprocessing"]["statistics"] == "7 of 7 training images, at their final size"


def test_damaged_image_is_named_when_it_is_taken(tmp_path):
    write_imagenet(tmp_path, n=4)
    broken = tmp_path / "val" / "cat" / "0.png"
    broken.write_bytes(broken.read_bytes()[:200])
    (tmp_path / "val" / "cat" / "1.png").write_text("no image")
    data = load(DataSpec(name=f"imagefolder:{tmp_path}", image_size=8))
    for index in range(2):
        with pytest.raises(SourceError, match=rf"val/cat/{index}.png cannot be read"):
            data.test[index]


def test_an_image_is_named_whatever_opening_it_raises(tmp_path, monkeypatch):
    """As where ultralytics, which puts its own function in the place of PIL's, misses a plugin for another format."""

    def broken(*_, **__):
        raise ModuleNotFoundError("No module named 'pi_heif'")

    write_imagenet(tmp_path, n=4)
    data = load(DataSpec(name=f"imagefolder:{tmp_path}", image_size=8))
    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(
        SourceError, match=r"val/cat/0.png cannot be read \(ModuleNotFoundError: No module named 'pi_heif'\)"
    ):
        data.test[0]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("no val", r"\(no val/ or test/ with a folder for each class beside train/\)"),
        ("other classes", "class 'fox' is in only one of train/ and val/"),
        ("empty class", r"train/eel holds no images \(\.jpg, .*remove it"),
    ],
)
def test_broken_imagenet_layouts_are_one_line(tmp_path, damage, words):
    write_imagenet(tmp_path, ("train",) if damage == "no val" else ("train", "val"), n=2)
    if damage == "other classes":
        write_image(tmp_path / "val" / "fox" / "0.png", seed=0)
    elif damage == "empty class":
        (tmp_path / "train" / "eel").mkdir()
    with pytest.raises(SourceError, match=words) as caught:
        load(DataSpec(name=f"imagefolder:{tmp_path}"))
    assert "\n" not in str(caught.value)


def write_classes(root, n=10, size=(40, 30)):
    for index, label in enumerate(CLASSES):
        for number in range(n):
            write_image(root / label / f"{number}.png", seed=(index, number), size=size)


def test_a_folder_of_classes_is_divided_by_the_seed(tmp_path):
    write_classes(tmp_path)
    data = load(DataSpec(name=f"imagefolder:{tmp_path}", image_size=8, validation_fraction=0.25))
    assert data.classes == CLASSES
    assert [len(part) for part in (data.train, data.validation, data.test)] == [12, 4, 4]
    assert division_sentence(data).endswith("20 images in 2 classes: 12 to train on, 4 to validate on, 4 to test on")


def test_train_and_test_without_val(tmp_path):
    write_imagenet(tmp_path, ("train", "test"))
    data = load(DataSpec(name=f"imagefolder:{tmp_path}", image_size=8))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [18, 2, 20]


@pytest.mark.parametrize(
    ("crop", "words"),
    [
        ("none", "8 x 8 pixels; bilinear, antialiased; read as colour, grey repeated; values in [0, 1], not norm"),
        (1, "8 x 8 pixels; shorter side to image_size / 1, bilinear, antialiased, then centre crop; read as colour"),
    ],
)
def test_nothing_is_cut_away_where_that_is_asked_for(tmp_path, crop, words):
    write_classes(tmp_path, size=(8, 8))
    data = load(DataSpec(name=f"imagefolder:{tmp_path}", image_size=8, crop=crop, normalise="none"))
    with Image.open(tmp_path / CLASSES[data.test[0][1]] / f"{data.indices['test'][0] % 10}.png") as image:
        np.testing.assert_allclose(data.test[0][0].numpy() * 255, np.asarray(image).transpose(2, 0, 1), atol=1e-3)
    assert words in preparation_sentence(data)


def test_crop_is_for_files(tmp_path):
    write_classes(tmp_path)
    spec = DataSpec(name=f"imagefolder:{tmp_path}", image_size=8)
    assert "crop" not in spec.model_dump(), "recipes without the key stay what they were"
    with pytest.raises(SourceError, match="crop is for images in files"):
        load(DataSpec(name="digits", crop="none"))


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ((), "no folder in it: images must be in one folder for each class"),
        (("cat",), "only one class, 'cat'"),
        (("cat", "dog", "empty"), r"empty holds no images \(\.jpg"),
    ],
)
def test_folders_without_classes_are_one_line(tmp_path, folders, words):
    for folder in folders:
        (tmp_path / folder).mkdir()
        if folder != "empty":
            write_image(tmp_path / folder / "0.png", seed=0)
    with pytest.raises(SourceError, match=words) as caught:
        load(DataSpec(name=f"imagefolder:{tmp_path}"))
    assert "\n" not in str(caught.value)


def test_cub_layout(tmp_path):
    write_cub(tmp_path)
    data = load(DataSpec(name=f"imagefolder:{tmp_path}", image_size=16))
    assert data.classes == ("001.Albatross", "002.Crow")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [11, 1, 8]
    assert [data.test[index][1] for index in range(8)] == [0] * 4 + [1] * 4


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("images.txt", "1\n", r"images.txt, line 1: wants a number and a value"),
        ("train_test_split.txt", "1 1\n", r"image 2 .* lacks a class or a part"),
        ("image_class_labels.txt", "1 7\n", r"image 1 .* lacks a class or a part"),
        ("images.txt", "1 nowhere.jpg\n", r"lacks image .*nowhere.jpg"),
        ("classes.txt", None, r"\(no classes.txt\)"),
    ],
)
def test_broken_cub_layouts_are_one_line(tmp_path, file, content, words):
    write_cub(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    with pytest.raises(SourceError, match=words) as caught:
        load(DataSpec(name=f"imagefolder:{tmp_path}"))
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------- CIFAR


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """Tiny files in CIFAR-10's format; torchvision's MD5 sums are set to theirs."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()]

    def batch():
        return {"data": rng.integers(0, 256, (40, 3072), dtype=np.uint8), "labels": [i % 10 for i in range(40)]}

    monkeypatch.setattr(CIFAR10, "train_list", [write("data_batch_1", batch())])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch())])
    name, md5 = write("batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": md5})
    return folder


def test_cifar10_is_read_through_torchvision(cifar10):
    data = load(DataSpec(name="cifar10", root=cifar10.parent))
    assert data.input_shape == (3, 32, 32)
    assert data.classes[3] == "class 3"
    assert [len(part) for part in (data.train, data.validation, data.test)] == [36, 4, 40]
    raw = pickle.loads((cifar10 / "test_batch").read_bytes())  # written by this test
    how = data.provenance["preprocessing"]
    expected = raw["data"][7].reshape(3, 32, 32) / 255
    mean, std = (np.array(how[key])[:, None, None] for key in ("mean", "std"))
    np.testing.assert_allclose(data.test[7][0].numpy(), (expected - mean) / std, atol=1e-5)
    assert data.test[7][1] == 7
    same = load(DataSpec(name="cifar10", root=cifar10))
    assert same.provenance["sha256"] == data.provenance["sha256"]


def test_damaged_cifar10_is_refused_before_it_is_unpickled(cifar10):
    with (cifar10 / "data_batch_1").open("ab") as file:
        file.write(b"x")
    with pytest.raises(SourceError, match=r"'cifar10' in .* is incomplete or damaged"):
        load(DataSpec(name="cifar10", root=cifar10.parent))


# ---------------------------------------------------------------------------------------------------- Flowers-102


@pytest.fixture
def flowers(tmp_path, monkeypatch):
    """Twelve images in the layout of Flowers-102; torchvision's MD5 sums are set to those of these files."""
    from scipy.io import savemat
    from torchvision.datasets import Flowers102

    folder = tmp_path / "flowers-102"
    for number in range(1, 13):
        write_image(folder / "jpg" / f"image_{number:05d}.jpg", seed=number)
    savemat(folder / "imagelabels.mat", {"labels": np.array([[1 + n % 2 for n in range(12)]])})
    savemat(folder / "setid.mat", {"trnid": [[1, 2, 3, 4]], "valid": [[5, 6]], "tstid": [[7, 8, 9, 10, 11, 12]]})
    md5 = {
        name: hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
        for name in ("imagelabels.mat", "setid.mat")
    }
    monkeypatch.setattr(
        Flowers102,
        "_file_dict",
        {"label": ("imagelabels.mat", md5["imagelabels.mat"]), "setid": ("setid.mat", md5["setid.mat"])},
    )
    return folder


def test_flowers_are_trained_on_the_official_train_and_validation_images(flowers):
    data = load(DataSpec(name="flowers102", root=flowers.parent, image_size=16))
    assert data.n_classes == 102
    assert [len(part) for part in (data.train, data.validation, data.test)] == [5, 1, 6]
    assert [data.test[index][1] for index in range(6)] == [0, 1, 0, 1, 0, 1]


def test_incomplete_flowers_are_one_line(flowers):
    (flowers / "jpg" / "image_00003.jpg").unlink()
    with pytest.raises(SourceError, match=r"lacks image .*image_00003.jpg"):
        load(DataSpec(name="flowers102", root=flowers.parent))
    (flowers / "setid.mat").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"incomplete or damaged"):
        load(DataSpec(name="flowers102", root=flowers.parent))
    (flowers / "setid.mat").unlink()
    with pytest.raises(SourceError, match=r"no flowers-102/setid.mat"):
        load(DataSpec(name="flowers102", root=flowers.parent))


def test_a_folder_by_its_bare_name_is_named_as_it_has_to_be(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="for the folder of that name write 'imagefolder:photos'"):
        load(DataSpec(name="photos"))
