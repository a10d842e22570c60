"""On what a row depends: versions of libraries, and the files of ours that have a part in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from deploy.studies.coverage.rows import Engine

__all__ = ["library_versions", "source_hash"]

_ROOT = Path(__file__).resolve().parents[3]
_SHARED = (
    "backends/**/*.py",
    "deploy/export/agreement.py",
    "deploy/export/capture.py",
    "deploy/studies/coverage/checks.py",
    "deploy/studies/coverage/child.py",
    "deploy/studies/coverage/models.py",
    "deploy/export/export.py",
    "deploy/export/fold_batch_norm.py",
    "deploy/export/onnx_*.py",
    "deploy/sources/detection.py",
    "pruners/modules/perturb.py",
)
_OWN: dict[str, tuple[str, ...]] = {
    "ours": (
        "deploy/studies/coverage/ours.py",
        "pruners/*.py",
        *(f"pruners/{room}/**/*.py" for room in ("channels", "decide", "forms", "importance", "modules", "transfer")),
    ),
    "torch-pruning": ("deploy/studies/coverage/tp.py",),
}
_LIBRARIES = ("torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime", "openvino")


@cache
def source_hash(engine: Engine) -> str:
    """Hash our own files on which the rows of `engine` depend; the other library's rows do not depend on our engine."""
    digest = hashlib.sha256()
    for path in sorted(_files((*_SHARED, *_OWN[engine]))):
        digest.update(f"{path.relative_to(_ROOT).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files(patterns: Iterable[str]) -> set[Path]:
    return {path for pattern in patterns for path in _ROOT.glob(pattern)}


@cache
def library_versions(engine: Engine) -> dict[str, str]:
    """Give the versions of the libraries on which the rows of `engine` depend; empty text for what is missing."""
    names = (*_LIBRARIES, "torch-pruning") if engine == "torch-pruning" else _LIBRARIES
    return {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
