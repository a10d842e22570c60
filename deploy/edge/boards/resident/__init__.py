"""The part that runs on a board: answers one request per connection (`agent`), and starts, follows and ends `jobs`.

It loads none of our heavy packages, since it answers while a measurement runs beside it.
"""

__all__: list[str] = []
