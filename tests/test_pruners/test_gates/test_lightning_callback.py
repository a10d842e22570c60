"""A gate under the real Lightning does what it does in a loop of one's own."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from pruners.errors import MethodError
from pruners.gates.bn_scales import BatchNormScales
from pruners.gates.gate import Gate
from pruners.graph import trace
from pruners.testing import make_network

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pl = pytest.importorskip("pytorch_lightning", reason="pytorch-lightning is not installed")

    from pruners.gates.lightning_callback import GateCallback

pytestmark = [
    pytest.mark.optional,
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(32, 3, 8, 8, generator=GENERATOR)
LABELS = torch.randint(0, 5, (32,), generator=GENERATOR)
LR = 0.05


class Counting(Gate):
    """A gate with a penalty, an update of its own and an end."""

    def __init__(self, network: nn.Module, last: int = 100) -> None:
        super().__init__(network)
        self.value = nn.Parameter(torch.ones(3))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.last = last

    def updated_here(self):
        return [self.value]

    def penalty(self):
        return self.value.square().sum()

    def after_step(self, lr):
        with torch.no_grad():
            self.value -= lr * self.value.grad
        self.value.grad = None
        self.updates += 1

    @property
    def finished(self):
        return int(self.updates) >= self.last

    def scores(self):
        return {}

    def fold(self):
        pass


class Classifier(pl.LightningModule):
    def __init__(self, network: nn.Module, gate: Gate, *, as_dict: bool = False) -> None:
        super().__init__()
        self.network, self.groups, self.as_dict = network, gate.parameter_groups(network, 1e-4), as_dict

    def training_step(self, batch, _):
        loss = F.cross_entropy(self.network(batch[0]), batch[1])
        return {"loss": loss} if self.as_dict else loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.groups, lr=LR, momentum=0.9)


def lightning(network, gate, tmp_path, **options):
    module = Classifier(network, gate, as_dict=options.pop("as_dict", False))
    trainer = pl.Trainer(
        **{"max_epochs": 2, **options},
        accelerator="cpu",
        callbacks=[GateCallback(gate)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, DataLoader(TensorDataset(IMAGES, LABELS), batch_size=8))
    return module


def by_hand(network, gate, epochs=2, accumulate=1):
    network.train()
    optimizer = torch.optim.SGD(gate.parameter_groups(network, 1e-4), lr=LR, momentum=0.9)
    for _ in range(epochs):
        for number, (images, labels) in enumerate(zip(IMAGES.split(8), LABELS.split(8), strict=True), start=1):
            loss = gate.with_penalty(F.cross_entropy(network(images), labels))
            (loss / accumulate).backward()
            if number % accumulate:
                continue
            gate.before_step(LR)
            optimizer.step()
            gate.after_step(LR)
            network.zero_grad()


def make(kind):
    network = make_network("plain")
    if kind == "counting":
        return network, Counting(network)
    return network, BatchNormScales(network, trace(network, (IMAGES[:2],)), strength=0.05)


@pytest.mark.parametrize("kind", ["counting", "scales"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_equals_the_loop_by_hand(kind, accumulate, tmp_path):
    (left, left_gate), (right, right_gate) = make(kind), make(kind)
    lightning(left, left_gate, tmp_path, accumulate_grad_batches=accumulate)
    by_hand(right, right_gate, accumulate=accumulate)
    for (name, one), other in zip(left.state_dict().items(), right.state_dict().values(), strict=True):
        assert torch.allclose(one, other, atol=1e-6), name


def test_a_step_that_returns_a_dictionary_works_too(tmp_path):
    (left, left_gate), (right, right_gate) = make("counting"), make("counting")
    lightning(left, left_gate, tmp_path, as_dict=True)
    by_hand(right, right_gate)
    assert torch.allclose(left_gate.value, right_gate.value)


def test_training_ends_when_the_gate_is_finished_and_the_module_is_as_before(tmp_path):
    network = make_network("plain")
    gate = Counting(network, last=3)
    module = lightning(network, gate, tmp_path, max_epochs=10)
    assert int(gate.updates) == 3
    assert "training_step" not in vars(module)


def test_the_state_of_the_gate_is_in_the_modules(tmp_path):
    network, gate = make("counting")
    module = lightning(network, gate, tmp_path)
    state = copy.deepcopy(module.state_dict())
    assert any(name.endswith("prune_deploy_gate.updates") for name in state)


def test_scaled_gradients_are_refused(tmp_path):
    network, gate = make("counting")
    callback = GateCallback(gate)

    class Half:
        precision = "16-mixed"

    with pytest.raises(MethodError, match="bf16-mixed"):
        callback.on_fit_start(Half(), Classifier(network, gate))
