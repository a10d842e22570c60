"""The subset of SVG that plots need: escaped elements and whole pictures. Output is deterministic."""

from __future__ import annotations

from html import escape

from deploy.files.printable import printable

__all__ = ["element", "line", "number", "picture", "polyline", "text"]


def number(value: float) -> str:
    """Write a coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def element(name: str, *children: str, **attributes: str | float) -> str:
    """Make an element; ``stroke_width`` becomes ``stroke-width``, ``class_`` becomes ``class``.

    Parameters
    ----------
    name : str
        Name of the element.
    *children : str
        Finished markup.
    **attributes : str or float
        Text is escaped here.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{number(value) if isinstance(value, float | int) else escape(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{''.join(children)}</{name}>"


def line(x1: float, y1: float, x2: float, y2: float, class_: str, **attributes: str | float) -> str:
    """Draw a line between two points."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_, **attributes)


def text(x: float, y: float, words: str, **attributes: str | float) -> str:
    """Write words at a point."""
    return element("text", escape(printable(words)), x=x, y=y, **attributes)


def polyline(points: list[tuple[float, float]], class_: str) -> str:
    """Draw a line through points."""
    return element("polyline", points=" ".join(f"{number(x)},{number(y)}" for x, y in points), class_=class_)


def picture(
    name: str, title: str, description: str, width: float, height: float, *children: str, **attributes: str | float
) -> str:
    """Return a whole picture that scales with the page and has a description for screen readers.

    Parameters
    ----------
    name : str
        Identifier that is unique on the page.
    title, description : str
        What it is, and what it shows.
    width, height : float
        Size of its coordinate system.
    *children : str
        Finished markup.
    **attributes : str or float
        Further attributes of the ``svg`` element.
    """
    return element(
        "svg",
        element("title", escape(printable(title)), id=f"{name}-title"),
        element("desc", escape(printable(description)), id=f"{name}-desc"),
        *children,
        viewBox=f"0 0 {number(width)} {number(height)}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        **attributes,
    )
