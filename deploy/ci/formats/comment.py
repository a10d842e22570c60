"""The body of a comment on a pull or merge request, with the hidden mark by which it is found and updated."""

from __future__ import annotations

import re
from hashlib import sha256

from deploy.ci.check_report import CheckReport
from deploy.ci.formats.markdown import markdown_summary

__all__ = ["comment_body", "mark_of"]

_MOST = 60_000
"""Bytes: GitHub refuses a comment of more than 65,536 characters."""
_ODD = re.compile(r"[^A-Za-z0-9 ._]+")


def mark_of(name: str) -> str:
    """Return the hidden first line of the comment of one check.

    Parameters
    ----------
    name : str
        Checks of different names have comments of their own. What could end an HTML comment is replaced, and a hash of
        the name keeps the marks of two names apart.
    """
    plain = " ".join(_ODD.sub(" ", name).split())[:60]
    short = sha256(name.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"<!-- deploy-check: {plain} {short} -->"


def comment_body(report: CheckReport, name: str = "") -> str:
    """Return the body.

    Parameters
    ----------
    report : CheckReport
        Of one job.
    name : str, optional
        Of the comment; by default the title of the check.
    """
    return f"{mark_of(name or report.title)}\n{markdown_summary(report, _MOST)}"
