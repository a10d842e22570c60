"""Every registered method keeps every promise, on every kind of network: a new method is held to them by its entry."""

from __future__ import annotations

import pytest

from deploy.networks.resnet import resnet20
from pruners import testing
from pruners.recover.settings import TrainSettings
from pruners.registry import create, names
from pruners.target import Constraints, Target

pytestmark = pytest.mark.long

# Smaller schedules of iterative methods; a method that is not named here runs as it comes.
SHORT = TrainSettings(epochs=2, batch_size=8, lr=0.05)
QUICK = {
    "taylor": {"steps": 2, "batches_per_step": 1, "updates_between": 2},
    "thinet": {"images": 64, "updates_between": 0, "training": SHORT},
    "regression": {"images": 64},
    "slimming": {"training": SHORT, "passes": 2},
    "sss": {"training": SHORT, "strength": 2.0, "unit_strength": 0.1},
    "autopruner": {"training": SHORT, "layers_at_once": 2, "ramp_every": 1, "check_every": 2},
    "dhp": {"training": SHORT, "converge": SHORT, "gamma": 1.0, "check_every": 5, "min_survivors": 2},
}


# These take a pruning or two more, and depend little on the network's kind.
LONG = ("killed_training_goes_on", "killed_between_removals_goes_on", "same_seed_gives_the_same_network")


def marks(network, promise):
    """Give the marks of a check; what another one covers nearly as well is slow."""
    repeats = network == "plain" or (network != "residual" and promise.__name__ in LONG)
    return [pytest.mark.slow] if repeats else []


PROMISES = [
    pytest.param(network, promise, id=f"{network}-{promise.__name__}", marks=marks(network, promise))
    for network in testing.NETWORKS
    for promise in testing.PROMISES
]


@pytest.mark.parametrize(("network", "promise"), PROMISES)
@pytest.mark.parametrize("method", names("channels"))
def test_promise(method, network, promise):
    promise(testing.run(method, network, **QUICK.get(method, {})))


@pytest.mark.slow
@pytest.mark.parametrize("method", names("channels"))
def test_a_network_of_many_layers_lands_within_a_hundredth_of_the_target(method):
    """Small networks have steps that are larger than this."""
    target = Target(of="flops", kept_fraction=0.5)
    task = testing.make_task(resnet20(n_classes=5), target=target, constraints=Constraints())
    pruned = create(method, **QUICK.get(method, {})).prune(task)
    assert 0.49 < pruned.macs_after / pruned.macs_before <= 0.5
    assert pruned.landing == ""


@pytest.mark.parametrize("promise", testing.CLASS_PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("method", names("channels"))
def test_class_promise(method, promise):
    promise(method)
