"""A compact network trains as any other: in several processes, in mixed precision, in other memory formats."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pruners.graph import trace
from pruners.surgery import apply
from pruners.testing import make_network

FORMS = ["module", "graph"]
RANK = """
import os
import sys

import torch
import torch.distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from pruners.graph import trace
from pruners.plan import PruningPlan
from pruners.surgery import apply
from pruners.testing import make_network

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
model = make_network("residual")
graph = trace(model, (torch.zeros(2, 3, 8, 8),))
kept = {g.name: tuple(range(0, g.n_units, 2)) for g in graph.groups if g.prunable}
sizes = {g.name: g.n_units for g in graph.groups}
plan = PruningPlan.from_kept(kept, sizes, graph=graph.fingerprint, inputs=graph.inputs, method="by hand", settings={})
for form in ("module", "graph"):
    compact = apply(model.train(), plan, graph=graph, check=False, form=form)
    before = [parameter.detach().clone() for parameter in compact.parameters()]
    trained = DistributedDataParallel(compact)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    torch.manual_seed(rank)
    for _ in range(3):
        loss = F.cross_entropy(trained(torch.randn(4, 3, 8, 8)), torch.randint(5, (4,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for old, parameter in zip(before, compact.parameters(), strict=True):
        everywhere = [torch.empty_like(parameter) for _ in range(2)]
        dist.all_gather(everywhere, parameter.detach())
        assert torch.equal(*everywhere), f"{form}: the processes have drifted apart"
        assert not torch.equal(old, parameter), f"{form}: a parameter did not train"
dist.destroy_process_group()
os._exit(0)  # DistributedDataParallel leaves threads of gloo behind, at which the interpreter may abort
"""


def compact_of(model, plan_for, form, device="cpu", removed=0.5):
    graph = trace(model, (torch.randn(2, 3, 8, 8, device=device),))
    return apply(model, plan_for(graph, removed=removed), graph=graph, check=False, form=form)


def step(model, x, **autocast):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch.autocast(**autocast):
        output = model(x)
        loss = F.cross_entropy(output.float(), torch.zeros(len(x), dtype=torch.int64, device=x.device))
    loss.backward()
    optimizer.step()
    return output, float(loss.detach())


@pytest.mark.slow
def test_two_processes_train_one_compact_network(two_processes, tmp_path):
    two_processes("-c", RANK, folder=tmp_path)


@pytest.mark.parametrize(
    ("network", "form"), [("residual", "module"), ("depthwise", "module"), ("residual", "graph"), ("concat", "graph")]
)
def test_mixed_precision_on_the_processor(network, form, plan_for):
    model = compact_of(make_network(network).train(), plan_for, form)
    x = torch.randn(8, 3, 8, 8)
    before = step(model, x, device_type="cpu", dtype=torch.bfloat16)[1]
    output, after = step(model, x, device_type="cpu", dtype=torch.bfloat16)
    assert output.dtype == torch.bfloat16
    assert after < before
    assert all(p.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


def test_the_memory_format_stays_through_pruning_and_training(plan_for):
    model = make_network("residual").to(memory_format=torch.channels_last).train()
    compact = compact_of(model, plan_for, "module")
    x = torch.randn(4, 3, 8, 8).to(memory_format=torch.channels_last)
    kernels = [p for p in compact.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert kernels
    step(compact, x, device_type="cpu", dtype=torch.bfloat16)
    for kernel in kernels:
        assert kernel.is_contiguous(memory_format=torch.channels_last)
        assert not kernel.is_contiguous()
    assert compact.stem(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("form", FORMS)
def test_a_network_in_half_precision_is_made_smaller(form, plan_for):
    model = make_network("residual").to(torch.bfloat16).eval()
    graph = trace(model, (torch.randn(2, 3, 8, 8, dtype=torch.bfloat16),))
    compact = apply(model, plan_for(graph, removed=0.5), graph=graph, check=False, form=form)
    assert {tensor.dtype for tensor in compact.parameters()} == {torch.bfloat16}
    assert compact(torch.randn(1, 3, 8, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.gpu
@pytest.mark.parametrize("form", FORMS)
def test_on_the_gpu_in_mixed_precision(form, plan_for):
    model = make_network("residual").cuda().to(memory_format=torch.channels_last).train()
    compact = compact_of(model, plan_for, form, device="cuda")
    assert {tensor.device.type for tensor in compact.state_dict().values()} == {"cuda"}
    x = torch.randn(8, 3, 8, 8, device="cuda").to(memory_format=torch.channels_last)
    before = step(compact, x, device_type="cuda", dtype=torch.bfloat16)[1]
    output, after = step(compact, x, device_type="cuda", dtype=torch.bfloat16)
    assert output.dtype == torch.bfloat16
    assert after < before
    assert all(p.grad.isfinite().all() for p in compact.parameters())


@pytest.mark.gpu
@pytest.mark.parametrize("form", FORMS)
def test_gpu_and_processor_cut_alike(form, plan_for):
    model = make_network("concat").eval()
    there = compact_of(model.cuda(), plan_for, form, device="cuda").cpu()
    here = compact_of(model.cpu(), plan_for, form)
    assert all(torch.equal(a, b) for a, b in zip(there.state_dict().values(), here.state_dict().values(), strict=True))
