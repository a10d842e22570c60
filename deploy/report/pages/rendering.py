"""Pages from templates: one self-contained HTML file, without scripts or external resources."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from deploy.files.printable import printable
from deploy.report.table import MARK

__all__ = ["render"]


def render(template: str, **context: Any) -> str:
    """Fill a template of the folder ``templates``; text is escaped unless it is `Markup`.

    Control characters and those that reverse text direction are written as their codes.

    Parameters
    ----------
    template : str
        Name of the file.
    **context : Any
        Values of the names in the template.
    """
    environment = Environment(
        loader=PackageLoader("deploy.report.pages"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["unbroken"] = _unbroken
    return printable(environment.get_template(template).render(context), "\n\t")


def _shown(value: object) -> object:
    """Keep text on one line; leave markup unchanged."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value)


def _unbroken(cell: str) -> Markup:
    """Keep a footnote reference on one line."""
    cell = printable(cell)
    mark = MARK.search(cell)
    if mark is None:
        return escape(cell)
    return Markup('{}<span class="unbroken">{}</span>').format(cell[: mark.start()], mark.group())
