"""Python API and command line of prune-deploy: measure, export and bundle networks.

    import deploy
    results = deploy.bench("pruned.onnx", against="dense.onnx", backends=("ort", "openvino"))

The names exported here are all that a script or a notebook needs (docs/python.md); each is imported on first use.

Subpackages: `sources` and `networks` provide networks and data; `exporting` and `plans` turn them into `bundles`;
`tables` say what widths cost; `run` goes from a recipe to `results`, and `studies` compares many of them. `report`
shows results, `cli` holds the commands, `files` writes files.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deploy.errors import DeployError

if TYPE_CHECKING:
    from benchmarks.layers.comparison import LayerReport
    from deploy.bundles.bundle import Bundle
    from deploy.bundles.of_pruned import bundle
    from deploy.exporting.export import export_onnx as export
    from deploy.results.calls import bench, compare, layers, load_results
    from deploy.results.results import Results

__all__ = [
    "Bundle",
    "DeployError",
    "LayerReport",
    "Results",
    "bench",
    "bundle",
    "compare",
    "export",
    "layers",
    "load_results",
]

_WHERE = {
    "Bundle": "deploy.bundles.bundle:Bundle",
    "LayerReport": "benchmarks.layers.comparison:LayerReport",
    "Results": "deploy.results.results:Results",
    "bench": "deploy.results.calls:bench",
    "bundle": "deploy.bundles.of_pruned:bundle",
    "compare": "deploy.results.calls:compare",
    "export": "deploy.exporting.export:export_onnx",
    "layers": "deploy.results.calls:layers",
    "load_results": "deploy.results.calls:load_results",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    globals()[name] = found = getattr(import_module(module), attribute)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
