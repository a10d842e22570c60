"""What is particular to PyTorch."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

from backends import CompileOptions
from backends.errors import OptionError
from backends.registry import create, probe
from backends.testing import small_cnn, token_model

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

CLASSIFIERS = (
    *("alexnet", "vgg11_bn", "vgg16_bn", "resnet18", "resnet50", "resnext50_32x4d", "densenet121", "googlenet"),
    *("inception_v3", "squeezenet1_1", "shufflenet_v2_x1_0", "mobilenet_v2", "mobilenet_v3_large", "mnasnet1_0"),
    *("efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf", "regnet_x_400mf", "convnext_tiny", "vit_b_32"),
    *("swin_t", "swin_v2_t", "maxvit_t"),
)
SIZES = {"inception_v3": 299, "vit_b_32": 224, "swin_t": 224, "swin_v2_t": 224, "maxvit_t": 224, "alexnet": 224}


def export(model, x, path):
    batch = torch.export.Dim("batch", min=1, max=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations are not what is tested
        program = torch.onnx.export(
            model, (x,), input_names=["x"], output_names=["y"], opset_version=20, dynamic_shapes=({0: batch},),
            dynamo=True, verbose=False,
        )  # fmt: skip
        program.save(str(path), external_data=False)


def wake(model):
    """Give heads and scales that start at zero something to say."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.abs().max() < 1e-3:
                parameter.normal_(0, 0.05, generator=generator)
    return model.eval()


def compare(model, size, path, batches=(2,), threads=1):
    export(model, torch.randn(2, 3, size, size), path)
    compiled = create("torch").compile(path, CompileOptions(threads=threads))
    for batch in batches:
        x = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(batch))
        with torch.inference_mode():
            wanted = model(x).numpy()
        assert np.ptp(wanted) > 1e-6
        assert np.abs(compiled.run({"x": x.numpy()})["y"] - wanted).max() <= 1e-4 * np.ptp(wanted)
    return compiled


def test_an_exported_cnn_equals_its_module(tmp_path):
    model = wake(torchvision.models.mobilenet_v3_small(weights=None))
    compiled = compare(model, 32, tmp_path / "m.onnx", batches=(1, 2, 5))
    assert all(layer.nodes for layer in compiled.layers())


def test_an_exported_transformer_equals_its_module(tmp_path):
    model = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=10
    )
    compiled = compare(wake(model), 32, tmp_path / "m.onnx", batches=(1, 3))
    kinds = [layer.kind for layer in compiled.layers()]
    assert "layer_norm" in kinds
    assert kinds.count("add") <= 2 * 2 + 1  # residuals and the position: biases are inside the linear layers


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_torchvision_classifier_equals_its_module(name, tmp_path):
    torch.manual_seed(0)
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model = wake(torchvision.models.get_model(name, weights=None, **options))
    compare(model, SIZES.get(name, 64), tmp_path / "m.onnx", threads=2)


def test_the_profile_times_every_call(tmp_path):
    compiled = create("torch").compile(small_cnn(tmp_path / "m.onnx"), CompileOptions(profile=True))
    call = compiled.bind({"x": np.ones((2, 3, 8, 8), np.float32)})
    call()
    call()
    assert all(layer.time_ns > 0 for layer in compiled.layers())


def test_the_compiler_s_kernels_cannot_be_profiled(tmp_path):
    with pytest.raises(OptionError, match="cannot be profiled by layer"):
        create("torch-compile").compile(small_cnn(tmp_path / "m.onnx"), CompileOptions(profile=True))


def test_a_missing_cpp_compiler_is_a_reason(monkeypatch):
    monkeypatch.setattr("backends.pytorch.shutil.which", lambda name: None)
    state = probe("torch-compile")
    assert not state.ok
    assert "needs a C++ compiler" in state.reason
    assert probe("torch").ok


@pytest.mark.slow
def test_each_shape_is_compiled_and_no_process_stays_behind(tmp_path, monkeypatch):
    """In a process of its own: the compiler's state is the process's."""
    code = (
        "import sys, pathlib, numpy, psutil\n"
        "from backends.registry import create\n"
        "compiled = create('torch-compile').compile(pathlib.Path(sys.argv[1]))\n"
        "for length in (2, 3):\n"
        "    feeds = {'tokens': numpy.zeros((1, length), numpy.int64), 'scale': numpy.float32(1)}\n"
        "    assert compiled.run(feeds)['y'].shape == (1, length, 3)\n"
        "from torch._dynamo.utils import counters\n"
        "assert counters['stats']['unique_graphs'] == 2, counters['stats']\n"
        "assert not psutil.Process().children(recursive=True)\n"
    )
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    path = token_model(tmp_path / "m.onnx")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_weights_are_summed_in_the_precision_executed(tmp_path):
    path = small_cnn(tmp_path / "m.onnx")
    parameters = 8 * 3 * 9 + 8 + 8 * 9 + 64 + 40 + 5
    assert create("torch").compile(path).memory().weights_bytes == 4 * parameters
    assert create("torch").compile(path, CompileOptions(precision="bf16")).memory().weights_bytes == 2 * parameters
