"""``--on`` of the commands that measure, and ``deploy boards``: what was put on other machines."""

__all__: list[str] = []
