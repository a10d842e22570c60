"""Post a check report as a comment on the pull or merge request of a job; a failure to post never fails the job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from deploy.ci.check_report import CheckReport
from deploy.ci.formats.comment import comment_body, mark_of
from deploy.ci.formats.conversation import Conversation, put
from deploy.ci.formats.merge_request import MergeRequest
from deploy.ci.formats.pull_request import PullRequest, pull_request_of
from deploy.ci.formats.web import Server, ServerError
from deploy.errors import DeployError

__all__ = ["Posted", "post"]

_REFUSED = {401, 403, 404}


class Posted(NamedTuple):
    """Outcome of posting a comment.

    Parameters
    ----------
    level : str
        ``"notice"``, or ``"warning"`` if a comment could not be written.
    words : str
        One line.
    """

    level: Literal["notice", "warning"]
    words: str


def post(report: CheckReport, environment: Mapping[str, str], *, name: str = "", number: int | None = None) -> Posted:
    """Post the comment, or update the one from an earlier job.

    Parameters
    ----------
    report : CheckReport
        Report of one job.
    environment : Mapping of str to str
        Environment of the job: its server, repository, request and token.
    name : str, optional
        Name of the comment; default: the title of the check. Jobs with the same name share a comment.
    number : int, optional
        Number of the pull or merge request; default: the one that the job runs for.

    Raises
    ------
    DeployError
        This is not a GitHub or GitLab job.
    """
    if "GITHUB_REPOSITORY" not in environment and "CI_API_V4_URL" not in environment:
        raise DeployError(
            "no server to comment on: GITHUB_REPOSITORY (GitHub) or CI_API_V4_URL (GitLab) is set in their jobs; "
            "deploy check --write comment=FILE writes the text of the comment"
        )
    try:
        conversation = (_on_github if "GITHUB_REPOSITORY" in environment else _on_gitlab)(environment, number)
        if conversation is None:
            return Posted("notice", "this job is not for a pull or merge request: no comment was written")
        done = put(conversation, mark_of(name or report.title), comment_body(report, name))
    except ServerError as error:
        hint = "; the token may not write here, as that of a fork may not" if error.status in _REFUSED else ""
        return Posted("warning", f"no comment was written: {error}{hint}; the log and the summary say the same")
    return Posted("notice", f"the comment was {done}")


def _on_github(environment: Mapping[str, str], number: int | None) -> Conversation | None:
    number = pull_request_of(environment) if number is None else number
    if number is None:
        return None
    server = Server(
        environment.get("GITHUB_API_URL", ""), _token(environment, "GITHUB_TOKEN"), ("Authorization", "Bearer ")
    )
    return PullRequest(server, environment["GITHUB_REPOSITORY"], number)


def _on_gitlab(environment: Mapping[str, str], number: int | None) -> Conversation | None:
    # A request from a fork runs in the fork, but its number belongs to the target project.
    project = environment.get("CI_MERGE_REQUEST_PROJECT_ID") or environment.get("CI_PROJECT_ID", "")
    request = environment.get("CI_MERGE_REQUEST_IID", "") if number is None else str(number)
    if not request:  # a branch pipeline, which lists its requests as group/name!7,group/name!8
        project, _, request = environment.get("CI_OPEN_MERGE_REQUESTS", "").partition(",")[0].rpartition("!")
    if not request:
        return None
    server = Server(environment["CI_API_V4_URL"], _token(environment, "GITLAB_TOKEN"), ("PRIVATE-TOKEN", ""))
    return MergeRequest(server, project, request)


def _token(environment: Mapping[str, str], name: str) -> str:
    if not (token := environment.get(name, "").strip()):
        raise ServerError(f"{name} is not set")
    return token
