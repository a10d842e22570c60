"""The action for GitHub and the template for GitLab: their scripts run here as the runners run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from benchmarks.machine.lock import LOCK_VARIABLE
from tests.test_deploy.test_ci.test_formats.servers import GITHUB, GITLAB, SECRET, FakeServer

ROOT = Path(__file__).parents[4]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
SPEC, TEMPLATE = yaml.safe_load_all((ROOT / "templates" / "deploy-check.yml").read_text(encoding="utf-8"))
[JOB] = TEMPLATE.values()
USED = re.compile(r"\$\[\[ inputs\.([\w-]+) \]\]")
CHECK_FILE = "title: tiny\nmodels:\n  - model: net.onnx\n    limits: {{file_mb: {}}}\n"


def scripts():
    """Yield every shell script, its shell, and where it stands."""
    for name, step in STEPS.items():
        if "run" in step:
            yield f"action.yml: {name}", step["shell"], step["run"]
    for part in ("before_script", "script", "after_script"):
        yield f"templates: {part}", "sh", "\n".join(JOB[part])


@pytest.fixture
def repository(tmp_path):
    """A folder with a small model, and a check that takes no measuring."""
    folder = tmp_path / "repository"
    folder.mkdir()
    weights = numpy_helper.from_array(np.zeros((64, 64), np.float32), "w")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", values[:1], values[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "net.onnx")
    (folder / "deploy-check.yaml").write_text(CHECK_FILE.format(1), encoding="utf-8")
    return folder


def run_step(name, folder, inputs, around, outputs):
    """Run one step as a runner does: its variables from inputs and earlier steps, bash with -e and pipefail."""
    step = STEPS[name]

    def value(match):
        what, *path = match[1].strip().split(".")
        return outputs[path[0]].get(path[2], "") if what == "steps" else inputs.get(path[0], "")

    variables = {key: re.sub(r"\$\{\{(.*?)\}\}", value, text) for key, text in step["env"].items()}
    written = folder.parent / f"output-{step.get('id', 'none')}"
    written.write_text("", encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder.parent),
        LOCK_VARIABLE: os.environ[LOCK_VARIABLE],
        "PYTHONPATH": str(ROOT),
        "RUNNER_TEMP": str(folder.parent),
        "GITHUB_ACTIONS": "true",
        "GITHUB_WORKSPACE": str(folder),
        "GITHUB_OUTPUT": str(written),
        "GITHUB_STEP_SUMMARY": str(folder.parent / "summary.md"),
        "GITHUB_ACTION_PATH": str(ROOT),
        **around,
        **variables,
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    found, lines = {}, iter(written.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if "<<" in line:
            key, delimiter = line.split("<<", 1)
            found[key] = "\n".join(iter(lambda: next(lines), delimiter))
        else:
            key, found[key] = line.split("=", 1)
    if "id" in step:
        outputs[step["id"]] = found
    return done


def defaults(**changed):
    texts = {name: str(one.get("default", "")) for name, one in ACTION["inputs"].items()}
    return {**texts, "python": sys.executable, **changed}


def test_the_action_checks_comments_and_passes_on_the_exit_code(repository, tmp_path):
    event = tmp_path / "event.json"
    event.write_text('{"pull_request": {"number": 7}}', encoding="utf-8")
    outputs = {}
    with FakeServer(GITHUB, None).running() as server:
        around = {
            "GITHUB_REPOSITORY": "owner/name",
            "GITHUB_API_URL": server.url,
            "GITHUB_EVENT_PATH": str(event),
            "no_proxy": "127.0.0.1",
        }
        inputs = defaults(budget="30", **{"check-file": "deploy-check.yaml", "token": SECRET, "arguments": "-q\n"})
        assert run_step("Install prune-deploy", repository, inputs, around, outputs).returncode == 0
        done = run_step("Check", repository, inputs, around, outputs)
        assert done.returncode == 0, done.stderr
        assert "::notice title=tiny::the limit is kept" in done.stdout
        assert outputs["check"]["verdict"] == "passed"
        done = run_step("Comment on the pull request", repository, inputs, around, outputs)
        assert done.stdout == "::notice title=deploy comment::the comment was created\n"

        (repository / "deploy-check.yaml").write_text(CHECK_FILE.format(0.001), encoding="utf-8")
        done = run_step("Check", repository, inputs, around, outputs)
        assert done.returncode == 1
        assert "::error file=net.onnx,title=net%3A file_mb broken::" in done.stdout
        told = outputs["check"]
        assert (told["verdict"], told["exit-code"]) == ("failure", "1")
        kept = Path(told["folder"])
        assert {one.name for one in kept.iterdir()} == {"check.json", "check.html", "check.xml"}
        assert (told["report"], told["page"]) == (str(kept / "check.json"), str(kept / "check.html"))
        done = run_step("Comment on the pull request", repository, inputs, around, outputs)
        assert done.stdout == "::notice title=deploy comment::the comment was updated\n"
        assert "0 of 1 limit kept" in server.comments[0]["body"]
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").count("## ") == 2


def test_a_mistake_in_the_check_file_is_one_line_and_no_report(repository):
    outputs = {"install": {"python": sys.executable}}
    (repository / "deploy-check.yaml").write_text("modles: []\n", encoding="utf-8")
    done = run_step("Check", repository, defaults(), {}, outputs)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert outputs["check"].keys() == {"folder", "exit-code"}, "the later steps look for a report"
    assert outputs["check"]["exit-code"] == "2"
    assert done.stdout == f"::error title=deploy check::{done.stderr.removeprefix('deploy: ')}"


def test_the_action_installs_its_own_folder_with_what_was_asked_for(repository, tmp_path):
    shims = tmp_path / "shims"
    shims.mkdir()
    python = shims / "python3"
    # A venv that notes what pip is asked for.
    python.write_text(
        '#!/bin/sh\nmkdir -p "$3/bin"\n'
        'printf \'#!/bin/sh\\nprintf "%%s\\\\n" "$@" > "%s/asked"\\n\' "$3" > "$3/bin/python"\n'
        'chmod +x "$3/bin/python"\n',
        encoding="utf-8",
    )
    python.chmod(0o755)
    outputs = {}
    inputs = defaults(python="", extras="openvino", requirements="onnxruntime==1.23.0\n\nnumpy\n")
    around = {"PATH": f"{shims}:{os.environ['PATH']}"}
    done = run_step("Install prune-deploy", repository, inputs, around, outputs)
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "prune-deploy" / "asked").read_text(encoding="utf-8").splitlines()
    assert asked[:3] == ["-m", "pip", "install"]
    assert asked[-3:] == [f"{ROOT}[openvino]", "onnxruntime==1.23.0", "numpy"]
    assert outputs["install"]["python"] == str(tmp_path / "prune-deploy" / "bin" / "python")


def test_every_input_is_used_and_no_script_holds_one():
    """What a script holds is run by the shell, whatever is in it; variables are not."""
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    used = set(re.findall(r"inputs\.([\w-]+)", text))
    assert used == ACTION["inputs"].keys()
    for where, _, script in scripts():
        assert "${{" not in script, where
        assert "$[[" not in script, where
    text = (ROOT / "templates" / "deploy-check.yml").read_text(encoding="utf-8")
    assert set(USED.findall(text)) == SPEC["spec"]["inputs"].keys()


def test_report_and_page_are_kept_whatever_came_out_of_it():
    upload = STEPS["Keep the report"]
    assert upload["if"].startswith("${{ always()")
    assert "!cancelled()" in STEPS["Comment on the pull request"]["if"]
    assert JOB["artifacts"]["when"] == "always"


def test_the_template_checks_and_writes_a_note(repository, tmp_path):
    (repository / "deploy-check.yaml").write_text(CHECK_FILE.format(0.001), encoding="utf-8")
    program = tmp_path / "builds" / "prune-deploy-1" / "bin" / "prune-deploy"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m deploy "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    given = {"source": "x", "comment": "true", "budget": "30", "arguments": "-q --accept-unfit --only n*"}
    inputs = {name: given.get(name, str(one.get("default"))) for name, one in SPEC["spec"]["inputs"].items()}
    variables = {key: USED.sub(lambda match: inputs[match[1]], text) for key, text in JOB["variables"].items()}
    with FakeServer(GITLAB, "project bot").running() as server:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            LOCK_VARIABLE: os.environ[LOCK_VARIABLE],
            "PYTHONPATH": str(ROOT),
            "no_proxy": "127.0.0.1",
            "CI_BUILDS_DIR": str(tmp_path / "builds"),
            "CI_JOB_ID": "1",
            "CI_PROJECT_DIR": str(repository),
            "CI_API_V4_URL": server.url,
            "CI_PROJECT_ID": "group/name",
            "CI_MERGE_REQUEST_IID": "7",
            "GITLAB_TOKEN": SECRET,
            **variables,
        }

        def run(part):
            command = ["sh", "-ec", "\n".join(JOB[part])]
            return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)

        done = run("script")
        assert done.returncode == 1, done.stderr
        assert done.stdout.startswith("deploy check: ")
        written = repository / "deploy-check"
        assert {str(written.relative_to(repository) / one.name) for one in written.iterdir()} == {
            *JOB["artifacts"]["reports"].values(),
            "deploy-check/check.html",
            "deploy-check/check.json",
        }
        done = run("after_script")
        assert (done.returncode, done.stdout) == (0, "the comment was created\n"), done.stderr
        assert len(server.comments) == 1
    assert not program.exists(), "nothing is left on the runner"


def tool(name):
    """Find a linter beside the interpreter or on the path."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"there is no {name} here")
    return found


def lint(*command, **settings):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **settings)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.optional
@pytest.mark.parametrize(("where", "shell", "script"), [pytest.param(*one, id=one[0]) for one in scripts()])
def test_the_scripts_please_shellcheck(where, shell, script):
    lint(tool("shellcheck"), "--shell", shell, "-", input=script)


@pytest.mark.optional
def test_action_and_template_are_as_their_schemas_say(tmp_path):
    check = tool("check-jsonschema")
    lint(check, "--builtin-schema", "vendor.github-actions", str(ROOT / "action.yml"))
    inputs = {name: str(one.get("default", "x")) for name, one in SPEC["spec"]["inputs"].items()}
    _, job = (ROOT / "templates" / "deploy-check.yml").read_text(encoding="utf-8").split("\n---\n")
    filled = tmp_path / "job.yml"
    filled.write_text(USED.sub(lambda match: inputs[match[1]], job), encoding="utf-8")
    lint(check, "--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci", str(filled))


@pytest.mark.optional
def test_workflows_of_the_docs_please_actionlint(tmp_path):
    actionlint = tool("actionlint")
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(encoding="utf-8"), re.DOTALL)
    workflows = [block for block in blocks if "runs-on:" in block]
    assert workflows
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    shutil.copy(ROOT / "action.yml", tmp_path)
    for index, text in enumerate(workflows):
        used = re.sub(r"uses: OWNER/prune-deploy@\S+", "uses: ./", text)
        (folder / f"{index}.yml").write_text(used, encoding="utf-8")
    lint(actionlint, cwd=tmp_path)
