"""Promises on execution: they hold for every backend that really computes."""

# ruff: noqa: D401  (a promise is a statement, not an order)

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from backends.base import Backend, CompiledModel
from backends.errors import ModelLoadError, OptionError
from backends.records import PRECISIONS, Array, CompileOptions
from backends.testing.expectations import Promise, expect, expect_close, expect_refusal, image, reference
from backends.testing.models import quantised_cnn, small_cnn, token_model, unknown_operator, with_external_data

__all__ = ["EXECUTION"]


def answers_equal_the_reference(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """A small CNN agrees with ONNX's reference evaluator within 1e-5 of the output's range in fp32."""
    path = small_cnn(folder / "cnn.onnx")
    compiled = backend.compile(path, options)
    expect(compiled.executed_precision == options.precision, f"executed precision {compiled.executed_precision}")
    tolerance = 1e-5 if options.precision == "fp32" else 3e-2
    expect_close(compiled.run(image())["y"], reference(path, image())["y"], tolerance, "y")
    compiled.close()


def tokens_and_a_scalar_are_inputs(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Several inputs (int64 and 0-d included), several outputs and two sizes of the free dimensions work."""
    path = token_model(folder / "tokens.onnx")
    compiled = backend.compile(path, options)
    for shape in ((1, 3), (2, 5)):
        tokens = np.arange(np.prod(shape), dtype=np.int64).reshape(shape) % 10
        feeds: dict[str, Array] = {"tokens": tokens, "scale": np.array(0.5, np.float32)}
        wanted = reference(path, feeds)
        for name, got in compiled.run(feeds).items():
            expect_close(got, wanted[name], 1e-5, f"{name} at {shape}")
    compiled.close()


def a_free_batch_takes_any_size(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Each row of a batch gives the same output as when run alone."""
    compiled = backend.compile(small_cnn(folder / "cnn.onnx", batch="batch"), options)
    images = image(3)["x"]
    together = compiled.run({"x": images})["y"]
    for row in range(3):
        alone = compiled.run({"x": images[row : row + 1]})["y"]
        expect_close(alone, together[row : row + 1], 1e-5, f"row {row} alone")
    compiled.close()


def external_data_is_found(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Weights beside the model are read from any working directory."""
    path = with_external_data(folder / "external.onnx")
    compiled = backend.compile(path, options)
    inside = small_cnn(folder / "cnn.onnx")
    expect_close(compiled.run(image())["y"], reference(inside, image())["y"], 1e-5, "y")
    compiled.close()


def an_unknown_operator_is_named(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """The one-line error names the operator."""
    path = unknown_operator(folder / "strange.onnx")
    expect_refusal(ModelLoadError, (str(path), "NoSuchOperator"), lambda: backend.compile(path, options))


def threads_are_honoured_or_refused(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """The number of threads read back is the one asked for, or `OptionError` says why not."""
    path = small_cnn(folder / "cnn.onnx")
    for threads in (1, 2, 64):
        try:
            compiled = backend.compile(path, replace(options, threads=threads))
        except OptionError:
            expect(threads > 1, "one thread was refused")
            continue
        got = compiled.properties.get("threads")
        compiled.close()
        expect(got == str(threads), f"{threads} threads were asked for, {got} are used")


def precision_is_honoured_or_refused(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Each precision is executed as asked, or refused with `OptionError`; fp32 is never refused."""
    path = small_cnn(folder / "cnn.onnx")
    for precision in PRECISIONS:
        try:
            compiled = backend.compile(path, replace(options, precision=precision))
        except OptionError:
            expect(precision != "fp32", "fp32 was refused")
            continue
        expect(compiled.executed_precision == precision, f"{compiled.executed_precision} instead of {precision}")
        tolerance = 1e-5 if precision == "fp32" else 3e-2
        expect_close(compiled.run(image())["y"], reference(path, image())["y"], tolerance, f"y in {precision}")
        compiled.close()


def calls_run_at_once(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Calls bound to different feeds run in separate threads without affecting each other's answers."""
    path = small_cnn(folder / "cnn.onnx", batch="batch")
    for streams in (2, 4):
        try:
            compiled = backend.compile(path, replace(options, streams=streams))
        except OptionError:
            continue
        images = [np.random.default_rng(seed).standard_normal((1 + seed % 3, 3, 8, 8)) for seed in range(streams)]
        feeds: list[dict[str, Array]] = [{"x": image.astype(np.float32)} for image in images]
        wanted = [reference(path, feed)["y"] for feed in feeds]
        with ThreadPoolExecutor(streams) as pool:
            together = threading.Barrier(streams, timeout=600)
            running = [pool.submit(_answers, compiled, feed, together) for feed in feeds]
        broken = [error for future in running if (error := future.exception()) is not None]
        if broken:  # the other threads only report the broken barrier
            raise next((error for error in broken if not isinstance(error, threading.BrokenBarrierError)), broken[0])
        for index, future in enumerate(running):
            for got in future.result():
                expect_close(got, wanted[index], 1e-5, f"y of thread {index} of {streams}")
        compiled.close()


def _answers(compiled: CompiledModel, feed: Mapping[str, Array], together: threading.Barrier) -> list[Array]:
    """Call 50 times, each in step with the other threads, and read each answer only after all have run."""
    answers = []
    try:
        call = compiled.bind(feed)
        for _ in range(50):
            together.wait()
            call()
            together.wait()
            answers.append(call.outputs()["y"])
    except BaseException:
        together.abort()
        raise
    return answers


def a_quantised_model_is_int8_or_refused(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """A quantised file is executed in integers and reported as int8, or rejected with a one-line error."""
    path = quantised_cnn(folder / "quantised.onnx")
    expect_refusal(OptionError, (), lambda: backend.compile(path, options))
    try:
        compiled = backend.compile(path, replace(options, precision="int8"))
    except OptionError as error:
        expect("\n" not in str(error), f"the error must be one line, it is {str(error)!r}")
        return
    expect(compiled.executed_precision == "int8", f"executed precision {compiled.executed_precision}")
    # One step of the output's scale: runtimes round halves differently.
    expect_close(compiled.run(image())["y"], reference(path, image())["y"], 0.1, "y")
    compiled.close()


def layers_lead_back_to_the_file(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Each convolution and matrix product of the file is in a compiled layer, and layers name only existing nodes."""
    import onnx

    path = small_cnn(folder / "cnn.onnx")
    compiled = backend.compile(path, options)
    nodes = [name for layer in compiled.layers() for name in layer.nodes]
    compiled.close()
    known = {node.name for node in onnx.load(path).graph.node}
    expect(set(nodes) <= known, f"layers name nodes that are not in the file: {sorted(set(nodes) - known)}")
    for name in ("conv1", "depthwise", "pointwise", "classifier"):
        expect(name in nodes, f"node {name!r} is in no layer")


def it_works_in_a_fresh_process(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """A new Python process with nothing imported gives the same answer."""
    path = small_cnn(folder / "cnn.onnx")
    feed, answer = folder / "feed.npy", folder / "answer.npy"
    np.save(feed, image()["x"])
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
    expect(done.returncode == 0, f"the process ended with {done.returncode}: {done.stderr[-2000:]}")
    compiled = backend.compile(path, options)
    expect_close(np.load(answer, allow_pickle=False), compiled.run(image())["y"], 1e-6, "y of the other process")
    compiled.close()


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
"""Promises that hold for every backend that really computes."""
