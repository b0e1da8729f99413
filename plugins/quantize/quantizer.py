"""From a float graph to a quantized one: what is prepared, what stays in float, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from nas_edge import InvalidCandidate

from ..compact import compact
from .bias import CORRECTION_IMAGES, correct_biases
from .calibrate import Calibration
from .dynamic import Dynamic
from .equalize import equalize
from .float16 import store_halved
from .graphs import BIASED, FOLLOWING, INT4_OPSET, WEIGHTED, prepared, quantizable
from .int4 import Int4
from .sensitivity import RANKING_IMAGES, how_many, ranked, ranked_by_weights
from .static import Static

if TYPE_CHECKING:
    from . import QuantizeConfig

Scheme = Static | Dynamic | Int4
NO_ARITHMETIC = {"QuantizeLinear", "DequantizeLinear", "Constant", "Shape", "Gather", "Slice", "Cast", "Identity"}
NAMES = {"static": "int8", "int16": "int8 with 16-bit activations", "dynamic": "dynamic int8", "int4": "4-bit blocks"}


def quantize_model(
    model: onnx.ModelProto, config: QuantizeConfig, images: Calibration, *, trained: bool = True
) -> tuple[onnx.ModelProto, str]:
    """A quantized copy, and what was done in words.

    The copy takes and gives what the model does, at any batch size. In a network that was not `trained`, layers are
    ranked by their weights, no more of them are kept in float for the sake of `min_sqnr_db`, and no bias is corrected.
    Raises `InvalidCandidate` where no layer can be quantized.
    """
    if config.scheme == "float16":
        halved, report = store_halved(model)
        compact(halved, model)
        return halved, report
    newer = config.scheme in ("int16", "int4") or config.weight_bits <= 4
    work = prepared(model, opset=INT4_OPSET if newer else 0, biases=config.bias_correction)
    nodes = [n.name for n in quantizable(work.graph)]
    layers = [n.name for n in quantizable(work.graph) if n.op_type in WEIGHTED]
    if not layers:
        raise InvalidCandidate("quantize: the ONNX file holds no layer with constant weights; leave quantize out")
    said = [equalize(work)] if config.equalize else []

    scheme = _scheme(work, config, images, nodes)
    left, why = _float_layers(work, config, scheme, nodes, layers, images, trained)
    nodes = [n for n in nodes if n not in left]
    if config.bias_correction and trained:
        work = correct_biases(work, scheme.rewrite(work, nodes), images.first(CORRECTION_IMAGES))
        said.append(f"corrected the biases of {sum(n.op_type in BIASED for n in work.graph.node)} layers")
    quantized = scheme.rewrite(work, nodes)
    said = [_report(work, config, nodes), scheme.how_it_runs(), why, *said]
    _restore(quantized, model)
    compact(quantized, model)
    return quantized, "; ".join(text for text in said if text)


def _scheme(model: onnx.ModelProto, config: QuantizeConfig, images: Calibration, nodes: list[str]) -> Scheme:
    if config.scheme == "dynamic":
        return Dynamic(config)
    if config.scheme == "int4":
        return Int4(config)
    return Static.calibrated(model, config, images, nodes)


def _float_layers(
    model: onnx.ModelProto,
    config: QuantizeConfig,
    scheme: Scheme,
    nodes: list[str],
    layers: list[str],
    images: Calibration,
    trained: bool,
) -> tuple[set[str], str]:
    """The layers that stay in float, and why in words."""
    if not config.float_layers and not config.min_sqnr_db:
        return set(), ""
    images = images.first(RANKING_IMAGES)
    bits = 4 if config.scheme == "int4" else config.weight_bits
    order = ranked(model, layers, scheme.rewrite, images) if trained else ranked_by_weights(model, layers, bits)
    count, reached = min(config.float_layers, len(layers) - 1), ""
    if config.min_sqnr_db and trained:
        names = [name for name, _ in order]
        needed, found = how_many(model, names, nodes, scheme.rewrite, images, config.min_sqnr_db)
        count = max(count, needed)
        reached = f" for {found:.1f} dB of the logits" if needed else ""
    if count >= len(layers):
        raise InvalidCandidate(
            f"quantize: min_sqnr_db={config.min_sqnr_db:g} is not reached with any of the {len(layers)} layers "
            f"quantized; lower it, or use more weight_bits"
        )
    worst = order[:count]
    said = ", ".join(f"{name} ({db:.1f} dB alone)" for name, db in worst)
    return {name for name, _ in worst}, f"kept in float{reached}: {said}" if worst else ""


def _report(model: onnx.ModelProto, config: QuantizeConfig, names: list[str]) -> str:
    chosen = [n for n in model.graph.node if n.name in set(names)]
    layers = sum(n.op_type in WEIGHTED for n in chosen)
    others = len(chosen) - layers if config.scheme in ("static", "int16") else 0
    left = sorted({n.op_type for n in model.graph.node} - WEIGHTED - FOLLOWING - NO_ARITHMETIC)
    counted = f"{layers} layers" + (f" and {others} other operators" if others else "")
    return f"quantized {counted} to {NAMES[config.scheme]}" + (f", in float: {', '.join(left)}" if left else "")


def _restore(quantized: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """What the model says of itself stays as it was; the shapes inside, needed for the rewriting alone, go."""
    del quantized.graph.value_info[:]
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(original.metadata_props)
    quantized.producer_name, quantized.producer_version = original.producer_name, original.producer_version
