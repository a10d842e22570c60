"""The exported program runs as the network does, in any precision, and what torch.export refuses is an error alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruners.channels.program import export
from pruners.errors import TraceError
from pruners.modules.calls import NetworkCall
from pruners.modules.precision import in_precision


class MaskedAttention(nn.Module):
    """Attention whose mask is made in the precision of the queries."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(16, 32) for _ in range(3))

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, 16)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        bias = torch.zeros((1, 2, x.shape[1], x.shape[1]), dtype=q.dtype)
        mask = torch.where(keep[:, None, None], bias, torch.finfo(q.dtype).min)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def test_a_mask_follows_the_precision_of_the_queries():
    torch.manual_seed(0)
    net, x = MaskedAttention().eval(), torch.randn(2, 16, 16)
    keep = torch.arange(16).expand(2, 16) < torch.tensor([[16], [10]])
    program = export(net, NetworkCall((x, keep)))
    for dtype in (torch.float64, torch.bfloat16):
        wanted = in_precision(copy.deepcopy(net), dtype)(x.to(dtype), keep)
        got = in_precision(copy.deepcopy(program.module), dtype)(x.to(dtype), keep)
        assert got.dtype == dtype
        assert torch.allclose(got, wanted, rtol=0, atol=1e-12 if dtype == torch.float64 else 0.05)


def test_what_torch_export_prints_of_its_errors_does_not_reach_the_user(capfd):
    class Drops(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return x if bool((torch.rand([]) < 0.1).item()) else super().forward(x)

    with pytest.raises(TraceError):
        export(Drops(4, 4), NetworkCall((torch.randn(2, 4),)))
    assert capfd.readouterr() == ("", "")
