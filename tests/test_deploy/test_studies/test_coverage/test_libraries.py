"""Networks of other libraries in the list of the coverage study: how many, from where, and that each can be built."""

from __future__ import annotations

from collections import Counter

import pytest

from deploy.errors import ExtraMissingError
from deploy.studies.coverage import study
from deploy.studies.coverage.catalogue import entries
from deploy.studies.coverage.rows import CoverageSettings
from deploy.studies.coverage.study import choose, jobs_of

torch = pytest.importorskip("torch")

from deploy.studies.coverage.libraries import MAKERS  # noqa: E402
from deploy.studies.coverage.models import build, inputs_of  # noqa: E402

LISTED = choose(entries(), "libraries")


def test_every_library_has_its_networks():
    count = Counter(entry.maker for entry in LISTED)
    assert count.keys() == MAKERS.keys()
    assert count["transformers"] >= 20
    assert count["monai"] == 6
    assert count["segmentation-models-pytorch"] == 5 * 3
    assert len({entry.name.partition("-")[0] for entry in LISTED if entry.maker == "segmentation-models-pytorch"}) == 5
    yolos = {entry.name for entry in LISTED if entry.maker == "ultralytics"}
    assert {"yolov8n", "yolov10n", *(f"yolo{v}n{task}" for v in (11, 12, 26) for task in ("", "-seg", "-cls"))} <= yolos
    assert len({entry.name for entry in LISTED}) == len(LISTED)


def test_a_library_that_is_missing_is_one_line(monkeypatch):
    monkeypatch.setattr(study, "library_version", lambda name: "" if name in ("monai", "ultralytics") else "1.0")
    with pytest.raises(ExtraMissingError, match=r"^monai, ultralytics: not installed; .*\[libraries\]"):
        jobs_of(LISTED, ["ours"], CoverageSettings())
    timm = choose(entries(), "timm", ["resnet18"])
    assert "monai" not in jobs_of(timm, ["ours"], CoverageSettings())[0].versions


def test_a_row_depends_on_the_version_of_its_library(monkeypatch):
    keys = set()
    for version in ("1.0", "2.0"):
        monkeypatch.setattr(study, "library_version", lambda name, version=version: version)
        keys.add(jobs_of(LISTED[:1], ["ours"], CoverageSettings())[0].key)
    assert len(keys) == 2


def test_inputs_are_what_the_list_says_of_them():
    (bert,) = choose(LISTED, "libraries", ["bert"])
    ids, mask = inputs_of(bert, seed=0)
    assert ids.dtype == mask.dtype == torch.int64
    assert ids.shape == mask.shape == (1, 16)
    assert 50 < ids.max() < 100
    assert mask.unique().tolist() == [1]


@pytest.mark.optional
@pytest.mark.parametrize("maker", MAKERS)
def test_networks_are_built_and_run(maker):
    module = {"segmentation-models-pytorch": "segmentation_models_pytorch", "open-clip-torch": "open_clip"}
    pytest.importorskip(module.get(maker, maker))
    for entry in [entry for entry in LISTED if entry.maker == maker][:3]:
        network = build(entry, seed=0)
        millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        assert millions == pytest.approx(entry.millions, rel=0.1), entry.name
        with torch.no_grad():
            network(*inputs_of(entry, seed=1))
