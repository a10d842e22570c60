"""A look at a network and its images: what a recipe needs to know and nobody has said."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from deploy.errors import SourceError
from deploy.recipe import load_recipe
from deploy.run.look import look, write_own_recipe
from deploy.run.wishes import Wishes
from deploy.sources.datasets.data_spec import DataSpec
from deploy.sources.network_spec import NetworkSpec

# Right about pixels in [0, 1] only: bright images are those above 0.5.
NETWORK = """
import torch
from torch import nn


class Bright(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 3)
        with torch.no_grad():
            self.conv.weight[0], self.conv.weight[1] = -1.0, 1.0
            self.conv.bias[0], self.conv.bias[1] = 4.5 * channels, -4.5 * channels

    def forward(self, x):
        return self.conv(x).mean((2, 3))


def grey():
    return Bright(1)


def colour():
    return Bright(3)
"""


def photos(folder, *, sides=(12,), mode="L", levels=(60, 200), n=12):
    generator = np.random.default_rng(0)
    for name, level in zip(("dark", "light"), levels, strict=True):
        (folder / name).mkdir(parents=True)
        for index in range(n):
            side = sides[index % len(sides)]
            shape = (side, side) if mode == "L" else (side, side, 3)
            pixels = np.clip(generator.normal(level, 20, shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return DataSpec(name=f"imagefolder:{folder}")


@pytest.fixture
def networks(tmp_path):
    (tmp_path / "net.py").write_text(NETWORK)
    return lambda name: NetworkSpec(name=f"{tmp_path / 'net.py'}:{name}")


def test_size_colour_and_preparation_are_found(networks, tmp_path):
    lines = []
    found = look(networks("grey"), photos(tmp_path / "photos", levels=(80, 170)), lines.append)
    assert (found.data.image_size, found.data.channels, found.data.crop) == (12, 1, "none")
    assert found.data.augment is False
    assert found.data.validation_fraction == 0.25
    assert found.n_train == 24 - 5 - 5
    assert lines[0] == "images: 24 to divide, 12 x 12, grey, 2 classes (dark, light)"
    assert any("accuracy 100.00%" in line for line in lines)


def test_the_preparation_is_the_one_under_which_the_network_is_right(networks, tmp_path):
    (tmp_path / "net.py").write_text(NETWORK.replace("4.5 * channels", "0.0 * channels"))  # about 0, as after `train`
    lines = []
    assert look(networks("grey"), photos(tmp_path / "photos"), lines.append).data.normalise == "train"
    assert ["accuracy 100.00%" in line for line in lines[1:]] == [True, False]


NORMALISED = """
import torch
from torch import nn


class Bright(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, affine=False)
        self.norm.running_mean[:] = (torch.tensor([0.51, 0.51, 0.51]) - MEAN) / STD
        self.norm.running_var[:] = (0.285 / STD) ** 2

    def forward(self, x):
        bright = self.norm(x).mean((1, 2, 3))
        return torch.stack([-bright, bright], 1)


MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def imagenet():
    return Bright()
"""


def test_of_equally_good_preparations_that_of_the_training_is_taken(tmp_path):
    (tmp_path / "net.py").write_text(NORMALISED)
    lines = []
    network = NetworkSpec(name=f"{tmp_path / 'net.py'}:imagenet")
    found = look(network, photos(tmp_path / "photos", mode="RGB"), lines.append)
    assert sum("accuracy 100.00%" in line for line in lines) > 1
    assert found.data.normalise == "imagenet"


def test_keys_that_are_given_stay(networks, tmp_path):
    data = photos(tmp_path / "photos").model_copy(
        update={"image_size": 8, "crop": 0.5, "normalise": "train", "augment": True, "validation_fraction": 0.2}
    )
    found = look(networks("grey"), data, lambda line: None).data
    assert found == data.model_copy(update={"channels": 1})


def test_a_network_of_colour_gets_grey_images_as_colour(networks, tmp_path):
    assert look(networks("colour"), photos(tmp_path / "photos"), lambda line: None).data.channels == 3


def test_a_network_of_grey_gets_colour_images_as_grey(networks, tmp_path):
    data = photos(tmp_path / "photos", mode="RGB")
    assert look(networks("grey"), data, lambda line: None).data.channels == 1


def test_images_of_several_sizes_ask_for_one(networks, tmp_path):
    data = photos(tmp_path / "photos", sides=(12, 16))
    with pytest.raises(SourceError, match=r"12 x 12 and other sizes.*--image-size"):
        look(networks("grey"), data, lambda line: None)
    lines = []
    found = look(networks("grey"), data.model_copy(update={"image_size": 12}), lines.append).data
    assert found.image_size == 12
    assert sum("crop 0.875" in line for line in lines) == sum("crop none" in line for line in lines) == 2


def test_what_is_not_yet_of_the_networks_size_may_be_cropped(networks, tmp_path):
    data = photos(tmp_path / "photos", sides=(16,)).model_copy(update={"image_size": 12})
    lines = []
    look(networks("grey"), data, lines.append)
    assert any("crop 0.875" in line for line in lines)


def test_grey_images_for_a_network_of_colour_with_imagenets_normalisation(networks, tmp_path):
    data = photos(tmp_path / "photos").model_copy(update={"normalise": "imagenet"})
    found = look(networks("colour"), data, lambda line: None).data
    assert (found.channels, found.normalise) == (3, "imagenet")


def test_a_network_that_guesses_is_called_that(networks, tmp_path):
    (tmp_path / "net.py").write_text(NETWORK.replace("= -1.0, 1.0", "= 1.0, -1.0"))
    lines = []
    look(networks("grey"), photos(tmp_path / "photos"), lines.append)
    assert lines[-1].startswith("the network only guesses")


def test_too_few_images_are_told_by_what_was_asked_for(networks, tmp_path):
    with pytest.raises(SourceError, match=r"photos' with validation_fraction=0\.25: cannot choose 1 of 2 images"):
        look(networks("grey"), photos(tmp_path / "photos", n=1), lambda line: None)


def test_an_image_that_is_damaged_is_named(networks, tmp_path):
    data = photos(tmp_path / "photos")
    (tmp_path / "photos" / "dark" / "0.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"image .*dark/0\.png cannot be read"):
        look(networks("grey"), data, lambda line: None)


def test_the_recipe_is_written_whole_or_not_at_all(networks, tmp_path):
    photos(tmp_path / "photos")
    wishes = Wishes(network=networks("grey").name, data=f"imagefolder:{tmp_path / 'photos'}", speed_up=2)
    write_own_recipe(wishes.model_dump_json(), str(tmp_path / "own.yaml"))
    recipe = load_recipe(tmp_path / "own.yaml")
    assert (recipe.name, recipe.data.image_size, recipe.prune.target.speed_up) == ("net", 12, 2)
    assert recipe.finetune is not None
    lost = wishes.model_copy(update={"data": f"imagefolder:{tmp_path / 'lost'}"})
    with pytest.raises(SourceError, match="lost"):
        write_own_recipe(lost.model_dump_json(), str(tmp_path / "lost.yaml"))
    assert not (tmp_path / "lost.yaml").exists()
