"""Write a bundle: export the network, check it, and put everything into one folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from torch import nn

from backends.errors import one_line
from deploy.bundles.bundle import Bundle, record_of
from deploy.bundles.manifest import (
    KNOWN_FILES,
    MANIFEST,
    MODEL,
    PLAN,
    REFERENCE,
    WEIGHTS,
    Manifest,
    NetworkScores,
    NominalCost,
    Provenance,
)
from deploy.bundles.pruning import Proof, PruningRecord
from deploy.errors import ExportError, OutputError
from deploy.exporting.agreement import compare_with_torch, torch_answers
from deploy.exporting.capture import copy_for_export, one_batch
from deploy.exporting.export import export_onnx
from deploy.exporting.export_info import DEFAULT_OPSET
from deploy.files.atomic import output_errors, replace_folder, staged_folder
from pruners.forms.compact import save_weights
from pruners.plan import PruningPlan

__all__ = ["write_bundle"]


def write_bundle(
    folder: Path,
    model: nn.Module,
    reference_inputs: Any,
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
    """Export `model`, check it, and write the bundle atomically.

    Everything is written to a temporary sibling folder, flushed to disk and renamed; an earlier bundle of that name
    stays complete until it is replaced.

    Parameters
    ----------
    folder : Path
        New, empty, or an earlier bundle.
    model : nn.Module
        The network, compact if it was pruned; not modified.
    reference_inputs : Tensor, tuple, list, Mapping, (tuple, Mapping) or NetworkCall
        Real examples, in a form that `export_onnx` takes; used for the export and the check, and kept.
    name : str
        Name of the network, for tables.
    plan : PruningPlan or None
        None for a dense network.
    scores : NetworkScores
        Scores in torch.
    cost : NominalCost
        MACs and parameters of `model`.
    provenance : Provenance
        Where it comes from.
    opset : int, default=20
        See `export_onnx`.
    dynamic_batch : bool, default=True
        See `export_onnx`.
    batch : int, optional
        With ``dynamic_batch=False``: the batch to bake in; that many examples are kept, the last one repeated if
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
        The folder cannot be written, or holds something other than a bundle.
    """
    folder = folder.absolute()
    _refuse_strangers(folder)
    if batch is not None and dynamic_batch:
        raise ExportError(f"batch={batch} is baked in only with dynamic_batch=False; leave one of them out")
    _, call = copy_for_export(model, reference_inputs)
    kept = one_batch(call, batch) if batch is not None else call
    with output_errors(folder), staged_folder(folder) as stage:
        onnx_file = stage / MODEL
        export = export_onnx(
            model, kept, onnx_file, opset=opset, dynamic_batch=dynamic_batch, external_data=external_data
        )
        agreement = compare_with_torch(onnx_file, model, call)
        if not agreement.ok:
            raise ExportError(
                f"{name}: ONNX does not agree with torch: largest error {agreement.max_abs_error:.3g}, "
                f"allowed {agreement.tolerance:g} of the output's range {agreement.output_range:.3g}"
            )
        answers = torch_answers(model, kept, tuple(spec.name for spec in export.outputs))
        arrays: dict[str, Any] = {
            f"input:{spec.name}": x.numpy() for spec, x in zip(export.inputs, kept.tensors, strict=True)
        }
        arrays |= {f"output:{key}": value for key, value in answers.items()}
        np.savez(stage / REFERENCE, source=np.array(agreement.reference), **arrays)
        try:
            save_weights(model, stage / WEIGHTS)
        except SafetensorError as error:  # safetensors raises this on a full disk
            raise OutputError(f"cannot write {folder}: {one_line(error)}; free some space") from error
        (stage / WEIGHTS).chmod(onnx_file.stat().st_mode)  # safetensors makes it readable by the owner only
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
            files={file.name: record_of(file) for file in sorted(stage.iterdir())},
        )
        (stage / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        replace_folder(stage, folder)
    return Bundle(folder=folder, manifest=manifest)


def _refuse_strangers(folder: Path) -> None:
    """Refuse a folder that holds anything but a bundle, since replacing it deletes the contents."""
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
