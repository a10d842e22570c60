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


# These take a pruning or two more, and depend little on the network's kind, but on how a method goes about it: at once,
# in steps, layer by layer, in a training. One method of each is enough for every day.
LONG = ("killed_training_goes_on", "killed_between_removals_goes_on", "same_seed_gives_the_same_network")
ONE_OF_EACH = ("l1", "taylor", "thinet", "sss")


def marks(method, network, promise):
    """Return the marks of a check; what another one covers nearly as well is slow."""
    long = promise.__name__ in LONG
    repeats = network == "plain" or (long and (network != "residual" or method not in ONE_OF_EACH))
    return [pytest.mark.slow] if repeats else []


PROMISES = [
    pytest.param(
        method, network, promise, id=f"{method}-{network}-{promise.__name__}", marks=marks(method, network, promise)
    )
    for method in names("channels")
    for network in testing.NETWORKS
    for promise in testing.PROMISES
]


@pytest.mark.parametrize(("method", "network", "promise"), PROMISES)
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
