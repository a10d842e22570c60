"""The command line as people meet it: mistakes are one line and exit code 2, and measuring needs no torch."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from backends.testing import small_cnn, token_model, unknown_operator, with_external_data
from benchmarks.validation.real_machine import chain
from deploy.cli.doctor import EXTRAS

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
# Whether the machine is fit while the tests run is not theirs to say.
QUICK = ("--threads", "1", "--trials", "2", "--budget", "5", "--accept-unfit")


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    lines = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    assert len([line for line in lines if line.startswith("deploy: ")]) == 1, done.stderr
    assert "Traceback" not in done.stderr
    last = lines[-1]
    assert last.startswith("deploy: ")
    for word in words:
        assert word in last, last


def recipe(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


LEGAL = """
name: tiny
network: {name: "cifar:resnet20"}
data: {name: digits}
prune: {method: l1, target: {flops: 0.5}}
"""


def test_missing_file(tmp_path, here):
    refused(here("bench", tmp_path / "none.onnx"), "none.onnx", "no such file")
    refused(here("compile", tmp_path / "none.onnx"), "none.onnx", "no such file")
    refused(here("run", tmp_path / "none.yaml"), "none.yaml", "no such file")
    refused(here("report", tmp_path / "none.json"), "none.json", "no such file")
    good = small_cnn(tmp_path / "good.onnx")
    refused(here("compare", tmp_path / "none.onnx", good), "none.onnx", "no such file")


@pytest.mark.parametrize("backend", ["ort", "openvino", "torch"])
def test_truncated_onnx(tmp_path, backend, here):
    whole = small_cnn(tmp_path / "whole.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    refused(here("bench", tmp_path / "cut.onnx", "--backend", backend), "cut.onnx", "truncated")


def test_wrong_external_data_path(tmp_path, here):
    model = with_external_data(tmp_path / "model.onnx")
    (tmp_path / "weights.bin").unlink(missing_ok=True)
    refused(here("bench", model), "model.onnx", "weights.bin")


@pytest.mark.parametrize(
    "backend", ["ort", *(pytest.param(name, marks=pytest.mark.slow) for name in ("openvino", "torch"))]
)
def test_unknown_operator(tmp_path, backend, here):
    model = unknown_operator(tmp_path / "model.onnx")
    refused(here("bench", model, "--backend", backend, *QUICK), "NoSuch")


def test_free_dimensions_must_be_given(tmp_path, here):
    model = token_model(tmp_path / "tokens.onnx")
    refused(here("bench", model), "'tokens'", "--shape tokens=1,")
    refused(here("bench", model, "--shape", "tokens=a,b"), "--shape", "NAME=")
    refused(here("bench", model, "--shape", "nothing=1,2"), "nothing")


@pytest.mark.parametrize("backend", ["ort", "openvino", pytest.param("torch", marks=pytest.mark.slow)])
def test_tokens_several_inputs_and_a_scalar_are_measured(tmp_path, backend, here):
    model = token_model(tmp_path / "tokens.onnx")
    out = tmp_path / "results.json"
    done = here("bench", model, "-b", backend, "--shape", "tokens=1,5", "-o", out, *QUICK)
    assert done.returncode == 0, done.stderr
    (measurement,) = json.loads((tmp_path / "results.json").read_text())["measurements"]
    assert measurement["failure"] is None
    assert measurement["agreement"]["ok"]


def test_wrong_recipe_key(tmp_path, here):
    path = recipe(tmp_path, LEGAL.replace("prune:", "prunes:"))
    refused(here("run", path, "--output", tmp_path / "run"), "prunes", "did you mean 'prune'?")
    assert not (tmp_path / "run").exists()


def test_unknown_names_in_a_recipe_are_told_in_the_child(tmp_path, here):
    path = recipe(tmp_path, LEGAL.replace("resnet20", "resnet21"))
    refused(here("run", path, "--output", tmp_path / "run"), "resnet21", "did you mean")
    path = recipe(tmp_path, LEGAL.replace("method: l1", "method: l11"))
    refused(here("run", path, "--output", tmp_path / "run"), "l11", "did you mean 'l1'")


def test_unknown_backend(tmp_path, here):
    model = small_cnn(tmp_path / "model.onnx")
    refused(here("bench", model, "--backend", "opnvino"), "'opnvino'", "did you mean 'openvino'?")
    path = recipe(tmp_path, LEGAL + "bench: {backends: [orrt]}\n")
    refused(here("run", path, "--output", tmp_path / "run"), "'orrt'", "did you mean 'ort'?")


def test_no_gpu_is_one_clear_line(tmp_path, here):
    from backends.registry import probe

    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: without it that is the line")
    if probe("trt", "cuda").ok:
        pytest.skip("this machine has a GPU that TensorRT can use")
    model = small_cnn(tmp_path / "model.onnx")
    refused(here("bench", model, "--backend", "trt", "--device", "cuda"), "'trt'", "GPU")
    refused(here("bench", model, "--backend", "trt"), "'trt'")


def test_precision_and_threads_are_checked(tmp_path, here):
    model = small_cnn(tmp_path / "model.onnx")
    refused(here("bench", model, "--precision", "int3"), "int3", "fp32")
    refused(here("bench", model, "--threads", "0"), "threads")
    refused(here("bench", model, "--precision", "fp16", *QUICK), "fp16")


def test_output_that_cannot_be_written(tmp_path, here):
    (tmp_path / "file").write_text("")
    path = recipe(tmp_path, LEGAL)
    refused(here("run", path, "--output", tmp_path / "file" / "run"), "cannot write")
    model = small_cnn(tmp_path / "model.onnx")
    refused(here("bench", model, "--output", tmp_path / "file" / "results.json", *QUICK), "file")


@pytest.mark.parametrize("folder", ["/proc/prune-deploy", "/sys/prune-deploy"])
def test_read_only_output_folder(tmp_path, folder, here):
    if not Path(folder).parent.is_dir():
        pytest.skip(f"no {Path(folder).parent} on this system")
    refused(here("run", recipe(tmp_path, LEGAL), "--output", folder), folder)


def test_pair_is_measured_and_told(tmp_path, here):
    model = small_cnn(tmp_path / "model.onnx", batch="batch")
    out, page = tmp_path / "results.json", tmp_path / "page.html"
    other = small_cnn(tmp_path / "other.onnx", batch="batch")
    done = here("compare", other, model, "-b", "ort", "-o", out, "--page", page, *QUICK)
    assert done.returncode == 3, f"two pairs decide nothing: {done.stderr}"
    (comparison,) = json.loads(out.read_text())["comparisons"]
    assert comparison["speedup"]["low"] <= comparison["speedup"]["value"] <= comparison["speedup"]["high"]
    assert "FLOPs stayed the same" in done.stdout
    assert f"page{page}" in "".join(done.stdout.split())
    assert "</html>" in page.read_text()
    again = here("report", out).stdout.partition("exit ")[0]
    assert all(line.strip() in done.stdout for line in again.splitlines())
    assert "Latency of one request" in here("report", out, "-v").stdout
    assert "Latency of one request" not in done.stdout


@pytest.mark.slow
def test_a_grid_of_threads_and_batches_is_measured_point_by_point(tmp_path, here):
    model, out = small_cnn(tmp_path / "model.onnx", batch="batch"), tmp_path / "results.json"
    done = here("bench", model, "--threads", "1,2", "--batch", "1,3", "-o", out, "--trials", 1, "--accept-unfit")
    assert done.returncode == 0, done.stderr
    subjects = [one["subject"] for one in json.loads(out.read_text())["measurements"]]
    assert [(one["threads"], one["batch"]) for one in subjects] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert "ort, 2 threads, batch 3" in " ".join(done.stdout.split())


@pytest.mark.parametrize(("option", "wrong"), [("--threads", "2,x"), ("--batch", "0"), ("--threads", ",")])
def test_numbers_that_are_none_are_refused(tmp_path, option, wrong, here):
    refused(here("bench", small_cnn(tmp_path / "m.onnx"), option, wrong), option, "whole numbers")


@pytest.mark.slow
def test_a_candidate_that_is_slower_ends_with_exit_code_1(tmp_path, here):
    small, large = chain(tmp_path / "small.onnx", 5), chain(tmp_path / "large.onnx", 15)
    done = here("compare", small, large, "--trials", 6, "--threads", 1, "--accept-unfit")
    assert (done.returncode, "SLOWER" in done.stdout) == (1, True), done.stderr + done.stdout


@pytest.mark.slow
def test_a_comparison_of_few_trials_ends_with_exit_code_3(tmp_path, here):
    small, large = chain(tmp_path / "small.onnx", 5), chain(tmp_path / "large.onnx", 15)
    undecided = here("compare", large, small, "--trials", 2, "--threads", 1, "--accept-unfit")
    assert (undecided.returncode, "INCONCLUSIVE" in undecided.stdout) == (3, True)


@pytest.mark.slow
def test_a_candidate_that_is_faster_ends_with_exit_code_0(tmp_path, here):
    small, large = chain(tmp_path / "small.onnx", 5), chain(tmp_path / "large.onnx", 15)
    assert here("compare", large, small, "--trials", 6, "--threads", 1, "--accept-unfit").returncode == 0


@pytest.mark.slow
def test_a_calibrated_machine_is_told_beside_a_comparison(tmp_path, monkeypatch, here):
    monkeypatch.setenv("PRUNE_DEPLOY_STATE", str(tmp_path / "state"))
    model = small_cnn(tmp_path / "model.onnx")
    done = here("calibrate", model, "--pairs", 8, "--threads", 1, "--accept-unfit")
    assert done.returncode == 0, done.stderr
    assert "ort: 8 pairs of" in done.stdout
    assert len(list((tmp_path / "state" / "noise").iterdir())) == 1
    told = here("compare", model, small_cnn(tmp_path / "other.onnx"), *QUICK).stdout
    assert "noise floor of ort here, calibrated" in " ".join(told.split())


@pytest.mark.parametrize(
    ("arguments", "cells"),
    [
        (("multi-stream", "--streams", "1,2"), ("multi-stream", "p99")),
        pytest.param(
            ("server", "--bound-ms", "100", "--rate", "50"), ("server", "Bound: 100 ms"), marks=pytest.mark.slow
        ),
        (("offline",), ("offline", "per second")),
    ],
)
def test_a_model_is_put_under_load(tmp_path, arguments, cells, here):
    model, out, page = small_cnn(tmp_path / "model.onnx"), tmp_path / "load.jsonl", tmp_path / "load.html"
    scenario, *options = arguments
    written = ("-o", out, "--page", page)
    done = here("load", model, "-s", scenario, *options, "--duration", "0.2", *written, "--accept-unfit")
    assert done.returncode == 0, done.stderr
    assert "MLPerf-style" in done.stdout
    for cell in cells:
        assert cell in " ".join(done.stdout.split())
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == (2 if "1,2" in options else 1)
    assert all(row["result"]["scenario"] == scenario for row in rows)
    assert page.read_text(encoding="utf-8").count('<span class="name">') == len(rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sever", "--bound-ms", "1"), ("scenario 'sever'",)),
        (("device",), ("no device with a clock of its own",)),
        (("server",), ("--bound-ms",)),
        (("offline", "--streams", "0"), ("--streams",)),
        (("offline", "--duration", "inf"), ("--duration",)),
    ],
)
def test_loads_that_make_no_sense_are_refused(tmp_path, arguments, words, here):
    scenario, *options = arguments
    refused(here("load", small_cnn(tmp_path / "m.onnx"), "-s", scenario, *options), *words)


def test_bench_on_onnx_runtime_imports_neither_torch_nor_pruners(tmp_path):
    model = small_cnn(tmp_path / "model.onnx")
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {{"torch", "torchvision", "pruners", "timm"}}:
            raise AssertionError(f"imports {{name}}")
sys.meta_path.insert(0, Refuse())
sys.argv = ["deploy", "bench", {str(model)!r}, "--backend", "ort", *{QUICK!r}]
from deploy.cli import command_line
from deploy.user_errors import guarded
try:
    guarded(command_line)
finally:
    assert not {{"torch", "pruners", "onnxruntime"}} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "p50" in done.stdout


@pytest.mark.parametrize(
    "options", [(), pytest.param(("--backend", "trt", "--device", "sm_89"), marks=pytest.mark.optional)]
)
def test_layers_are_listed_without_a_gpu(tmp_path, options, here):
    from backends.registry import probe

    if options and probe("trt", "sm_89").version is None:
        pytest.skip("no TensorRT is installed")
    done = here("compile", small_cnn(tmp_path / "model.onnx"), *options)
    assert done.returncode == 0, done.stderr
    assert "layers" in done.stdout


def test_doctor_and_list_say_what_there_is(here):
    doctor, names = here("doctor"), here("list")
    assert doctor.returncode == names.returncode == 0
    for name in ("ort", "openvino", "torch", "trt", "digits", "fashion-mnist"):
        assert name in doctor.stdout
    assert "usable cores" in doctor.stdout
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert extras.keys() - {"dev", "all", "ci", "browser"} <= EXTRAS.keys() <= extras.keys()
    for name in ("taylor", "l1", "uniform", "random", "cifar:resnet20", "digits", "arXiv:1608.08710", "training data"):
        assert name in names.stdout


def test_module_and_script_are_the_same_command(here):
    command = [sys.executable, "-m", "deploy", "--help"]
    help_of_module = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300).stdout
    assert "bench" in help_of_module
    assert here("--version").stdout.strip()
