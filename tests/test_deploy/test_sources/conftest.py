"""Networks made by name for images of a shape, and files of weights."""

from __future__ import annotations

import textwrap

import pytest
import torch
from safetensors.torch import save_file

from deploy.errors import SourceError
from deploy.sources.network import build
from deploy.sources.network_spec import NetworkSpec

COLOUR = (3, 32, 32)


def make(name, *, n_classes=10, input_shape=COLOUR, **spec):
    return build(NetworkSpec(name=name, **spec), n_classes=n_classes, input_shape=input_shape)


def refused(words, name, **arguments):
    """Expect one line that matches `words`."""
    with pytest.raises(SourceError, match=words) as caught:
        make(name, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def file(tmp_path):
    def write(code):
        path = tmp_path / "mine.py"
        path.write_text(textwrap.dedent(code))
        return path

    return write


class Weights:
    """A trained small ResNet and ways to write it."""

    name = "cifar:resnet20"
    options = {"width": 0.25}  # noqa: RUF012

    def __init__(self, folder):
        torch.manual_seed(0)
        self.state = make(self.name, options=self.options).state_dict()
        self.folder = folder

    def pt(self, content):
        path = self.folder / "weights.pt"
        torch.save(content, path)
        return path

    def safetensors(self, state):
        path = self.folder / "weights.safetensors"
        save_file({key: value.contiguous() for key, value in state.items()}, path)
        return path

    def load(self, path, **arguments):
        return make(self.name, options=self.options, weights=path, **arguments)

    def refused(self, words, path, **arguments):
        return refused(words, self.name, options=self.options, weights=path, **arguments)

    def same(self, network):
        return all(torch.equal(value, self.state[key]) for key, value in network.state_dict().items())


@pytest.fixture
def weights(tmp_path):
    return Weights(tmp_path)


@pytest.fixture(name="make", scope="session")
def _make():
    return make


@pytest.fixture(name="refused", scope="session")
def _refused():
    return refused
