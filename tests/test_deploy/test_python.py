"""`import deploy`: light, silent, short to look at, and its mistakes are one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import deploy
import pruners
from benchmarks.layers.comparison import compare_layers
from benchmarks.records.measurement import Measurement
from deploy.report.layers_shown import ShownLayers

GOLDEN = Path(__file__).parents[1] / "golden" / "results-v1.json"


@pytest.fixture
def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.LazyLinear(2)).eval()


@pytest.fixture
def images(network):
    images = torch.randn(2, 3, 8, 8)
    network(images)
    return images


def test_import_loads_the_standard_library_and_two_modules_of_ours():
    """What makes it quick: each name is loaded when it is first used."""
    code = "import sys; before = set(sys.modules); import deploy; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names}
    assert loaded == {"deploy", "deploy.errors"}


def test_every_name_is_there_and_listed():
    assert set(deploy.__all__) <= set(dir(deploy))
    assert all(getattr(deploy, name) is not None for name in deploy.__all__)
    with pytest.raises(AttributeError, match="'deploy' has no attribute 'benchh'"):
        _ = deploy.benchh


def test_results_show_their_answer_in_short():
    results = deploy.load_results(str(GOLDEN))
    assert len(repr(results)) < 2000
    assert all(word in repr(results) for word in ("faster", "ort", "exit code"))
    assert all(word in results._repr_html_() for word in ("<table>", "<td>faster", "<td>2.00x", "exit code"))
    assert all(len(repr(one)) < 2000 for one in (*results.comparisons, *results.models, results.environment))
    assert all(len(repr(one)) < 2000 for one in results.all_measurements() if isinstance(one, Measurement))


def test_foreign_text_in_a_notebook_is_no_markup():
    results = deploy.load_results(GOLDEN)
    skipped = tuple(one.model_copy(update={"reason": "<script>\x1b[31m"}) for one in results.skipped)
    shown = results.model_copy(update={"skipped": skipped})
    assert skipped
    assert "<script>" not in shown._repr_html_()
    assert "\x1b" not in shown._repr_html_() + repr(shown)


def test_a_frame_has_a_row_for_each_backend():
    pytest.importorskip("pandas")
    frame = deploy.load_results(GOLDEN).to_frame()
    assert list(frame["place"]) == ["ort", "openvino", "torch", "trt"]
    assert list(frame["verdict"]) == ["faster", "slower", "failed", "skipped"]
    sides = ("p50_ns", "p90_ns", "p99_ns", "per_second", "peak_bytes")
    numbers = [f"{side}_{number}" for side in ("baseline", "candidate") for number in sides]
    numbers += ["speedup", "speedup_low", "speedup_high", "promised", "realised"]
    assert list(frame.columns) == ["place", "verdict", *numbers, "reason"]
    assert all(frame[name].dtype == float for name in numbers)
    assert all(isinstance(text, str) for name in ("place", "verdict", "reason") for text in frame[name])
    assert frame["candidate_p50_ns"].isna().tolist() == [False, False, True, True]
    assert (frame["speedup_low"] <= frame["speedup"]).tolist() == [True, True, False, False]


def test_a_frame_without_pandas_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(deploy.DeployError, match=r"needs pandas: pip install .*\[pandas\]") as raised:
        deploy.load_results(GOLDEN).to_frame()
    assert "\n" not in str(raised.value)


@pytest.fixture
def layers():
    """Give a recorded profile alone, and a pair of it with itself."""
    report = ShownLayers.model_validate_json((GOLDEN.parent / "layers-1.json").read_text(encoding="utf-8"))
    return report.with_point((), compare_layers(report.profiles[0], report.profiles[0]))


def test_layers_show_themselves_in_short(layers):
    assert len(repr(layers)) < 2000
    for shown in (repr(layers), layers._repr_html_()):
        assert all(word in shown for word in ("Where the time of g goes on ort", "What each layer bought", "conv1"))
    assert layers._repr_html_().count("<table>") == 2
    renamed = layers.profiles[0].rows[0].model_copy(update={"name": "<script>\x1b[31m", "nodes": ()})
    foreign = ShownLayers(
        profiles=(layers.profiles[0].model_copy(update={"rows": (renamed, *layers.profiles[0].rows)}),)
    )
    assert "&lt;script&gt;" in foreign._repr_html_()
    assert "<script>" not in foreign._repr_html_()
    assert "\x1b" not in foreign._repr_html_() + repr(foreign)


def test_a_frame_of_layers_has_a_row_for_each_layer_of_each_model(layers):
    pytest.importorskip("pandas")
    frame = layers.to_frame()
    n = len(layers.profiles[0].rows)
    assert len(frame) == 3 * n
    texts = {"model", "backend", "layer", "kind", "operators", "pair"}
    assert set(frame.columns) - texts == {
        *("threads", "batch"),
        *("macs", "moved_bytes", "time_ns", "share", "roofline_share"),
    }
    assert all(frame[name].dtype == float for name in ("macs", "moved_bytes", "time_ns", "share", "roofline_share"))
    assert set(frame["pair"][:n]) == {""}
    assert "" not in set(frame["pair"][n:])
    assert frame["pair"][n : 2 * n].tolist() == frame["pair"][2 * n :].tolist()
    assert frame["macs"][:n].sum() == layers.profiles[0].macs


def test_mistakes_are_one_line_of_one_family(tmp_path):
    for call in (
        lambda: deploy.bench(tmp_path / "none.onnx"),
        lambda: deploy.layers(tmp_path / "none.onnx"),
        lambda: deploy.bench(tmp_path / "none.onnx", backends="nonsense"),
        lambda: deploy.load_results(str(tmp_path)),
    ):
        with pytest.raises(deploy.DeployError) as raised:
            call()
        assert "\n" not in str(raised.value)


def test_a_network_is_pruned_exported_and_bundled(network, images, tmp_path, capfd):
    pruned = pruners.prune(network, images, flops=0.6)
    assert pruned.macs_after <= 0.6 * pruned.macs_before
    assert max(len(repr(one)) for one in (pruned, pruned.plan)) < 500
    pruned.export(str(tmp_path / "pruned.onnx"))
    bundle = deploy.bundle(pruned, images, str(tmp_path / "small"))
    assert bundle.pruning.proof.verification.removed_channels > 0
    assert bundle.pruning.removed_units == pruned.plan.removed_units
    assert deploy.bundle(network, images, tmp_path / "dense").plan is None
    assert capfd.readouterr().out == ""


def test_a_network_is_pruned_to_exactly_one_target(network, images):
    with pytest.raises(pruners.PruneError, match="give one of flops"):
        pruners.prune(network, images)
    with pytest.raises(pruners.PruneError, match="flops and params"):
        pruners.prune(network, images, flops=0.5, params=0.5)


@pytest.mark.slow
def test_a_script_without_a_main_guard_measures_beside_a_package_of_our_name(network, images, tmp_path):
    deploy.export(network, images, tmp_path / "dense.onnx")
    deploy.export(pruners.prune(network, images, flops=0.6).model, images, tmp_path / "pruned.onnx")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").write_text("raise RuntimeError")
    root = Path(deploy.__file__).parents[1]
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.remove({str(tmp_path)!r}); sys.path.insert(0, {str(root)!r})\n"
        "import asyncio, threading, deploy\n"
        "found = []\n"
        "def work(): found.append(deploy.bench('pruned.onnx', against='dense.onnx', fast=True))\n"
        "async def main():\n"
        "    thread = threading.Thread(target=work); thread.start(); thread.join(); work()\n"
        "asyncio.run(main())\n"
        "assert all(not one.failure for each in found for one in each.all_measurements())\n"
        "assert len(found) == 2\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
