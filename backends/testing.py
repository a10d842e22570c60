"""The promises of a backend, as functions: ours are tested with them, and so can yours be.

    from backends.testing import PROMISES

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    def test_my_backend(promise, tmp_path):
        promise(MyBackend(), tmp_path, CompileOptions())

A promise that is not kept raises AssertionError with what was expected and what came. The models are a few kilobytes,
written to the given folder.
"""

# ruff: noqa: D401  (a promise is a statement, not an order)

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from backends.base import PRECISIONS, Array, Backend, CompiledModel, CompileOptions
from backends.errors import (
    ArtefactError,
    BackendError,
    BackendUnavailableError,
    FeedError,
    ModelLoadError,
    OptionError,
)
from backends.testing_models import quantised_cnn, small_cnn, token_model, unknown_operator, with_external_data

__all__ = [
    "EXECUTION",
    "INTERFACE",
    "PROMISES",
    "Promise",
    "quantised_cnn",
    "small_cnn",
    "token_model",
    "unknown_operator",
    "with_external_data",
]

Promise: TypeAlias = Callable[[Backend, Path, CompileOptions], None]


def _image(batch: int = 2) -> dict[str, Array]:
    return {"x": np.random.default_rng(1).standard_normal((batch, 3, 8, 8)).astype(np.float32)}


def _reference(path: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(path)
    answers = ReferenceEvaluator(model).run(None, feeds)
    return dict(zip((info.name for info in model.graph.output), answers, strict=True))


# --- how they are asserted -----------------------------------------------------------------------------------------


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def _expect_close(got: Array, wanted: Array, tolerance: float, what: str) -> None:
    _expect(got.shape == wanted.shape, f"{what}: shape {wanted.shape} was expected, {got.shape} came")
    _expect(got.dtype == wanted.dtype, f"{what}: type {wanted.dtype} was expected, {got.dtype} came")
    span = float(np.ptp(wanted)) or 1.0
    error = float(np.abs(np.subtract(got, wanted, dtype=np.float64)).max())
    _expect(error <= tolerance * span, f"{what}: off by {error:.2g}, at most {tolerance * span:.2g} is allowed")


def _expect_refusal(kind: type[BackendError], words: tuple[str, ...], action: Callable[[], object]) -> None:
    try:
        action()
    except kind as error:
        text = str(error)
        _expect("\n" not in text, f"the error must be one line, it is {text!r}")
        missing = [word for word in words if word not in text]
        _expect(not missing, f"the error must name {missing}, it says {text!r}")
    else:
        raise AssertionError(f"{kind.__name__} was expected and nothing was raised")


# --- promises of the interface -------------------------------------------------------------------------------------


def inputs_and_outputs_are_those_of_the_file(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Names, shapes (free dimensions by name) and types are the file's."""
    compiled = backend.compile(token_model(folder / "tokens.onnx"), options)
    got = [(spec.name, spec.shape, spec.dtype) for spec in (*compiled.inputs, *compiled.outputs)]
    wanted = [
        ("tokens", ("batch", "length"), "int64"),
        ("scale", (), "float32"),
        ("y", ("batch", "length", 3), "float32"),
        ("embedded", ("batch", "length", 4), "float32"),
    ]
    compiled.close()
    _expect(got == wanted, f"the tensors must be {wanted}, they are {got}")


def wrong_feeds_are_refused(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """A wrong name, shape, type, or size of a shared free dimension is refused before anything runs."""
    compiled = backend.compile(small_cnn(folder / "cnn.onnx", batch=2), options)
    good = _image()["x"]
    _expect_refusal(FeedError, ("'x'", "'z'"), lambda: compiled.bind({"x": good, "z": good}))
    _expect_refusal(FeedError, ("'x'", "float32(2, 3, 8, 8)"), lambda: compiled.bind({}))
    _expect_refusal(
        FeedError, ("float32(2, 3, 8, 8)", "float32(2, 3, 8, 7)"), lambda: compiled.bind({"x": good[..., 1:]})
    )
    _expect_refusal(
        FeedError, ("float32(2, 3, 8, 8)", "float64"), lambda: compiled.bind({"x": good.astype(np.float64)})
    )
    compiled.close()


def outputs_are_copies(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """What the caller does with feeds or outputs changes nothing."""
    compiled = backend.compile(small_cnn(folder / "cnn.onnx"), options)
    feeds = _image()
    call = compiled.bind(feeds)
    call()
    first = call.outputs()["y"]
    kept = first.copy()
    first[...] = 7
    feeds["x"][...] = 7
    _expect(np.array_equal(call.outputs()["y"], kept), "writing to an output changed what is read next")
    call()
    _expect(np.array_equal(call.outputs()["y"], kept), "writing to a feed after bind changed the answer")
    compiled.close()


def the_same_feed_gives_the_same_answer(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Ten calls, and a second binding, agree to the last bit."""
    compiled = backend.compile(small_cnn(folder / "cnn.onnx"), options)
    call = compiled.bind(_image())
    call()
    first = call.outputs()["y"]
    for _ in range(9):
        call()
    _expect(np.array_equal(call.outputs()["y"], first), "a later call gave another answer")
    _expect(np.array_equal(compiled.run(_image())["y"], first), "a second binding gave another answer")
    compiled.close()


def closing_twice_is_harmless(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """A second close does nothing, and another model lives on."""
    path = small_cnn(folder / "cnn.onnx")
    first, second = backend.compile(path, options), backend.compile(path, options)
    before = second.run(_image())["y"]
    first.run(_image())
    first.close()
    first.close()
    _expect(np.array_equal(second.run(_image())["y"], before), "closing one model changed another")
    second.close()


def broken_files_are_refused(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Missing, empty, truncated or foreign: one line that names the file."""
    whole = small_cnn(folder / "cnn.onnx").read_bytes()
    missing = folder / "missing.onnx"
    _expect_refusal(ModelLoadError, (str(missing),), lambda: backend.compile(missing, options))
    contents = {"empty": b"", "truncated": whole[: len(whole) // 2], "foreign": b"this is no ONNX file at all"}
    for name, content in contents.items():
        path = folder / f"{name}.onnx"
        path.write_bytes(content)
        _expect_refusal(ModelLoadError, (str(path),), partial(backend.compile, path, options))


def wrong_external_data_is_refused(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """External data that is missing, too short or outside the model's folder is named."""
    path = with_external_data(folder / "external.onnx")
    data = folder / "weights.bin"
    backend.compile(path, options).close()
    data.write_bytes(data.read_bytes()[:-8])
    _expect_refusal(ModelLoadError, ("weights.bin", "too short"), lambda: backend.compile(path, options))
    data.unlink()
    _expect_refusal(ModelLoadError, ("weights.bin", "missing"), lambda: backend.compile(path, options))


def an_absent_device_is_refused(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """A device that is not there is an error; no other one is taken instead."""
    path = small_cnn(folder / "cnn.onnx")
    absent = replace(options, device="cuda:99")
    _expect(not backend.availability("cuda:99").ok, "cuda:99 is said to be available")
    _expect_refusal(BackendUnavailableError, (backend.name,), lambda: backend.compile(path, absent))


def availability_explains_itself(backend: Backend, folder: Path, options: CompileOptions) -> None:  # noqa: ARG001
    """Usable with a version, or not usable with a reason and a hint."""
    for device in ("cpu", "cuda", "cuda:99", "sm_89"):
        state = backend.availability(device)
        if state.ok:
            _expect(bool(state.version and state.devices), f"{device}: usable, but without version or devices")
            _expect(not state.reason and not state.hint, f"{device}: usable, and yet a reason why not")
        else:
            _expect(bool(state.reason and state.hint), f"{device}: not usable, without reason or hint")


# --- promises of the execution -------------------------------------------------------------------------------------


def answers_equal_the_reference(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """A small CNN agrees with ONNX's reference evaluator within 1e-5 of the output's range in fp32."""
    path = small_cnn(folder / "cnn.onnx")
    compiled = backend.compile(path, options)
    _expect(compiled.executed_precision == options.precision, f"executed precision {compiled.executed_precision}")
    tolerance = 1e-5 if options.precision == "fp32" else 3e-2
    _expect_close(compiled.run(_image())["y"], _reference(path, _image())["y"], tolerance, "y")
    compiled.close()


def tokens_and_a_scalar_are_inputs(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Several inputs, int64 and 0-d among them, several outputs, and two sizes of the free dimensions."""
    path = token_model(folder / "tokens.onnx")
    compiled = backend.compile(path, options)
    for shape in ((1, 3), (2, 5)):
        tokens = np.arange(np.prod(shape), dtype=np.int64).reshape(shape) % 10
        feeds: dict[str, Array] = {"tokens": tokens, "scale": np.array(0.5, np.float32)}
        wanted = _reference(path, feeds)
        for name, got in compiled.run(feeds).items():
            _expect_close(got, wanted[name], 1e-5, f"{name} at {shape}")
    compiled.close()


def a_free_batch_takes_any_size(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Rows of a batch equal the rows alone, whatever ran before."""
    compiled = backend.compile(small_cnn(folder / "cnn.onnx", batch="batch"), options)
    images = _image(3)["x"]
    together = compiled.run({"x": images})["y"]
    for row in range(3):
        alone = compiled.run({"x": images[row : row + 1]})["y"]
        _expect_close(alone, together[row : row + 1], 1e-5, f"row {row} alone")
    compiled.close()


def external_data_is_found(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Weights beside the model are read from any working directory."""
    path = with_external_data(folder / "external.onnx")
    compiled = backend.compile(path, options)
    inside = small_cnn(folder / "cnn.onnx")
    _expect_close(compiled.run(_image())["y"], _reference(inside, _image())["y"], 1e-5, "y")
    compiled.close()


def an_unknown_operator_is_named(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """The one line says which operator it is."""
    path = unknown_operator(folder / "strange.onnx")
    _expect_refusal(ModelLoadError, (str(path), "NoSuchOperator"), lambda: backend.compile(path, options))


def threads_are_honoured_or_refused(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """The number of threads read back is the one asked for, or `OptionError` says why not."""
    path = small_cnn(folder / "cnn.onnx")
    for threads in (1, 2, 64):
        try:
            compiled = backend.compile(path, replace(options, threads=threads))
        except OptionError:
            _expect(threads > 1, "one thread was refused")
            continue
        got = compiled.properties.get("threads")
        compiled.close()
        _expect(got == str(threads), f"{threads} threads were asked for, {got} are used")


def precision_is_honoured_or_refused(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Each precision is executed as asked, or refused with `OptionError`; fp32 is never refused."""
    path = small_cnn(folder / "cnn.onnx")
    for precision in PRECISIONS:
        try:
            compiled = backend.compile(path, replace(options, precision=precision))
        except OptionError:
            _expect(precision != "fp32", "fp32 was refused")
            continue
        _expect(compiled.executed_precision == precision, f"{compiled.executed_precision} instead of {precision}")
        tolerance = 1e-5 if precision == "fp32" else 3e-2
        _expect_close(compiled.run(_image())["y"], _reference(path, _image())["y"], tolerance, f"y in {precision}")
        compiled.close()


def streams_are_honoured_or_refused(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """The streams read back are those asked for, each with its threads, or `OptionError` says why not."""
    path = small_cnn(folder / "cnn.onnx")
    for streams, threads in ((1, 1), (2, 1), (1, 2), (2, 2), (64, 1)):
        try:
            compiled = backend.compile(path, replace(options, streams=streams, threads=threads))
        except OptionError:
            _expect((streams, threads) != (1, 1), "one stream of one thread was refused")
            continue
        got = {name: compiled.properties.get(name) for name in ("streams", "threads", "compute_threads")}
        compiled.close()
        _expect(got["streams"] == str(streams), f"{streams} streams were asked for, {got['streams']} are used")
        _expect(got["threads"] == str(threads), f"{threads} threads were asked for, {got['threads']} are used")
        at_once = int(got["compute_threads"] or 0)
        _expect(
            threads + streams - 1 <= at_once <= threads * streams,
            f"{streams} streams of {threads} threads compute with {got['compute_threads']} threads at once",
        )


def calls_run_at_once(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Calls bound to different feeds run from threads of their own without touching each other's answers."""
    path = small_cnn(folder / "cnn.onnx", batch="batch")
    for streams in (2, 4):
        try:
            compiled = backend.compile(path, replace(options, streams=streams))
        except OptionError:
            continue
        images = [np.random.default_rng(seed).standard_normal((1 + seed % 3, 3, 8, 8)) for seed in range(streams)]
        feeds: list[dict[str, Array]] = [{"x": image.astype(np.float32)} for image in images]
        wanted = [_reference(path, feed)["y"] for feed in feeds]
        with ThreadPoolExecutor(streams) as pool:
            together = threading.Barrier(streams, timeout=600)
            running = [pool.submit(_answers, compiled, feed, together) for feed in feeds]
        broken = [error for future in running if (error := future.exception()) is not None]
        if broken:  # the others only say that they waited in vain
            raise next((error for error in broken if not isinstance(error, threading.BrokenBarrierError)), broken[0])
        for index, future in enumerate(running):
            for got in future.result():
                _expect_close(got, wanted[index], 1e-5, f"y of thread {index} of {streams}")
        compiled.close()


def _answers(compiled: CompiledModel, feed: Mapping[str, Array], together: threading.Barrier) -> list[Array]:
    """Call 50 times at the same time as others, and read each answer only when all have theirs."""
    found = []
    try:
        call = compiled.bind(feed)
        for _ in range(50):
            together.wait()
            call()
            together.wait()
            found.append(call.outputs()["y"])
    except BaseException:
        together.abort()
        raise
    return found


def a_quantised_model_is_int8_or_refused(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """A quantised file is executed on integers and said to be, or refused in one line; never under another name."""
    path = quantised_cnn(folder / "quantised.onnx")
    _expect_refusal(OptionError, (), lambda: backend.compile(path, options))
    try:
        compiled = backend.compile(path, replace(options, precision="int8"))
    except OptionError as error:
        _expect("\n" not in str(error), f"the error must be one line, it is {str(error)!r}")
        return
    _expect(compiled.executed_precision == "int8", f"executed precision {compiled.executed_precision}")
    # One step of the output's scale: runtimes round halves differently.
    _expect_close(compiled.run(_image())["y"], _reference(path, _image())["y"], 0.1, "y")
    compiled.close()


def layers_lead_back_to_the_file(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Each convolution and matrix product of the file is found in a compiled layer, and each named node exists."""
    import onnx

    path = small_cnn(folder / "cnn.onnx")
    compiled = backend.compile(path, options)
    nodes = [name for layer in compiled.layers() for name in layer.nodes]
    compiled.close()
    known = {node.name for node in onnx.load(path).graph.node}
    _expect(set(nodes) <= known, f"layers name nodes that are not in the file: {sorted(set(nodes) - known)}")
    for name in ("conv1", "depthwise", "pointwise", "classifier"):
        _expect(name in nodes, f"node {name!r} is in no layer")


def it_works_in_a_fresh_process(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """A new Python process with nothing imported gives the same answer."""
    path = small_cnn(folder / "cnn.onnx")
    feed, answer = folder / "feed.npy", folder / "answer.npy"
    np.save(feed, _image()["x"])
    kind = type(backend)
    code = (
        "import sys, pathlib, numpy\n"
        f"from {kind.__module__} import {kind.__qualname__} as Kind\n"
        "from backends import CompileOptions\n"
        "model, feed, answer = map(pathlib.Path, sys.argv[1:])\n"
        f"compiled = Kind().compile(model, {options!r})\n"
        "numpy.save(answer, compiled.run({'x': numpy.load(feed, allow_pickle=False)})['y'])\n"
        "compiled.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(feed), str(answer)], capture_output=True, text=True, check=False
    )
    _expect(done.returncode == 0, f"the process ended with {done.returncode}: {done.stderr[-2000:]}")
    compiled = backend.compile(path, options)
    _expect_close(np.load(answer, allow_pickle=False), compiled.run(_image())["y"], 1e-6, "y of the other process")
    compiled.close()


def an_artefact_gives_the_same_answers(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """What `artefact` gives is loaded into an equal model, also in a fresh state, or the reason why not is said."""
    path = small_cnn(folder / "cnn.onnx", batch="batch")
    compiled = backend.compile(path, options)
    if backend.why_no_artefacts:
        _expect_refusal(ArtefactError, (), compiled.artefact)
        _expect_refusal(ArtefactError, (backend.why_no_artefacts,), lambda: backend.import_artefact(b"", path, options))
        compiled.close()
        return
    wanted = compiled.run(_image())["y"]
    layers = [(layer.kind, layer.nodes) for layer in compiled.layers()]
    facts = (compiled.inputs, compiled.outputs, compiled.executed_precision)
    blob = compiled.artefact()
    compiled.close()
    loaded = backend.import_artefact(blob, path, options)
    _expect(np.array_equal(loaded.run(_image())["y"], wanted), "the loaded model gives another answer")
    _expect([(layer.kind, layer.nodes) for layer in loaded.layers()] == layers, "the loaded model has other layers")
    _expect(
        (loaded.inputs, loaded.outputs, loaded.executed_precision) == facts,
        "the loaded model has other inputs, outputs or another precision",
    )
    for name in ("threads", "streams", "compute_threads"):
        _expect(loaded.properties[name] == compiled.properties[name], f"the loaded model has other {name}")
    loaded.close()
    _expect_refusal(ArtefactError, (), lambda: backend.import_artefact(b"no artefact", path, options))


def memory_is_said_or_none(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Bytes where the runtime tells, with the source; otherwise None, and never a guess."""
    compiled = backend.compile(small_cnn(folder / "cnn.onnx"), options)
    compiled.run(_image())
    said = compiled.memory()
    compiled.close()
    known = [value for value in (said.weights_bytes, said.arena_bytes) if value is not None]
    _expect(all(value >= 0 for value in known), f"negative bytes: {said}")
    _expect(bool(known) == bool(said.source), f"bytes without a source, or a source without bytes: {said}")


INTERFACE: tuple[Promise, ...] = (
    availability_explains_itself,
    inputs_and_outputs_are_those_of_the_file,
    wrong_feeds_are_refused,
    outputs_are_copies,
    the_same_feed_gives_the_same_answer,
    closing_twice_is_harmless,
    broken_files_are_refused,
    wrong_external_data_is_refused,
    an_absent_device_is_refused,
    an_artefact_gives_the_same_answers,
    memory_is_said_or_none,
    streams_are_honoured_or_refused,
)
"""Hold for everything behind the protocol, also for a backend that computes nothing."""

EXECUTION: tuple[Promise, ...] = (
    answers_equal_the_reference,
    tokens_and_a_scalar_are_inputs,
    a_free_batch_takes_any_size,
    external_data_is_found,
    an_unknown_operator_is_named,
    threads_are_honoured_or_refused,
    calls_run_at_once,
    a_quantised_model_is_int8_or_refused,
    precision_is_honoured_or_refused,
    layers_lead_back_to_the_file,
    it_works_in_a_fresh_process,
)
"""Hold for everything that runs a model."""

PROMISES: tuple[Promise, ...] = INTERFACE + EXECUTION
"""All of them."""
