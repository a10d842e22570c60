"""What `deploy check` asks of git: files as they were at a commit, and which commit is checked.

Content goes through git's own filters, so that a pointer of Git LFS becomes the file that it stands for.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from backends.modelfile import external_files
from benchmarks.errors import WorkerError
from benchmarks.process.program import Ran, run_program
from deploy.ci.check_report import Commit
from deploy.errors import CheckFileError

__all__ = ["commit_of", "extract_model", "is_lfs_pointer"]

_LFS_POINTER = b"version https://git-lfs"
_MOST_FILES = 1000
_TIMEOUT_S = 600.0
"""A filter may download the file."""


def commit_of(folder: Path) -> Commit | None:
    """Return the commit that is checked out where `folder` lies; None outside of a repository, or without git."""
    try:
        head = _git(folder, "show", "--no-patch", "--format=%H %ct", "HEAD")
        branch = _git(folder, "symbolic-ref", "--short", "--quiet", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except WorkerError:
        return None
    if head.code or changed.code:
        return None
    sha, seconds = head.output.decode().split()
    return Commit(
        sha=sha,
        branch=branch.output.decode(errors="replace").strip() or None if not branch.code else None,
        committed_utc=datetime.fromtimestamp(int(seconds), UTC).isoformat(timespec="seconds"),
        dirty=bool(changed.output.strip()),
    )


def extract_model(folder: Path, ref: str, path: Path, target: Path) -> Path:
    """Write an ONNX file with its external data, or the folder of a bundle, as it was at a commit.

    Parameters
    ----------
    folder : Path
        In the repository.
    ref : str
        Commit, branch or tag: ``HEAD~1``, ``origin/main``.
    path : Path
        Of the file or folder, relative to `folder`.
    target : Path
        An empty folder that receives it.

    Returns
    -------
    Path
        Of the file or folder in `target`.

    Raises
    ------
    CheckFileError
        There is no repository, commit or such file, or a filter of git failed.
    """
    where = f"git:{ref}"
    root = _root(folder, where)
    try:
        inside = PurePosixPath(Path(os.path.normpath(folder.resolve() / path)).relative_to(root).as_posix())
    except ValueError:
        raise CheckFileError(f"{where}: {path} lies outside the repository {root}") from None
    commit = _commit(root, ref)
    kind = _asked(root, "cat-file", "-t", f"{commit}:{inside}")
    if kind.code:
        raise CheckFileError(f"{where}: there is no {inside} at that commit; name its path then: git:{ref}:PATH")
    made = target / (inside.name or "model")
    if kind.output.strip() == b"tree":
        for name in _files_below(root, commit, inside, where):
            _extract(root, commit, inside / name, made / name, where)
        return made
    _extract(root, commit, inside, made, where)
    for name in _external(made):
        _extract(root, commit, inside.parent / name, made.parent / name, where)
    return made


def is_lfs_pointer(path: Path) -> bool:
    """Return whether a file is a pointer of Git LFS, whose content was not fetched."""
    with path.open("rb") as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER


def _root(folder: Path, where: str) -> Path:
    top = _asked(folder, "rev-parse", "--show-toplevel")
    if top.code:
        raise CheckFileError(f"{where}: {folder.resolve()} is in no git repository: {_words(top)}")
    return Path(os.fsdecode(top.output.rstrip(b"\n"))).resolve()


def _commit(root: Path, ref: str) -> str:
    found = _asked(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if not found.code:
        return found.output.decode().strip()
    shallow = _asked(root, "rev-parse", "--is-shallow-repository").output.strip() == b"true"
    fetch = "fetch more of the history: git fetch --deepen=1, or fetch-depth: 2 of the checkout" if shallow else ""
    raise CheckFileError(
        f"git:{ref}: this clone is shallow and has no such commit; {fetch}"
        if shallow
        else f"git:{ref}: there is no such commit, branch or tag here; see git log --oneline, or fetch it"
    )


def _files_below(root: Path, commit: str, folder: PurePosixPath, where: str) -> list[str]:
    listed = _asked(root, "ls-tree", "-r", "-z", "--name-only", f"{commit}:{folder}")
    names = [os.fsdecode(name) for name in listed.output.split(b"\0") if name]
    if len(names) > _MOST_FILES:
        raise CheckFileError(f"{where}: {folder} holds {len(names)} files: that is no bundle of one model")
    return names


def _extract(root: Path, commit: str, inside: PurePosixPath, made: Path, where: str) -> None:
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        done = _git(root, "cat-file", "--filters", f"{commit}:{inside}", output=made)
    except WorkerError as error:
        raise CheckFileError(f"{where}: {error}") from error
    except OSError as error:
        raise CheckFileError(f"{where}: {inside} cannot be written: {error.strerror or error}") from error
    if done.code:
        raise CheckFileError(f"{where}: {inside} cannot be had: {_words(done)}")
    if is_lfs_pointer(made):
        raise CheckFileError(
            f"{where}: {inside} is a pointer of Git LFS, and nothing resolved it: install git-lfs and run "
            "git lfs install"
        )


def _external(model: Path) -> list[str]:
    """List the files with the weights of a model that lies alone so far; a broken one is told by whoever reads it."""
    try:
        names = external_files(onnx.load(str(model), load_external_data=False))
    except (DecodeError, ValueError):
        return []
    return [name for name in names if name and not PurePosixPath(name).is_absolute() and ".." not in Path(name).parts]


def _asked(folder: Path, *arguments: str) -> Ran:
    try:
        return _git(folder, *arguments)
    except WorkerError as error:
        raise CheckFileError(f"git: {error}") from error


def _git(folder: Path, *arguments: str, output: Path | None = None) -> Ran:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    environment.pop("GIT_LFS_SKIP_SMUDGE", None)  # a baseline is wanted whole
    return run_program(
        ["git", "-C", str(folder), *arguments], environment=environment, timeout_s=_TIMEOUT_S, output=output
    )


def _words(ran: Ran) -> str:
    lines = ran.errors.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("fatal: ") if lines else f"git ended with exit code {ran.code}"
