"""Data sets by name: division, normalisation, augmentation, provenance, and what is said when data is missing."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.utils.data import DataLoader

from deploy.errors import ExtraMissingError, SourceError
from deploy.sources import boundary
from deploy.sources.datasets.data import ROOT_VARIABLE, DataSpec, Normalisation, data_availability, load
from deploy.sources.datasets.family import Pixels
from deploy.sources.datasets.fashion_mnist import FashionMnist
from deploy.sources.datasets.images import MemoryImages, Normalise, ShiftAndFlip, pixel_statistics
from deploy.sources.registry import data_set_names

DEBIAN = FashionMnist.installed[0]


@pytest.fixture(autouse=True)
def no_root_from_outside(monkeypatch):
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def digits():
    return load(DataSpec(name="digits"))


def every(dataset):
    return dataset.batch(range(len(dataset)))


# ---------------------------------------------------------------------------------------------------- division


def test_digits_are_divided_without_overlap(digits):
    parts = [set(digits.indices[part].tolist()) for part in ("train", "validation", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1797
    assert [len(part) for part in parts] == [1294, 144, 359]
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1294, 144, 359)


def test_division_is_stratified(digits):
    for part in (digits.train_plain, digits.validation, digits.test):
        shares = torch.bincount(every(part)[1], minlength=10) / len(part)
        assert (shares - 0.1).abs().max() < 0.02


def test_same_specification_gives_the_same_data_and_record(digits):
    again = load(DataSpec(name="digits"))
    assert again.provenance == digits.provenance
    torch.testing.assert_close(every(again.test)[0], every(digits.test)[0], rtol=0, atol=0)


def test_seed_changes_the_division_and_its_hash(digits):
    other = load(DataSpec(name="digits", seed=1))
    for part in ("train", "validation", "test"):
        mine, theirs = digits.provenance["division"][part], other.provenance["division"][part]
        assert mine["n_images"] == theirs["n_images"]
        assert mine["indices_sha256"] != theirs["indices_sha256"]
    assert other.provenance["sha256"] == digits.provenance["sha256"]


def test_limit_takes_few_images_of_every_class_out_of_the_same_division(digits):
    few = load(DataSpec(name="digits", limit=40))
    for part in ("train", "validation", "test"):
        assert len(few.indices[part]) == 40
        assert set(few.indices[part]) <= set(digits.indices[part])
    assert set(every(few.train_plain)[1].tolist()) == set(range(10))


def test_too_few_images_for_the_request_is_one_line():
    with pytest.raises(SourceError, match=r"'digits'.*limit=5.*cannot choose 5 of 1294 images in 10 classes") as caught:
        load(DataSpec(name="digits", limit=5))
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------- preparation


def test_images_are_normalised_by_the_training_images(digits):
    images, labels = every(digits.train_plain)
    assert images.shape == (1294, 1, 8, 8)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert every(digits.test)[0].mean().abs().item() > 1e-5


def test_recorded_formula_gives_the_images(digits):
    from sklearn.datasets import load_digits

    how = digits.provenance["preprocessing"]
    raw = np.rint(load_digits().images[digits.indices["test"]] * 255 / 16)
    expected = (raw / 255 - how["mean"][0]) / how["std"][0]
    np.testing.assert_allclose(every(digits.test)[0][:, 0].numpy(), expected, atol=1e-5)


def test_every_way_of_taking_images_gives_the_same(digits):
    images, labels = digits.validation.batch([5, 2])
    first, second = digits.validation.__getitems__([5, 2])
    torch.testing.assert_close(torch.stack([first[0], second[0]]), images, rtol=0, atol=0)
    torch.testing.assert_close(digits.validation[5][0], images[0], rtol=0, atol=0)
    assert [first[1], second[1]] == labels.tolist() == [digits.validation[5][1], digits.validation[2][1]]
    assert isinstance(first[1], int)
    loaded, classes = next(iter(DataLoader(digits.validation, batch_size=7)))
    torch.testing.assert_close(loaded, digits.validation.batch(range(7))[0], rtol=0, atol=0)
    assert classes.dtype == torch.int64


def test_iteration_ends(digits):
    assert sum(1 for _ in digits.validation) == len(digits.validation)


def test_colour_batches_are_laid_out_channel_by_channel():
    part = Pixels(
        images=np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8), labels=np.zeros(6, np.int64)
    )
    unit = Normalise((0.0,) * 3, (1.0,) * 3)
    for augment in (None, ShiftAndFlip(pixels=1, flip=True)):
        images, _ = MemoryImages(part, channels=3, size=(4, 5), normalise=unit, augment=augment).batch([0, 3])
        assert images.stride() == (60, 20, 5, 1)
    images, _ = MemoryImages(part, channels=3, size=(4, 5), normalise=unit).batch([3])
    np.testing.assert_allclose(images[0].numpy(), part.images[3].transpose(2, 0, 1) / 255, atol=1e-6)


def test_size_and_channels_are_as_asked():
    data = load(DataSpec(name="digits", image_size=16, channels=3, limit=20))
    assert data.input_shape == (3, 16, 16)
    images, _ = every(data.validation)
    assert images.shape == (20, 3, 16, 16)
    torch.testing.assert_close(images[:, 0], images[:, 2])


def test_colour_becomes_grey_by_luminance():
    images = np.zeros((2, 2, 2, 3), dtype=np.uint8)
    images[0, ..., 1] = 255
    part = Pixels(images=images, labels=np.zeros(2, dtype=np.int64))
    grey, _ = MemoryImages(part, channels=1, size=(2, 2), normalise=Normalise((0.0,), (1.0,))).batch([0, 1])
    assert grey[0].unique().item() == pytest.approx(0.587)
    statistics = pixel_statistics(part, 1)
    assert statistics.mean[0] == pytest.approx(0.587 / 2)
    assert statistics.std[0] == pytest.approx(0.587 / 2)


def test_given_and_imagenet_normalisation():
    given = load(DataSpec(name="digits", normalise=Normalisation(mean=(0.5,), std=(0.25,)), limit=20))
    images, _ = every(given.test)
    assert images.min() == pytest.approx(-2)
    assert images.max() == pytest.approx(2)
    imagenet = load(DataSpec(name="digits", channels=3, normalise="imagenet", limit=20))
    assert imagenet.provenance["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    with pytest.raises(SourceError, match="imagenet is for colour images"):
        load(DataSpec(name="digits", normalise="imagenet"))
    with pytest.raises(SourceError, match="has 3 numbers, the images have 1 channels"):
        load(DataSpec(name="digits", normalise=Normalisation(mean=(0.5,) * 3, std=(0.25,) * 3)))


@pytest.mark.parametrize(
    "bad",
    [
        {"validation_fraction": 0},
        {"limit": 0},
        {"channels": 2},
        {"seed": -1},
        {"normalise": {"mean": [0.5], "std": [0.0]}},
        {"normalise": {"mean": [0.5, 0.5], "std": [0.1]}},
        {"imagesize": 8},
    ],
)
def test_illegal_specifications_are_refused(bad):
    with pytest.raises(ValidationError):
        DataSpec(name="digits", **bad)


# ---------------------------------------------------------------------------------------------------- augmentation


def test_augmentation_shifts_within_the_frame_and_flips():
    image = torch.arange(1.0, 17).view(1, 1, 4, 4)
    batch = image.expand(400, 1, 4, 4).contiguous()
    torch.manual_seed(0)
    seen = {tuple(result.flatten().tolist()) for result in ShiftAndFlip(pixels=1, flip=True)(batch)}
    framed = torch.zeros(6, 6)
    framed[1:5, 1:5] = image[0, 0]
    possible = set()
    for top in range(3):
        for left in range(3):
            crop = framed[top : top + 4, left : left + 4]
            possible |= {tuple(crop.flatten().tolist()), tuple(crop.flip(-1).flatten().tolist())}
    assert seen == possible


def test_augmentation_comes_from_torchs_generator(digits):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, _ = digits.train.batch(range(64))
    second, _ = digits.train.batch(range(64))
    torch.set_rng_state(state)
    again, _ = digits.train.batch(range(64))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, second)
    assert not torch.equal(first, digits.train_plain.batch(range(64))[0])


def test_plain_images_draw_nothing(digits):
    state = torch.get_rng_state()
    digits.train_plain.batch(range(8))
    digits.validation.batch(range(8))
    assert torch.equal(state, torch.get_rng_state())


def test_train_and_train_plain_are_the_same_images_in_the_same_order():
    data = load(DataSpec(name="digits", augment=False, limit=50))
    torch.testing.assert_close(every(data.train), every(data.train_plain), rtol=0, atol=0)


def test_digits_are_never_mirrored():
    torch.manual_seed(0)
    data = load(DataSpec(name="digits", normalise=Normalisation(mean=(0.0,), std=(1.0,))))
    plain, _ = every(data.train_plain)
    crops = torch.nn.functional.pad(plain, (1,) * 4).unfold(2, 8, 1).unfold(3, 8, 1)
    augmented, _ = every(data.train)
    matches = torch.stack(
        [(crops[:, :, top, left] == augmented).flatten(1).all(1) for top in range(3) for left in range(3)]
    )
    assert matches.any(0).all()


# ---------------------------------------------------------------------------------------------------- Fashion-MNIST


def write_idx(path: Path, array: np.ndarray, *, zipped: bool = False) -> None:
    header = bytes((0, 0, 8, array.ndim)) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if zipped else content)


def write_fashion(folder: Path, *, zipped: bool = False) -> None:
    rng = np.random.default_rng(0)
    suffix = ".gz" if zipped else ""
    for prefix, n in (("train", 60), ("t10k", 20)):
        write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", rng.integers(0, 256, (n, 28, 28)), zipped=zipped)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", np.arange(n) % 10, zipped=zipped)


@pytest.mark.parametrize(("where", "zipped"), [("FashionMNIST/raw", False), ("fashion-mnist", True), ("", True)])
def test_fashion_mnist_is_found_under_a_root(tmp_path, monkeypatch, where, zipped):
    write_fashion(tmp_path / where, zipped=zipped)
    explicit = load(DataSpec(name="fashion-mnist", root=tmp_path))
    assert [len(explicit.indices[part]) for part in ("train", "validation", "test")] == [54, 6, 20]
    assert explicit.provenance["division"]["test"]["of"] == "test"
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert load(DataSpec(name="fashion-mnist")).provenance["sha256"] == explicit.provenance["sha256"]


@pytest.mark.parametrize("damage", ["truncated", "not gzip", "short header", "too long", "label"])
def test_damaged_fashion_mnist_names_the_file(tmp_path, damage):
    write_fashion(tmp_path, zipped=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "not gzip":
        path.write_bytes(b"hello")
    elif damage == "short header":
        path.write_bytes(gzip.compress(b"\0\0\x08"))
    elif damage == "too long":
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"x"))
    else:
        path = tmp_path / "train-labels-idx1-ubyte.gz"
        write_idx(path, np.full(60, 10), zipped=True)
    with pytest.raises(SourceError, match=path.name) as caught:
        load(DataSpec(name="fashion-mnist", root=tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_debians_fashion_mnist_is_found_where_it_installs():
    data = load(DataSpec(name="fashion-mnist", limit=100))
    assert data.input_shape == (1, 28, 28)
    assert data.n_classes == 10
    assert data.classes[9] == "Ankle boot"
    whole = load(DataSpec(name="fashion-mnist"))
    assert [len(whole.indices[part]) for part in ("train", "validation", "test")] == [54_000, 6_000, 10_000]
    # The published statistics of all 60,000 images are 0.2860 and 0.3530.
    assert whole.provenance["preprocessing"]["mean"] == pytest.approx([0.2860], abs=1e-3)
    assert whole.provenance["preprocessing"]["std"] == pytest.approx([0.3530], abs=1e-3)


def test_an_explicit_root_is_the_only_place_looked_at(tmp_path):
    with pytest.raises(SourceError, match="apt install dataset-fashion-mnist") as caught:
        load(DataSpec(name="fashion-mnist", root=tmp_path))
    assert str(tmp_path / "FashionMNIST" / "raw") in str(caught.value)
    assert str(DEBIAN) not in str(caught.value)


# ---------------------------------------------------------------------------------------------------- names and absence


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digit", "did you mean 'digits'"),
        ("mnist-of-clothes", "there are: digits, fashion-mnist"),
        ("imagefolder", "needs a path"),
        ("digits:8", "takes nothing behind a colon"),
        ("cifar10", "no data root is given; set data.root or PRUNE_DEPLOY_DATA"),
        ("imagefolder:/no/such/folder", r"/no/such/folder \(no such folder\)"),
    ],
)
def test_unknown_or_missing_data_is_one_line_that_helps(name, words):
    with pytest.raises(SourceError, match=words) as caught:
        load(DataSpec(name=name))
    assert "\n" not in str(caught.value)


def test_missing_library_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(boundary, "find_spec", lambda name: None if name == "sklearn" else object())
    with pytest.raises(ExtraMissingError, match=r"digits needs scikit-learn: pip install -e '\.\[prune\]'"):
        load(DataSpec(name="digits"))
    row = next(row for row in data_availability() if row.name == "digits")
    assert (row.ok, row.reason) == (False, "scikit-learn not installed")


def test_availability_lists_every_data_set_with_a_reason_for_each_absence(tmp_path):
    rows = data_availability(tmp_path)
    assert tuple(row.name for row in rows) == data_set_names()
    for row in rows:
        assert row.where if row.ok else (str(tmp_path) in row.reason and row.hint)
    write_fashion(tmp_path / "FashionMNIST" / "raw")
    row = next(row for row in data_availability(tmp_path) if row.name == "fashion-mnist")
    assert (row.ok, row.where) == (True, str(tmp_path / "FashionMNIST" / "raw"))


def test_specifications_registry_and_availability_import_no_torch():
    code = (
        "import sys; from deploy.sources.registry import names; "
        "from deploy.sources.datasets.data import DataSpec, data_availability; "
        "from deploy.sources import NetworkSpec, provenance; names(); data_availability(); "
        "provenance(NetworkSpec(name='cifar:resnet20')); "
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_specification_and_provenance_survive_json(digits):
    spec = DataSpec(name="digits", root=Path("/data"), normalise=Normalisation(mean=(0.5,), std=(0.1,)))
    assert DataSpec.model_validate_json(spec.model_dump_json()) == spec
    assert json.loads(json.dumps(digits.provenance)) == digits.provenance
