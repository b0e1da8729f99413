"""Weights of 8 bits have 7 where the target's kernels would saturate, and the machine at hand proves which do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from nas_edge import Context, InvalidCandidate, Target, int8_saturates
from nas_edge.contracts import Split
from nas_edge.export import accuracy, export_onnx, hits, logits, session
from nas_edge.export.exact_int8 import needs_exact_sums, saturates_here
from nas_edge.targets.local import LocalTarget
from nas_edge_plugins.qat import Qat, QatConfig
from nas_edge_plugins.quantize import Quantize, QuantizeConfig
from nas_edge_plugins.quantize.graphs import copied

from .quantize_kit import initializers
from .toys import CHANNELS, CLASSES, SIDE, inputs, toy

OLD_X86 = {"architecture": "x86_64", "instruction_sets": ["sse4_1", "avx", "avx2", "fma", "avx512f", "avx512bw"]}


@dataclass
class Board(Target):
    """A device that has only a fingerprint."""

    about: dict[str, Any]
    name: str = "board"

    def fingerprint(self) -> dict[str, Any]:
        return self.about


class Bright(nn.Module):
    """Sums of the brightest inputs times weights of the largest size: where products saturate, these do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, 16, 3, bias=False)
        self.head = nn.Linear(16, CLASSES)
        nn.init.constant_(self.conv.weight, 0.5)
        nn.init.eye_(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(torch.relu(self.conv(x)).mean((2, 3)))
        return found


def int8(model: nn.Module, context: Context, **config: Any) -> onnx.ModelProto:
    """Calibrated on white images."""
    graph = export_onnx(model.eval(), channels=CHANNELS, resolution=SIDE)
    data = context.data
    white = replace(data, train=Split(torch.full_like(data.train.images, 255), data.train.labels))
    return Quantize().graph(graph, QuantizeConfig(32, "minmax", **config), replace(context, data=white))


def bright_int8(context: Context, target: Target, **config: Any) -> onnx.ModelProto:
    return int8(Bright(), replace(context, target=target), **config)


WHITE = np.ones((1, CHANNELS, SIDE, SIDE), np.float32)


def test_the_rule_holds_on_the_machine_at_hand(context: Context) -> None:
    """Eight bits go wrong here just where the rule says so, and never in a session of exact products."""
    here = LocalTarget()
    whole = bright_int8(context, here, reduce_range=False)
    exact = logits(session(whole), WHITE)
    np.testing.assert_allclose(exact[0, 0], 0.5 * 9 * CHANNELS, rtol=0.02)
    as_it_runs = logits(session(whole, exact_int8=False), WHITE)
    wrong = bool(as_it_runs[0, 0] < 0.8 * exact[0, 0])
    about = here.fingerprint()
    assert int8_saturates(about) == wrong if about["instruction_sets"] else int8_saturates(about) >= wrong


def test_seven_bits_saturate_nowhere(context: Context) -> None:
    reduced = bright_int8(context, Board(OLD_X86))
    for exact in (True, False):
        found = logits(session(reduced, exact_int8=exact), WHITE)
        np.testing.assert_allclose(found[0, 0], 0.5 * 9 * CHANNELS, rtol=0.02)


def largest_code(graph: onnx.ModelProto) -> int:
    return max(int(np.abs(v.astype(np.int16)).max()) for v in initializers(graph).values() if v.dtype == np.int8)


@pytest.mark.parametrize("scheme", ["static", "dynamic"])
@pytest.mark.parametrize(
    ("chosen", "target", "code"),
    [
        (None, OLD_X86, 63),
        (None, {"architecture": "aarch64"}, 127),
        (False, OLD_X86, 127),
        (True, {"architecture": "aarch64"}, 63),
    ],
)
def test_the_target_decides_unless_it_is_chosen(
    scheme: str, chosen: bool | None, target: dict[str, Any], code: int, context: Context
) -> None:
    made = bright_int8(context, Board(target), scheme=scheme, reduce_range=chosen)
    assert largest_code(made) == code
    noted = [note for note in context.notes if "7 of the weights' 8 bits" in note]
    assert len(noted) == (code == 63)
    assert any("may saturate on the target" in note for note in noted) == (chosen is None and code == 63)


@pytest.mark.parametrize(
    ("config", "needed"),
    [
        ({"reduce_range": False}, True),
        ({"reduce_range": False, "scheme": "dynamic"}, True),
        ({"reduce_range": True}, False),
        ({"weight_bits": 5}, False),
        ({"scheme": "int16"}, False),
        ({"scheme": "float16"}, False),
    ],
)
def test_which_files_saturate_is_seen(config: dict[str, Any], needed: bool, context: Context, tmp_path: Path) -> None:
    made = bright_int8(context, Board(OLD_X86), **config)
    onnx.save_model(made, tmp_path / "made.onnx")
    assert needs_exact_sums(tmp_path / "made.onnx") == needed
    if not needed:
        whole, exact = (logits(session(made, exact_int8=exact), WHITE) for exact in (False, True))
        np.testing.assert_allclose(whole, exact, rtol=0.02)


def test_fewer_bits_and_sixteen_bit_activations_are_left_alone(context: Context) -> None:
    assert largest_code(bright_int8(context, Board(OLD_X86), scheme="int16")) == 127
    assert largest_code(bright_int8(context, Board(OLD_X86), weight_bits=5)) == 15
    assert not any("saturate" in note for note in context.notes)


@pytest.mark.parametrize(("target", "code"), [(OLD_X86, 63), ({"architecture": "aarch64"}, 127)])
def test_training_learns_the_grid_that_the_target_runs(target: dict[str, Any], code: int, context: Context) -> None:
    context = replace(context, target=Board(target))
    config = QatConfig(calibration_images=32)
    prepared = Qat().structure(toy("plain"), config, context)
    graph = export_onnx(Qat().finalize(prepared.eval(), config, context), channels=CHANNELS, resolution=SIDE)
    assert largest_code(graph) == code
    x = inputs().numpy()
    assert sum("may saturate" in note for note in context.notes) == (code == 63)
    if code == 63:
        np.testing.assert_allclose(logits(session(graph, exact_int8=False), x), logits(session(graph), x), atol=1e-4)


@pytest.mark.parametrize("scheme", ["int16", "int4", "float16"])
def test_schemes_that_are_computed_in_float_have_no_range_to_reduce(scheme: str) -> None:
    with pytest.raises(InvalidCandidate, match=f"quantize: reduce_range=True must be left out with scheme='{scheme}'"):
        QuantizeConfig(scheme=scheme, reduce_range=True)


def test_accuracy_is_that_of_the_targets_arithmetic(context: Context) -> None:
    """What saturates here does not count for a target where it would not: white is right by exact sums alone."""
    model = Bright()
    nn.init.zeros_(model.head.bias)
    with torch.no_grad():  # class 1 has small weights, whose sums fit, and a bias between the two sums of class 0
        model.conv.weight[1] = 0.1
        model.head.bias[1] = 0.28 * 9 * CHANNELS
    whole = int8(model, context, reduce_range=False, granularity="tensor")
    images = Split(torch.full((4, CHANNELS, SIDE, SIDE), 255, dtype=torch.uint8), torch.zeros(4, dtype=torch.long))
    assert accuracy(whole, images, Board({"architecture": "aarch64"})) == 1
    wrong_here = saturates_here() and bool(LocalTarget().fingerprint()["instruction_sets"])
    for target in (Board(OLD_X86), None):
        assert hits(whole, images, target).all() == (not wrong_here)


def test_layers_that_share_a_weight_are_computed_exactly_too(context: Context) -> None:
    class Twice(Bright):
        def __init__(self) -> None:
            super().__init__()
            self.again = nn.Conv2d(16, 16, 1, bias=False)
            nn.init.constant_(self.again.weight, 1 / 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.head(self.again(self.again(torch.relu(self.conv(x)))).mean((2, 3)))
            return found

    made = int8(Twice(), context, min_sqnr_db=10.0)
    assert max(Counter(name for node in made.graph.node for name in node.input if name).values()) > 1
    for each in (made, shared_dequantizers(made)):
        found = logits(session(each), WHITE)
        np.testing.assert_allclose(found[0, 0], 0.5 * 9 * CHANNELS, rtol=0.02)


def shared_dequantizers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with one node for all that dequantize the same constants."""
    copy = copied(model)
    first: dict[tuple[str, ...], str] = {}
    renamed: dict[str, str] = {}
    for node in list(copy.graph.node):
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.op_type == "DequantizeLinear":
            kept = first.setdefault(tuple(node.input), node.output[0])
            if kept != node.output[0]:
                renamed[node.output[0]] = kept
                copy.graph.node.remove(node)
    assert renamed
    return copy
