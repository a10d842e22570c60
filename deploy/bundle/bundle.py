"""`Bundle`: one network as a folder that holds everything needed to run it, check it, and build it again.

    model.onnx            (and model.onnx.data, where the weights are apart)
    weights.safetensors   of the torch network
    plan.json             which channels were kept; absent for a dense network
    reference.npz         real inputs and torch's answers
    bundle.json           the manifest, with the hash of each file

Reading a bundle imports no torch: `deploy bench` does it on machines that have none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from backends.errors import one_line
from deploy.bundle.manifest import (
    KNOWN_FILES,
    MANIFEST,
    MODEL,
    PLAN,
    REFERENCE,
    SCHEMA_VERSION,
    WEIGHTS,
    FileRecord,
    Manifest,
    NetworkOrigin,
    NetworkScores,
    NominalCost,
    Provenance,
)
from deploy.bundle.pruning import Proof, PruningRecord, pruning_of_file
from deploy.errors import BundleError, ExportError, OutputError
from deploy.export.export import DEFAULT_OPSET, export_onnx
from deploy.files.atomic import displaced, file_sha256, output_errors, replace_folder, staged_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruners.plan import PruningPlan

__all__ = [
    "Bundle",
    "Manifest",
    "NetworkOrigin",
    "NetworkScores",
    "NominalCost",
    "Provenance",
    "bundle_of",
    "load_network",
    "read_bundle",
    "read_manifest",
    "write_bundle",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle on the disk, whose files were found to be as written.

    Parameters
    ----------
    folder : Path
        Where it lies.
    manifest : Manifest
        What it says of itself.
    """

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """Name of the network, for tables."""
        return self.manifest.name

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.folder / MODEL

    @property
    def weights(self) -> Path:
        """Weights of the torch network, safetensors."""
        return self.folder / WEIGHTS

    @property
    def plan(self) -> Path | None:
        """The pruning plan; None for a dense network."""
        return self.folder / PLAN if PLAN in self.manifest.files else None

    @property
    def pruning(self) -> PruningRecord | None:
        """What was removed, and the proof; older bundles do not know the proof, their plan counts the units.

        Raises
        ------
        BundleError
            The plan cannot be read.
        """
        if self.manifest.pruning is not None or self.plan is None:
            return self.manifest.pruning
        try:
            return pruning_of_file(self.plan)
        except (OSError, ValueError, KeyError) as error:
            raise BundleError(f"{self.plan} is not a pruning plan: {one_line(error)}") from error

    @property
    def reference(self) -> Path:
        """Real inputs and torch's answers."""
        return self.folder / REFERENCE

    @property
    def sha256(self) -> str:
        """Hash over the ONNX file and its external data."""
        return self.manifest.export.sha256


def write_bundle(
    folder: Path,
    model: nn.Module,
    reference_inputs: tuple[Tensor, ...],
    *,
    name: str,
    plan: PruningPlan | None,
    scores: NetworkScores,
    cost: NominalCost,
    provenance: Provenance,
    opset: int = DEFAULT_OPSET,
    dynamic_batch: bool = True,
    batch: int | None = None,
    external_data: bool = False,
    proof: Proof | None = None,
) -> Bundle:
    """Export `model`, check it, and write the whole bundle: it appears complete or not at all.

    Everything is made in a folder beside, brought to the disk, and renamed; an earlier bundle of that name is complete
    until then, and goes.

    Parameters
    ----------
    folder : Path
        New, empty, or an earlier bundle.
    model : nn.Module
        The network, compact if it was pruned; not touched.
    reference_inputs : tuple of Tensor
        Real examples, one tensor for each argument of ``forward``. They are exported with, compared on, and kept.
    name : str
        Name of the network, for tables.
    plan : PruningPlan or None
        None for a dense network.
    scores : NetworkScores
        In torch.
    cost : NominalCost
        MACs and parameters of `model`.
    provenance : Provenance
        Where it comes from.
    opset : int, default=20
        See `export_onnx`.
    dynamic_batch : bool, default=True
        See `export_onnx`.
    batch : int, optional
        With ``dynamic_batch=False``: the batch to bake in; that many examples are kept, the last one repeated where
        there are fewer. Defaults to the number of examples.
    external_data : bool, default=False
        See `export_onnx`.
    proof : Proof, optional
        How the compact network was checked against `plan`; None: unknown.

    Returns
    -------
    Bundle
        As read back from the disk.

    Raises
    ------
    ExportError
        The network cannot be exported, or the ONNX file does not agree with torch.
    OutputError
        The folder cannot be written, or holds something else than a bundle.
    """
    # Late: these import torch.
    from safetensors import SafetensorError

    from deploy.export.agreement import compare_with_torch, torch_answers
    from deploy.export.capture import one_batch
    from pruners.forms.compact import save_weights

    folder = folder.absolute()
    _refuse_strangers(folder)
    if batch is not None and dynamic_batch:
        raise ExportError(f"batch={batch} is baked in only with dynamic_batch=False; leave one of them out")
    kept = one_batch(reference_inputs, batch) if batch is not None else reference_inputs
    with output_errors(folder), staged_folder(folder) as stage:
        onnx_file = stage / MODEL
        export = export_onnx(
            model, kept, onnx_file, opset=opset, dynamic_batch=dynamic_batch, external_data=external_data
        )
        agreement = compare_with_torch(onnx_file, model, reference_inputs)
        if not agreement.ok:
            raise ExportError(
                f"{name}: ONNX does not agree with torch: largest error {agreement.max_abs_error:.3g}, "
                f"allowed {agreement.tolerance:g} of the output's range {agreement.output_range:.3g}"
            )
        answers = torch_answers(model, kept, tuple(spec.name for spec in export.outputs))
        arrays: dict[str, Any] = {
            f"input:{spec.name}": x.detach().cpu().numpy() for spec, x in zip(export.inputs, kept, strict=True)
        }
        arrays |= {f"output:{key}": value for key, value in answers.items()}
        np.savez(stage / REFERENCE, source=np.array(agreement.reference), **arrays)
        try:
            save_weights(model, stage / WEIGHTS)
        except SafetensorError as error:  # what safetensors makes of a full disk
            raise OutputError(f"cannot write {folder}: {one_line(error)}; free some space") from error
        (stage / WEIGHTS).chmod(onnx_file.stat().st_mode)  # safetensors lets the owner alone read it
        if plan is not None:
            plan.save(stage / PLAN)
        manifest = Manifest(
            name=name,
            created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            inputs=export.inputs,
            outputs=export.outputs,
            export=export,
            agreement=agreement,
            scores=scores,
            cost=cost,
            provenance=provenance,
            pruning=None if plan is None else PruningRecord.of(plan.kept, plan.sizes, plan.blocks, proof),
            files={file.name: _record(file) for file in sorted(stage.iterdir())},
        )
        (stage / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        replace_folder(stage, folder)
    return Bundle(folder=folder, manifest=manifest)


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and verify every file.

    Parameters
    ----------
    path : Path
        The folder, or the ``model.onnx`` in it.

    Raises
    ------
    BundleError
        There is no bundle, its manifest is broken or of an unknown version, or a file is missing or changed.
    """
    folder = path.parent if path.name == MODEL and not path.is_dir() else path
    if not folder.exists() and displaced(folder).is_dir():
        folder = displaced(folder)  # a process was killed between the two renames of `write_bundle`
    manifest = read_manifest(folder)
    for name, record in manifest.files.items():
        file = folder / name
        if not file.is_file():
            raise BundleError(f"{folder}: {name} is missing; write the bundle again")
        try:
            found = _record(file)
        except OSError as error:
            raise BundleError(f"{folder}: {name} cannot be read: {error.strerror or error}") from error
        if found != record:
            raise BundleError(
                f"{folder}: {name} is not what was written ({found.size_bytes} bytes, sha256 {found.sha256[:12]}; "
                f"{MANIFEST} says {record.size_bytes} bytes, {record.sha256[:12]}); write the bundle again"
            )
    return Bundle(folder=folder, manifest=manifest)


def read_manifest(folder: Path) -> Manifest:
    """Read what a bundle says about itself, without looking at its other files.

    Raises
    ------
    BundleError
        There is no manifest, it is broken, or of an unknown version.
    """
    file = folder / MANIFEST
    try:
        document = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST}") from error
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise BundleError(f"{file} is not JSON: it is damaged; write the bundle again") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version not in range(1, SCHEMA_VERSION + 1):
        raise BundleError(f"{file} has schema_version {version!r}; this program reads 1 to {SCHEMA_VERSION}")
    if version == 1 and "accuracy" in document:
        document["scores"] = document.pop("accuracy")
    try:
        return Manifest.model_validate({**document, "schema_version": SCHEMA_VERSION})
    except ValidationError as error:
        raise BundleError(f"{file} is not a legal manifest: {_first(error)}") from error


def bundle_of(model: Path) -> Bundle | None:
    """Return the bundle that an ONNX file belongs to; None for a bare file.

    Raises
    ------
    BundleError
        There is a ``bundle.json`` beside ``model.onnx``, but the bundle is broken.
    """
    if model.is_dir():
        return read_bundle(model)
    if model.name != MODEL or not (model.parent / MANIFEST).exists():
        return None
    return read_bundle(model.parent)


def load_network(bundle: Bundle) -> nn.Module:
    """Build the torch network of a bundle from the original code, the plan and the weights.

    Returns
    -------
    nn.Module
        In evaluation mode, on the CPU.

    Raises
    ------
    BundleError
        The bundle does not say how the network was built, or the code it was built from has changed.
    SourceError
        The network cannot be built here.
    PruneError
        Plan or weights do not fit the code.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    from deploy.sources.network import build, provenance
    from deploy.sources.network_spec import NetworkSpec
    from pruners.forms.compact import load
    from pruners.plan import PruningPlan

    origin = bundle.manifest.provenance.network
    if origin is None:
        raise BundleError(
            f"{bundle.folder} does not say how its network was built; load its weights into your own code"
        )
    # The bundle has the weights: those that the network once started from are not fetched again.
    fields = {key: value for key, value in origin.spec.items() if key in NetworkSpec.model_fields}
    try:
        spec = NetworkSpec.model_validate({**fields, "weights": "none", "new_classifier": False})
    except ValidationError as error:
        raise BundleError(f"{bundle.folder}: its network {_first(error)}") from error
    if (known := origin.spec.get("file_sha256")) and provenance(spec)["file_sha256"] != known:
        raise BundleError(f"{bundle.folder}: the file of {spec.name} has changed since; restore it to load the network")
    network = build(spec, n_classes=origin.n_classes, input_shape=origin.input_shape, target_shape=origin.target_shape)
    if bundle.plan is not None:
        return load(network, PruningPlan.load(bundle.plan), bundle.weights).eval()
    try:
        load_model(network, bundle.weights)
    except (RuntimeError, SafetensorError) as error:
        raise BundleError(f"{bundle.folder}: its weights do not fit {spec.name}: {one_line(error)}") from error
    return network.eval()


def _refuse_strangers(folder: Path) -> None:
    """Refuse a folder with anything but a bundle in it: replacing it deletes what is there."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"cannot write bundle {folder}: a file of that name is in the way; choose another name")
    strange = sorted(entry.name for entry in folder.iterdir() if entry.name not in KNOWN_FILES)
    if strange:
        raise OutputError(
            f"cannot write bundle {folder}: the folder holds {strange[0]!r}, which is not part of a bundle; "
            "choose another folder or move it"
        )


def _record(file: Path) -> FileRecord:
    return FileRecord(size_bytes=file.stat().st_size, sha256=file_sha256(file))


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
