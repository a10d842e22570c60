"""Distillation: the loss in closed form, a teacher that stays as it is, and a training by it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from pruners.errors import TrainingError
from pruners.recover.distill import Distillation
from pruners.recover.evaluate import evaluate
from pruners.recover.fit import fit
from pruners.recover.settings import TrainSettings

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.set_float32_matmul_precision.*")


def problem(n=256, seed=0, noise=0.0):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, 3, (n,), generator=generator)
    images = torch.randn(n, 1, 4, 4, generator=generator) + truth.reshape(-1, 1, 1, 1)
    wrong = torch.rand(n, generator=generator) < noise
    labels = torch.where(wrong, torch.randint(0, 3, (n,), generator=generator), truth)
    return TensorDataset(images, labels)


def network(seed=0, width=8):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(width * 4, 3)
    )


def settings(**changes):
    return TrainSettings.model_validate({"epochs": 3, "batch_size": 32, "lr": 0.05, **changes})


def weights(model):
    return [value.clone() for value in model.state_dict().values()]


@pytest.mark.rounding
@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 0.5), (4.0, 0.9), (20.0, 1.0)])
def test_loss_is_that_of_the_paper(temperature, weight):
    teacher, images = network(1).eval(), torch.randn(6, 1, 4, 4)
    scores, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    p = (teacher(images) / temperature).softmax(1)
    q = (scores / temperature).softmax(1)
    divergence = (p * (p.log() - q.log())).sum(1).mean()
    wanted = (1 - weight) * F.cross_entropy(scores, labels) + weight * temperature**2 * divergence
    loss = Distillation(teacher, temperature=temperature, weight=weight)(scores, images, labels)
    # The divergence is a difference of numbers near 1, rounded in fp32, times the temperature squared.
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5, abs=1e-6 * temperature**2)


@pytest.mark.rounding
def test_gradient_of_the_soft_term_keeps_its_size_when_the_temperature_rises():
    teacher, images = network(1), torch.randn(6, 1, 4, 4)
    labels = torch.zeros(6, dtype=torch.int64)
    norms = []
    for temperature in (20.0, 40.0):
        scores = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
        Distillation(teacher, temperature=temperature, weight=1.0)(scores, images, labels).backward()
        norms.append(float(scores.grad.norm()))
    assert norms[1] == pytest.approx(norms[0], rel=0.1)


def test_weight_zero_is_training_by_cross_entropy_bit_for_bit():
    plain, distilled = network(), network()
    fit(plain, problem(), None, settings())
    fit(distilled, problem(), None, settings(), objective=Distillation(network(1), weight=0.0))
    assert all(torch.equal(a, b) for a, b in zip(weights(plain), weights(distilled), strict=True))


@pytest.mark.rounding
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_student_of_noisy_labels_comes_closer_to_its_teacher(precision):
    teacher = network(1, width=16)
    fit(teacher, problem(512), None, settings(epochs=5))
    test, taught = problem(512, seed=9), {}
    for weight in (0.0, 1.0):
        student = network(2, width=2)
        objective = Distillation(teacher, weight=weight, temperature=2.0)
        fit(student, problem(64, noise=0.7), None, settings(epochs=20, precision=precision), objective=objective)
        taught[weight] = evaluate(student, test).score
    assert taught[1.0] > taught[0.0] + 0.05


class Seeing(nn.Linear):
    """Notes the autocast, mode and gradients under which it runs."""

    seen: list[tuple[bool, bool, bool]]

    def forward(self, x):
        self.seen.append((torch.is_autocast_enabled("cpu"), self.training, torch.is_grad_enabled()))
        return super().forward(x)


def test_teacher_runs_in_evaluation_without_gradient_under_the_same_autocast():
    Seeing.seen = seen = []
    teacher = nn.Sequential(nn.Flatten(), Seeing(16, 3))
    before = copy.deepcopy(teacher.state_dict())
    for precision, casts in (("fp32", False), ("bf16", True)):
        seen.clear()
        fit(
            network(),
            problem(64),
            None,
            settings(epochs=1, precision=precision),
            objective=Distillation(teacher, temperature=1.0, weight=0.5),
        )
        assert set(seen) == {(casts, False, False)}
    assert teacher.training
    assert all(p.requires_grad and p.grad is None for p in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


@pytest.mark.rounding
def test_own_loop():
    student, objective = network(2), Distillation(network(1))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    images, labels = problem(64).tensors
    losses = []
    for _ in range(100):
        loss = objective(student(images), images, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_resumed_with_another_objective_is_refused_and_with_the_same_one_goes_on(tmp_path):
    def objective(**changes):
        return Distillation(network(1), **{"temperature": 2.0, "weight": 0.5, **changes})

    first, again = network(), network()
    fit(first, problem(), None, settings(), objective=objective(), checkpoints=tmp_path)
    fit(again, problem(), None, settings(), objective=objective(), checkpoints=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(again), strict=True))
    for other in (objective(temperature=3.0), objective(weight=0.6), Distillation(network(5), temperature=2.0), None):
        with pytest.raises(TrainingError, match="another settings"):
            fit(network(), problem(), None, settings(), objective=other, checkpoints=tmp_path)


def test_learning_rate_is_part_of_the_result():
    history = fit(network(), problem(64), None, settings(epochs=1, lr=0.03), objective=Distillation(network(1)))
    assert history.to_json()["lr"] == 0.03


@pytest.mark.parametrize("changes", [{"temperature": 0.0}, {"temperature": -1.0}, {"weight": 1.1}, {"weight": -0.1}])
def test_mistakes_are_told(changes):
    with pytest.raises(TrainingError, match=r"of a distillation|of the teacher"):
        Distillation(network(), **changes)


def test_teacher_of_other_classes_is_told():
    with pytest.raises(TrainingError, match="scores of shape"):
        Distillation(network())(torch.zeros(2, 5), torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(TrainingError, match="label_smoothing"):
        fit(network(), problem(64), None, settings(label_smoothing=0.1), objective=Distillation(network()))
