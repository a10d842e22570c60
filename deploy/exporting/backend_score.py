"""Score an ONNX file on a data set under a backend. Imports no torch until it scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import PositiveInt

from backends.base import CompileOptions
from benchmarks.records.base import Record
from deploy.errors import ExportError
from deploy.exporting.inference import compiled_elsewhere
from deploy.sources.metric import Metric

if TYPE_CHECKING:
    from torch.utils.data import Dataset

__all__ = ["BackendScore", "score_on_backend"]


class BackendScore(Record):
    """Mean score of a compiled model over examples: accuracy in [0, 1], or PSNR in dB."""

    metric: Metric
    score: float
    n: PositiveInt


def score_on_backend(
    path: Path,
    backend: str,
    options: CompileOptions | None,
    data: Dataset[Any],
    *,
    metric: Metric = "accuracy",
    batch_size: int = 64,
    timeout_s: float = 3600.0,
) -> BackendScore:
    """Score the answers of an ONNX file on `data` under a backend.

    The examples are streamed to the process that holds the model: neither side keeps the data set.

    Parameters
    ----------
    path : Path
        ONNX file with one input; the first output holds a score for each class, or an image.
    backend : str
        Name in `backends.registry`.
    options : CompileOptions or None
        None: fp32, one thread, CPU.
    data : Dataset
        Pairs of an input without batch axis and its target: the index of its class, or an image in [0, 1].
    metric : {"accuracy", "psnr"}
        Must fit the targets; see `pruners.recover.losses.score_each`.
    batch_size : int, default=64
        Used if the batch dimension is free; otherwise the fixed size is used, and the last batch filled up.
    timeout_s : float, default=3600.0
        Seconds for compiling, and for each batch.

    Raises
    ------
    ExportError
        The file does not return class scores, or finite images, for such examples, or there are none.
    BackendError
        The backend cannot compile or run the file.
    """
    import torch
    from torch.utils.data import DataLoader

    from pruners.recover.losses import score_each

    total, n = 0.0, 0
    rank, wanted = (2, "a row of scores an example") if metric == "accuracy" else (4, "an image an example")
    with compiled_elsewhere(path, backend, options, timeout_s=timeout_s) as remote:
        if len(remote.inputs) != 1:
            raise ExportError(f"{path} has {len(remote.inputs)} inputs; {metric} needs one image input")
        image, output = remote.inputs[0].name, remote.outputs[0]
        if len(output.shape) != rank:
            raise ExportError(f"{path}: output {output.name!r} is {output}; {metric} needs {wanted}")
        size = remote.fixed_batch or batch_size
        loader: DataLoader[Any] = DataLoader(data, batch_size=size)
        for images, targets in loader:
            batch = images[torch.arange(size).clamp(max=len(images) - 1)]  # the last one is filled up
            answers = remote.run({image: batch.numpy()})[output.name][: len(targets)]
            total += float(score_each(metric, torch.from_numpy(np.array(answers, np.float32)), targets).sum())
            n += len(targets)
    if not n:
        raise ExportError("the data set is empty: there is no score")
    if not math.isfinite(total):
        raise ExportError(f"{path} returns images with values that are not finite under {backend}, so it has no PSNR")
    return BackendScore(metric=metric, score=total / n, n=n)
