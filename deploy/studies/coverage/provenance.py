"""What a row depends on: library versions, and the source files of ours that contribute to it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from deploy.studies.coverage.rows import Engine

__all__ = ["PATTERNS", "ROOT", "library_version", "library_versions", "source_hash"]

ROOT = Path(__file__).resolve().parents[3]
_SHARED = (
    "backends/**/*.py",
    "deploy/exporting/*.py",
    "deploy/studies/coverage/checks.py",
    "deploy/studies/coverage/child.py",
    "deploy/studies/coverage/libraries.py",
    "deploy/studies/coverage/models.py",
    "deploy/sources/detection.py",
    "deploy/studies/engine/reasons.py",
    "pruners/modules/perturb.py",
)
_OWN: dict[str, tuple[str, ...]] = {
    "ours": (
        "deploy/studies/coverage/ours.py",
        "deploy/studies/coverage/reload.py",
        "pruners/*.py",
        *(f"pruners/{room}/**/*.py" for room in ("channels", "decide", "forms", "importance", "modules", "transfer")),
    ),
    "torch-pruning": ("deploy/studies/coverage/tp.py",),
}
PATTERNS = tuple(dict.fromkeys([*_SHARED, *(pattern for own in _OWN.values() for pattern in own)]))
"""Patterns of these files for all engines, relative to `ROOT`."""
_LIBRARIES = ("torch", "torchvision", "timm", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "openvino")


@cache
def source_hash(engine: Engine) -> str:
    """Hash our files that the rows of `engine` depend on; rows of the other library do not depend on our engine."""
    digest = hashlib.sha256()
    for path in sorted(_files((*_SHARED, *_OWN[engine]))):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files(patterns: Iterable[str]) -> set[Path]:
    return {path for pattern in patterns for path in ROOT.glob(pattern)}


@cache
def library_versions(engine: Engine) -> dict[str, str]:
    """Return the versions of the libraries that the rows of `engine` depend on; empty for a missing one."""
    names = (*_LIBRARIES, "torch-pruning") if engine == "torch-pruning" else _LIBRARIES
    return {name: library_version(name) for name in names}


def library_version(name: str) -> str:
    """Return the version of a package; empty if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
