"""A profile as a page of Markdown."""

from __future__ import annotations

from deploy.edge.profile.headline import headline, labels
from deploy.edge.profile.record import Profile
from deploy.edge.profile.tables import key_tables
from deploy.edge.profile.terminal import board_line
from deploy.files.printable import printable
from deploy.report.markdown import markdown
from deploy.report.table import Table, left

__all__ = ["profile_markdown"]


def profile_markdown(profile: Profile) -> str:
    """Write what fits on one page: answer, board, cold start, sustained load, settings, hot layers, missing parts."""
    rows = tuple(
        (fact.title, " → ".join(fact.values), "; ".join(filter(None, fact.details))) for fact in headline(profile)
    )
    parts = [
        f"# {printable(' → '.join(labels(profile)))}: profile",
        printable(f"{board_line(profile)}. {profile.created_utc}, prune-deploy {profile.tool_version}."),
        markdown(Table("", left("question", "answer", "more"), rows)),
    ]
    parts += [f"## {printable(table.title)}\n\n{markdown(table)}" for table in key_tables(profile)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"
