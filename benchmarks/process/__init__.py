"""Child processes: how any child of ours is started, asked and ended, and what the measured one does.

`child` is the parent's half and `serving` the child's, over a `channel`; `waiting` tells a watcher that
an answer is still waited for. `measured` and `worker` are the halves of a measured process; it warms up (`warmup`),
records its memory (`memory`) and may compile cold.
"""

__all__: list[str] = []
