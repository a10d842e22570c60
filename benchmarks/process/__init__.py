"""Child processes: start, query and end them, and run the measured one.

`child` is the parent's half and `serving` the child's, over a `channel`; `waiting` keeps a progress display updated
during a wait. `measured` and `worker` are the halves of a measured process; it warms up (`warmup`), records its memory
(`memory`) and may compile cold.
"""

__all__: list[str] = []
