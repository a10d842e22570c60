"""SVG drawing: `svg` writes the elements, `axes` maps values to coordinates, `labels` places labels.

`plots` and `bars` draw measurements.
"""

__all__: list[str] = []
