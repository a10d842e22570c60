"""Charts of bars, all of one chart on one scale: groups of channels, layers of one model, layers of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from benchmarks.layers.comparison import LayerComparison
from benchmarks.layers.layer_profile import LayerProfile
from benchmarks.records.measurement import Subject
from deploy.bundles.pruning import GroupCount
from deploy.report.drawing.bars import bar, scale_of
from deploy.report.formatting import duration, percent
from deploy.report.layer_tables import layer_title

__all__ = ["Bar", "Bars", "group_bars", "layer_bars", "pair_bars"]

_SHOWN = 12
"""Layers with a bar, the slowest first; the tables hold all."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One row.

    Parameters
    ----------
    name, verdict, value, detail : str
        What it is of, what was shown, the number, and what stands behind it; or why there is no number.
    tone : str
        What the colour says: a verdict's own name, or ``"candidate"``.
    picture : Markup
        Empty where nothing was measured.
    """

    name: str
    verdict: str
    value: str
    detail: str
    tone: str
    picture: Markup


@dataclass(frozen=True, slots=True)
class Bars:
    """Rows on one scale.

    Parameters
    ----------
    title : str
        What they show.
    rows : tuple of Bar
        From top to bottom.
    marks : tuple of (float, str)
        What is written below: percent of the width, and words.
    caption : str
        What belongs to all rows.
    slim : bool, default=False
        Whether rows stand close: many of them, and not on the first screen.
    """

    title: str
    rows: tuple[Bar, ...]
    marks: tuple[tuple[float, str], ...] = ()
    caption: str = ""
    slim: bool = False


def group_bars(groups: Sequence[GroupCount], name: str) -> Bars:
    """Return a bar for each group of channels: as long as it was wide, filled as far as it is kept.

    Parameters
    ----------
    groups : sequence of GroupCount
        At least one.
    name : str
        Identifier that is unique on the page.
    """
    scale = scale_of([float(row.of) for row in groups], 0.0)
    rows = []
    for index, row in enumerate(groups):
        value = f"{row.kept} of {row.of}"
        words = f"{row.name}: {value} units kept"
        drawn = bar(f"{name}-{index}", words, scale, row.kept, None, start=0.0, aim=row.of, tone="candidate")
        rows.append(Bar(row.name, "", value, "", "", Markup(drawn)))
    kept, of = sum(row.kept for row in groups), sum(row.of for row in groups)
    counted = "this group" if len(groups) == 1 else f"these {len(groups)} groups"
    caption = f"{kept} of {of} units of {counted} are kept ({percent(kept / of)}); pale is what was removed."
    return Bars("", tuple(rows), caption=caption, slim=True)


def layer_bars(profile: LayerProfile, name: str) -> Bars:
    """Return a bar for each of the slowest layers of one model.

    Parameters
    ----------
    profile : LayerProfile
        Of the model.
    name : str
        Identifier that is unique on the page.
    """
    timed = [row for row in profile.rows if row.time_ns is not None and row.kind != "gaps"]
    shown = sorted(timed, key=lambda row: -(row.time_ns or 0))[:_SHOWN]
    scale = scale_of([float(row.time_ns or 0) for row in shown] or [1.0], 0.0)
    rows = []
    for index, row in enumerate(shown):
        spent = float(row.time_ns or 0)
        words = f"{layer_title(row)}: {duration(spent)}"
        drawn = bar(f"{name}-{index}", words, scale, spent, None, start=0.0, tone="candidate")
        share = "" if row.share is None else f"{percent(row.share, 1)} of a call"
        detail = ", ".join(filter(None, (share, *row.ops[:4])))
        rows.append(Bar(layer_title(row), "", duration(spent), detail, "", Markup(drawn)))
    title = f"The slowest layers of {profile.subject.label} on {profile.subject.backend}"
    return Bars(title, tuple(rows), caption=_setting(profile.subject, len(timed)), slim=True)


def pair_bars(pair: LayerComparison, name: str) -> Bars:
    """Return a bar for each of the slowest layers of two models: the candidate's, and pale behind it the baseline's.

    Parameters
    ----------
    pair : LayerComparison
        Of the two models.
    name : str
        Identifier that is unique on the page.
    """
    both = [one for one in pair.pairs if one.name != "gaps" and (one.baseline_ns or one.candidate_ns)]
    shown = sorted(both, key=lambda one: -max(one.baseline_ns or 0, one.candidate_ns or 0))[:_SHOWN]
    ends = [float(ns) for one in shown for ns in (one.baseline_ns, one.candidate_ns) if ns is not None]
    scale = scale_of(ends or [1.0], 0.0)
    labels = pair.baseline.subject.label, pair.candidate.subject.label
    rows = []
    for index, one in enumerate(shown):
        before, after = (None if ns is None else float(ns) for ns in (one.baseline_ns, one.candidate_ns))
        told = " \N{RIGHTWARDS ARROW} ".join("none" if ns is None else duration(ns) for ns in (before, after))
        words = f"{one.name}: {told}"
        drawn = bar(f"{name}-{index}", words, scale, after or 0.0, None, start=0.0, aim=before, tone="candidate")
        rows.append(Bar(one.name, "", told, "; ".join(one.reasons), "", Markup(drawn)))
    title = f"The slowest layers on {pair.candidate.subject.backend}: {labels[1]}, and pale behind it {labels[0]}"
    return Bars(title, tuple(rows), caption=_setting(pair.candidate.subject, len(both)), slim=True)


def _setting(subject: Subject, n_layers: int) -> str:
    threads = "1 thread" if subject.threads == 1 else f"{subject.threads} threads"
    more = f" {n_layers - _SHOWN} more are in the table." if n_layers > _SHOWN else ""
    return f"Profiled in {subject.precision}, with {threads}, batch {subject.batch}.{more}"
