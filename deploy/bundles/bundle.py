"""`Bundle`: one network as a folder with everything needed to run, check and rebuild it.

    model.onnx            (and model.onnx.data if the weights are external)
    weights.safetensors   of the torch network
    plan.json             which channels were kept; absent for a dense network
    reference.npz         real inputs and torch's outputs
    bundle.json           the manifest, with the hash of each file

Reading a bundle imports no torch: `deploy bench` does it on machines that have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from backends.errors import one_line
from backends.reading.files import read_json
from benchmarks.records.disk import file_sha256
from deploy.bundles.manifest import MANIFEST, MODEL, PLAN, REFERENCE, SCHEMA_VERSION, WEIGHTS, FileRecord, Manifest
from deploy.bundles.pruning import PruningRecord, pruning_of_file
from deploy.errors import BundleError
from deploy.files.atomic import displaced
from deploy.files.validation_errors import one_line as validation_line

__all__ = ["Bundle", "bundle_of", "read_bundle", "read_manifest", "record_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle on disk, its files verified.

    Parameters
    ----------
    folder : Path
        Its folder.
    manifest : Manifest
        What it says about itself.
    """

    folder: Path
    manifest: Manifest

    def __fspath__(self) -> str:
        return str(self.folder)

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
        """What was removed, and the proof; for older bundles only the unit counts of their plan.

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
        """Real inputs and torch's outputs."""
        return self.folder / REFERENCE

    @property
    def sha256(self) -> str:
        """Hash over the ONNX file and its external data."""
        return self.manifest.export.sha256


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and verify every file.

    Parameters
    ----------
    path : Path
        The folder, or the ``model.onnx`` in it.

    Raises
    ------
    BundleError
        There is no bundle, its manifest is broken or of an unknown version, or a file is missing or has changed.
    """
    folder = path.parent if path.name == MODEL and not path.is_dir() else path
    if not folder.exists() and displaced(folder).is_dir():
        folder = displaced(folder)  # killed between the two renames of `deploy.bundles.write.write_bundle`
    manifest = read_manifest(folder)
    for name, record in manifest.files.items():
        file = folder / name
        if not file.is_file():
            raise BundleError(f"{folder}: {name} is missing; write the bundle again")
        try:
            present = record_of(file)
        except OSError as error:
            raise BundleError(f"{folder}: {name} cannot be read: {error.strerror or error}") from error
        if present != record:
            raise BundleError(
                f"{folder}: {name} is not what was written ({present.size_bytes} bytes, sha256 {present.sha256[:12]}; "
                f"{MANIFEST} says {record.size_bytes} bytes, {record.sha256[:12]}); write the bundle again"
            )
    return Bundle(folder=folder, manifest=manifest)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle without looking at its other files.

    Raises
    ------
    BundleError
        There is no manifest, it is broken, or of an unknown version.
    """
    file = folder / MANIFEST
    try:
        document = read_json(file)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST}") from error
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise BundleError(f"{file} is not JSON: it is damaged ({one_line(error)}); write the bundle again") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version not in range(1, SCHEMA_VERSION + 1):
        raise BundleError(f"{file} has schema_version {version!r}; this program reads 1 to {SCHEMA_VERSION}")
    if version == 1 and "accuracy" in document:
        document["scores"] = document.pop("accuracy")
    try:
        return Manifest.model_validate({**document, "schema_version": SCHEMA_VERSION})
    except ValidationError as error:
        raise BundleError(f"{file} is not a valid manifest: {validation_line(error, Manifest)}") from error


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


def record_of(file: Path) -> FileRecord:
    """Return the size and hash of a file."""
    return FileRecord(size_bytes=file.stat().st_size, sha256=file_sha256(file))
