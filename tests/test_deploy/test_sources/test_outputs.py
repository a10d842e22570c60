"""Networks with several outputs: which one holds the scores is named in the recipe, or called logits."""

from __future__ import annotations

import copy

import pytest
import torch

from deploy.bundles.bundle import read_bundle
from deploy.bundles.rebuild import load_network
from deploy.exporting.agreement import compare_with_torch
from deploy.recipe import Recipe
from deploy.run.prepare import prepare
from deploy.run.progress import Progress
from deploy.run.run_stages import stages_of
from deploy.run.stages import StageStore
from deploy.run.steps import StepContext
from deploy.sources.datasets.data import load
from pruners.forms.graph_network import GraphNetwork

NETWORK = """
    from dataclasses import dataclass
    import torch
    from torch import nn

    @dataclass
    class Output:
        {name}: torch.Tensor
        features: tuple = ()

    class Net(nn.Module):
        def __init__(self, n_classes, in_channels):
            super().__init__()
            self.conv, self.head = nn.Conv2d(in_channels, 8, 3), nn.Linear(8, n_classes)

        def forward(self, pixel_values):
            features = torch.relu(self.conv(pixel_values))
            return Output(self.head(features.mean((2, 3))), (features,))
"""


def test_logits_are_the_scores_and_others_are_named(file, make, refused):
    network = make(f"{file(NETWORK.format(name='logits'))}:Net")
    assert copy.deepcopy(network)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert list(network.state_dict()) == ["conv.weight", "conv.bias", "head.weight", "head.bias"]

    name = f"{file(NETWORK.format(name='scores'))}:Net"
    refused(r"Output of scores, features.0: name .*class scores in a recipe, such as network: {output: scores}", name)
    refused(r"Output of scores, features.0", name, output="logits")
    refused(r"shape \(1, 8, 30, 30\)", name, output="features.0")
    assert make(name, output="scores")(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


RETURNS = """
    from torch import nn

    class Net(nn.Flatten):
        def forward(self, x):
            return {value}
"""


def test_positions_are_names_and_one_tensor_needs_none(file, make, refused):
    name = f"{file(RETURNS.format(value='[x, super().forward(x)]'))}:Net"
    assert make(name, output=1, n_classes=3072)(torch.zeros(2, 3, 32, 32)).shape == (2, 3072)
    refused("gives tuple, not a tensor of class scores", f"{file(RETURNS.format(value='()'))}:Net")
    refused("gives one tensor: leave output: 'logits' out", "cifar:resnet20", output="logits")


@pytest.mark.parametrize("form", [pytest.param("module", marks=pytest.mark.slow), "graph"])
def test_a_network_that_returns_a_dataclass_is_trained_pruned_and_exported(file, tmp_path, form):
    recipe = Recipe.model_validate(
        {
            "name": "fields",
            "network": {"name": f"{file(NETWORK.format(name='scores'))}:Net", "output": "scores"},
            "data": {"name": "digits", "limit": 40},
            "prune": {"method": "l1", "target": {"params": 0.6}, "form": form},
            "finetune": {"epochs": 1, "batch_size": 32, "lr": 0.1},
        }
    )
    stages = stages_of(recipe, StageStore(tmp_path / "run"))
    prepare(StepContext(recipe=recipe, data=load(recipe.data), progress=Progress()), stages)
    bundle = read_bundle(stages.export.folder / "pruned")
    assert [spec.shape for spec in bundle.manifest.outputs] == [("batch", 10)]
    assert bundle.manifest.inputs[0].name == "pixel_values"
    network = load_network(bundle, trust_code=True)
    assert isinstance(network, GraphNetwork) == (form == "graph")
    assert compare_with_torch(bundle.model, network, torch.rand(5, *bundle.manifest.inputs[0].shape[1:])).ok
