"""Baselines from git: commits, shallow clones, pointers of Git LFS, folders, and what is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backends import modelfile
from deploy.ci.baseline import baseline_of, model_file
from deploy.ci.git import commit_of
from deploy.errors import CheckFileError

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

STORE = """
import hashlib, pathlib, sys
store, what = pathlib.Path(sys.argv[1]), sys.argv[2]
data = sys.stdin.buffer.read()
if what == "clean":
    name = hashlib.sha256(data).hexdigest()
    (store / name).write_bytes(data)
    sys.stdout.write(f"version https://git-lfs.github.com/spec/v1\\noid sha256:{name}\\nsize {len(data)}\\n")
else:
    sys.stdout.buffer.write((store / data.decode().split("sha256:")[1].split()[0]).read_bytes())
"""
"""A stand-in for git-lfs: pointers in the repository, contents in a folder."""


def git(folder, *arguments):
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture(name="repository")
def _repository(tmp_path, write_net):
    """Give a repository with two commits: a network of three classes, then one of five."""
    root = tmp_path / "repository"
    for n_classes in (3, 5):
        write_net(root / "models" / "net.onnx", n_classes=n_classes)
        write_net(root / "models" / "apart.onnx", n_classes=n_classes, external=True)
        write_net(root / "bundle" / "model.onnx", n_classes=n_classes)
        if n_classes == 3:
            git(root, "init", "--quiet", "--initial-branch=main")
        git(root, "add", ".")
        git(root, "commit", "--quiet", "--message", f"{n_classes} classes")
    return root


def classes(path):
    return modelfile.read(path).outputs[0].shape[1]


@pytest.mark.parametrize("model", ["models/net.onnx", "models/apart.onnx", "bundle"])
def test_a_baseline_is_the_model_as_it_was(repository, model):
    assert classes(model_file(repository, model, "model")) == 5
    assert classes(baseline_of(repository, "git:HEAD~1", model, "baseline")) == 3
    assert classes(baseline_of(repository, "git:HEAD", model, "baseline")) == 5


def test_another_path_and_a_folder_inside_the_repository(repository):
    assert classes(baseline_of(repository / "models", "git:main~1:../bundle", "net.onnx", "baseline")) == 3
    assert classes(baseline_of(repository / "models", "git:main~1", "net.onnx", "baseline")) == 3


def test_a_shallow_clone_has_what_was_fetched(repository, tmp_path):
    for depth in (1, 2):
        git(tmp_path, "clone", "--quiet", "--depth", str(depth), f"file://{repository}", f"clone-{depth}")
    assert classes(baseline_of(tmp_path / "clone-2", "git:HEAD~1", "models/net.onnx", "baseline")) == 3
    with pytest.raises(CheckFileError, match="this clone is shallow and has no such commit; fetch more") as caught:
        baseline_of(tmp_path / "clone-1", "git:HEAD~1", "models/net.onnx", "baseline")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("git:", "does not name a commit; write git:REF"),
        ("git:v9.9", "there is no such commit, branch or tag"),
        ("git:--help", "there is no such commit, branch or tag"),
        ("git:HEAD:models/other.onnx", "there is no models/other.onnx at that commit"),
        ("git:HEAD:../../outside.onnx", "lies outside the repository"),
        ("missing.onnx", "no such file"),
        ("models", "the folder is not a bundle"),
    ],
)
def test_what_is_not_there_is_one_line(repository, text, words):
    with pytest.raises(CheckFileError) as caught:
        baseline_of(repository, text, "models/net.onnx", "baseline of 'net'")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_repository_is_one_line(tmp_path, write_net, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    write_net(tmp_path / "net.onnx")
    with pytest.raises(CheckFileError, match="is not in a git repository"):
        baseline_of(tmp_path, "git:HEAD", "net.onnx", "baseline")
    assert commit_of(tmp_path) is None


def test_pointers_of_lfs_go_through_the_filter_of_git(tmp_path, write_net, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    root, store = tmp_path / "repository", tmp_path / "store"
    store.mkdir()
    program = tmp_path / "lfs.py"
    program.write_text(STORE)
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    for what in ("clean", "smudge"):
        git(root, "config", f"filter.lfs.{what}", f"'{sys.executable}' '{program}' '{store}' {what}")
    (root / ".gitattributes").write_text("*.onnx filter=lfs\n")
    for n_classes in (3, 5):
        write_net(root / "net.onnx", n_classes=n_classes)
        git(root, "add", ".")
        git(root, "commit", "--quiet", "--message", f"{n_classes} classes")
    assert classes(baseline_of(root, "git:HEAD~1", "net.onnx", "baseline")) == 3
    for what in ("clean", "smudge"):
        git(root, "config", "--unset", f"filter.lfs.{what}")
    with pytest.raises(CheckFileError, match=r"is a pointer of Git LFS.*install git-lfs"):
        baseline_of(root, "git:HEAD~1", "net.onnx", "baseline")
    Path(root / "net.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(CheckFileError, match="is a pointer of Git LFS, not the model: run git lfs pull"):
        model_file(root, "net.onnx", "model 'net'")


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_git_lfs_itself(tmp_path, write_net, monkeypatch):
    root = tmp_path / "repository"
    root.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    git(root, "init", "--quiet")
    git(root, "lfs", "install", "--local")
    git(root, "lfs", "track", "*.onnx")
    for n_classes in (3, 5):
        write_net(root / "net.onnx", n_classes=n_classes)
        git(root, "add", ".")
        git(root, "commit", "--quiet", "--message", f"{n_classes} classes")
    monkeypatch.setenv("GIT_LFS_SKIP_SMUDGE", "1")
    assert classes(baseline_of(root, "git:HEAD~1", "net.onnx", "baseline")) == 3


def test_the_commit_is_named_with_what_is_not_committed(repository):
    commit = commit_of(repository / "models")
    head = subprocess.run(["git", "-C", repository, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert (commit.sha, commit.branch, commit.dirty) == (head.stdout.strip(), "main", False)
    with (repository / "models" / "net.onnx").open("ab") as file:
        file.write(b"\0")
    git(repository, "checkout", "--quiet", "--detach")
    commit = commit_of(repository, {})
    assert (commit.branch, commit.dirty) == (None, True)


def test_a_job_that_checked_out_no_branch_names_its_own(repository):
    git(repository, "checkout", "--quiet", "--detach")
    sha = commit_of(repository, {}).sha
    gitlab = {"CI_COMMIT_SHA": sha, "CI_COMMIT_BRANCH": "main"}
    github = {"GITHUB_SHA": sha, "GITHUB_REF": "refs/heads/feature/x"}
    assert commit_of(repository, gitlab).branch == "main"
    assert commit_of(repository, github).branch == "feature/x"
    assert commit_of(repository, {**gitlab, "CI_COMMIT_SHA": "0" * 40}).branch is None
    assert commit_of(repository, {**github, "GITHUB_REF": "refs/pull/7/merge"}).branch is None


def test_links_are_followed_as_they_were(repository):
    good = {"latest.onnx": "models/net.onnx", "current": "bundle", "models/up.onnx": "../latest.onnx"}
    bad = {"out.onnx": "../net.onnx", "round.onnx": "round.onnx", "root.onnx": "/net.onnx"}
    for name, target in (good | bad).items():
        (repository / name).symlink_to(target)
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message", "links")
    for name in (*good, "current/model.onnx"):
        assert classes(baseline_of(repository, "git:HEAD", name, "baseline")) == 5
    assert classes(baseline_of(repository, "git:HEAD~2:bundle", "current", "baseline")) == 3
    for name in bad:
        with pytest.raises(
            CheckFileError, match=rf"{name} is a link to .*, which does not lead to a file of the repository"
        ):
            baseline_of(repository, "git:HEAD", name, "baseline")


def test_a_model_in_a_submodule_is_that_of_its_commit_then(repository, tmp_path):
    above = tmp_path / "above"
    above.mkdir()
    git(above, "init", "--quiet", "--initial-branch=main")
    git(above, "submodule", "--quiet", "add", f"file://{repository}", "sub")
    for ref in ("HEAD~1", "HEAD"):
        git(above / "sub", "checkout", "--quiet", f"origin/{ref}" if ref == "HEAD" else ref)
        git(above, "add", ".")
        git(above, "commit", "--quiet", "--message", ref)
    assert classes(baseline_of(above, "git:HEAD~1", "sub/models/net.onnx", "baseline")) == 3
    assert classes(baseline_of(above, "git:HEAD", "sub/bundle", "baseline")) == 5
    shutil.rmtree(above / ".git" / "modules" / "sub" / "objects")
    (above / ".git" / "modules" / "sub" / "objects").mkdir()
    with pytest.raises(CheckFileError, match="the submodule sub does not hold the commit it had then"):
        baseline_of(above, "git:HEAD~1", "sub/models/net.onnx", "baseline")


def test_a_bundle_may_be_the_root_of_the_repository(tmp_path, write_net):
    root = tmp_path / "a bundle\nof two lines"
    write_net(root / "model.onnx", n_classes=3)
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "one")
    write_net(root / "model.onnx", n_classes=5)
    assert classes(baseline_of(root, "git:HEAD", ".", "baseline")) == 3


def test_in_a_hook_of_git_it_is_the_same(repository, monkeypatch):
    """Git tells a hook its repository by variables, and the index by a relative path."""
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", ".git/index")
    assert classes(baseline_of(repository / "models", "git:HEAD~1", "net.onnx", "baseline")) == 3
    assert not commit_of(repository / "models").dirty


def test_a_repository_of_another_user_is_told_with_what_to_do(repository, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    with pytest.raises(CheckFileError, match=r"belongs to another user.*git config --global --add safe\.directory"):
        baseline_of(repository, "git:HEAD", "models/net.onnx", "baseline")
