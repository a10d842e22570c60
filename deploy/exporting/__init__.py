"""From a torch network to a checked ONNX file.

`export` chains `capture`, `fold_constants`, `drop_empty_scatter`, `fold_batch_norm`, `onnx_names` and `onnx_check`;
`export_info` is what it records. `agreement` and `backend_score` compare answers with torch's, by a model that
`inference` runs elsewhere.
"""

__all__: list[str] = []
