"""The catalogue of published networks: its data, and that each one is built with exactly the counts it names."""

from __future__ import annotations

import pytest
import torch
import yaml

from deploy.studies.published.build import build_dense, build_pair, check_counts, count, example, kept_counts, prune
from deploy.studies.published.catalogue import CatalogueError, Network, load_catalogue, read_catalogue
from deploy.studies.published.networks import PreActResNet50, resnet50_v1
from pruners.graph import trace

CATALOGUE = load_catalogue()
ENTRIES = {entry.name: entry for entry in CATALOGUE.entries}
QUICK = {
    "amc-mobilenetv1-time",
    "autopruner-mobilenetv2",
    "l1-vgg16-a",
    "slimming-vgg19-50",
    "sss-resnet50-41",
    "thinet-vgg16-tiny",
}
SMALL = Network(name="cifar:resnet20", input_shape=(3, 32, 32), classes=10)

DOCUMENT = {
    "method": "L1",
    "paper": "somebody, some paper, 2017",
    "entries": [
        {
            "name": "small",
            "title": "a small one",
            "source": "paper, Table 1",
            "parent": {"name": "cifar:resnet20", "input_shape": [3, 32, 32], "classes": 10},
            "kept": {"stages.0.0.conv1": 8},
            "counts": {"dense": {"parameters": 1000, "macs": 2000}, "pruned": {"parameters": 500, "macs": 1000}},
            "published": {"counted_in": "flops", "dense": {"operations": 4000}, "pruned": {"operations": 2000}},
        }
    ],
}


def entry_with(**changes):
    document = {**DOCUMENT, "entries": [{**DOCUMENT["entries"][0], **changes}]}
    return read_catalogue({"a.yaml": yaml.safe_dump(document)}).entries[0]


@pytest.fixture(scope="module")
def traced():
    """Give each parent and its graph once; entries of one parent follow each other."""
    kept = {}

    def parent(network):
        key = network.model_dump_json()
        if key not in kept:
            kept.clear()
            dense = build_dense(network)
            kept[key] = dense, trace(dense, example(network))
        return kept[key]

    return parent


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ENTRIES]
)
def test_every_published_network_is_built_with_exactly_its_counts(name, traced):
    entry = ENTRIES[name]
    if entry.network is not None:
        dense, pruned = build_pair(entry)
    else:
        dense, graph = traced(entry.parent)
        pruned = prune(entry, dense, graph=graph)
        # The engine's own prediction of the pruned network is a second way to count.
        kept = kept_counts(entry, graph.groups)
        assert graph.parameters(kept) == entry.counts.pruned.parameters
        assert graph.macs(kept) == entry.counts.pruned.macs
    check_counts(entry, dense, pruned)
    for label, miss in entry.misses().items():
        assert abs(miss) <= 0.01, f"{label}: {miss:+.2%}"


def test_quick_entries_are_of_every_method():
    assert {ENTRIES[name].method for name in QUICK} == {entry.method for entry in CATALOGUE.entries}


def test_every_paper_of_the_issue_has_an_entry_or_a_reason():
    told = " ".join([*ENTRIES, *(one.title for one in CATALOGUE.left_out)])
    for name in (
        *("l1-vgg16-a", "l1-resnet56-a", "l1-resnet56-b", "l1-resnet110-a", "l1-resnet110-b", "l1-resnet34-a"),
        *("l1-resnet34-b", "thinet-vgg16-conv", "thinet-vgg16-gap", "thinet-vgg16-tiny", "thinet-resnet50-30"),
        *("thinet-resnet50-50", "thinet-resnet50-70", "VGG-16-5x", "SSS ResNet-26", "SSS ResNet-32"),
        *("sss-resnet50-41", "Slimming", "Taylor-FO-BN"),
    ):
        assert name in told


def test_the_rules_of_the_papers_give_the_published_channels(traced):
    entry = ENTRIES["l1-resnet56-b"]
    counts = kept_counts(entry, traced(entry.parent)[1].groups)
    assert counts["stages.0.0.conv1"] == 6  # floor(16 * 0.4)
    assert counts["stages.0.7.conv1"] == 16  # skipped by name
    assert counts["stages.1.1.conv1"] == 22  # floor(32 * 0.7)
    assert counts["stages.2.1.conv1"] == 57  # floor(64 * 0.9)


def test_published_ratio_and_misses_follow_the_papers_way_of_counting():
    entry = entry_with()
    assert entry.published.ratio == 2
    assert entry.misses() == {"dense MACs": 0, "pruned MACs": 0}  # FLOPs are two a MAC
    by_share = entry_with(published={"counted_in": "macs", "removed": {"operations": 0.5, "parameters": 0.495}})
    assert by_share.published.ratio == 2
    assert by_share.misses()["kept share of parameters"] == pytest.approx(-0.0099, abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"published": {"counted_in": "macs", "pruned": {"operations": 2000}}}, "misses the published figure by -50"),
        ({"published": {"counted_in": "macs", "pruned": {"operations": 985}}}, "leave it out"),
        ({"published": {"counted_in": "macs", "dense": {"operations": 2000}}}, "nothing can be checked"),
        ({"network": {"name": "x", "input_shape": [3, 32, 32], "classes": 10}}, "in one of kept, ratios and network"),
        ({"kept": None}, "in one of kept, ratios and network"),
        ({"name": "Not Fit"}, "name"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_entries_that_contradict_themselves_or_the_paper_are_refused(changes, said):
    with pytest.raises(CatalogueError, match=said):
        entry_with(**changes)


def test_broken_files_and_names_used_twice_are_refused():
    with pytest.raises(CatalogueError, match=r"a\.yaml is not a catalogue file"):
        read_catalogue({"a.yaml": "entries: ["})
    text = yaml.safe_dump(DOCUMENT)
    with pytest.raises(CatalogueError, match="two entries are called 'small'"):
        read_catalogue({"a.yaml": text, "b.yaml": text})


def test_selection_takes_patterns_and_refuses_unknown_ones():
    assert [entry.name for entry in CATALOGUE.select(("l1-resnet34-?",))] == ["l1-resnet34-a", "l1-resnet34-b"]
    assert CATALOGUE.select() == CATALOGUE.entries
    with pytest.raises(CatalogueError, match=r"no published network is called 'resnet'.*l1-vgg16-a"):
        CATALOGUE.select(("resnet",))


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({"no.such.layer": 3}, "no layer of cifar:resnet20 is called 'no.such.layer'"),
        ({"stages.0.0.conv1": 17}, "has 16 channels and is to keep 17"),
        ({"stages.0.*.conv1": 8, "stages.0.0.*": 4}, "is to keep 8 and 4 channels"),
    ],
)
def test_channels_that_the_parent_cannot_keep_are_refused(kept, said, traced):
    with pytest.raises(CatalogueError, match=said):
        kept_counts(entry_with(kept=kept), traced(SMALL)[1].groups)


def test_a_count_that_is_off_by_one_is_refused(traced):
    dense, graph = traced(SMALL)
    truth = count(dense, SMALL)
    small = count(prune(entry_with(), dense, graph=graph), SMALL)
    counts = {"dense": truth.model_dump(), "pruned": {**small.model_dump(), "parameters": small.parameters + 1}}
    entry = entry_with(counts=counts, published={"counted_in": "macs", "pruned": {"operations": small.macs}})
    with pytest.raises(CatalogueError, match=f"pruned network has {small.parameters} parameters"):
        check_counts(entry, dense, prune(entry, dense, graph=graph))


def test_networks_are_the_same_ones_every_time_and_leave_the_generator_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, second = build_dense(SMALL), build_dense(SMALL)
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
    with pytest.raises(CatalogueError, match="there is no network 'published:nothing'"):
        build_dense(SMALL.model_copy(update={"name": "published:nothing"}))
    with pytest.raises(CatalogueError, match=r"no block '9\.9'"):
        build_dense(SMALL.model_copy(update={"name": "published:preact-resnet50", "options": {"removed": ["9.9"]}}))


def test_a_removed_branch_leaves_the_shortcut():
    torch.manual_seed(0)
    whole = PreActResNet50().eval()
    shorter = PreActResNet50(["0.0", "0.1"]).eval()
    shorter.load_state_dict({name: whole.state_dict()[name] for name in shorter.state_dict()})
    block, identity = shorter.stages[0][0], shorter.stages[0][1]
    x = torch.randn(1, 64, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(block(x), whole.stages[0][0].projection(whole.stages[0][0].before(x)))
        y = torch.randn(1, 256, 8, 8)
        torch.testing.assert_close(identity(y), y)
        for removed in whole.stages[0][:2]:
            removed.branch[-1].weight.zero_()
        images = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(shorter(images), whole(images))


def test_resnet50_v1_halves_the_image_in_the_first_convolution():
    block = resnet50_v1().layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
