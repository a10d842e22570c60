"""What runs on a board: it answers one request of a connection (`agent`), and starts, follows and ends `jobs`.

Of our packages it loads none that is heavy: it answers while something is measured beside it.
"""

__all__: list[str] = []
