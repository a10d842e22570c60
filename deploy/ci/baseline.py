"""Find the two files of a comparison: the model, and its baseline from a path or from git."""

from __future__ import annotations

import tempfile
from pathlib import Path

from deploy.ci.git import extract_model, is_lfs_pointer
from deploy.errors import CheckFileError
from deploy.results.bench_grid import onnx_file

__all__ = ["GIT", "baseline_of", "model_file"]

GIT = "git:"
"""Prefix of a baseline that is a file at a commit."""


def model_file(folder: Path, text: str, whose: str) -> Path:
    """Return the ONNX file that a check file names.

    Parameters
    ----------
    folder : Path
        Folder that the path is relative to.
    text : str
        An ONNX file, or the folder of a bundle.
    whose : str
        The key that names it, for the message.

    Raises
    ------
    CheckFileError
        There is no such file, or it is a Git LFS pointer.
    """
    path = folder / text
    file = onnx_file(path)
    try:
        if is_lfs_pointer(file):
            raise CheckFileError(f"{whose}: {file} is a pointer of Git LFS, not the model: run git lfs pull")
    except FileNotFoundError as error:
        known = "no such file" if not path.is_dir() else "the folder is not a bundle: it holds no model.onnx"
        raise CheckFileError(f"{whose}: {path}: {known}") from error
    except OSError as error:
        raise CheckFileError(f"{whose}: {file} cannot be read: {error.strerror or error}") from error
    return file


def baseline_of(folder: Path, text: str, model: str, whose: str) -> Path:
    """Return the ONNX file of a baseline; a file from git is written to a temporary folder.

    Parameters
    ----------
    folder : Path
        Folder of the check file.
    text : str
        An ONNX file, the folder of a bundle, or ``git:REF`` or ``git:REF:PATH``.
    model : str
        Path of the candidate, which ``git:REF`` uses too.
    whose : str
        The key that names it, for messages.

    Raises
    ------
    CheckFileError
        The baseline cannot be obtained.
    """
    if not text.startswith(GIT):
        return model_file(folder, text, whose)
    ref, _, path = text.removeprefix(GIT).partition(":")
    if not ref:
        raise CheckFileError(
            f"{whose}: {text!r} does not name a commit; write git:REF or git:REF:PATH, for example git:HEAD~1"
        )
    target = Path(tempfile.mkdtemp(prefix="baseline-"))
    made = extract_model(folder, ref, Path(path or model), target)
    return model_file(made.parent, made.name, whose)
