"""Images to restore: divided by photograph, test pieces the same each time, none of their pixels in training."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from deploy.errors import ExtraMissingError, SourceError
from deploy.sources import boundary
from deploy.sources.datasets import photographs
from deploy.sources.datasets.data import DataSpec, Normalisation, data_availability, load
from deploy.sources.datasets.family import Photographs, Raw
from deploy.sources.datasets.images import Normalise
from deploy.sources.datasets.photographs import Denoising, SuperResolution
from deploy.sources.datasets.restoration import PhotographPieces, Pieces

PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def noisy():
    return load(DataSpec(name="denoising:25"))


@pytest.fixture(scope="module")
def small():
    return load(DataSpec(name="super-resolution:3", image_size=16))


def every(data):
    return data.batch(range(len(data)))


def pieces(*, channels=3, side=8, scale=1, sigma=0.0):
    return Pieces(channels, side, scale, sigma, Normalise((0.0,) * channels, (1.0,) * channels))


def one_photograph(height=20, width=30):
    # Each pixel says where it lies, so that a piece can be found again.
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    return Photographs(names=("one",), images=(image,))


# ---------------------------------------------------------------------------------------------------- division


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_photograph_is_in_one_part(seed):
    data = load(DataSpec(name="denoising:25", seed=seed))
    named = [set(data.provenance["division"][part]["photographs"]) for part in PARTS]
    assert [len(names) for names in named] == [4, 1, 2]
    assert len(set.union(*named)) == 7
    assert data.provenance["preprocessing"]["division"].startswith("by photograph")


def test_no_training_piece_is_cut_from_a_test_or_validation_photograph(monkeypatch):
    # Seven photographs, each of one grey level: whatever is cut out says which one it is from.
    levels = {f"photograph {index}": 20 * index + 10 for index in range(7)}
    images = tuple(np.full((40, 50, 3), level, dtype=np.uint8) for level in levels.values())
    flat = Raw(classes=(), train=Photographs(names=tuple(levels), images=images), test_fraction=0.3)
    monkeypatch.setattr(Denoising, "read", lambda self, place: flat)
    data = load(DataSpec(name="denoising:1", image_size=16))
    seen = {}
    for part in PARTS:
        _, targets = every(getattr(data, part))
        seen[part] = {round(level * 255) for level in targets.flatten(1).mean(1).tolist()}
        assert seen[part] == {levels[name] for name in data.provenance["division"][part]["photographs"]}
    assert not any(seen[a] & seen[b] for a, b in itertools.combinations(PARTS, 2))


def test_the_same_seed_divides_alike_and_another_one_differently(noisy):
    again, other = load(DataSpec(name="denoising:25")), load(DataSpec(name="denoising:25", seed=1))
    assert again.provenance == noisy.provenance
    assert other.provenance["division"] != noisy.provenance["division"]


def test_limit_takes_so_many_photographs():
    data = load(DataSpec(name="denoising:25", limit=1))
    assert [data.provenance["division"][part]["n_images"] for part in PARTS] == [1, 1, 1]


# ---------------------------------------------------------------------------------------------------- what is given


def test_a_source_says_what_its_targets_are(noisy, small):
    assert (noisy.task, noisy.n_classes, noisy.classes) == ("restoration", None, ())
    assert noisy.input_shape == noisy.target_shape == (3, 48, 48)
    assert (small.input_shape, small.target_shape) == ((3, 16, 16), (3, 48, 48))
    for data in (noisy, small):
        for part in PARTS:
            image, target = getattr(data, part)[0]
            assert (image.shape, target.shape) == (data.input_shape, data.target_shape)
            assert (image.dtype, target.dtype) == (torch.float32, torch.float32)
            assert 0 <= target.min() <= target.max() <= 1


def test_noise_has_the_strength_asked_for_and_is_not_clipped(noisy):
    for part in (noisy.train, noisy.test):
        images, targets = every(part)
        assert (images - targets).std().item() == pytest.approx(25 / 255, rel=0.01)
        assert images.min() < 0
        assert images.max() > 1


def test_test_images_are_the_same_each_time_and_for_any_batch(noisy):
    torch.manual_seed(1)
    images, targets = every(noisy.test)
    torch.manual_seed(2)
    again, _ = every(load(DataSpec(name="denoising:25")).test)
    assert torch.equal(images, again)
    assert torch.equal(noisy.test[5][0], images[5])
    assert not torch.equal((images - targets)[0], (images - targets)[1])
    other, _ = every(load(DataSpec(name="denoising:25", seed=3)).train_plain)
    assert not torch.equal(other[0], every(noisy.train_plain)[0][0])


def test_training_pieces_are_drawn_anew_from_torchs_generator(noisy):
    torch.manual_seed(7)
    first, second = noisy.train.batch(range(8)), noisy.train.batch(range(8))
    torch.manual_seed(7)
    repeated = noisy.train.batch(range(8))
    assert torch.equal(first[0], repeated[0])
    assert torch.equal(first[1], repeated[1])
    assert not torch.equal(first[0], second[0])


def test_noise_of_the_same_training_piece_is_drawn_anew():
    flat = Photographs(names=("flat",), images=(np.full((8, 8, 3), 100, dtype=np.uint8),))
    data = PhotographPieces(flat, pieces(sigma=0.1), seed=0, augment=True)
    (first, target), (second, same) = data[0], data[0]
    assert torch.equal(target, same)
    assert not torch.equal(first, second)


def test_tiles_do_not_overlap_and_crops_reach_every_corner_in_every_direction():
    part = one_photograph()
    _, tiles = every(PhotographPieces(part, pieces(), seed=0))
    corners = [tuple((tile[:2, 0, 0] * 255).round().int().tolist()) for tile in tiles]
    assert corners == [(0, 0), (0, 8), (0, 16), (8, 0), (8, 8), (8, 16)]
    torch.manual_seed(0)
    _, crops = PhotographPieces(part, pieces(), seed=0, augment=True).batch([0] * 2000)
    rows, columns = (crops[:, axis] * 255 for axis in (0, 1))
    assert (rows.amin(), rows.amax(), columns.amin(), columns.amax()) == (0, 19, 0, 29)
    turns = {(bool(r[0, 0] > r[-1, 0]), bool(c[0, 0] > c[0, -1])) for r, c in zip(rows, columns, strict=True)}
    assert len(turns) == 4


def test_inputs_to_enlarge_are_pils_bicubic(small):
    image, target = small.test[3]
    pixels = (target * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    expected = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal((image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy(), expected)


def test_grey_images_and_a_normalisation_that_was_asked_for():
    given = Normalisation(mean=(0.5,), std=(0.25,))
    plain = load(DataSpec(name="super-resolution:2", channels=1, limit=1))
    scaled = load(DataSpec(name="super-resolution:2", channels=1, limit=1, normalise=given))
    assert (plain.input_shape, plain.target_shape) == ((1, 24, 24), (1, 48, 48))
    torch.testing.assert_close(scaled.test[0][0], (plain.test[0][0] - 0.5) / 0.25)
    assert torch.equal(scaled.test[0][1], plain.test[0][1])
    own = load(DataSpec(name="super-resolution:2", channels=1, limit=1, normalise="train"))
    assert 0 < own.provenance["preprocessing"]["mean"][0] < 1


def test_without_augmentation_training_pieces_are_tiles():
    data = load(DataSpec(name="denoising:25", augment=False, limit=1))
    assert torch.equal(data.train[2][0], data.train_plain[2][0])


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("denoising", {}, "needs a sigma: write denoising:SIGMA"),
        ("super-resolution", {}, "needs a scale: write super-resolution:2, :3 or :4"),
        ("denoising:strong", {}, "above 0 and up to 255; got 'strong'"),
        ("denoising:0", {}, "above 0 and up to 255; got '0'"),
        ("denoising:nan", {}, "above 0 and up to 255; got 'nan'"),
        ("super-resolution:5", {}, "the scale is 2, 3 or 4, got '5'"),
        ("super-resolution:4", {"image_size": 100}, "needs photographs of 400 x 400 at least"),
        ("denoising:25", {"channels": 1, "normalise": "imagenet"}, "imagenet is for colour images"),
        ("denoise:25", {}, "did you mean 'denoising'"),
    ],
)
def test_what_cannot_be_had_is_one_line(name, options, words):
    with pytest.raises(SourceError, match=words) as caught:
        load(DataSpec(name=name, **options))
    assert "\n" not in str(caught.value)


def test_a_library_that_is_missing_or_broken_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(photographs, "_folder", lambda package: tmp_path)
    with pytest.raises(SourceError, match=r"data/astronaut.png of skimage cannot be read .*install that library again"):
        load(DataSpec(name="denoising:25"))
    monkeypatch.setattr(boundary, "find_spec", lambda name: None if name == "skimage" else object())
    with pytest.raises(ExtraMissingError, match=r"denoising:25 needs scikit-image: pip install"):
        load(DataSpec(name="denoising:25"))


def test_both_are_listed_with_their_form():
    rows = {row.name: row for row in data_availability()}
    assert rows["denoising"].ok
    assert rows["super-resolution"].where == "comes with a library, as super-resolution:SCALE"
    assert (SuperResolution("super-resolution:3", "3").scale, Denoising("denoising:51", "51").sigma) == (3, 0.2)
