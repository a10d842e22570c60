"""Export a torch network to a checked ONNX file.

`export` chains `capture`, `fold_constants`, `drop_empty_scatter`, `fold_batch_norm`, `onnx_names` and `onnx_check`;
`export_info` is what it records. `agreement` compares a file's answers with torch's and `backend_score` scores them,
with a model that `inference` runs in another process.
"""

__all__: list[str] = []
