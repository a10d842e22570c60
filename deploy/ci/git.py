"""Git access of `deploy check`: files at a commit, and the commit being checked.

Content goes through git's own filters, so that a Git LFS pointer becomes the file it stands for.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from backends.modelfile import external_files
from benchmarks.errors import WorkerError
from benchmarks.process.program import Ran, run_program
from deploy.ci.check_report import Commit
from deploy.errors import CheckFileError

__all__ = ["commit_of", "extract_model", "is_lfs_pointer"]

_LFS_POINTER = b"version https://git-lfs"
_LINK, _SUBMODULE, _FOLDER = "120000", "160000", "040000"
"""Entry modes in a git tree."""
_MOST_FILES, _MOST_LINKS = 1000, 10
_TIMEOUT_S = 600.0
"""Long, as a filter may download the file."""
_OF_A_HOOK = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"})
"""Variables that git sets for a hook: with them, every folder would be taken for the root of the hook's repository."""


class _Place(NamedTuple):
    """A file or folder at a commit; in a submodule the repository and the commit are those of the submodule."""

    root: Path
    commit: str
    inside: PurePosixPath
    is_folder: bool


def commit_of(folder: Path, environment: Mapping[str, str] | None = None) -> Commit | None:
    """Return the commit checked out in the repository of `folder`; None outside a repository or without git.

    Parameters
    ----------
    folder : Path
        In the repository.
    environment : Mapping of str to str, optional
        Environment of the job; it names the branch if none is checked out, as on GitLab. Default: that of this process.
    """
    try:
        head = _git(folder, "show", "--no-patch", "--format=%H %ct", "HEAD")
        branch = _git(folder, "symbolic-ref", "--short", "--quiet", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except WorkerError:
        return None
    if head.code or changed.code:
        return None
    sha, seconds = head.output.decode().split()
    name = "" if branch.code else branch.output.decode(errors="replace").strip()
    return Commit(
        sha=sha,
        branch=name or _branch_of_job(sha, os.environ if environment is None else environment),
        committed_utc=datetime.fromtimestamp(int(seconds), UTC).isoformat(timespec="seconds"),
        dirty=bool(changed.output.strip()),
    )


def extract_model(folder: Path, ref: str, path: Path, target: Path) -> Path:
    """Write an ONNX file with its external data, or the folder of a bundle, as of a commit.

    Parameters
    ----------
    folder : Path
        In the repository.
    ref : str
        Commit, branch or tag: ``HEAD~1``, ``origin/main``.
    path : Path
        The file or folder, relative to `folder`.
    target : Path
        An empty folder to write to.

    Returns
    -------
    Path
        The file or folder in `target`.

    Raises
    ------
    CheckFileError
        There is no such repository, commit or file, or a git filter failed.
    """
    where = f"git:{ref}"
    root = _root(folder, where)
    try:
        inside = PurePosixPath(Path(os.path.normpath(folder.resolve() / path)).relative_to(root).as_posix())
    except ValueError:
        raise CheckFileError(f"{where}: {path} lies outside the repository {root}") from None
    found = _found(root, _commit(root, ref), inside, where)
    made = target / (found.inside.name or "model")
    if found.is_folder:
        for name in _files_below(found, where):
            _extract(found._replace(inside=found.inside / name), made / name, where)
        return made
    _extract(found, made, where)
    for name in _external(made):
        _extract(found._replace(inside=found.inside.parent / name), made.parent / name, where)
    return made


def is_lfs_pointer(path: Path) -> bool:
    """Return whether a file is a Git LFS pointer whose content was not fetched."""
    with path.open("rb") as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER


def _branch_of_job(sha: str, environment: Mapping[str, str]) -> str | None:
    """Return the branch of a GitHub or GitLab job if `sha` is its commit."""
    if environment.get("CI_COMMIT_SHA") == sha:
        return environment.get("CI_COMMIT_BRANCH") or None
    ref = environment.get("GITHUB_REF", "")
    if environment.get("GITHUB_SHA") == sha and ref.startswith("refs/heads/"):
        return ref.removeprefix("refs/heads/")
    return None


def _root(folder: Path, where: str) -> Path:
    top = _asked(folder, "rev-parse", "--show-toplevel")
    if b"dubious ownership" in top.errors:
        raise CheckFileError(
            f"{where}: the repository belongs to another user, and git does not read it: {_words(top)}"
        )
    if top.code:
        raise CheckFileError(f"{where}: {folder.resolve()} is not in a git repository: {_words(top)}")
    return Path(os.fsdecode(top.output.rstrip(b"\n"))).resolve()


def _commit(root: Path, ref: str) -> str:
    found = _asked(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if not found.code:
        return found.output.decode().strip()
    if _asked(root, "rev-parse", "--is-shallow-repository").output.strip() == b"true":
        raise CheckFileError(
            f"git:{ref}: this clone is shallow and has no such commit; fetch more of the history: "
            "git fetch --deepen=1, or fetch-depth: 2 of the checkout"
        )
    raise CheckFileError(f"git:{ref}: there is no such commit, branch or tag here; see git log --oneline, or fetch it")


def _found(root: Path, commit: str, inside: PurePosixPath, where: str, links: int = _MOST_LINKS) -> _Place:
    """Return the place of a file or folder, following links and submodules as of that commit."""
    mode = _FOLDER
    for n in range(1, len(inside.parts) + 1):
        head, rest = PurePosixPath(*inside.parts[:n]), PurePosixPath(*inside.parts[n:])
        mode, name = _entry(root, commit, head)
        if not mode:
            raise CheckFileError(f"{where}: there is no {inside} at that commit; name its path then: {where}:PATH")
        if mode == _LINK:
            target = os.fsdecode(_asked(root, "cat-file", "blob", name).output)
            to = PurePosixPath(posixpath.normpath(head.parent / target / rest))
            if not links or to.is_absolute() or to.parts[:1] == ("..",):
                raise CheckFileError(
                    f"{where}: {head} is a link to {target}, which does not lead to a file of the repository"
                )
            return _found(root, commit, to, where, links - 1)
        if mode == _SUBMODULE:
            if _asked(root / head, "cat-file", "-e", f"{name}^{{commit}}").code:
                raise CheckFileError(
                    f"{where}: the submodule {head} does not hold the commit it had then, {name[:12]}: fetch it there"
                )
            return _found(root / head, name, rest, where, links)
    return _Place(root, commit, inside, mode == _FOLDER)


def _entry(root: Path, commit: str, inside: PurePosixPath) -> tuple[str, str]:
    """Return the mode and object of a path at a commit; empty strings if it does not exist."""
    listed = _asked(root, "ls-tree", "-z", "--full-tree", commit, str(inside)).output
    mode, _, name = listed.partition(b"\t")[0].decode().split() if listed else ("", "", "")
    return mode, name


def _files_below(folder: _Place, where: str) -> list[str]:
    listed = _asked(folder.root, "ls-tree", "-r", "-z", "--name-only", _object(folder))
    names = [os.fsdecode(name) for name in listed.output.split(b"\0") if name]
    if len(names) > _MOST_FILES:
        raise CheckFileError(f"{where}: {folder.inside} holds {len(names)} files: that is not a bundle of one model")
    return names


def _object(place: _Place) -> str:
    return f"{place.commit}:{'' if not place.inside.parts else place.inside}"


def _extract(place: _Place, made: Path, where: str) -> None:
    place = _found(place.root, place.commit, place.inside, where)
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        done = _git(place.root, "cat-file", "--filters", _object(place), output=made)
    except WorkerError as error:
        raise CheckFileError(f"{where}: {error}") from error
    except OSError as error:
        raise CheckFileError(f"{where}: {place.inside} cannot be written: {error.strerror or error}") from error
    if done.code:
        raise CheckFileError(f"{where}: {place.inside} cannot be read: {_words(done)}")
    if is_lfs_pointer(made):
        raise CheckFileError(
            f"{where}: {place.inside} is a pointer of Git LFS, and nothing resolved it: install git-lfs and run "
            "git lfs install"
        )


def _external(model: Path) -> list[str]:
    """List the external data files of a model, which are not extracted yet; empty if the model is broken."""
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
    left_out = {*_OF_A_HOOK, "GIT_LFS_SKIP_SMUDGE"}  # the baseline needs its real content
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    return run_program(
        ["git", "-C", str(folder), *arguments], environment=environment, timeout_s=_TIMEOUT_S, output=output
    )


def _words(ran: Ran) -> str:
    lines = ran.errors.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("fatal: ") if lines else f"git ended with exit code {ran.code}"
