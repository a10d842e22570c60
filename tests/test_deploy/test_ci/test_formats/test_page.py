"""The page of a check: the verdict first, the numbers of the report, and names that stay text."""

from __future__ import annotations

import re

import pytest

from deploy.ci.formats.page import check_page
from tests.test_deploy.test_ci.test_formats import reports


def text_of(page):
    return " ".join(re.sub("<[^>]*>", " ", page.partition("<main>")[2]).split())


def test_verdict_and_numbers_of_the_report_stand_on_it(results):
    text = text_of(check_page(reports.report(*reports.MIXED.rows, results={"classifier": results})))
    assert text.startswith("vision 3 of 7 limits kept; 1 not checked, 1 broken")
    assert "(exit code 2: not checked: slower of tracker on ort, 1 thread)" in text
    assert "5.2 % [4.9, 5.6] broken" in text
    assert "at most 3 % slower than the baseline; 5.2 % slower (4.9 to 5.6 %); to do: keep the baseline" in text
    assert text.index("tracker on ort") < text.index("5.2 % slower") < text.index("6.21 ms [6.10, 6.40] kept")
    assert "ort got 1.58x [1.50, 1.62] faster" in text
    assert f"commit {reports.SHA}" in text


def test_a_bar_shows_how_near_the_limit_is():
    [drawn] = re.findall(r'<svg class="bar".*?</svg>', check_page(reports.report()), re.DOTALL)
    widths = {kind: float(width) for width, kind in re.findall(r'width="([0-9.]+)%"[^>]*class="(aim|amount)', drawn)}
    assert widths["amount"] / widths["aim"] == pytest.approx(6.214 / 8, abs=1e-3)


def test_every_part_has_a_name_of_its_own(results):
    page = check_page(reports.report(*reports.MIXED.rows, results={"classifier": results, "detector": results}))
    names = re.findall(r' id="([^"]+)"', page)
    assert len(names) == len(set(names)) > 10


def test_names_are_text():
    evil = "<script>alert(1)</script>\x1b[2J"
    odd = dict.fromkeys(("model", "place", "statement", "reason", "remedy"), evil)
    page = check_page(reports.report(reports.row("broken", **odd), title=evil, check_file=evil))
    assert "<script>" not in page
    assert "\x1b" not in page


def test_nothing_is_fetched():
    assert not re.search(r"(?:src|href)=|url\(|@import", check_page(reports.MIXED))
