"""What TensorRT's versions differ in, and engines that are kept, on stand-ins for the runtime."""

import json
from types import SimpleNamespace

import pytest

from backends import CompileOptions, modelfile
from backends.errors import ArtefactError
from backends.registry import create
from backends.testing import small_cnn
from backends.trt import backend as backend_module
from backends.trt.build import Dialect, make_logger
from backends.trt.layers import TYPES, layers_of_inspector
from backends.trt.model import RunnableModel

# --- dialects ------------------------------------------------------------------------------------------------------


def fake_module(flags, capabilities=None, builder_flags=("TF32",)):
    module = SimpleNamespace(
        NetworkDefinitionCreationFlag=SimpleNamespace(__members__=flags),
        BuilderFlag=SimpleNamespace(**dict.fromkeys(builder_flags)),
    )
    if capabilities is not None:
        module.ComputeCapability = SimpleNamespace(__members__=capabilities)
    return module


@pytest.mark.parametrize(
    ("module", "typed_flag", "capabilities"),
    [
        pytest.param(
            fake_module({"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}, builder_flags=("FP16", "TF32")), 2, (), id="10.x"
        ),
        pytest.param(fake_module({"STRONGLY_TYPED": 0, "PREFER_JIT_PYTHON_PLUGINS": 1}), 0, (), id="11.x"),
        pytest.param(
            fake_module({"STRONGLY_TYPED": 0}, {"NONE": 0, "CURRENT": 1, "SM89": 2, "SM120": 3}),
            0,
            ("sm_89", "sm_120"),
            id="rtx",
        ),
    ],
)
def test_a_dialect_is_read_off_the_module(module, typed_flag, capabilities):
    dialect = Dialect.of(module)
    assert (dialect.typed_flag, dialect.capabilities) == (typed_flag, capabilities)


@pytest.mark.parametrize(
    "output",
    [
        pytest.param({"Name": "y", "Format/Datatype": "Row major linear FP32"}, id="10.x"),
        pytest.param({"Name": "y", "Datatype": "Float", "Format": "Row major linear"}, id="11.x and rtx"),
    ],
)
def test_the_inspector_is_read_in_both_schemas(output):
    layer = {
        "Name": "conv_myl0_1",
        "LayerType": "correlation",
        "Outputs": [output],
        "Metadata": "[ONNX Layer: conv]\u001f[ONNX Layer: relu]",
    }
    (read,) = layers_of_inspector(json.dumps({"Layers": [layer]}))
    assert (read.name, read.kind, read.nodes) == ("conv_myl0_1", "correlation", ("conv", "relu"))
    assert {TYPES[word] for word in read.types} == {"fp32"}


# --- an engine that is kept ----------------------------------------------------------------------------------------


class FakeEngine:
    device_memory_size_v2 = 4096

    def __init__(self, plan):
        self.plan = plan

    def create_engine_inspector(self):
        return SimpleNamespace(get_engine_information=lambda kind: json.dumps({"Layers": []}))

    def serialize(self):
        return self.plan

    def get_engine_stat(self, stat):
        assert stat == "total weights"
        return 1234


def fake_runtime():
    def open_engine(plan):
        return FakeEngine(plan) if plan.startswith(b"plan") else None

    class Logger:
        class Severity:
            ERROR, INTERNAL_ERROR = 1, 0

    return SimpleNamespace(
        ILogger=Logger,
        Runtime=lambda log: SimpleNamespace(deserialize_cuda_engine=open_engine),
        LayerInformationFormat=SimpleNamespace(JSON="json"),
        EngineStat=SimpleNamespace(TOTAL_WEIGHTS_SIZE="total weights"),
    )


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """The backend on a machine with a GPU, with `fake_runtime` for TensorRT."""
    module = fake_runtime()
    dialect = Dialect(module=module, typed_flag=0, capabilities=())
    monkeypatch.setattr(backend_module, "installed", lambda: ("tensorrt",))
    monkeypatch.setattr(backend_module, "gpus", lambda: ("cuda:0 (H200)",))
    monkeypatch.setattr(backend_module, "has_cuda_bindings", lambda: True)
    monkeypatch.setattr(backend_module, "_checked", lambda model, options: (dialect, modelfile.read(model)))
    path = small_cnn(tmp_path / "m.onnx")
    built = (b"plan of \n bytes", {"threads": "1", "streams": "1", "compute_threads": "1", "tf32": "False"})
    log = make_logger(module)
    return path, RunnableModel(dialect, modelfile.read(path), CompileOptions(device="cuda"), built, log)


def test_an_engine_is_kept_with_what_it_was_built_with(engine):
    path, compiled = engine
    loaded = create("trt").import_artefact(compiled.artefact(), path, CompileOptions(device="cuda"))
    assert loaded.properties == compiled.properties
    assert loaded.properties["tf32"] == "False"
    assert loaded.artefact() == compiled.artefact()


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"no artefact", "this is not an artefact of backend 'trt'"),
        (b"[1]\nplan", "this is not an artefact of backend 'trt'"),
        (b"{}\nfrom another version", "TensorRT cannot open the engine"),
    ],
)
def test_a_foreign_engine_is_refused(blob, message, engine):
    path, _ = engine
    with pytest.raises(ArtefactError, match=message):
        create("trt").import_artefact(blob, path, CompileOptions(device="cuda"))


def test_the_engine_tells_its_memory(engine):
    _, compiled = engine
    memory = compiled.memory()
    assert (memory.weights_bytes, memory.arena_bytes) == (1234, 4096)
    assert compiled.properties["device_memory_bytes"] == "4096"
