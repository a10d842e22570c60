"""ThiNet: greedy choices against brute force, least-squares scales, and the walk through the layers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from pruners.errors import MethodError
from pruners.reconstruct.greedy import keep_greedily, relative_error, remove_greedily, scales
from pruners.registry import create
from pruners.target import Constraints, Target
from pruners.testing import make_network, make_task

FREE = Constraints()
C = 8


def rows_of(seed, n=40, c=C, *, relu=False, mixed=False):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, c, generator=generator).double()
    if mixed:
        x = x @ torch.randn(c, c, generator=generator).double()
    return (torch.relu(x) if relu else x) * torch.randn(c, generator=generator).double()


def naive_removal(x, n):
    """Do what the authors' ICCV code does: the norm of the sum of what goes, over all rows, for each candidate."""
    gone, total = [], np.zeros(len(x))
    for _ in range(n):
        norms = [np.inf if j in gone else np.linalg.norm(total + x[:, j]) for j in range(x.shape[1])]
        gone.append(int(np.argmin(norms)))
        total = total + x[:, gone[-1]]
    return tuple(gone)


def naive_growth(x, n):
    """Do what the authors' TPAMI code does: fit the residual by each candidate alone, take the best, refit all."""
    y, kept = x.sum(1), []
    residual = y
    for _ in range(n):
        left = []
        for j in range(x.shape[1]):
            w = (x[:, j] @ residual) / (x[:, j] @ x[:, j])
            left.append(np.inf if j in kept else np.linalg.norm(residual - w * x[:, j]))
        kept.append(int(np.argmin(left)))
        chosen = x[:, kept]
        residual = y - chosen @ np.linalg.lstsq(chosen, y, rcond=None)[0]
    return tuple(kept)


def fit_error(gram, kept):
    return relative_error(gram, kept, scales(gram, kept))


@pytest.mark.rounding
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), n=st.integers(0, C), relu=st.booleans(), mixed=st.booleans())
def test_both_choices_are_those_of_a_search_over_the_rows(seed, n, relu, mixed):
    x = rows_of(seed, relu=relu, mixed=mixed)
    gram = x.T @ x
    assert remove_greedily(gram, n) == naive_removal(x.numpy(), n)
    assert keep_greedily(gram, n) == naive_growth(x.numpy(), n)


def exhaustive(gram, n_removed):
    """Return what of all sets of 8 channels is best: of the removed ones for ICCV, of the kept ones for TPAMI."""
    gone = min(combinations(range(C), n_removed), key=lambda t: gram[list(t)][:, list(t)].sum().item())
    kept = min(combinations(range(C), C - n_removed), key=lambda s: fit_error(gram, s))
    return gone, kept


def orthogonal(seed, *, common):
    """Channels of one common part, the same in all, and of own parts of different sizes, all orthogonal."""
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(40, C + 1, generator=generator).double())
    sizes = torch.randperm(C, generator=generator).double() + 1
    return q[:, 1:] * sizes + common * q[:, :1]


@pytest.mark.rounding
@pytest.mark.parametrize("n_removed", range(1, C))
@pytest.mark.parametrize("seed", range(3))
def test_greedy_is_the_optimum_over_all_sets_of_8_channels_where_channels_are_exchangeable(seed, n_removed):
    """One choice then changes nothing in what the others are worth beside each other: no set beats the greedy one."""
    for common in (0.0, 3.0):
        gram = (x := orthogonal(seed, common=common)).T @ x
        gone, kept = exhaustive(gram, n_removed)
        assert tuple(sorted(remove_greedily(gram, n_removed))) == gone
        if not common:
            assert tuple(sorted(keep_greedily(gram, C - n_removed))) == kept


@pytest.mark.rounding
@pytest.mark.parametrize("seed", range(20))
def test_first_removal_is_always_the_optimum(seed):
    gram = (x := rows_of(seed, relu=True, mixed=True)).T @ x
    assert remove_greedily(gram, 1) == exhaustive(gram, 1)[0]


@pytest.mark.rounding
def test_greedy_is_near_the_optimum_of_correlated_features_and_misses_it_at_times():
    """What the search leaves on the table, over rectified mixtures of 8 features: it is greedy, not optimal."""
    ratios = {"iccv": [], "tpami": []}
    for seed in range(40):
        gram = (x := rows_of(seed, n=200, relu=True, mixed=True)).T @ x
        gone, kept = exhaustive(gram, 4)
        found = remove_greedily(gram, 4)
        sums = [gram[list(t)][:, list(t)].sum().item() ** 0.5 for t in (found, gone)]
        ratios["iccv"].append(sums[0] / sums[1])
        ratios["tpami"].append(fit_error(gram, keep_greedily(gram, 4)) / fit_error(gram, kept))
    for values in ratios.values():
        assert min(values) > 1 - 1e-9
        assert np.median(values) < 1.05
        assert np.mean(values) < 1.2
        assert max(values) > 1.01


@pytest.mark.rounding
def test_pair_of_channels_that_cancel_is_what_greedy_can_not_see():
    x = torch.eye(C).double()
    x[:, 1] = -x[:, 0]
    x[:, :2] *= 5
    gram = x.T @ x
    assert exhaustive(gram, 2)[0] == (0, 1)
    assert 0 not in remove_greedily(gram, 2)


@pytest.mark.rounding
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), kept=st.sets(st.integers(0, C - 1), min_size=1), relu=st.booleans())
def test_scale_is_numpys_least_squares(seed, kept, relu):
    x, kept = rows_of(seed, relu=relu), tuple(sorted(kept))
    gram, y = x.T @ x, x.sum(1)
    wanted = np.linalg.lstsq(x[:, list(kept)].numpy(), y.numpy(), rcond=None)[0]
    found = scales(gram, kept)
    assert np.allclose(found.numpy(), wanted, atol=1e-7)
    error = (x[:, list(kept)] @ found - y).norm() / y.norm()
    assert relative_error(gram, kept, found) == pytest.approx(float(error), abs=1e-6)
    plain = (x[:, list(kept)].sum(1) - y).norm() / y.norm()
    assert relative_error(gram, kept) == pytest.approx(float(plain), abs=1e-6)
    assert error <= plain + 1e-9


def test_dead_and_equal_channels_are_no_trouble():
    x = rows_of(0)
    x[:, 2], x[:, 5], x[:, 6] = 0, x[:, 4], x[:, 4]
    gram = x.T @ x
    assert 2 in remove_greedily(gram, 1)
    assert not {2, 5, 6} & set(keep_greedily(gram, 5))
    assert set(keep_greedily(gram, C)) == set(range(C))
    dead = scales(gram, (1, 2))
    assert dead[1] == pytest.approx(1.0)
    assert scales(gram, (0, 1, 2, 3, 4, 7)).tolist() == pytest.approx([1, 1, 1, 1, 3, 1])
    assert scales(gram, (4, 5)).sum() == pytest.approx(scales(gram, (4,))[0].item())
    nothing = torch.zeros(3, 3).double()
    assert scales(nothing, keep_greedily(nothing, 2)).tolist() == [1, 1]
    assert relative_error(nothing, (0, 1)) == 0


class Doubled(nn.Module):
    """Every second channel of a layer is a copy of the one before it, and is read by the same weights."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 6, 3, stride=2, padding=1)
        self.fc = nn.Linear(6, 5)
        with torch.no_grad():
            self.conv.weight[1::2] = self.conv.weight[::2]
            self.conv.bias[1::2] = self.conv.bias[::2]
            self.last.weight[:, 1::2] = self.last.weight[:, ::2]

    def forward(self, x):
        x = F.relu(self.norm(self.conv(F.relu(self.stem(x)))))
        return self.fc(F.relu(self.last(x)).mean((2, 3)))


def doubled():
    torch.manual_seed(0)
    return Doubled().eval()


def halve(method, net, **changes):
    task = make_task(net, target=Target(of="ratios", ratios={"conv": 0.5}), constraints=FREE, **changes)
    return create(method, images=64, updates_between=0).prune(task)


@pytest.mark.rounding
def test_copies_go_and_the_scale_makes_up_for_them():
    net = doubled()
    pruned = halve("thinet", net)
    kept = pruned.plan.kept["conv"]
    assert sorted(unit // 2 for unit in kept) == [0, 1, 2, 3]
    images = torch.randn(4, 3, 8, 8)
    assert torch.allclose(pruned.model(images), net(images), atol=1e-4)
    assert torch.allclose(pruned.model.last.weight, 2 * net.last.weight[:, list(kept)], rtol=1e-3)
    assert pruned.history[0]["error"] > 0.1
    assert pruned.history[0]["error_scaled"] < 1e-4


@pytest.mark.rounding
def test_each_layer_that_reads_the_channels_is_scaled_by_itself_and_loses_less():
    settings = {"form": "iccv", "images": 64, "updates_between": 0}
    rows = create("thinet", **settings).prune(make_task(make_network("residual"), constraints=FREE)).history
    assert [row["layer"] for row in rows] == ["expand", "blocks.0.conv1", "blocks.1.conv1"]
    assert all(row["error_scaled"] <= row["error"] for row in rows)
    plain = create("thinet", **settings, scale=False).prune(make_task(make_network("residual"), constraints=FREE))
    assert all("error_scaled" not in row for row in plain.history)


@pytest.mark.rounding
@pytest.mark.parametrize(
    ("form", "network"), [("iccv", "concat"), pytest.param("tpami", "residual", marks=pytest.mark.slow)]
)
def test_masking_until_the_end_is_cutting_after_each_layer(form, network):
    def nothing(model, n_updates):
        assert n_updates == 1

    task = make_task(make_network(network), constraints=FREE, train=nothing)
    masked = create("thinet", form=form, images=64, updates_between=0).prune(task)
    cut = create("thinet", form=form, images=64, updates_between=1).prune(task)
    # Filters are drawn among those that are left, so that both draw alike.
    assert masked.plan.kept == cut.plan.kept
    left, right = masked.model.state_dict(), cut.model.state_dict()
    assert all(torch.allclose(left[name], right[name], atol=1e-4) for name in left)


def test_network_is_fine_tuned_after_each_layer_but_the_last():
    calls = []

    def train(model, n_updates):
        calls.append((model.expand.weight.shape[0], model.blocks[0].conv1.weight.shape[0], n_updates))

    task = make_task(make_network("residual"), target=Target(of="ratios", ratios={"*": 0.5}), train=train)
    pruned = create("thinet", images=16, updates_between=7).prune(task)
    assert calls == [(6, 12, 7), (6, 6, 7)]
    assert [row.get("updates") for row in pruned.history] == [7, 7, None]
    assert [row["macs"] for row in pruned.history][-1] == pruned.macs_after


def test_training_by_the_epoch_is_named_and_its_learning_rate_is_told():
    names = []

    def fit(model, settings, *, name, gate=None):
        names.append((name, settings.epochs))

    task = make_task(make_network("residual"), constraints=FREE, fit=fit, train=None)
    training = {"epochs": 3, "lr": 0.004}
    pruned = create("thinet", images=16, training=training).prune(task)
    assert names == [("layer-1", 3), ("layer-2", 3)]
    assert [row.get("lr") for row in pruned.history] == [0.004, 0.004, None]


def test_in_a_loop_of_ones_own():
    def train(model, n_updates):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        generator = torch.Generator().manual_seed(5)
        for _ in range(n_updates):
            images = torch.randn(8, 3, 8, 8, generator=generator)
            loss = F.cross_entropy(model(images), torch.randint(0, 5, (8,), generator=generator))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    task = make_task(make_network("depthwise"), train=train, fit=None)
    pruned = create("thinet", images=32, updates_between=3).prune(task)
    assert pruned.macs_after <= 0.6 * pruned.macs_before
    assert pruned.model(torch.zeros(2, 3, 8, 8)).shape == (2, 5)


def test_missing_means_are_told_before_anything_is_done():
    def batches():
        raise AssertionError("nothing is sampled")

    task = make_task(make_network("plain"), train=None, fit=None, batches=batches)
    with pytest.raises(MethodError, match="updates_between=0"):
        create("thinet").prune(task)
    with pytest.raises(MethodError, match="hand in fit"):
        create("thinet", training={"epochs": 1}).prune(task)


class Scored(nn.Module):
    """Attention: queries and keys meet each other, and no weights."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 8)
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.inner(x.flatten(2).transpose(1, 2)))
        q, k, v = self.query(x), self.key(x), self.value(x)
        return self.fc(((q @ k.transpose(1, 2)).softmax(-1) @ v).mean(1))


def test_channels_that_no_plain_layer_reads_are_refused_by_name():
    torch.manual_seed(0)
    task = make_task(Scored(), constraints=FREE, target=Target(of="ratios", ratios={"*": 0.5}))
    with pytest.raises(MethodError, match=r"group 'query'; exclude it"):
        create("thinet", images=16).prune(task)
    alone = make_task(Scored(), target=Target(of="ratios", ratios={"inner": 0.5}), constraints=FREE)
    assert set(create("thinet", images=16, updates_between=0).prune(alone).plan.kept) == {"inner"}


def test_one_layer_may_not_take_more_than_a_removal():
    task = make_task(make_network("residual"), constraints=Constraints(max_units_per_step=1))
    with pytest.raises(ValueError, match="max_units_per_step"):
        create("thinet", images=16, updates_between=0).prune(task)
    generous = make_task(make_network("residual"), constraints=Constraints(max_units_per_step=6))
    assert len(create("thinet", images=16, updates_between=0).prune(generous).history) == 3
