"""HTML page of a profile: five answers on the first screen, the load over time, the settings, and all numbers."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from deploy.edge.profile.choice import settings_of
from deploy.edge.profile.course import course_picture
from deploy.edge.profile.fronts import fronts
from deploy.edge.profile.headline import headline, labels, missing, short_point
from deploy.edge.profile.record import Profile
from deploy.edge.profile.tables import profile_tables, settings_table
from deploy.edge.profile.terminal import board_line
from deploy.report.answer.deriving import answer_of
from deploy.report.answer.doubts import noise_parts
from deploy.report.formatting import duration, minute
from deploy.report.pages.charts import Bars, Row, change, charted, layer_charts
from deploy.report.pages.first_screen import Tile, doubts
from deploy.report.pages.rendering import render

__all__ = ["profile_page"]


def profile_page(profile: Profile) -> str:
    """Return the whole page. The same profile gives the same page."""
    answer = answer_of(profile.results)
    context: dict[str, Any] = {
        "title": f"{' and '.join(labels(profile))}: profile",
        "board": board_line(profile),
        "tiles": [_tile(fact.title, fact.values, fact.details) for fact in headline(profile)],
        "noise": answer.noise,
        "noise_parts": [part.replace("+-", "\N{PLUS-MINUS SIGN}") for part in noise_parts(answer)],
        "signs": doubts(answer, noise=True),
        "doubts": doubts(answer, noise=False),
        "day": minute(profile.created_utc),
        "version": profile.tool_version,
        "course": Markup(course_picture(profile, "course")) if profile.sustained else "",
        "settings": _settings(profile),
        "fronts": [(Markup(one.picture), one.caption) for one in fronts(profile)],
        "settings_table": settings_table(profile),
        "layers": [] if profile.layers is None else layer_charts(profile.layers),
        "absent": missing(profile),
        "tables": [table for table in profile_tables(profile) if table.title != "Settings"],
    }
    return render("profile.html", **context)


def _tile(title: str, values: tuple[str, ...], details: tuple[str, ...]) -> Tile:
    number = change(*values) if len(values) == 2 else values[0]
    return Tile(
        title,
        number,
        tuple(line.replace(" -> ", " \N{RIGHTWARDS ARROW} ").replace("+-", "\N{PLUS-MINUS SIGN}") for line in details),
    )


def _settings(profile: Profile) -> Bars | None:
    """Draw the latency at each setting, with the baseline's in pale behind it."""
    names = labels(profile)
    own = settings_of(profile.sweep, names[-1])
    if not own:
        return None
    before = {one.point: one for one in settings_of(profile.sweep, names[0])} if len(names) == 2 else {}
    rows = []
    for one in own:
        behind = before.get(one.point)
        told = (
            duration(one.latency_ns)
            if behind is None
            else change(duration(behind.latency_ns), duration(one.latency_ns))
        )
        aim = None if behind is None else behind.latency_ns
        rows.append(Row(short_point(one.point, profile.sweep[0].point), one.latency_ns, told, aim=aim))
    behind_words = f"; pale behind it that of {names[0]}" if before else ""
    return charted("", rows, "settings", caption=f"Median call of {names[-1]}{behind_words}. The best is marked below.")
