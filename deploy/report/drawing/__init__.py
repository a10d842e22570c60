"""Pictures as SVG: `svg` writes the elements, `axes` maps values to places, `plots` draws measurements."""

__all__: list[str] = []
