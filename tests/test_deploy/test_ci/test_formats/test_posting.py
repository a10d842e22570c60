"""One comment on a pull or merge request, against a server on this machine; what goes wrong never fails the job."""

from __future__ import annotations

import json

import pytest

from deploy.ci.formats.comment import mark_of
from deploy.ci.formats.posting import post
from deploy.ci.formats.web import Server, ServerError
from deploy.errors import DeployError
from tests.test_deploy.test_ci.test_formats import reports
from tests.test_deploy.test_ci.test_formats.servers import GITHUB, GITLAB, SECRET, FakeServer

MARK = mark_of("vision")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(params=["github job", "github app", "github user", "gitlab"])
def server(request):
    kind = request.param
    fake = FakeServer(GITLAB if kind == "gitlab" else GITHUB, "somebody" if kind in {"github user", "gitlab"} else None)
    if kind == "github app":
        fake.user = {"login": "our-app[bot]", "id": 2}
    with fake.running():
        yield fake


def github(server, tmp_path, event=None):
    path = tmp_path / "event.json"
    path.write_text(json.dumps({"pull_request": {"number": 7}} if event is None else event), encoding="utf-8")
    return {
        "GITHUB_REPOSITORY": "owner/name",
        "GITHUB_API_URL": server.url,
        "GITHUB_EVENT_PATH": str(path),
        "GITHUB_TOKEN": SECRET,
    }


@pytest.fixture
def job(server, tmp_path):
    """The variables of a job on this server."""
    if server.list_path == GITHUB[0]:
        return github(server, tmp_path)
    return {
        "CI_API_V4_URL": server.url,
        "CI_PROJECT_ID": "group/name",
        "CI_MERGE_REQUEST_IID": "7",
        "GITLAB_TOKEN": SECRET,
    }


@pytest.fixture
def hub():
    with FakeServer(GITHUB, None).running() as fake:
        yield fake


def methods(server):
    return [method for method, *_ in server.requests if method != "GET"]


def test_the_first_job_writes_it_and_later_ones_update_it(server, job):
    assert post(reports.MIXED, job).words == "the comment was created"
    [first] = server.comments
    assert first["body"].startswith(f"{MARK}\n## \N{CROSS MARK} deploy check: 3 of 7")
    assert post(reports.PASSING, job).words == "the comment was updated"
    [second] = server.comments
    assert second["id"] == first["id"]
    assert "all 3 limits kept" in second["body"]
    assert len(methods(server)) == 2


def test_it_is_found_behind_hundreds_of_others(server, job):
    for index in range(150):
        server.add(f"comment {index}", "somebody else")
    ours = server.add(f"{MARK}\nold")
    for index in range(100):
        server.add(f"later {index}", "somebody else")
    assert post(reports.PASSING, job).words == "the comment was updated"
    assert "all 3 limits kept" in ours["body"]
    assert len(server.comments) == 251


def test_what_others_wrote_with_the_mark_is_left_alone(server, job):
    theirs = server.add(f"{MARK}\ntrap", "attacker")
    quoted = server.add(f"> {MARK}\nquoted")
    assert post(reports.PASSING, job).words == "the comment was created"
    assert theirs["body"] == f"{MARK}\ntrap"
    assert quoted["body"].endswith("quoted")
    assert len(server.comments) == 3


def test_checks_of_other_names_have_comments_of_their_own(server, job):
    post(reports.PASSING, job)
    post(reports.PASSING, job, name="on the board")
    post(reports.MIXED, job, name="on the board")
    assert [one["body"].splitlines()[0] for one in server.comments] == [MARK, mark_of("on the board")]


def test_two_jobs_at_once_leave_one_comment(server, job):
    server.before_create = lambda: server.comments or server.add(f"{MARK}\nof the other job")
    assert post(reports.PASSING, job).words == "the comment was updated"
    [only] = server.comments
    assert "all 3 limits kept" in only["body"]


def test_of_several_of_ours_one_stays(server, job):
    first = server.add(f"{MARK}\none")
    server.add(f"{MARK}\ntwo")
    assert post(reports.PASSING, job).words == "the comment was updated"
    assert server.comments == [first]


def test_one_that_was_removed_meanwhile_is_written_again(server, job):
    server.add(f"{MARK}\nold")
    server.before_update = server.comments.clear
    assert post(reports.PASSING, job).words == "the comment was created"
    assert len(server.comments) == 1


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_token_that_may_not_write_is_a_warning(server, job, status):
    server.refuse = {("POST", "s"): status}
    level, words = post(reports.MIXED, job)
    assert level == "warning"
    assert words.startswith(f"no comment was written: 127.0.0.1 answered {status} (Resource not accessible by ***)")
    assert ("a fork" in words) == (status != 500)
    assert words.endswith("the log and the summary say the same")
    assert SECRET not in words


def test_the_token_is_sent_to_its_server_only(server, job):
    post(reports.MIXED, job)
    for _, path, headers in server.requests:
        assert SECRET in " ".join(headers.values())
        assert SECRET not in path
    server.refuse = {("GET", "/user"): 302}
    server.requests.clear()
    level, words = post(reports.MIXED, job)
    assert level == "warning"
    assert "answered 302" in words
    assert not any("stolen" in path for _, path, _ in server.requests)


def test_a_server_that_is_down_is_a_warning(tmp_path):
    with FakeServer(GITHUB, None).running() as fake:
        gone = github(fake, tmp_path)
    level, words = post(reports.MIXED, gone)
    assert level == "warning"
    assert "127.0.0.1 cannot be reached" in words
    assert SECRET not in words


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"GITHUB_TOKEN": ""}, "GITHUB_TOKEN is not set"),
        ({"GITHUB_TOKEN": "a\nb"}, "characters that tokens never have"),
        ({"GITHUB_TOKEN": f"{SECRET} x"}, "characters that tokens never have"),
        ({"GITHUB_TOKEN": f"{SECRET}\N{SNOWMAN}"}, "characters that tokens never have"),
        ({"GITHUB_API_URL": "file:///etc"}, "is not the address of a server"),
        ({"GITHUB_API_URL": ""}, "is not the address of a server"),
        ({"GITHUB_EVENT_PATH": "/nowhere/event.json"}, "GITHUB_EVENT_PATH"),
    ],
)
def test_a_job_that_lacks_something_is_a_warning(hub, tmp_path, changed, said):
    level, words = post(reports.MIXED, {**github(hub, tmp_path), **changed})
    assert level == "warning"
    assert said in words
    assert SECRET not in words
    assert not hub.requests


@pytest.mark.parametrize(
    ("event", "number"),
    [
        ({"pull_request": {"number": 7}}, 7),
        ({"issue": {"number": 7, "pull_request": {"url": "x"}}}, 7),
        ({"workflow_run": {"pull_requests": [{"number": 7}]}}, 7),
        ({"workflow_run": {"pull_requests": []}}, None),
        ({"issue": {"number": 7}}, None),
        ({"ref": "refs/heads/main"}, None),
        ([], None),
    ],
)
def test_the_event_of_the_job_names_the_pull_request(hub, tmp_path, event, number):
    posted = post(reports.MIXED, github(hub, tmp_path, event))
    assert posted.level == "notice"
    assert len(hub.comments) == (number is not None)
    if number is None:
        assert "is not for a pull or merge request" in posted.words
        assert post(reports.MIXED, github(hub, tmp_path, event), number=7).words == "the comment was created"


@pytest.mark.parametrize(
    ("variables", "written"),
    [
        ({"CI_PROJECT_ID": "1", "CI_OPEN_MERGE_REQUESTS": "group/name!7,group/other!8"}, True),
        ({"CI_PROJECT_ID": "1", "CI_OPEN_MERGE_REQUESTS": ""}, False),
        ({"CI_PROJECT_ID": "1"}, False),
        ({"CI_PROJECT_ID": "1", "CI_MERGE_REQUEST_PROJECT_ID": "group/name", "CI_MERGE_REQUEST_IID": "7"}, True),
    ],
    ids=["a branch with requests", "a branch with none", "a branch", "a fork"],
)
def test_a_job_on_gitlab_finds_the_request_that_it_is_of(variables, written):
    with FakeServer(GITLAB, "somebody").running() as lab:
        posted = post(reports.MIXED, {"CI_API_V4_URL": lab.url, "GITLAB_TOKEN": SECRET, **variables})
    assert posted.level == "notice"
    assert len(lab.comments) == written
    assert posted.words.startswith("the comment was created" if written else "this job is not for a pull or merge")


def test_elsewhere_it_says_what_else_can_be_done():
    with pytest.raises(DeployError, match="--write comment=FILE"):
        post(reports.MIXED, {})


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b'[{"body": 1}]', b'{"id": "x"}', b""])
def test_odd_answers_are_warnings(hub, tmp_path, answer):
    hub.answer = lambda *_: (200, answer)
    assert post(reports.MIXED, github(hub, tmp_path)).level == "warning"


def test_a_busy_server_is_asked_again_but_nothing_is_written_twice(hub):
    answers, waits = [(503, {}), (429, {}), (200, [])], []
    hub.answer = lambda *_: answers.pop(0)
    server = Server(hub.url, SECRET, ("Authorization", "Bearer "), pause=waits.append)
    assert server.ask("GET", "x") == []
    assert waits == [2.0, 4.0]
    hub.answer = lambda *_: (503, {})
    with pytest.raises(ServerError, match="answered 503"):
        server.ask("POST", "x", {})
    assert methods(hub) == ["POST"]
    with pytest.raises(ServerError, match="answered 503"):
        server.ask("GET", "x")


def test_the_command_prints_one_line_and_never_the_token(hub, tmp_path, here, monkeypatch):
    path = tmp_path / "check.json"
    reports.MIXED.save(path)
    for name, value in github(hub, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    done = here("comment", path)
    assert (done.returncode, done.stdout) == (0, "::notice title=deploy comment::the comment was created\n")
    hub.refuse = {("PATCH", ""): 403}
    done = here("comment", path)
    assert done.returncode == 0
    assert done.stdout.startswith("::warning title=deploy comment::no comment was written: 127.0.0.1 answered 403")
    monkeypatch.delenv("GITHUB_ACTIONS")
    done = here("comment", path, "--number", 7)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("deploy: warning: no comment was written")
    assert SECRET not in done.stdout + done.stderr
    assert here("comment", tmp_path / "none.json").returncode == 2
