"""Convert an ONNX graph to torch code.

`convert` turns each `node` into torch calls using the table in `operators`; `kernels` holds operators torch lacks,
`sizes` arithmetic on shapes.
"""

__all__: list[str] = []
