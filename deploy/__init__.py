"""The command line, the pipeline and the report: the only package that knows the other three.

`sources` and `networks` become `bundles` by `exporting` and `plans`; `tables` say what widths cost; `run` goes
from a recipe to `results`, and `studies` asks many at once. `report` shows them, `cli` holds the commands, `files`
writes.
"""

from deploy.errors import DeployError

__all__ = ["DeployError"]
