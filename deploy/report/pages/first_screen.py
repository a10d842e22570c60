"""First screen of the results page: four tiles, and a bar for each backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from deploy.report.answer.records import Answer, BackendAnswer, Sizes, Timed
from deploy.report.drawing.bars import Scale, bar, scale_of
from deploy.report.formatting import (
    duration,
    interval,
    percent,
    ratio,
    score,
    score_change,
    score_title,
    size,
)
from deploy.report.pages.charts import Bar, Bars, change

__all__ = ["Tile", "bars", "doubts", "tiles"]

_WORDS = {"equivalent": "no difference", "inconclusive": "not decided", "measured": "", "wrong": "wrong answers"}
"""Wording of verdicts that are not shown by their own name."""
_APART = 40.0
"""Percent of the width that two marks need."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of the answer.

    Parameters
    ----------
    title : str
        What it is.
    value, beside : str
        The number, in large type, and its addition, in small type.
    details : tuple of str
        Lines below it; empty ones are not shown.
    picture : Markup
        Picture between the number and the lines; may be empty.
    """

    title: str
    value: str
    details: tuple[str, ...] = ()
    beside: str = ""
    picture: Markup = field(default_factory=Markup)


def tiles(answer: Answer) -> tuple[Tile, ...]:
    """Return the tiles of speed, accuracy, size and memory, in this order."""
    return (_speed(answer), _scores(answer), _size(answer.size), _memory(answer))


def bars(answer: Answer, name: str = "bar") -> Bars:
    """Return a bar for each backend: its speed-up from 1x, or the latency of a single model from 0.

    Parameters
    ----------
    answer : Answer
        Answer of one results file.
    name : str, optional
        Identifier that is unique on the page.
    """
    if answer.is_pair:
        scale = _of_speedups(answer.backends)
        promises = [row.promised for row in answer.backends if row.promised is not None]
        marks = _marks(scale, max(promises, default=1.0))
        title = "Speed-up on each backend, and what the FLOPs promised"
    else:
        known = [row.candidate.p50_ns for row in answer.backends if row.candidate is not None]
        scale, marks = scale_of(known or [1.0], 0.0), [(0.0, "0")]
        title = "Median latency of one request"
    rows = tuple(_row(row, scale, f"{name}-{index}") for index, row in enumerate(answer.backends))
    return Bars(title, rows, tuple(marks))


def doubts(answer: Answer, *, noise: bool) -> tuple[str, ...]:
    """Return the signs of noise, or the other doubts, each with where it was seen."""
    return tuple(f"{one.words} ({', '.join(one.where)})" for one in answer.doubts if one.noise == noise)


def _speed(answer: Answer) -> Tile:
    """Show the first backend with a speed-up; the bars show all."""
    if not answer.is_pair:
        return _latency(answer.backends)
    row = next((row for row in answer.backends if row.speedup is not None), None)
    if row is None or row.speedup is None:
        return Tile("Speed-up", "not measured")
    promised = "" if row.promised is None else f"promised by FLOPs: {ratio(row.promised)}"
    picture = _picture(row, _of_speedups([row]), "tile-bar")
    number, _, ends = interval(row.speedup).partition(" ")
    return Tile(f"Speed-up on {row.place}", number, (_words(row), promised), ends, picture)


def _latency(rows: Sequence[BackendAnswer]) -> Tile:
    row = next((row for row in rows if row.candidate is not None), None)
    if row is None or row.candidate is None:
        return Tile("Latency", "not measured")
    return Tile(
        f"Latency on {row.place}", duration(row.candidate.p50_ns), ("median of one request", _p90(row.candidate))
    )


def _scores(answer: Answer) -> Tile:
    scores, checked = answer.scores, answer.checked
    told = f"answers WRONG: {', '.join(checked.wrong)}" if checked.wrong else ""
    if not told and checked.right:
        told = f"answers right on {', '.join(checked.right)}"
    if scores is None or scores.after is None:
        return Tile("Accuracy", "not measured", (told or "answers not checked",))
    title, after = score_title(scores.metric), score(scores.metric, scores.after)
    examples = "" if scores.n_examples is None else f"{scores.n_examples} test examples"
    if scores.before is None or scores.change is None:
        return Tile(title, after, (scores.verdict, examples, told))
    points = ", ".join(filter(None, (score_change(scores.metric, scores.change), scores.verdict)))
    return Tile(title, change(score(scores.metric, scores.before), after), (points, examples, told))


def _size(sizes: Sizes) -> Tile:
    return Tile("Size", _sizes(sizes), (_smaller(sizes), "of the ONNX file"))


def _memory(answer: Answer) -> Tile:
    if answer.memory is None:
        return Tile("Memory", "not measured")
    return Tile(
        "Memory", _sizes(answer.memory), (_smaller(answer.memory), f"peak of the process, {answer.memory_place}")
    )


def _row(row: BackendAnswer, scale: Scale, name: str) -> Bar:
    told, number = [], ""
    if row.speedup is not None:
        number = interval(row.speedup)
    elif row.verdict == "measured" and row.candidate is not None:
        number = duration(row.candidate.p50_ns)
        told.append(_p90(row.candidate))
    if row.baseline is not None and row.candidate is not None:
        told.append(change(duration(row.baseline.p50_ns), duration(row.candidate.p50_ns)))
    if row.realised is not None and row.verdict == "faster":
        told.append(f"{percent(row.realised)} of the promised {ratio(row.promised or 0)}")
    told += [row.reason, row.hint]
    return Bar(row.place, _words(row), number, "; ".join(filter(None, told)), row.verdict, _picture(row, scale, name))


def _picture(row: BackendAnswer, scale: Scale, name: str) -> Markup:
    if row.speedup is not None:
        words = f"{row.place}: {interval(row.speedup)}, {_words(row)}"
        words += "" if row.promised is None else f"; promised {ratio(row.promised)}"
        ends = (row.speedup.low, row.speedup.high)
        drawn = bar(name, words, scale, row.speedup.value, ends, start=1.0, aim=row.promised, tone=row.verdict)
        return Markup(drawn)
    if row.verdict == "measured" and row.candidate is not None:
        words = f"{row.place}: {duration(row.candidate.p50_ns)}"
        return Markup(bar(name, words, scale, row.candidate.p50_ns, None, start=0.0))
    return Markup()


def _of_speedups(rows: Sequence[BackendAnswer]) -> Scale:
    """Return a scale that spans 1x, the promised speed-ups and the measured ones.

    Intervals of inconclusive comparisons are left out: a wide one would squeeze the others.
    """
    ends = [row.promised for row in rows if row.promised is not None]
    for row in rows:
        if row.speedup is not None:
            ends += [row.speedup.low, row.speedup.high] if row.verdict != "inconclusive" else []
    if not ends:
        ends = [row.speedup.value for row in rows if row.speedup is not None]
    return scale_of(ends, 1.0)


def _marks(scale: Scale, promised: float) -> list[tuple[float, str]]:
    """Label the start and the promise, as one mark if they are too close for two."""
    start, end = scale.at(1), scale.at(promised)
    if round(promised, 2) == 1:
        return [(start, "1x")]
    if abs(end - start) < _APART:
        return [(start, f"1x; promised {ratio(promised)}")]
    return [(start, "1x"), (end, f"promised {ratio(promised)}")]


def _words(row: BackendAnswer) -> str:
    if row.verdict == "equivalent" and row.margin is not None:
        return f"no difference of {percent(row.margin)}"
    return _WORDS.get(row.verdict, row.verdict)


def _p90(timed: Timed) -> str:
    return "" if timed.p90_ns is None else f"p90 {duration(timed.p90_ns)}"


def _sizes(sizes: Sizes) -> str:
    return size(sizes.after) if sizes.before is None else change(size(sizes.before), size(sizes.after))


def _smaller(sizes: Sizes) -> str:
    """Write how much it shrank or grew, either way as a factor above 1."""
    change = sizes.ratio
    if change is None or round(change, 2) == 1:
        return ""
    return f"{ratio(change)} smaller" if change > 1 else f"{ratio(1 / change)} larger"
