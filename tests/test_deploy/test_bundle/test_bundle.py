"""Bundle promises: complete or absent, every change seen, torch not needed to read one, torch's network comes back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from benchmarks.records.disk import file_sha256
from benchmarks.records.measurement import Agreement
from deploy.bundles import write as write_module
from deploy.bundles.bundle import Bundle, bundle_of, read_bundle
from deploy.bundles.manifest import NetworkOrigin, NetworkScores, NominalCost, Provenance
from deploy.bundles.rebuild import load_network
from deploy.bundles.write import write_bundle
from deploy.errors import BundleError, ExportError, OutputError
from pruners.plan import InputSpec, PruningPlan

FACTORY = """
from torch import nn

def small(n_classes, input_shape):
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, n_classes)
    )
"""
FILES = {"model.onnx", "weights.safetensors", "reference.npz", "bundle.json"}


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    nn.init.uniform_(model[1].running_var, 0.5, 2.0)
    return model


def plan() -> PruningPlan:
    return PruningPlan(
        graph="0" * 64,
        inputs=(InputSpec(shape=(2, 3, 8, 8)),),
        method="uniform",
        sizes={"0": 4},
        kept={"0": (0, 2)},
    )


def images(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(n))


def write(folder: Path, model: nn.Module | None = None, **options) -> Bundle:
    settings = {
        "name": "small",
        "plan": None,
        "scores": NetworkScores(test=0.9, n_test=10),
        "cost": NominalCost(macs=1000, parameters=700),
        "provenance": Provenance(seeds={"train": 0}),
        **options,
    }
    return write_bundle(folder, model or network(), (images(),), **settings)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "small"
    write(folder, plan=plan())
    return folder


@pytest.fixture
def copied(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "small"))


def entries(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def assert_broken(path: Path, *parts: str) -> None:
    with pytest.raises(BundleError) as error:
        read_bundle(path)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def test_a_bundle_is_complete(written: Path) -> None:
    assert entries(written) == FILES | {"plan.json"}
    assert entries(written.parent) == {"small"}
    bundle = read_bundle(written)
    manifest = bundle.manifest
    assert (bundle.name, manifest.scores.test, manifest.cost.macs) == ("small", 0.9, 1000)
    assert manifest.files.keys() == (FILES | {"plan.json"}) - {"bundle.json"}
    assert bundle.sha256 == file_sha256(bundle.model) == manifest.files["model.onnx"].sha256
    assert manifest.agreement.ok
    assert manifest.export.batch_norms_folded == 1
    assert bundle.plan is not None
    assert PruningPlan.load(bundle.plan) == plan()


def test_the_model_file_is_a_way_to_the_bundle(written: Path) -> None:
    bundle = read_bundle(written)
    assert read_bundle(written / "model.onnx") == bundle
    assert bundle_of(written / "model.onnx") == bundle
    assert bundle_of(written) == bundle


def test_the_reference_holds_torchs_answers(written: Path) -> None:
    with np.load(read_bundle(written).reference, allow_pickle=False) as arrays:
        assert set(arrays) == {"input:input", "output:output", "source"}
        assert arrays["source"].ndim == 0
        assert "torch" in str(arrays["source"])
        np.testing.assert_array_equal(arrays["input:input"], images().numpy())
        with torch.no_grad():
            np.testing.assert_array_equal(arrays["output:output"], network().eval()(images()).numpy())


def test_a_dense_bundle_has_no_plan(tmp_path: Path) -> None:
    bundle = write(tmp_path / "dense")
    assert bundle.plan is None
    assert entries(bundle.folder) == FILES
    assert read_bundle(bundle.folder) == bundle


def test_external_data_belongs_to_the_bundle(tmp_path: Path) -> None:
    bundle = write(tmp_path / "apart", external_data=True)
    data = bundle.folder / "model.onnx.data"
    assert bundle.sha256 == file_sha256(bundle.model, data)
    assert read_bundle(bundle.folder) == bundle
    data.write_bytes(data.read_bytes()[:-1])
    assert_broken(bundle.folder, "model.onnx.data", "not what was written")


def test_a_fixed_batch_is_baked_in_and_the_reference_fits_it(tmp_path: Path) -> None:
    for batch in (2, 5):
        bundle = write(tmp_path / f"fixed{batch}", dynamic_batch=False, batch=batch)
        assert bundle.manifest.inputs[0].shape == (batch, 3, 8, 8)
        with np.load(bundle.reference, allow_pickle=False) as arrays:
            assert arrays["input:input"].shape[0] == arrays["output:output"].shape[0] == batch
    with pytest.raises(ExportError, match="dynamic_batch=False"):
        write(tmp_path / "both", batch=2)


@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors", "plan.json", "reference.npz"])
def test_each_changed_cut_or_missing_file_is_named(copied: Path, name: str) -> None:
    file = copied / name
    content = bytearray(file.read_bytes())
    file.write_bytes(content[: len(content) // 2])
    assert_broken(copied, name, "not what was written")
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert_broken(copied, name, "not what was written")
    with pytest.raises(BundleError):
        bundle_of(copied / "model.onnx")
    file.unlink()
    assert_broken(copied, name, "missing")


def test_a_broken_manifest_is_an_error_not_a_bare_file(copied: Path) -> None:
    manifest = copied / "bundle.json"
    document = json.loads(manifest.read_text())
    manifest.write_text(manifest.read_text()[:100])
    assert_broken(copied, "bundle.json", "not JSON")
    with pytest.raises(BundleError):
        bundle_of(copied / "model.onnx")
    manifest.write_bytes(b"\xff\xfe")
    assert_broken(copied, "not JSON")
    manifest.write_text(json.dumps({**document, "schema_version": 99}))
    assert_broken(copied, "schema_version 99", "reads 1")
    manifest.write_text(json.dumps([1]))
    assert_broken(copied, "schema_version None")
    manifest.write_text(json.dumps({**document, "surprise": 1}))
    assert_broken(copied, "not a valid manifest", "surprise")
    manifest.write_text(
        json.dumps({**document, "files": {**document["files"], "../x": {"size_bytes": 1, "sha256": ""}}})
    )
    assert_broken(copied, "../x")
    del document["files"]["model.onnx"]
    manifest.write_text(json.dumps(document))
    assert_broken(copied, "does not list model.onnx")


def test_a_bundle_of_version_1_is_read(copied: Path) -> None:
    manifest = copied / "bundle.json"
    document = json.loads(manifest.read_text())
    scores = document.pop("scores")
    document |= {"schema_version": 1, "accuracy": {key: scores[key] for key in scores if key != "metric"}}
    manifest.write_text(json.dumps(document))
    found = read_bundle(copied).manifest.scores
    assert (found.metric, found.test) == ("accuracy", scores["test"])
    document["accuracy"]["test"] = 31.4
    manifest.write_text(json.dumps(document))
    assert_broken(copied, "accuracy is a share in [0, 1], got 31.4")


def test_a_bare_file_has_no_bundle(written: Path, tmp_path: Path, copied: Path) -> None:
    bare = tmp_path / "model.onnx"
    shutil.copy(written / "model.onnx", bare)
    assert bundle_of(bare) is None
    other = copied / "other.onnx"
    shutil.copy(bare, other)
    assert bundle_of(other) is None
    assert_broken(tmp_path, "not a bundle")
    assert_broken(tmp_path / "nowhere", "not a bundle")


def test_a_bundle_can_be_moved(copied: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "renamed"
    moved.parent.mkdir()
    copied.replace(moved)
    assert read_bundle(moved).manifest.name == "small"


def test_an_earlier_bundle_is_replaced(copied: Path) -> None:
    write(copied, name="second")
    bundle = read_bundle(copied)
    assert bundle.name == "second"
    assert entries(copied) == FILES  # the plan of the first one is gone
    assert entries(copied.parent) == {"small"}


@pytest.mark.parametrize(
    ("step", "failure"),
    [
        ("export_onnx", OSError(28, "No space left on device")),
        ("savez", KeyboardInterrupt()),
        ("replace_folder", OSError(28, "No space left on device")),
    ],
)
def test_a_write_that_fails_half_way_leaves_what_was_there(
    copied: Path, monkeypatch: pytest.MonkeyPatch, step: str, failure: BaseException
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise failure

    monkeypatch.setattr(np if step == "savez" else write_module, step, fail)
    earlier = read_bundle(copied)
    for folder in (copied, copied.with_name("new")):
        with pytest.raises(OutputError if isinstance(failure, OSError) else KeyboardInterrupt) as error:
            write(folder)
        if isinstance(failure, OSError):
            assert str(error.value).endswith("No space left on device; free some space")
            assert "\n" not in str(error.value)
    assert read_bundle(copied) == earlier
    assert entries(copied.parent) == {"small"}


def test_a_disk_that_fills_up_under_the_weights_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("deploy.bundles.write.save_weights", full)
    with pytest.raises(OutputError, match=r"No space left on device .*; free some space") as error:
        write(tmp_path / "small")
    assert "\n" not in str(error.value)
    assert entries(tmp_path) == set()


def test_every_file_can_be_read_by_others_alike(written: Path) -> None:
    assert len({file.stat().st_mode for file in written.iterdir()}) == 1


def test_what_a_killed_process_left_is_cleared(copied: Path) -> None:
    stage = copied.with_name(".small.part")
    stage.mkdir()
    (stage / "model.onnx").write_text("half")
    write(copied, name="second")
    assert read_bundle(copied).name == "second"
    assert entries(copied.parent) == {"small"}


def test_a_kill_between_the_two_renames_loses_nothing(copied: Path) -> None:
    earlier = read_bundle(copied).manifest
    copied.replace(copied.with_name(".small.old"))
    assert read_bundle(copied).manifest == earlier


def test_only_a_bundle_is_ever_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"thesis\.tex"):
        write(folder)
    assert entries(folder) == {"thesis.tex"}
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="in the way"):
        write(tmp_path / "file")
    with pytest.raises(OutputError) as error:
        write(tmp_path / "file" / "small")
    assert "\n" not in str(error.value)
    assert entries(tmp_path) == {"file", "results"}


def test_a_network_that_does_not_agree_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Agreement(reference="torch", max_abs_error=0.5, output_range=1.0, tolerance=1e-3, n_inputs=1, ok=False)
    monkeypatch.setattr("deploy.bundles.write.compare_with_torch", lambda *args: bad)
    with pytest.raises(ExportError, match=r"does not agree with torch: largest error 0\.5"):
        write(tmp_path / "small")
    assert entries(tmp_path) == set()


def test_the_model_is_not_touched(tmp_path: Path) -> None:
    model = network().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    write(tmp_path / "small", model)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_reading_a_bundle_needs_no_torch(written: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "for name in ('torch', 'pruners', 'onnxruntime'): sys.modules[name] = None\n"
        "from deploy.bundles.bundle import bundle_of\n"
        "print(bundle_of(Path(sys.argv[1])).name)\n"
    )
    command = [sys.executable, "-c", code, str(written / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert (done.returncode, done.stdout, done.stderr) == (0, "small\n", "")


def origin(tmp_path: Path) -> NetworkOrigin:
    from deploy.sources.network import provenance
    from deploy.sources.network_spec import NetworkSpec

    file = tmp_path / "mine.py"
    file.write_text(FACTORY)
    return NetworkOrigin(spec=provenance(NetworkSpec(name=f"{file}:small")), n_classes=5, input_shape=(3, 8, 8))


def test_the_network_comes_back_from_code_and_weights(tmp_path: Path) -> None:
    bundle = write(tmp_path / "small", provenance=Provenance(network=origin(tmp_path)))
    loaded = load_network(read_bundle(bundle.folder), trust_code=True)
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(images()), network().eval()(images()))


def test_a_pruned_network_comes_back_from_code_plan_and_weights(tmp_path: Path) -> None:
    from pruners.graph import trace
    from pruners.surgery import apply

    dense = network()
    graph = trace(dense, (images(2),))
    group = next(group for group in graph.groups if group.prunable)
    cut = PruningPlan.from_kept(
        {group.name: (0, 2)},
        {group.name: group.n_units},
        graph=graph.fingerprint,
        inputs=graph.inputs,
        method="uniform",
        settings={},
    )
    compact = apply(dense, cut)
    bundle = write(tmp_path / "small", compact, plan=cut, provenance=Provenance(network=origin(tmp_path)))
    loaded = load_network(read_bundle(bundle.folder), trust_code=True)
    assert loaded[0].out_channels == 2
    with torch.no_grad():
        assert torch.equal(loaded(images()), compact.eval()(images()))


def test_changed_code_is_not_loaded(tmp_path: Path) -> None:
    bundle = write(tmp_path / "small", provenance=Provenance(network=origin(tmp_path)))
    (tmp_path / "mine.py").write_text(FACTORY + "\n# changed\n")
    with pytest.raises(BundleError, match="has changed since"):
        load_network(bundle)


def test_weights_of_another_network_are_not_loaded(tmp_path: Path) -> None:
    wide = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 5))
    bundle = write(tmp_path / "small", wide, provenance=Provenance(network=origin(tmp_path)))
    with pytest.raises(BundleError, match="do not fit") as error:
        load_network(bundle, trust_code=True)
    assert "\n" not in str(error.value)


def test_a_bundle_without_an_origin_says_so(written: Path) -> None:
    with pytest.raises(BundleError, match="does not say how its network was built"):
        load_network(read_bundle(written))
