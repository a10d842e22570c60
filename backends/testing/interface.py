"""Promises on the interface: they hold for every backend, even one that computes nothing."""

# ruff: noqa: D401  (a promise is a statement, not an order)

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from backends.base import Backend
from backends.errors import ArtefactError, BackendUnavailableError, FeedError, ModelLoadError, OptionError
from backends.records import CompileOptions
from backends.testing.expectations import Promise, expect, expect_refusal, image
from backends.testing.models import small_cnn, token_model, with_external_data

__all__ = ["INTERFACE"]


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
    expect(got == wanted, f"the tensors must be {wanted}, they are {got}")


def wrong_feeds_are_refused(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """A wrong name, shape, type, or size of a shared free dimension is refused before anything runs."""
    compiled = backend.compile(small_cnn(folder / "cnn.onnx", batch=2), options)
    good = image()["x"]
    expect_refusal(FeedError, ("'x'", "'z'"), lambda: compiled.bind({"x": good, "z": good}))
    expect_refusal(FeedError, ("'x'", "float32(2, 3, 8, 8)"), lambda: compiled.bind({}))
    expect_refusal(
        FeedError, ("float32(2, 3, 8, 8)", "float32(2, 3, 8, 7)"), lambda: compiled.bind({"x": good[..., 1:]})
    )
    expect_refusal(FeedError, ("float32(2, 3, 8, 8)", "float64"), lambda: compiled.bind({"x": good.astype(np.float64)}))
    compiled.close()


def outputs_are_copies(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Writing to feeds or outputs after the call has no effect."""
    compiled = backend.compile(small_cnn(folder / "cnn.onnx"), options)
    feeds = image()
    call = compiled.bind(feeds)
    call()
    first = call.outputs()["y"]
    kept = first.copy()
    first[...] = 7
    feeds["x"][...] = 7
    expect(np.array_equal(call.outputs()["y"], kept), "writing to an output changed what is read next")
    call()
    expect(np.array_equal(call.outputs()["y"], kept), "writing to a feed after bind changed the answer")
    compiled.close()


def the_same_feed_gives_the_same_answer(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Ten calls, and a second binding, agree to the last bit."""
    compiled = backend.compile(small_cnn(folder / "cnn.onnx"), options)
    call = compiled.bind(image())
    call()
    first = call.outputs()["y"]
    for _ in range(9):
        call()
    expect(np.array_equal(call.outputs()["y"], first), "a later call gave another answer")
    expect(np.array_equal(compiled.run(image())["y"], first), "a second binding gave another answer")
    compiled.close()


def closing_twice_is_harmless(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """A second close does nothing, and another model still works."""
    path = small_cnn(folder / "cnn.onnx")
    first, second = backend.compile(path, options), backend.compile(path, options)
    before = second.run(image())["y"]
    first.run(image())
    first.close()
    first.close()
    expect(np.array_equal(second.run(image())["y"], before), "closing one model changed another")
    second.close()


def broken_files_are_refused(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """A missing, empty, truncated or non-ONNX file gives a one-line error that names it."""
    whole = small_cnn(folder / "cnn.onnx").read_bytes()
    missing = folder / "missing.onnx"
    expect_refusal(ModelLoadError, (str(missing),), lambda: backend.compile(missing, options))
    contents = {"empty": b"", "truncated": whole[: len(whole) // 2], "foreign": b"this is not an ONNX file"}
    for name, content in contents.items():
        path = folder / f"{name}.onnx"
        path.write_bytes(content)
        expect_refusal(ModelLoadError, (str(path),), partial(backend.compile, path, options))


def wrong_external_data_is_refused(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """An error names external data that is missing or too short."""
    path = with_external_data(folder / "external.onnx")
    data = folder / "weights.bin"
    backend.compile(path, options).close()
    data.write_bytes(data.read_bytes()[:-8])
    expect_refusal(ModelLoadError, ("weights.bin", "too short"), lambda: backend.compile(path, options))
    data.unlink()
    expect_refusal(ModelLoadError, ("weights.bin", "missing"), lambda: backend.compile(path, options))


def an_absent_device_is_refused(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """An absent device is an error; no other device is used instead."""
    path = small_cnn(folder / "cnn.onnx")
    absent = replace(options, device="cuda:99")
    expect(not backend.availability("cuda:99").ok, "cuda:99 is reported as available")
    expect_refusal(BackendUnavailableError, (backend.name,), lambda: backend.compile(path, absent))


def availability_explains_itself(backend: Backend, folder: Path, options: CompileOptions) -> None:  # noqa: ARG001
    """Availability is usable with a version, or not usable with a reason and a hint."""
    for device in ("cpu", "cuda", "cuda:99", "sm_89"):
        state = backend.availability(device)
        if state.ok:
            expect(bool(state.version and state.devices), f"{device}: usable, but without version or devices")
            expect(not state.reason and not state.hint, f"{device}: usable, and yet a reason why not")
        else:
            expect(bool(state.reason and state.hint), f"{device}: not usable, without reason or hint")


def streams_are_honoured_or_refused(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """The streams and threads read back are those asked for, or `OptionError` says why not."""
    path = small_cnn(folder / "cnn.onnx")
    for streams, threads in ((1, 1), (2, 1), (1, 2), (2, 2), (64, 1)):
        try:
            compiled = backend.compile(path, replace(options, streams=streams, threads=threads))
        except OptionError:
            expect((streams, threads) != (1, 1), "one stream of one thread was refused")
            continue
        got = {name: compiled.properties.get(name) for name in ("streams", "threads", "compute_threads")}
        compiled.close()
        expect(got["streams"] == str(streams), f"{streams} streams were asked for, {got['streams']} are used")
        expect(got["threads"] == str(threads), f"{threads} threads were asked for, {got['threads']} are used")
        at_once = int(got["compute_threads"] or 0)
        expect(
            threads + streams - 1 <= at_once <= threads * streams,
            f"{streams} streams of {threads} threads compute with {got['compute_threads']} threads at once",
        )


def an_artefact_gives_the_same_answers(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """An artefact loads into an equal model after the original is closed, or the error says why there is none."""
    path = small_cnn(folder / "cnn.onnx", batch="batch")
    compiled = backend.compile(path, options)
    if backend.why_no_artefacts:
        expect_refusal(ArtefactError, (), compiled.artefact)
        expect_refusal(ArtefactError, (backend.why_no_artefacts,), lambda: backend.import_artefact(b"", path, options))
        compiled.close()
        return
    wanted = compiled.run(image())["y"]
    layers = [(layer.kind, layer.nodes) for layer in compiled.layers()]
    facts = (compiled.inputs, compiled.outputs, compiled.executed_precision)
    blob = compiled.artefact()
    compiled.close()
    loaded = backend.import_artefact(blob, path, options)
    expect(np.array_equal(loaded.run(image())["y"], wanted), "the loaded model gives another answer")
    expect([(layer.kind, layer.nodes) for layer in loaded.layers()] == layers, "the loaded model has other layers")
    expect(
        (loaded.inputs, loaded.outputs, loaded.executed_precision) == facts,
        "the loaded model has other inputs, outputs or another precision",
    )
    for name in ("threads", "streams", "compute_threads"):
        expect(loaded.properties[name] == compiled.properties[name], f"the loaded model has other {name}")
    loaded.close()
    expect_refusal(ArtefactError, (), lambda: backend.import_artefact(b"no artefact", path, options))


def memory_is_reported_or_none(backend: Backend, folder: Path, options: CompileOptions) -> None:
    """Memory is in bytes with a source if the runtime reports it; otherwise None, never a guess."""
    compiled = backend.compile(small_cnn(folder / "cnn.onnx"), options)
    compiled.run(image())
    memory = compiled.memory()
    compiled.close()
    known = [value for value in (memory.weights_bytes, memory.arena_bytes) if value is not None]
    expect(all(value >= 0 for value in known), f"negative bytes: {memory}")
    expect(bool(known) == bool(memory.source), f"bytes without a source, or a source without bytes: {memory}")


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
    memory_is_reported_or_none,
    streams_are_honoured_or_refused,
)
"""Promises that hold for every backend, even one that computes nothing."""
