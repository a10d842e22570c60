"""The summary in Markdown: what GitHub and GitLab show of it, and nothing that names could make of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from deploy.ci.formats.comment import comment_body, mark_of
from deploy.ci.formats.markdown import inline, markdown_summary
from tests.test_deploy.test_ci.test_formats import reports

RENDERER = MarkdownIt("commonmark").enable("table")
EVIL = (
    "a|b",
    "`x`",
    "**x**",
    "<img src=x onerror=alert(1)>",
    "</details>",
    "-->",
    "@everyone",
    "see #1 and !2",
    "a\n\n/close",
    "[x](javascript:alert(1))",
    "![x](https://example.com/x.png)",
    "$a$ and $b$",
    "https://example.com",
    "~~x~~",
    "_x_",
    "&lt;b&gt;",
    "\x1b[2J",
    "# x",
)


def tags(text):
    """Return what a renderer makes of Markdown: the kinds of its elements, in order."""
    return [
        token.type
        for block in RENDERER.parse(text)
        for token in (block, *(block.children or ()))
        if token.type != "text"
    ]


def words(text):
    """Return what is read of one paragraph, as a person sees it."""
    [_, body, _] = RENDERER.parse(text)
    shown = "".join(token.content for token in body.children if token.type in {"text", "text_special"})
    return shown.replace("\u200b", "")


def test_it_is_as_in_the_golden_file(golden):
    golden("mixed.md", markdown_summary(reports.MIXED))
    golden("passing.md", markdown_summary(reports.PASSING))


def test_the_verdict_is_the_heading_and_the_table_has_what_is_not_kept():
    text = markdown_summary(reports.MIXED)
    assert text.startswith("## \N{CROSS MARK} deploy check: 3 of 7 limits kept; 1 not checked, 1 broken")
    open_part = text.partition("<details>")[0]
    assert open_part.count("\n| ") == 2 + 4
    for row in reports.MIXED.rows:
        assert (inline(row.statement) in open_part) or row.verdict == "kept"
    assert "\n3 limits kept" in text.replace("<summary>", "\n")
    assert text.count("<details>") == text.count("</details>") == 2
    assert markdown_summary(reports.PASSING).startswith("## \N{WHITE HEAVY CHECK MARK} deploy check: all 3 limits kept")
    warned = markdown_summary(reports.report(reports.row(), reports.UNDECIDED))
    assert warned.startswith("## \N{WARNING SIGN}")


def test_doubts_of_each_model_are_folded(results):
    text = markdown_summary(reports.report(results={"classifier": results}))
    assert "<summary>1 caveat</summary>" in text
    assert "\n- classifier: " in text


@pytest.mark.parametrize("name", EVIL)
def test_names_are_shown_as_they_are(name):
    odd = dict.fromkeys(("model", "place", "limit", "statement", "reason", "remedy"), name)
    plain = dict.fromkeys(odd, "plain")
    rows = (reports.row("broken", **odd), reports.row(**odd))
    tame = (reports.row("broken", **plain), reports.row(**plain))
    text = markdown_summary(reports.report(*rows, title=name))
    expected = tags(markdown_summary(reports.report(*tame, title="plain")))
    # What hides a dollar from the renderer of formulas is an element, and the only one.
    ours = [tag for tag in tags(text) if tag not in {"html_inline", "text_special"}]
    assert ours == expected
    assert text.count("<span>$</span>") * 2 == tags(text).count("html_inline")
    assert not any(line.startswith("/") for line in text.splitlines())


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40))
def test_whatever_a_name_holds_it_stays_one_piece_of_text(name):
    found = [tag for tag in tags(f"x{inline(name)}x") if tag not in {"text_special", "html_inline"}]
    assert found == ["paragraph_open", "inline", "paragraph_close"]


@pytest.mark.parametrize("name", ["a|b", "`x` **y** _z_", "<b>&amp;</b>", "a@b #1 !2", "p99_ms", "50 % of 3.0"])
def test_it_reads_as_it_was_written(name):
    assert words(f"x{inline(name)}x") == f"x{name}x"


@pytest.mark.parametrize("name", ["@octocat", "x @team/all", "#12", "owner/name#3", "!7", "GH-9", "%1"])
def test_nobody_is_mentioned(name):
    assert "\u200b" in RENDERER.render(inline(name))


def many(n):
    return reports.report(*(reports.row("broken", model=f"model {index}") for index in range(n)), reports.row())


@pytest.mark.parametrize("most", [1500, 3000, 20_000])
def test_what_is_too_long_loses_whole_rows_and_says_so(most):
    report = many(200)
    text = markdown_summary(report, most)
    assert len(text.encode()) <= most
    shown = text.count("\n| model ")
    assert f"{200 - shown} more rows that are not kept" in text
    assert 0 <= shown < 200
    assert text.count("\n- **model ") == shown
    assert text.rstrip().endswith("Exit code 1: broken: p99\\_ms of model 0 on ort, 1 thread, and 199 more.")


def test_what_is_folded_goes_first(results):
    report = reports.report(*reports.MIXED.rows, results={"classifier": results})
    whole = markdown_summary(report)
    less = markdown_summary(report, len(whole.encode()) - 1)
    assert "Left out, as there is no room for it: the caveats." in less
    assert "<summary>3 limits kept</summary>" in less
    assert less.count("\n- **") == 4


def test_a_comment_begins_with_its_mark_and_fits():
    body = comment_body(many(2000))
    assert body.startswith(mark_of("vision") + "\n## ")
    assert len(body) < 65_536
    assert comment_body(many(1), "other").startswith(mark_of("other"))


@given(st.text(min_size=1), st.text(min_size=1))
def test_marks_are_comments_of_one_line_that_differ(one, other):
    mark = mark_of(one)
    assert mark.startswith("<!-- deploy-check: ")
    assert mark.count("--") == 2
    assert mark.count(">") == 1
    assert "\n" not in mark
    assert (mark_of(other) == mark) == (one == other)
