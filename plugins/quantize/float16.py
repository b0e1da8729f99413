"""Weights stored in 16-bit floats, computed with in 32 bits."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from .graphs import copied, set_values, values_of

LARGEST = float(np.finfo(np.float16).max)
SMALLEST_VALUES = 16  # a constant of fewer is not worth the operator that reads it


def store_halved(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """A copy whose float constants are stored in 16 bits, each behind a Cast that ONNX Runtime computes on loading.

    IEEE 754's binary16: the nearest of 11 significant bits, so that the relative error is at most 2^-11 from 6.1e-5 to
    65504; larger values are cut, smaller ones lose digits. Times are those of float32.
    """
    copy = copied(model)
    halved = []
    for constant in copy.graph.initializer:
        if constant.data_type == TensorProto.FLOAT and np.prod(constant.dims) >= SMALLEST_VALUES:
            values = np.clip(values_of(constant), -LARGEST, LARGEST).astype(np.float16)
            name = constant.name
            constant.name = f"{name}.half"
            set_values(constant, values)
            halved.append(helper.make_node("Cast", [constant.name], [name], to=TensorProto.FLOAT))
    nodes = [*halved, *copied(model).graph.node]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy, f"stored {len(halved)} constants as float16, computed in float32"
