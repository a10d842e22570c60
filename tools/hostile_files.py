"""Hostile files of eight kinds, made by changing valid ones, and the commands that read them; see `fuzz`."""

from __future__ import annotations

import hashlib
import json
import lzma
import random
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_changes import change, json_of, message_of, spoilt, strange

from backends import modelfile
from benchmarks.answers.reference import read_reference
from benchmarks.subject.cost import cost
from benchmarks.subject.given import call_inputs
from benchmarks.subject.inputs import ModelSpecs, resolve_sizes
from benchmarks.subject.random_nodes import random_nodes
from benchmarks.subject.subject import content_sha256
from deploy.bundles.bundle import read_bundle
from deploy.bundles.manifest import MANIFEST, MODEL, PLAN, REFERENCE
from deploy.ci.history.derive import run_of_results
from deploy.ci.history.store import add_runs
from deploy.cli.app import app
from deploy.recipe import load_recipe
from deploy.results.results import load as load_results
from deploy.studies.methods.recipe import load_study

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
RUN = GOLDEN / "run-v3"


def onnx_models() -> list[Any]:
    import onnx

    text = """<ir_version: 9, opset_import: ["" : 20, "own" : 1]>
    g (float[N, 3, 8, 8] x, int64[2] ids, bool c) => (float[N, 4, k] y, float[2, 5] z)
    <float[4, 3, 3, 3] w = {0.0}, float[7, 5] table = {0.0}, int64[3] size = {0, 4, -1}, int64 most = {3}> {
        a = Conv <pads = [1, 1, 1, 1]> (x, w)
        b = own.F (a)
        d = Loop (most, c, b) <body = body (int64 i, bool t, float[N, 4, 8, 8] s) => (bool u, float[N, 4, 8, 8] r) {
            u = Identity (t)
            r = Relu (s)
        }>
        e = If (c) <then_branch = one () => (float[N, 4, 8, 8] f) { f = Neg (d) },
                    else_branch = two () => (float[N, 4, 8, 8] h) { h = Abs (d) }>
        y = Reshape (e, size)
        z = Gather (table, ids)
    }
    <domain: "own", opset_import: ["" : 20]>
    F (p) => (q) { o = Constant <value = float {2.0}> ()
        q = Mul (p, o) }"""
    model = onnx.parser.parse_model(text)
    for tensor in model.graph.initializer:
        if tensor.name in {"w", "table"}:
            tensor.CopyFrom(onnx.numpy_helper.from_array(_weights(tuple(tensor.dims)), tensor.name))
    return [model, *(onnx.load(RUN / name / MODEL) for name in ("dense", "pruned"))]


def _weights(shape: tuple[int, ...]) -> Any:
    import numpy as np

    return np.ones(shape, np.float32)


Case = Callable[[Path, random.Random], Callable[[], object]]
"""Writes a hostile input into an empty folder, and returns a function that reads it."""


def onnx_files() -> Case:
    models = onnx_models()

    def read(path: Path) -> None:
        file = modelfile.read(path)
        specs = ModelSpecs(file.inputs, file.outputs)
        shapes = {
            spec.name: tuple(2 if isinstance(size, str) else size for size in spec.shape) for spec in specs.inputs
        }
        sizes = resolve_sizes(specs, shapes=shapes)
        call_inputs(path, sizes)
        cost(path, shapes=sizes.shapes)
        random_nodes(path)
        content_sha256(path)
        list(modelfile.initializers(path))
        _ = file.precision

    def case(folder: Path, rng: random.Random) -> Callable[[], object]:
        content = message_of(rng.choice(models), rng).SerializeToString()
        path = folder / "m.onnx"
        path.write_bytes(spoilt(content, rng) if rng.random() < 0.15 else content)
        return lambda: read(path)

    return case


def plans() -> Case:
    valid = json.loads((RUN / "pruned" / PLAN).read_text(encoding="utf-8"))

    def case(folder: Path, rng: random.Random) -> Callable[[], object]:
        path = folder / "plan.json"
        path.write_bytes(json_of(valid, rng))
        return rng.choice(
            (
                lambda: app(["plan", "show", str(path)]),
                lambda: app(["plan", "show", str(path), "--page", str(folder / "p.html")]),
                lambda: app(["plan", "diff", str(path), str(RUN / "pruned" / PLAN)]),
            )
        )

    return case


def recipes() -> Case:
    import yaml

    files = [(load_recipe, ROOT / "recipes" / "demo.yaml"), (load_study, ROOT / "recipes" / "study-quick.yaml")]
    files.append((load_recipe, RUN / "recipe.yaml"))
    known = [(load, path.read_text(encoding="utf-8")) for load, path in files]

    def case(folder: Path, rng: random.Random) -> Callable[[], object]:
        load, text = rng.choice(known)
        if rng.random() < 0.6:
            document = yaml.safe_load(text)
            change(document, rng)
            text = yaml.dump(document, Dumper=_NoAliases) if rng.random() < 0.8 else yaml.safe_dump(document)
        content = text.encode("utf-8", "surrogatepass")
        if rng.random() < 0.3:
            content = spoilt(content, rng)
        path = folder / "recipe.yaml"
        path.write_bytes(content)
        return lambda: load(path)

    class _NoAliases(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
            return True

    return case


def bundles() -> Case:
    def read(folder: Path) -> None:
        bundle = read_bundle(folder)
        _ = bundle.pruning, bundle.plan, bundle.sha256, bundle.name
        read_reference(bundle.reference)

    def case(folder: Path, rng: random.Random) -> Callable[[], object]:
        bundle = folder / "bundle"
        shutil.copytree(RUN / rng.choice(("dense", "pruned")), bundle)
        manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
        inside = rng.choice([None, *(name for name in (PLAN, REFERENCE) if (bundle / name).exists())])
        if inside is not None:
            file = bundle / inside
            valid = file.read_bytes()
            changed = json_of(json.loads(valid), rng) if inside == PLAN else spoilt(valid, rng)
            file.write_bytes(changed)
            manifest["files"][inside] = {"size_bytes": len(changed), "sha256": hashlib.sha256(changed).hexdigest()}
            if rng.random() < 0.5:
                manifest["pruning"] = None
        if inside is None or rng.random() < 0.2:
            (bundle / MANIFEST).write_bytes(json_of(manifest, rng))
        else:
            (bundle / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        if rng.random() < 0.05:
            strange(bundle / rng.choice((MANIFEST, REFERENCE, PLAN, MODEL)), rng)
        return rng.choice((lambda: read(bundle), lambda: read(bundle), lambda: app(["plan", "show", str(bundle)])))

    return case


def results() -> Case:
    valid = json.loads(lzma.decompress((RUN / "results.json.xz").read_bytes()))
    small = json.loads((GOLDEN / "results-v1.json").read_text(encoding="utf-8"))

    def case(folder: Path, rng: random.Random) -> Callable[[], object]:
        path = folder / "results.json"
        path.write_bytes(json_of(rng.choice((valid, small, small, small)), rng))
        if rng.random() < 0.02:
            strange(path, rng)
        page = ["--page", str(folder / "page.html")] if rng.random() < 0.3 else []
        return lambda: app(["report", str(path), *page])

    return case


def profiles() -> Case:
    valid = json.loads(lzma.decompress((GOLDEN / "profile-1.json.xz").read_bytes()))

    def case(folder: Path, rng: random.Random) -> Callable[[], object]:
        path = folder / "profile.json"
        path.write_bytes(json_of(valid, rng))
        options = rng.choice(([], ["-v"], ["--page", str(folder / "page.html")]))
        return lambda: app(["report", str(path), *options])

    return case


def journals() -> Case:
    files = [GOLDEN / "comparison-1.journal", RUN / "killed.json.journal"]
    known = [
        [json.loads(line[: line.rindex(b',"crc32"')] + b"}") for line in file.read_bytes().splitlines()]
        for file in files
    ]

    def case(folder: Path, rng: random.Random) -> Callable[[], object]:
        entries = json.loads(json.dumps(rng.choice(known)))
        for _ in range(rng.choice((1, 1, 2))):
            place = rng.randrange(len(entries))
            match rng.randrange(5):
                case 0:
                    entries.insert(place, entries[rng.randrange(len(entries))])
                case 1:
                    del entries[place:]
                case _:
                    change(entries[place], rng)
            if not entries:
                break
        sealed = []
        for entry in entries:
            body = json.dumps(entry, separators=(",", ":")).encode()[:-1]
            if rng.random() < 0.02:
                body = spoilt(body, rng).replace(b"\n", b"")
            sealed.append(body + f',"crc32":"{zlib.crc32(body):08x}"}}\n'.encode())
        content = b"".join(sealed)
        path = folder / "results.json.journal"
        path.write_bytes(spoilt(content, rng) if rng.random() < 0.1 else content)
        return lambda: app(["report", str(path)])

    return case


def histories() -> Case:
    results = json.loads((GOLDEN / "results-v1.json").read_text(encoding="utf-8"))
    run = run_of_results(load_results(GOLDEN / "results-v1.json"))
    line = json.loads(run.model_dump_json())
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "h.sqlite"
        add_runs(database, [run])
        valid = database.read_bytes()

    def case(folder: Path, rng: random.Random) -> Callable[[], object]:
        history, given = folder / "h.sqlite", folder / "given.json"
        history.write_bytes(spoilt(valid, rng) if rng.random() < 0.5 else valid)
        given.write_bytes(json_of(rng.choice((line, line, results)), rng))
        page = ["page", "-o", str(folder / "page.html")]
        command = rng.choice((["import", str(given)], ["list"], ["show", "1"], ["export"], page))
        return lambda: app(["history", *command, "--history", str(history)])

    return case


KINDS: dict[str, Callable[[], Case]] = {
    "onnx": onnx_files,
    "plans": plans,
    "recipes": recipes,
    "bundles": bundles,
    "results": results,
    "profiles": profiles,
    "journals": journals,
    "histories": histories,
}
