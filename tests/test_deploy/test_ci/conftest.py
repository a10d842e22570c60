"""Small networks on the disk, and the files of a simulated job."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.validation.simulated_machine import Service, SimulatedMachine
from deploy.ci.check_file import CheckFile
from deploy.ci.checking import check

MS = 1e6


def write_net(path, *, n_classes=3, scale=1.0, padding=0, external=False, batch="N"):
    """Write x (N, 4) -> y (N, n_classes): a matrix product, with bytes beside it that nobody reads."""
    weight = scale * np.arange(4 * n_classes, dtype=np.float32).reshape(4, n_classes)
    initializers = [numpy_helper.from_array(weight, "w")]
    if padding:
        initializers.append(numpy_helper.from_array(np.zeros(padding, np.uint8), "padding"))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, n_classes])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if external:
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)
    else:
        onnx.save(model, path)
    return path


@pytest.fixture(name="write_net")
def _write_net():
    return write_net


@pytest.fixture(name="job")
def _job(tmp_path, write_net):
    """Give what runs a job whose models take as long as is said."""

    def run(latencies_ms, document, *, seed=0, luck=0.01, weather=None, kind=SimulatedMachine, **options):
        services = {name: Service(median_ns=ms * MS, sigma=0.02) for name, ms in latencies_ms.items()}
        for name in latencies_ms:
            write_net(tmp_path / f"{name}.onnx")
        machine = kind(services, seed=seed, luck=luck, weather=weather)
        models = [{"backends": "null", "threads": 1, **model} for model in document.pop("models")]
        file = CheckFile.model_validate({"models": models, **document})
        path = tmp_path / "deploy-check.yaml"
        return check(file, path, launch=machine.launch, machine=machine, **options)

    return run
