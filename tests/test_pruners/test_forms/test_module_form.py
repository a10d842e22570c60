"""The user's own module made smaller: what follows, what stays, what is refused and why."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from pruners.forms.masking import mask_
from pruners.forms.module_form import SizeChange, copy_of, module_form, resize_
from pruners.forms.module_search import Misfit
from pruners.forms.slicing import slice_without
from pruners.modules.calls import call_of
from pruners.modules.perturb import randomize_for_sensitivity


def judge(model, gone, *inputs):
    """Compare with the masked original, on weights with which the output depends on every channel."""
    original = copy_of(model).eval()
    randomize_for_sensitivity(original, call_of(original, inputs), seed=0)
    own = dict([*original.named_parameters(), *original.named_buffers()])
    cut = {name: slice_without(tensor, gone.get(name, {})) for name, tensor in own.items()}
    masked = copy.deepcopy(original)
    mask_(masked, gone)
    with torch.no_grad():
        expected = masked(*inputs)
        assert not torch.allclose(expected, original(*inputs), atol=1e-3), "masking says nothing"

    def disagreement(module):
        disagreement.calls += 1
        twin = copy.deepcopy(module).eval()
        with torch.no_grad():
            for name, tensor in [*twin.named_parameters(), *twin.named_buffers()]:
                tensor.copy_(cut[name])
            got = twin(*inputs)
        return "" if torch.allclose(got, expected, atol=1e-4 * float(expected.std() + 1)) else "another output"

    disagreement.calls = 0
    return disagreement


def form_of(model, gone, changes, *inputs):
    disagreement = judge(model, gone, *inputs)
    made = module_form(model, gone, changes, disagreement)
    if isinstance(made, Misfit):
        return None, made.reason
    assert disagreement(made) == ""
    return made, ""


class Attention(nn.Module):
    def __init__(self, dim=16, heads=4, size=4, scale="own"):
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = heads, size, heads * size
        self.scale = size**-0.5
        self.of = scale
        self.window_size = heads
        self.heads_seen = heads
        self.qkv = nn.Linear(dim, 3 * heads * size)
        self.proj = nn.Linear(heads * size, dim)

    def forward(self, x):
        b, n, _ = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.of == "torch's":
            x = F.scaled_dot_product_attention(q, k, v)
        elif self.of == "computed":
            x = (q @ k.transpose(-1, -2) * self.head_dim**-0.5).softmax(-1) @ v
        else:
            x = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.proj(x.transpose(1, 2).reshape(b, n, self.attn_dim)) * self.heads_seen - self.window_size


class Two(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.stem = nn.Linear(16, 16)
        self.blocks = nn.ModuleList(Attention(**options) for _ in range(2))

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return x


def without(block, positions, width=16):
    """Positions inside the heads of an attention: rows of q, k and v, columns of the projection."""
    rows = [part * width + p for part in range(3) for p in positions]
    return {
        f"{block}.qkv.weight": {0: rows},
        f"{block}.qkv.bias": {0: rows},
        f"{block}.proj.weight": {1: list(positions)},
    }


def heads_of_two():
    gone = {**without("blocks.0", [4, 5, 6, 7]), **without("blocks.1", [0, 1, 2, 3, 12, 13, 14, 15])}
    changes = [
        SizeChange("blocks.0", 4, 3),
        SizeChange("blocks.0", 16, 12),
        SizeChange("blocks.1", 4, 2),
        SizeChange("blocks.1", 16, 8),
    ]
    return gone, changes


X = torch.randn(2, 5, 16)


def test_the_attributes_that_repeat_a_size_are_found_among_equal_ones():
    gone, changes = heads_of_two()
    model = Two()
    disagreement = judge(model, gone, X)
    module = module_form(model, gone, changes, disagreement)
    kept = [(block.num_heads, block.head_dim, block.attn_dim, block.scale) for block in module.blocks]
    assert kept == [(3, 4, 12, 0.5), (2, 4, 8, 0.5)]
    assert [(block.heads_seen, block.window_size) for block in module.blocks] == [(4, 4), (4, 4)]
    assert disagreement.calls < 40, "both blocks share the answer"


@pytest.mark.parametrize("n_blocks", [2, 6])
def test_blocks_of_one_class_share_the_search(n_blocks):
    class Many(Two):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Attention() for _ in range(n_blocks))

    gone, changes = {}, []
    for number in range(n_blocks):
        gone.update(without(f"blocks.{number}", [4, 5, 6, 7]))
        changes += [SizeChange(f"blocks.{number}", 4, 3), SizeChange(f"blocks.{number}", 16, 12)]
    model = Many()
    disagreement = judge(model, gone, X)
    module = module_form(model, gone, changes, disagreement)
    assert [block.num_heads for block in module.blocks] == [3] * n_blocks
    assert disagreement.calls < 40


SIZES = [0, 4, 8, 12]
SMALLER = [SizeChange("blocks.0", 4, 3), SizeChange("blocks.0", 16, 12)]


def heads_of_other_sizes(scale):
    """Cut a position of every head; the reference is the module with its scale written out."""
    gone = without("blocks.0", SIZES)
    model = Two(scale=scale)
    reference = Two()
    reference.load_state_dict(model.state_dict())
    return module_form(model, gone, SMALLER, judge(reference, gone, X))


def test_a_scale_that_is_an_attribute_keeps_its_value():
    module = heads_of_other_sizes("own")
    assert (module.blocks[0].num_heads, module.blocks[0].head_dim, module.blocks[0].scale) == (4, 3, 0.5)


def test_a_scale_that_torch_takes_from_the_size_is_the_reason_that_is_told():
    assert heads_of_other_sizes("torch's") == Misfit(
        "blocks.0 (Attention): scaled_dot_product_attention takes its scale from the size of a head, "
        "which is another one now",
        "blocks.0",
    )


def test_a_scale_that_the_code_computes_is_refused():
    assert heads_of_other_sizes("computed") == Misfit("another output")


class Pieces(nn.Module):
    """Sizes in a tuple, in a dictionary of lists, in a ratio, and passed on by the parent."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Module()
        self.mix = Mix()
        self.width = 10
        self.split_indexes = (6, 10, 8)
        self.branches = {"sizes": [1, 3], "widths": [6, 10]}
        self.a = nn.Linear(4, 24)
        self.b = nn.Linear(6, 6)
        self.c = nn.Linear(10, 10)
        self.o = nn.Linear(24, 3)

    def forward(self, x):
        first, second, rest = self.a(x).split(self.split_indexes, -1)
        first = self.b(first.reshape(-1, self.branches["widths"][0]))
        return self.o(torch.cat([first, self.mix(self.c(second), self.width), rest], -1))


class Mix(nn.Module):
    def __init__(self):
        super().__init__()
        self.halves = 5

    def forward(self, x, width):
        return F.relu(x.view(-1, 2, self.halves)).reshape(-1, width)


def test_sizes_in_containers_in_ratios_and_of_the_parent_follow():
    gone = {
        "a.weight": {0: [1, 6, 11, 20]},
        "a.bias": {0: [1, 6, 11, 20]},
        "b.weight": {0: [1], 1: [1]},
        "b.bias": {0: [1]},
        "c.weight": {0: [0, 5], 1: [0, 5]},
        "c.bias": {0: [0, 5]},
        "o.weight": {1: [1, 6, 11, 20]},
    }
    changes = [
        SizeChange("", 6, 5),
        SizeChange("", 10, 8),
        SizeChange("", 8, 7),
        SizeChange("mix", 10, 8),
    ]
    module, reason = form_of(Pieces(), gone, changes, torch.randn(3, 4))
    assert reason == ""
    assert module.split_indexes == (5, 8, 7)
    assert module.branches == {"sizes": [1, 3], "widths": [5, 8]}
    assert (module.width, module.mix.halves) == (8, 4)


class Baked(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3)), Fixed())
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.body(x))


class Fixed(nn.Module):
    def forward(self, x):
        return F.relu(x).reshape(-1, 6)


def test_a_size_written_into_code_is_refused_with_the_module_and_what_torch_said():
    gone = {"body.0.weight": {0: [1, 4]}, "body.0.bias": {0: [1, 4]}, "head.weight": {1: [1, 4]}}
    changes = [SizeChange("body.1", 3, 2), SizeChange("body.2", 6, 4)]
    model = Baked()
    module, reason = form_of(model, gone, changes, torch.randn(3, 4))
    assert module is None
    assert "head" in reason or "body.2 (Fixed)" in reason
    assert "\n" not in reason
    assert "RuntimeError" in reason
    assert model.body[1].unflattened_size == (2, 3)


class Layered(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.twin = nn.Conv2d(8, 8, 1)
        self.same = nn.Conv2d(8, 8, 1)
        self.same.weight = self.twin.weight
        self.register_buffer("shift", torch.randn(8))
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = F.relu(self.a(x)) + self.shift[:, None, None]
        return self.head(F.relu(self.same(F.relu(self.twin(x)))))


LAYERED = {
    "a.weight": {0: [1, 5]},
    "a.bias": {0: [1, 5]},
    "shift": {0: [1, 5]},
    "twin.weight": {0: [1, 5], 1: [1, 5]},
    "twin.bias": {0: [1, 5]},
    "same.bias": {0: [1, 5]},
    "head.weight": {1: [1, 5]},
}


def test_all_that_is_not_size_stays():
    model = Layered().to(memory_format=torch.channels_last).train()
    model.twin.eval()
    model.twin.weight.requires_grad_(False)
    calls = []
    model.a.register_forward_hook(lambda *_: calls.append(1))
    model(torch.randn(1, 3, 6, 6)).sum().backward()
    calls.clear()
    module, reason = form_of(model, LAYERED, [], torch.randn(2, 3, 6, 6))
    assert reason == ""
    calls.clear()
    module(torch.randn(1, 3, 6, 6))
    assert calls == [1]
    assert type(module) is Layered
    assert module.state_dict().keys() == model.state_dict().keys()
    assert module.training
    assert not module.twin.training
    assert module.same.weight is module.twin.weight
    assert not module.twin.weight.requires_grad
    assert module.a.weight.requires_grad
    assert all(parameter.grad is None for parameter in module.parameters())
    assert module.a.weight.is_contiguous(memory_format=torch.channels_last)
    assert not module.a.weight.is_contiguous()
    assert not module._forward_pre_hooks
    assert not module._forward_hooks
    assert model.a.weight.shape == (8, 3, 3, 3)
    assert model.a.weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_type_of_numbers_stays(dtype):
    module = Layered().to(dtype)
    resize_(module, LAYERED)
    assert {tensor.dtype for tensor in module.state_dict().values()} == {dtype}


class Caching(nn.Module):
    """Keeps what it computed while it evaluates, and drops it in train()."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.randn(6, 3))
        self.cache = {}
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def train(self, mode=True):
        super().train(mode)
        if mode:
            self.cache = {}
        return self

    def forward(self, x):
        if self.training:
            return self.b(self.a(x) + self.bias.sum(1))
        if "bias" not in self.cache:
            self.cache["bias"] = self.bias.sum(1)
        return self.b(self.a(x) + self.cache["bias"])


def test_what_a_module_cached_is_dropped():
    model = Caching().eval()
    x = torch.randn(3, 4)
    model(x)
    gone = {"a.weight": {0: [2]}, "a.bias": {0: [2]}, "bias": {0: [2]}, "b.weight": {1: [2]}}
    module, reason = form_of(model, gone, [], x)
    assert reason == ""
    assert not module.training
    assert module.cache == {}
    assert "bias" in model.cache


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_module_with_old_style_weight_norm_can_be_copied():
    layer = nn.utils.weight_norm(nn.Linear(4, 3))
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(layer)
    twin = copy_of(layer)
    assert torch.equal(twin(torch.ones(1, 4)), layer(torch.ones(1, 4)))
    assert twin.weight_v is not layer.weight_v


def test_heads_of_a_vision_transformer_of_timm():
    model = timm.create_model("deit_tiny_patch16_224", pretrained=False, img_size=32, depth=2, num_classes=5)
    positions = list(range(64, 128))
    gone = without("blocks.1.attn", positions, 192)
    hidden = list(range(0, 768, 3))
    gone |= {"blocks.0.mlp.fc1.weight": {0: hidden}, "blocks.0.mlp.fc1.bias": {0: hidden}}
    gone |= {"blocks.0.mlp.fc2.weight": {1: hidden}}
    changes = [SizeChange("blocks.1.attn", 3, 2), SizeChange("blocks.1.attn", 192, 128)]
    module, reason = form_of(model, gone, changes, torch.randn(2, 3, 32, 32))
    assert reason == ""
    attn = module.blocks[1].attn
    assert (attn.num_heads, attn.head_dim, attn.attn_dim, attn.scale) == (2, 64, 128, 0.125)
    assert (module.blocks[0].attn.num_heads, module.embed_dim) == (3, 192)
    module.train()(torch.randn(2, 3, 32, 32)).sum().backward()


def test_a_vision_transformer_of_torchvision_loses_hidden_channels_but_no_heads():
    model = torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=5)
    layer = "encoder.layers.encoder_layer_0"
    hidden = list(range(0, 64, 3))
    gone = {f"{layer}.mlp.0.weight": {0: hidden}, f"{layer}.mlp.0.bias": {0: hidden}}
    gone[f"{layer}.mlp.3.weight"] = {1: hidden}
    x = torch.randn(2, 3, 32, 32)
    module, _ = form_of(model, gone, [], x)
    assert module.encoder.layers[0].mlp[0].out_features == 42

    rows = [part * 32 + p for part in range(3) for p in range(8)]
    name = f"{layer}.self_attention"
    gone = {f"{name}.in_proj_weight": {0: rows}, f"{name}.in_proj_bias": {0: rows}}
    gone[f"{name}.out_proj.weight"] = {1: list(range(8))}
    module, reason = form_of(model, gone, [SizeChange(name, 4, 3), SizeChange(name, 32, 24)], x)
    assert module is None
    assert reason == (
        f"{name}: torch's MultiheadAttention runs only with as many channels inside its heads as outside "
        "(24 are left inside, 32 outside)"
    )
