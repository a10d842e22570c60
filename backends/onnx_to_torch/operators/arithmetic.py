"""Element-wise operators, activations, and reductions over axes."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx

from backends.onnx_to_torch import kernels
from backends.onnx_to_torch.node import Call, Value
from backends.onnx_to_torch.operators.table import Operator, OperatorTable

__all__ = ["TABLE"]

TABLE = OperatorTable()


def _elementwise(function: Callable[..., Any]) -> Operator:
    return lambda call: call.emit(function, *(call.tensor(index) for index in range(len(call.inputs))))


_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Add": torch.add,
    "And": torch.logical_and,
    "Asin": torch.asin,
    "Atan": torch.atan,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Div": kernels.divide,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "HardSwish": F.hardswish,
    "IsNaN": torch.isnan,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "Mish": F.mish,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "Pow": torch.pow,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
    "Where": torch.where,
    "Xor": torch.logical_xor,
}
TABLE.update({name: _elementwise(function) for name, function in _ELEMENTWISE.items()})


# --- activations ---------------------------------------------------------------------------------------------------


@TABLE.add("Clip")
def _clip(call: Call) -> Value:
    bounds: list[float | fx.Node | None] = []
    for index in (1, 2):
        constant = isinstance(call.inputs[index], np.ndarray) if call.has(index) else False
        bounds.append(call.constant(index).item() if constant else call.optional(index))
    low, high = bounds
    if low is None and high is None:
        return call.tensor(0)
    return call.emit(torch.clamp, call.tensor(0), low, high)


@TABLE.add("LeakyRelu")
def _leaky_relu(call: Call) -> Value:
    return call.emit(F.leaky_relu, call.tensor(0), call.attribute("alpha", 0.01))


@TABLE.add("PRelu")
def _prelu(call: Call) -> Value:
    return call.emit(kernels.parametric_relu, call.tensor(0), call.tensor(1))


@TABLE.add("Elu")
def _elu(call: Call) -> Value:
    return call.emit(F.elu, call.tensor(0), call.attribute("alpha", 1.0))


@TABLE.add("Celu")
def _celu(call: Call) -> Value:
    return call.emit(F.celu, call.tensor(0), call.attribute("alpha", 1.0))


@TABLE.add("Selu")
def _selu(call: Call) -> Value:
    if "alpha" in call.attributes or "gamma" in call.attributes:
        raise call.refuse("another alpha or gamma")
    return call.emit(F.selu, call.tensor(0))


@TABLE.add("ThresholdedRelu")
def _thresholded_relu(call: Call) -> Value:
    return call.emit(F.threshold, call.tensor(0), call.attribute("alpha", 1.0), 0.0)


@TABLE.add("HardSigmoid")
def _hard_sigmoid(call: Call) -> Value:
    alpha, beta = call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return call.emit(F.hardsigmoid, call.tensor(0))
    return call.emit(kernels.hard_sigmoid, call.tensor(0), alpha, beta)


@TABLE.add("Gelu")
def _gelu(call: Call) -> Value:
    return call.emit(F.gelu, call.tensor(0), approximate=call.attribute("approximate", "none"))


@TABLE.add("Swish")
def _swish(call: Call) -> Value:
    alpha = call.attribute("alpha", 1.0)
    if alpha != 1:
        raise call.refuse("another alpha")
    return call.emit(F.silu, call.tensor(0))


@TABLE.add("Softmax", "LogSoftmax")
def _softmax(call: Call) -> Value:
    function = F.softmax if call.op == "Softmax" else F.log_softmax
    return call.emit(function, call.tensor(0), call.attribute("axis", -1))


# --- reductions ----------------------------------------------------------------------------------------------------


@TABLE.add(
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
)
def _reduce(call: Call) -> Value:
    axes = call.static(1) if call.has(1) else call.attribute("axes")
    axes = list(axes) if axes is not None and len(axes) else None
    if axes is None and call.attribute("noop_with_empty_axes", 0):
        return call.tensor(0)
    keep = bool(call.attribute("keepdims", 1))
    if call.op == "ReduceMean" and axes is not None:
        return call.emit(torch.mean, call.tensor(0), axes, keep)
    return call.emit(kernels.reduce, call.tensor(0), call.op, axes, keep)


@TABLE.add("ArgMax", "ArgMin")
def _arg_extreme(call: Call) -> Value:
    if call.attribute("select_last_index", 0):
        raise call.refuse("select_last_index")
    function = torch.argmax if call.op == "ArgMax" else torch.argmin
    return call.emit(function, call.tensor(0), call.attribute("axis", 0), bool(call.attribute("keepdims", 1)))


@TABLE.add("TopK")
def _top_k(call: Call) -> tuple[Value, ...]:
    ordered = bool(call.attribute("sorted", 1))
    (k,) = call.ints(1)
    largest = bool(call.attribute("largest", 1))
    both = call.emit(kernels.top_k, call.tensor(0), k, call.attribute("axis", -1), largest, ordered)
    return call.emit(operator.getitem, both, 0), call.emit(operator.getitem, both, 1)


@TABLE.add("CumSum")
def _cumulative_sum(call: Call) -> Value:
    if call.attribute("exclusive", 0) or call.attribute("reverse", 0):
        raise call.refuse("exclusive or reverse sums")
    return call.emit(torch.cumsum, call.tensor(0), call.static(1)[0])


@TABLE.add("Max", "Min", "Sum", "Mean")
def _variadic(call: Call) -> Value:
    function = {"Max": torch.maximum, "Min": torch.minimum}.get(call.op, torch.add)
    total = call.tensor(0)
    for index in range(1, len(call.inputs)):
        total = call.emit(function, total, call.tensor(index))
    return call.emit(torch.div, total, len(call.inputs)) if call.op == "Mean" else total


@TABLE.add("Mod")
def _modulo(call: Call) -> Value:
    return call.emit(torch.fmod if call.attribute("fmod", 0) else torch.remainder, call.tensor(0), call.tensor(1))
