"""The body of a comment on a pull or merge request, with a hidden mark to find and update it."""

from __future__ import annotations

import re
from hashlib import sha256

from deploy.ci.check_report import CheckReport
from deploy.ci.formats.markdown import markdown_summary

__all__ = ["comment_body", "mark_of"]

_MOST = 60_000
"""Maximum bytes: GitHub refuses a comment of more than 65,536 characters."""
_ODD = re.compile(r"[^A-Za-z0-9 ._]+")


def mark_of(name: str) -> str:
    """Return the hidden first line of the comment of one check.

    Parameters
    ----------
    name : str
        Checks with different names have separate comments. Characters that could end an HTML comment are replaced, and
        a hash of the name keeps the marks of two names apart.
    """
    plain = " ".join(_ODD.sub(" ", name).split())[:60]
    short = sha256(name.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"<!-- deploy-check: {plain} {short} -->"


def comment_body(report: CheckReport, name: str = "") -> str:
    """Return the body of the comment.

    Parameters
    ----------
    report : CheckReport
        Report of one job.
    name : str, optional
        Name of the comment; default: the title of the check.
    """
    return f"{mark_of(name or report.title)}\n{markdown_summary(report, _MOST)}"
