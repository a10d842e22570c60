"""``deploy plan`` as people meet it: what is told, what is written, and what is refused in one line."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.bundles.bundle import read_bundle
from deploy.bundles.pruning import GroupCount
from deploy.bundles.rebuild import load_network
from deploy.exit_codes import DIFFERENT
from deploy.plans.source import NetworkRequest, read_plan, requested, trace_network
from deploy.report.plan_rows import bars
from deploy.sources.network_spec import NetworkSpec
from pruners.forms.compact import save_weights
from pruners.plan import PruningPlan
from pruners.surgery import apply

SVG = "{http://www.w3.org/2000/svg}"
NETWORK = """
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x):
        return (x + self.conv2(self.conv1(x).relu())).relu()

class Net(nn.Module):
    def __init__(self, depth=2, width=16, n_classes=10):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.fc = nn.Linear(2 * width, n_classes)

    def forward(self, x):
        return self.fc(self.down(self.blocks(self.conv(x).relu())).relu().mean((2, 3)))
"""


@pytest.fixture
def plan(here):
    def run(*arguments):
        done = here("plan", *arguments)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def refused(plan):
    def run(*arguments):
        code, _, err = plan(*arguments)
        assert code == 2, err
        lines = [line for line in err.splitlines() if line.startswith("deploy: ")]
        assert len(lines) == 1, err
        assert err.splitlines()[-1] == lines[0]
        return lines[0]

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Plans of one small network, one of another, two broken ones, and the network itself."""
    place = tmp_path_factory.mktemp("plans")
    (place / "nets.py").write_text(NETWORK)
    graph = trace_network(
        NetworkRequest(spec=NetworkSpec(name=f"{place}/nets.py:Net"), n_classes=None, input_shape=(3, 16, 16))
    ).graph
    sizes = {group.name: group.n_units for group in graph.groups}

    def save(name, counts, offset=0, fingerprint=graph.fingerprint, blocks=()):
        kept = {group: tuple(range(offset, offset + count)) for group, count in counts.items()}
        made = {"graph": fingerprint, "inputs": graph.inputs, "method": "by hand", "settings": {"why": "test"}}
        PruningPlan.from_kept(kept, sizes, blocks=blocks, **made).save(place / name)

    a = {"conv": 8, "blocks.0.conv1": 4, "down": 30}
    save("a.json", a)
    save("b.json", {**a, "conv": 10, "blocks.1.conv1": 8})
    save("c.json", a, offset=2)
    save("blocks.json", a, blocks=("blocks.1",))
    save("other.json", a, fingerprint="0123456789ab" + graph.fingerprint[12:])
    (place / "broken.json").write_text('{"version": 1, "graph"')
    (place / "illegal.json").write_text((place / "a.json").read_text().replace('"conv": 16', '"conv": 2'))
    return place


@pytest.fixture(scope="module")
def net(folder):
    return f"{folder}/nets.py:Net"


@pytest.fixture(scope="module")
def built(folder, net):
    return lambda seed=0: trace_network(requested(net, plan=read_plan(folder / "a.json")), seed=seed)


def test_show_draws_what_the_plan_names(plan, folder):
    code, out, _ = plan("show", folder / "a.json")
    assert code == 0
    assert out.splitlines()[0].startswith("by hand removes 22 of 64 units in 3 groups; graph ")
    assert "  why: test" in out.splitlines()
    conv = next(line for line in out.splitlines() if line.startswith("conv "))
    assert conv.split()[1:6] == ["8", "of", "16", "50", "%"]
    bar = conv.split()[6]
    assert bar.count("#") == bar.count(".") > 0
    assert "blocks.1.conv1" not in out


def test_show_with_its_network_counts_and_fits_in_100_columns(plan, folder, net, built):
    code, out, _ = plan("show", folder / "a.json", "--network", net)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    assert all(line == line.rstrip() for line in out.splitlines())
    assert "blocks.1.conv1" in out
    assert "conv (+2)" in out, "two other layers make the same channels"
    graph, kept = built().graph, {"conv": 8, "blocks.0.conv1": 4, "down": 30}
    flops = next(line.split() for line in out.splitlines() if line.strip().startswith("FLOPs "))
    assert flops[1:5] == [f"{2e-6 * graph.macs():.2f}", "M", f"{2e-6 * graph.macs(kept):.2f}", "M"]
    assert flops[5] == f"{graph.macs() / graph.macs(kept):.2f}x"


def test_show_writes_a_page_and_a_picture(plan, folder, tmp_path):
    page, picture = tmp_path / "plan.html", tmp_path / "plan.svg"
    code, _, _ = plan("show", folder / "a.json", "--page", page, "--svg", picture)
    assert code == 0
    bars = [node for node in ET.fromstring(picture.read_text()).iter(f"{SVG}rect") if node.get("height") == "12"]
    kept = [float(node.get("width")) for node in bars if node.get("class") == "kept"]
    gone = [float(node.get("width")) for node in bars if node.get("class") == "gone"]
    assert [k / (k + g) for k, g in zip(kept, gone, strict=True)] == pytest.approx([8 / 16, 4 / 16, 30 / 32], abs=0.01)
    text = page.read_text()
    assert "http" not in text, "nothing is fetched"
    assert "<script" not in text
    assert text.count(">blocks.0.conv1</") == 2, "in the chart and in the table"


def test_show_says_when_there_is_nothing_to_draw(plan, refused, folder, tmp_path):
    empty = read_plan(folder / "a.json").model_copy(update={"sizes": {}, "kept": {}})
    empty.save(tmp_path / "empty.json")
    code, out, _ = plan("show", tmp_path / "empty.json")
    assert (code, "removes nothing" in out) == (0, True)
    assert "nothing to draw" in refused("show", tmp_path / "empty.json", "--svg", tmp_path / "x.svg")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text("ab.", min_size=1, max_size=70), st.integers(1, 4096), st.integers(1, 4096))))
def test_bars_fit_and_never_hide_what_is_kept_or_removed(rows):
    drawn = bars([GroupCount(name=name, kept=min(a, b), of=max(a, b)) for name, a, b in rows], 100)
    assert len(drawn) == len(rows)
    for line, (_, a, b) in zip(drawn, rows, strict=True):
        assert len(line) <= 100
        bar = line.rpartition("  ")[2]
        assert bar.startswith("#")
        assert ("." in bar) == (a != b)


def test_diff_of_equal_plans(plan, folder):
    code, out, _ = plan("diff", folder / "a.json", folder / "a.json")
    assert (code, out) == (0, "A and B keep the same units in all 3 groups that they name.\n")


def test_diff_tells_groups_units_and_overlap(plan, folder, net, built):
    code, out, _ = plan("diff", folder / "a.json", folder / "b.json", "--network", net)
    assert code == DIFFERENT
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith("  ")}
    assert rows["conv"] == ["16", "8", "10", "+2", "8", "80", "%"]
    assert rows["blocks.1.conv1"] == ["16", "16", "8", "-8", "8", "50", "%"], "A keeps what it does not name"
    assert "blocks.0.conv1" not in rows
    graph = built().graph
    counts = [{k: len(v) for k, v in read_plan(folder / f"{name}.json").kept.items()} for name in "ab"]
    ratios = [f"{graph.macs() / graph.macs(kept):.2f}x" for kept in counts]
    flops = next(line.split() for line in out.splitlines() if line.startswith("  FLOPs "))
    assert [flops[5], flops[8]] == ratios
    code, out, _ = plan("diff", folder / "a.json", folder / "c.json")
    assert code == DIFFERENT, "as many units, but others"
    assert next(line.split() for line in out.splitlines() if line.startswith("  conv "))[5:] == ["6", "60", "%"]


def test_apply_writes_a_bundle_that_loads_again(plan, folder, net, built, tmp_path):
    place = tmp_path / "bundle"
    code, out, err = plan("apply", folder / "a.json", "--network", net, "--output", place, "--seed", "3")
    assert code == 0, err
    assert "Masked equals compact" in out
    bundle = read_bundle(place)
    assert bundle.manifest.scores.validation is None
    assert bundle.manifest.provenance.data is None
    assert bundle.manifest.provenance.method == "by hand"
    assert bundle.manifest.provenance.seeds == {"network": 3, "inputs": 3}
    kept = {group.name: group.kept for group in bundle.pruning.groups}
    assert kept == {name: len(units) for name, units in read_plan(place).kept.items()}
    assert bundle.pruning.proof.verification.relative_error <= 1e-4
    assert bundle.pruning.proof.landing is None, "there was no target"
    assert next(line for line in out.splitlines() if "Masked equals" in line) in plan("show", place)[1]
    network = load_network(bundle, trust_code=True)
    assert network.conv.weight.shape == (8, 3, 3, 3)
    assert sum(p.numel() for p in network.parameters()) == bundle.manifest.cost.parameters
    # The folder is itself a plan, and the seed builds these weights again.
    assert plan("diff", place, folder / "a.json")[0] == 0
    traced = built(seed=3)
    again = apply(traced.model, read_plan(place), graph=traced.graph)
    assert all((a == b).all() for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_apply_takes_weights(plan, refused, folder, net, built, tmp_path):
    dense = built(seed=9).model
    save_weights(dense, tmp_path / "dense.safetensors")
    arguments = ("apply", folder / "a.json", "--network", net, "--output", tmp_path / "bundle")
    code, _, err = plan(*arguments, "--weights", tmp_path / "dense.safetensors")
    assert code == 0, err
    bundle = read_bundle(tmp_path / "bundle")
    assert (load_network(bundle, trust_code=True).conv.weight == dense.conv.weight[:8]).all()
    assert len(bundle.manifest.provenance.parent_sha256) == 64
    assert "no such file" in refused(*arguments, "--weights", tmp_path / "none.safetensors")


def test_transfer_tells_the_stages_and_writes_the_plan(plan, folder, net, tmp_path):
    target = tmp_path / "deep.json"
    deep = ("--to", net, "--to-option", "depth=4", "--to-classes", "100")
    code, out, err = plan("transfer", folder / "a.json", folder / "b.json", "--from", net, *deep, "--output", target)
    assert code == 0, err
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "16 wide at 16x16, joined 1 56.2 % 1 9 of 16" in rows, "the mean of 8 and 10"
    assert "16 wide at 16x16 2 50.0 % 4 32 of 64" in rows, "the mean of 4, 16, 4 and 8"
    assert {name: len(kept) for name, kept in read_plan(target).kept.items()} == {
        "conv": 9,
        "down": 30,
        **{f"blocks.{index}.conv1": 8 for index in range(4)},
    }
    fits = ("--network", net, "--option", "depth=4", "--n-classes", "100")
    assert plan("show", target, *fits)[0] == 0


def test_transfer_ranks_by_the_weights_when_asked(plan, folder, net, built, tmp_path):
    code, _, err = plan(
        *("transfer", folder / "a.json", "--from", net, "--to", net, "--units", "l1"),
        *("--seed", "5", "--output", tmp_path / "l1.json"),
    )
    assert code == 0, err
    norms = built(seed=5).model.blocks[0].conv1.weight.detach().abs().sum((1, 2, 3))
    kept = read_plan(tmp_path / "l1.json").kept["blocks.0.conv1"]
    assert set(kept) == set(norms.topk(10).indices.tolist())


def test_transfer_tells_of_stages_without_counterpart(plan, refused, folder, net, tmp_path):
    wide = ("transfer", folder / "a.json", "--from", net, "--to", net, "--to-option", "width=32")
    code, _, _ = plan(*wide, "--output", tmp_path / "x.json", "--to-shape", "3,16,16", "--by", "order")
    assert code == 0
    assert len(read_plan(tmp_path / "x.json").kept) == 4
    assert "by order" in refused(*wide, "--output", tmp_path / "y.json")
    assert "choose one of size, order" in refused(*wide, "--output", tmp_path / "y.json", "--by", "name")
    assert not (tmp_path / "y.json").exists()


@pytest.mark.parametrize("command", ["show", "diff", "apply", "transfer"])
def test_every_command_refuses_missing_and_broken_plans(refused, folder, net, tmp_path, command):
    rest = {
        "show": (),
        "diff": (folder / "a.json",),
        "apply": ("--network", net, "--output", tmp_path / "out"),
        "transfer": ("--from", net, "--to", net, "--output", tmp_path / "out.json"),
    }[command]
    assert "none.json: no such file" in refused(command, folder / "none.json", *rest)
    assert "broken.json is not a pruning plan" in refused(command, folder / "broken.json", *rest)
    assert "outside 0..1" in refused(command, folder / "illegal.json", *rest)
    assert "has no plan.json" in refused(command, tmp_path, *rest)
    assert not list(tmp_path.iterdir())


def test_removed_blocks_are_told_counted_and_cut(plan, folder, net, built, tmp_path):
    code, out, _ = plan("show", folder / "blocks.json", "--network", net, "--page", tmp_path / "page.html")
    assert code == 0
    assert "22 of 64 units in 3 groups and 1 residual block;" in out.splitlines()[0]
    assert "  removed blocks: blocks.1" in out.splitlines()
    inside = next(line.split() for line in out.splitlines() if line.startswith("blocks.1.conv1"))
    assert inside[1:5] == ["0", "of", "16", "0"]
    assert set(inside[-1]) == {"."}
    graph = built().graph
    counts = {name: len(kept) for name, kept in read_plan(folder / "a.json").kept.items()}
    flops = next(line.split() for line in out.splitlines() if line.startswith("  FLOPs "))
    assert flops[5] == f"{graph.macs() / graph.macs(counts, ('blocks.1',)):.2f}x"
    assert '<th scope="row" class="left">removed blocks</th>' in (tmp_path / "page.html").read_text()

    code, out, _ = plan("diff", folder / "a.json", folder / "blocks.json")
    assert (code, out) == (DIFFERENT, "B alone removes the residual blocks blocks.1.\n")
    assert plan("diff", folder / "blocks.json", folder / "blocks.json")[0] == 0

    code, _, err = plan("apply", folder / "blocks.json", "--network", net, "--output", tmp_path / "bundle")
    assert code == 0, err
    bundle = read_bundle(tmp_path / "bundle")
    network = load_network(bundle, trust_code=True)
    assert sum(p.numel() for p in network.parameters()) == graph.parameters(counts, ("blocks.1",))

    code, out, _ = plan("transfer", folder / "blocks.json", "--from", net, "--to", net, "--output", tmp_path / "x.json")
    assert code == 0
    assert "16 wide at 16x16 1 25.0 % 2 8 of 32" in [" ".join(line.split()) for line in out.splitlines()]
    assert "Removed residual blocks are not transferred" in out
    assert read_plan(tmp_path / "x.json").blocks == ()


def test_other_networks_are_refused_by_both_fingerprints(refused, folder, net, tmp_path, built):
    known, own = "0123456789ab", built().graph.fingerprint[:12]
    for arguments in (
        ("show", folder / "other.json", "--network", net),
        ("apply", folder / "other.json", "--network", net, "--output", tmp_path / "out"),
        ("diff", folder / "other.json", folder / "other.json", "--network", net),
        ("transfer", folder / "a.json", folder / "other.json", "--from", net, "--to", net, "--output", tmp_path / "x"),
    ):
        told = refused(*arguments)
        assert f"names graph {known}" in told
        assert f"has graph {own}" in told
    told = refused("show", folder / "a.json", "--network", net, "--n-classes", "7")
    assert f"names graph {own}" in told
    assert "Net with 7 classes and images of 3x16x16" in told
    told = refused("diff", folder / "a.json", folder / "other.json")
    assert own in told
    assert known in told
    assert not list(tmp_path.iterdir())


def test_other_mistakes_are_one_line(refused, folder, net, tmp_path):
    show = ("show", folder / "a.json", "--network")
    assert "did you mean 'cifar:resnet20'" in refused(*show, "cifar:resnet21")
    assert "KEY=VALUE" in refused(*show, net, "--option", "width")
    assert "write C,H,W" in refused(*show, net, "--input-shape", "32x32")
    assert "cannot write" in refused(*show[:2], "--page", tmp_path / "none" / "x.html")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    assert "thesis.txt" in refused("apply", folder / "a.json", "--network", net, "--output", tmp_path / "taken")
    assert (tmp_path / "taken" / "thesis.txt").read_text() == "mine"


def test_plans_of_other_inputs_are_sent_to_the_library(refused, folder, net, tmp_path):
    tokens = json.loads((folder / "a.json").read_text())
    tokens["inputs"] = [{"shape": [2, 16], "dtype": "int64"}]
    (tmp_path / "tokens.json").write_text(json.dumps(tokens))
    told = refused("show", tmp_path / "tokens.json", "--network", net)
    assert "2x16" in told
    assert "pruners.surgery.apply" in told
