"""The answer as about twenty ASCII lines for a terminal, none wider than it; nothing is shown by colour alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from deploy import exit_codes
from deploy.files.printable import printable
from deploy.report.answer.doubts import noise_parts
from deploy.report.answer.records import (
    Answer,
    BackendAnswer,
    Checked,
    NoiseGrade,
    ScoreChange,
    Sizes,
    Verdict,
)
from deploy.report.answer.wishes import wishes_of
from deploy.report.formatting import (
    NOTHING,
    difference_unit,
    duration,
    rate,
    ratio,
    score_name,
    score_number,
    score_unit,
    size,
)

__all__ = ["answer_lines", "hanging"]

_MISSED = {"target": "bold red", "max drop": "bold yellow"}

_WORDS: dict[Verdict, tuple[str, str]] = {
    "faster": ("FASTER", "bold green"),
    "slower": ("SLOWER", "bold red"),
    "equivalent": ("NO DIFFERENCE", "bold yellow"),
    "inconclusive": ("INCONCLUSIVE", "bold yellow"),
    "measured": ("", ""),
    "wrong": ("WRONG", "bold red"),
    "failed": ("FAILED", "bold red"),
    "skipped": ("SKIPPED", "bold yellow"),
}
_COLOURS = {"ok": "green", "fell": "yellow", "fell to chance": "bold red", "at chance": "bold red"}
_GRADES = {"LOW": "green", "MODERATE": "yellow", "HIGH": "bold red"}
_ENDINGS = {
    exit_codes.OK: "bold green",
    exit_codes.INCONCLUSIVE: "bold yellow",
    exit_codes.TARGET_NOT_REACHED: "bold yellow",
}
_INDENT = "  "
_FACT = 11
"""Width of the name of a fact, in columns."""
_GAP = "  "
_BAR = range(6, 31)
"""Allowed lengths of a bar; with less room there are none."""


def answer_lines(answer: Answer, width: int, page: str = "", *, verbose: bool = False) -> list[Text]:
    """Write the answer.

    Parameters
    ----------
    answer : Answer
        Answer of one results file.
    width : int
        Columns of the terminal; no line is wider or has trailing blanks.
    page : str, optional
        Path of the page.
    verbose : bool, default=False
        Whether tables follow, with all caveats numbered.
    """
    rows = list(_rows(answer, width))
    facts = [*_facts(answer, verbose=verbose)]
    lost = answer.scores is not None and answer.scores.lost
    ending = Text(
        printable(f"exit {answer.ending.code}: {answer.ending.sentence}"),
        "bold red" if lost else _ENDINGS.get(answer.ending.code, "bold red"),
    )
    edge = min(width, max(map(_width, rows), default=0))
    lines = [*_heading(answer, width, edge), Text(), *rows, Text()]
    for name, text in facts:
        lines += hanging(Text(f"{_INDENT}{name:<{_FACT}}"), text, width)
    lines += _pointers(answer, width, page)
    lines += hanging(Text(), ending, width)
    if answer.ending.remedy:
        lines += hanging(Text(f"{_INDENT}{'to do':<{_FACT}}"), _plain(answer.ending.remedy), width)
    for line in lines:
        line.rstrip()
    return lines


def _heading(answer: Answer, width: int, edge: int) -> Iterator[Text]:
    """Yield subject and machine, on one line if both fit, the machine right-aligned with the rows."""
    subject, machine = _plain(answer.subject), _plain(answer.machine)
    needed = _width(subject) + 3 + _width(machine)
    if needed > width:
        yield from hanging(Text(), subject, width, style="bold")
        yield from hanging(Text(_INDENT), machine, width)
        return
    gap = max(edge - _width(subject) - _width(machine), 3)
    subject.stylize("bold")
    yield subject + Text(" " * gap) + machine


def _rows(answer: Answer, width: int) -> Iterator[Text]:
    timed = [row for row in answer.backends if row.speedup is not None]
    names = max((cell_len(printable(row.place)) for row in answer.backends), default=0)
    words = max((len(_WORDS[row.verdict][0]) for row in answer.backends), default=0)
    promises = {row.promised for row in timed}
    alike = len(promises) == 1
    cells = {id(row): _cells(row, promise=not alike) for row in timed}
    widths = [max(map(len, column)) for column in zip(*cells.values(), strict=True)] if cells else []
    head = len(_INDENT) + (words + len(_GAP) if words else 0) + names + len(_GAP)
    fixed = head + sum(widths) + len(_GAP) * len(widths)
    bar = min(width - fixed, _BAR[-1])
    scale = max([row.speedup.value for row in timed if row.speedup] + [one for one in promises if one], default=1.0)
    for row in answer.backends:
        opening = _opening(row, words, names)
        if row.speedup is None or id(row) not in cells:
            yield from hanging(opening, _untimed(row), width)
            continue
        shown = [cell.ljust(size) for cell, size in zip(cells[id(row)], widths, strict=True)]
        if fixed - len(_GAP) > width:
            yield from hanging(opening, Text(_GAP.join(map(str.strip, shown))), width)
            continue
        line = opening + Text(_GAP.join(shown))
        if bar in _BAR:
            line += Text(_GAP + _bar(row.speedup.value, row.promised, scale, bar))
        yield line
        if row.reason and answer.ending.code != exit_codes.INCONCLUSIVE:
            yield from hanging(Text(" " * head), _plain(row.reason), width)
    if timed and alike:
        yield from _promised(timed[0].promised, fixed, bar, scale, width)


def _opening(row: BackendAnswer, words: int, names: int) -> Text:
    word, style = _WORDS[row.verdict]
    place = printable(row.place)
    opening = Text(_INDENT)
    if words:
        opening += Text(word, style) + Text(" " * (words - len(word)) + _GAP)
    return opening + Text(place + " " * (names - cell_len(place)) + _GAP)


def _cells(row: BackendAnswer, *, promise: bool) -> tuple[str, ...]:
    """Return factor, interval, times, and the promise if it differs between rows."""
    if row.speedup is None or row.baseline is None or row.candidate is None:
        return ("", "", "", *([""] if promise else []))
    interval = f"[{row.speedup.low:.2f} - {row.speedup.high:.2f}]"
    times = _ends(duration(row.baseline.p50_ns), duration(row.candidate.p50_ns))
    promised = [NOTHING if row.promised is None else f"promised {ratio(row.promised)}"] if promise else []
    return (ratio(row.speedup.value), interval, times, *promised)


def _untimed(row: BackendAnswer) -> Text:
    """Return the times of a single model, or why there are none."""
    if row.verdict != "measured" or row.candidate is None:
        return _plain("; ".join(part for part in (row.reason, row.hint) if part))
    told = row.candidate
    tail = ("p99", told.p99_ns) if told.p99_ns is not None or told.p90_ns is None else ("p90", told.p90_ns)
    return Text(
        f"p50 {duration(told.p50_ns)}   {tail[0]} {NOTHING if tail[1] is None else duration(tail[1])}   "
        f"{rate(told.per_second)} examples/s   peak memory {size(told.peak_bytes)}"
    )


def _bar(value: float, promised: float | None, scale: float, length: int) -> str:
    full = round(value / scale * length)
    whole = full if promised is None else max(full, round(promised / scale * length))
    return "#" * full + "-" * (whole - full)


def _promised(promised: float | None, fixed: int, bar: int, scale: float, width: int) -> Iterator[Text]:
    """Yield the line below the times with the speed-up that FLOPs promised."""
    if promised is None:
        words = "FLOPs cannot be compared"
    elif round(promised, 2) == 1:
        words = "FLOPs stayed the same"
    else:
        words = f"promised {ratio(promised)}" if promised > 1 else f"FLOPs ROSE {ratio(1 / promised)}"
    line = words.rjust(min(fixed - len(_GAP), width))
    drawn = promised is not None and promised > 1 and bar in _BAR
    yield Text(line + (_GAP + "#" * round(promised / scale * bar) if drawn and promised else ""))


def _facts(answer: Answer, *, verbose: bool) -> Iterator[tuple[str, Text]]:
    if answer.scores is not None:
        yield score_name(answer.scores.metric), _score(answer.scores)
        for backend, score in answer.scores.on_backends:
            metric = answer.scores.metric
            yield "", _plain(f"on {backend}: {score_number(metric, score)} {score_unit(metric)}")
    for wish in wishes_of(answer):
        style = "green" if wish.met else _MISSED[wish.name]
        yield wish.name, _plain(f"{wish.words}   ") + Text(wish.verdict, style)
    yield "answers", _checked(answer.checked)
    sizes = _sizes(answer.size)
    if answer.memory is not None and answer.is_pair:
        where = f" ({answer.memory_place})" if len(answer.backends) > 1 else ""
        sizes += f"    peak memory {_sizes(answer.memory, factor=False)}{where}"
    yield "size", _plain(sizes)
    yield "noise", _noise(answer, verbose=verbose)
    for note in answer.notes:
        yield "note", _plain(note)
    others = [doubt for doubt in answer.doubts if not doubt.noise]
    if others and not verbose:
        more = f"; and {len(others) - 1} more" if len(others) > 1 else ""
        yield "caveats", _plain(f"{others[0].words}{more}  (-v)")


def _score(scores: ScoreChange) -> Text:
    metric = scores.metric
    after = NOTHING if scores.after is None else score_number(metric, scores.after)
    before = "" if scores.before is None else f"{score_number(metric, scores.before)} -> "
    text = f"{before}{after} {score_unit(metric)}"
    if scores.change is not None:
        text += f"   {score_number(metric, scores.change, signed=True)} {difference_unit(metric)}"
    if scores.n_examples:
        text += f" ({scores.n_examples} examples)"
    verdict = scores.verdict if scores.verdict == "ok" else scores.verdict.upper()
    return Text(f"{text}   ") + Text(verdict, _COLOURS.get(scores.verdict, ""))


def _checked(checked: Checked) -> Text:
    parts = []
    if checked.right:
        many = {1: f"on {checked.right[0]}", 2: "on both"}.get(len(checked.right), f"on all {len(checked.right)}")
        if checked.wrong or checked.unchecked:
            many = f"on {', '.join(checked.right)}"
        parts.append(f"right {many}, checked before timing")
    if checked.unchecked:
        parts.append(f"not checked on {', '.join(checked.unchecked)}")
    text = _plain("; ".join(parts))
    if checked.wrong:
        return Text(f"WRONG: {printable(', '.join(checked.wrong))}{'; ' if parts else ''}", "bold red") + text
    return text + Text("   ok", "green") if not checked.unchecked else text


def _noise(answer: Answer, *, verbose: bool) -> Text:
    noise: NoiseGrade = answer.noise
    if noise.grade is None:
        return Text("not known: nobody looked")
    parts = noise_parts(answer)
    grade = Text(noise.grade, _GRADES[noise.grade])
    text = grade + Text(f": {', '.join(parts)}" if parts else "")
    if noise.signs:
        marks = "[1]" if noise.signs == 1 else f"[1-{noise.signs}]"
        text += Text(f"  ({noise.signs} sign{'s' * (noise.signs > 1)}{f' {marks}' if verbose else '; -v'})")
    return text


def _sizes(sizes: Sizes, *, factor: bool = True) -> str:
    if sizes.before is None:
        return size(sizes.after)
    change = f" ({ratio(sizes.ratio)})" if factor and sizes.ratio is not None else ""
    return f"{_ends(size(sizes.before), size(sizes.after))}{change}"


def _ends(before: str, after: str) -> str:
    """Write a change, with a shared unit once: ``"211 -> 184 us"``."""
    number, _, unit = before.rpartition(" ")
    return f"{number if unit == after.rpartition(' ')[2] else before} -> {after}"


def _pointers(answer: Answer, width: int, page: str) -> Iterator[Text]:
    """Yield what to look at next, on one line if it fits."""
    why = f"{_INDENT}why not {answer.short_of:.3g}x?  {printable(answer.explain)}" if answer.explain else ""
    where = f"page  {printable(page)}" if page else ""
    together = f"{why or _INDENT}{'     ' if why and where else ''}{where}"
    if not (why or where):
        return
    if cell_len(together) <= width:
        yield Text(together)
        return
    for part in (why.strip(), where):
        if part:
            yield from hanging(Text(_INDENT), Text(part), width)


def hanging(opening: Text, text: Text, width: int, style: str = "") -> Iterator[Text]:
    """Yield a paragraph after its opening, with a hanging indent, or one of four columns if little room is left.

    Parameters
    ----------
    opening, text : Text
        Start of the first line, and the paragraph.
    width : int
        Columns; no line is wider.
    style : str, optional
        Style of the paragraph.
    """
    indent = _width(opening)
    if style:
        text.stylize(style)
    if indent + 20 > width:
        yield from _folded(opening, width)
        opening, indent = Text(" " * 4), 4
    for index, line in enumerate(_folded(text, width - indent)):
        yield (opening if index == 0 else Text(" " * indent)) + line


def _folded(text: Text, width: int) -> Sequence[Text]:
    return list(text.wrap(Console(width=width), width, overflow="fold")) if _width(text) > width else [text]


def _width(text: Text) -> int:
    return cell_len(text.plain)


def _plain(words: str) -> Text:
    return Text(printable(words))
