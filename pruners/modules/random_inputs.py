"""Random inputs as a plan describes them, or like those of an example."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pruners.errors import PlanError
from pruners.modules.calls import NetworkCall, filled
from pruners.plan import InputSpec, PruningPlan

__all__ = ["planned_call", "random_call", "random_inputs", "spec_of"]


def random_call(
    like: NetworkCall, *, batch: int | None = None, seed: int = 0, device: torch.device | str = "cpu"
) -> NetworkCall:
    """Draw the tensors of a call anew; what is no tensor stays.

    Parameters
    ----------
    like : NetworkCall
        Gives shapes and dtypes.
    batch, seed, device
        As `random_inputs` takes them.
    """
    drawn = iter(random_inputs([spec_of(item) for item in like.tensors], batch=batch, seed=seed, device=device))
    return like.map(lambda _: next(drawn))


def planned_call(plan: PruningPlan, *, device: torch.device | str = "cpu") -> NetworkCall:
    """Draw a call as a plan describes it.

    Raises
    ------
    PlanError
        The plan does not say how the network is called.
    """
    return filled(plan.call, random_inputs(plan.inputs, device=device))


def spec_of(tensor: Tensor) -> InputSpec:
    """Return shape and dtype of a tensor."""
    return InputSpec(shape=tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))


def random_inputs(
    specs: Sequence[InputSpec], *, batch: int | None = None, seed: int = 0, device: torch.device | str = "cpu"
) -> tuple[Tensor, ...]:
    """Draw one call's inputs: normal numbers, and 0 or 1 for integers and truth values.

    Parameters
    ----------
    batch : int, optional
        Replaces the first axis of every input; default as described.

    Returns
    -------
    tuple of Tensor
        Of the shapes and dtypes of `specs`.

    Raises
    ------
    PlanError
        A dtype is not torch's.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for spec in specs:
        dtype = getattr(torch, spec.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise PlanError(f"input dtype {spec.dtype!r} is not a torch dtype; write it like 'float32'")
        shape = spec.shape if batch is None else (batch, *spec.shape[1:])
        if dtype.is_floating_point or dtype.is_complex:
            drawn.append(torch.randn(shape, generator=generator).to(dtype).to(device))
        else:
            drawn.append(torch.randint(0, 2, shape, generator=generator).to(dtype).to(device))
    return tuple(drawn)
