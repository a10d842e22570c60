"""The place of a page that a command writes; all else on the page stays."""

from __future__ import annotations

import pytest

from deploy.errors import OutputError
from deploy.report.markdown import require_block, write_block


def test_a_block_of_a_page_is_replaced_and_the_rest_stays(tmp_path):
    page = tmp_path / "page.md"
    before = "before, between `<!-- measured: begin -->` and `<!-- measured: end -->`\n"
    page.write_text(f"{before}<!-- measured: begin -->\nold\n<!-- measured: end -->\nafter\n")
    write_block(page, "measured", "new\n")
    assert page.read_text() == f"{before}<!-- measured: begin -->\n\nnew\n\n<!-- measured: end -->\nafter\n"
    write_block(tmp_path / "fresh.md", "measured", "new")
    require_block(tmp_path / "fresh.md", "measured")


def test_a_page_without_the_place_is_refused_and_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n")
    for touch in (lambda: require_block(page, "measured"), lambda: write_block(page, "measured", "new")):
        with pytest.raises(OutputError, match="no place for the table"):
            touch()
    assert page.read_text() == "# Title\n"
