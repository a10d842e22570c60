"""Transfer what plans keep from one network to another.

`stages` finds the parts of a network that correspond, `transfer` makes a plan from the shares that other plans keep.
"""

__all__: list[str] = []
