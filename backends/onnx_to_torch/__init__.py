"""An ONNX graph run by torch.

`convert` turns each `node` into calls by the table of `operators`; `kernels` are what torch lacks, `sizes` is
arithmetic on shapes.
"""

__all__: list[str] = []
