"""Pictures as SVG: `svg` writes the elements, `axes` maps values to places, `labels` finds room for words.

`plots` and `bars` draw measurements.
"""

__all__: list[str] = []
