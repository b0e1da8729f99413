"""Weight codes in the ONNX file: how they are packed, that they unpack to what was trained, and how large they are."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from nas_edge import Context
from nas_edge.export import check_parity, export_onnx, logits, save_model, session
from nas_edge.latency.graph import kernels_of
from nas_edge_plugins.weight_codes import CODES, WeightCodes, WeightCodesConfig
from nas_edge_plugins.weight_codes.layers import CodedLayer, load_codes, save_codes, without_unused
from nas_edge_plugins.weight_codes.onnx_file import find_weights, pack_weights
from nas_edge_plugins.weight_codes.packing import densest

from .toys import CHANNELS, SIDE, TOYS, conv, head, inputs, toy

Array = npt.NDArray[np.float32]
UNPACKING = {"Cast", "MatMul", "Div", "Mod", "Reshape", "Gather", "Split", "Mul"}


def exported(model: nn.Module) -> onnx.ModelProto:
    return export_onnx(model.eval(), channels=CHANNELS, resolution=SIDE)


def made(
    model: nn.Module, config: WeightCodesConfig, context: Context, samples: int = 0
) -> tuple[nn.Module, onnx.ModelProto, onnx.ModelProto]:
    """The plain network, its float file and the packed one."""
    technique = WeightCodes()
    coded = technique.structure(model, config, context)
    if samples:
        coded = context.trainer.fit(coded, samples=samples)
    plain = technique.finalize(coded.eval(), config, context)
    graph = exported(plain)
    return plain, graph, technique.graph(graph, config, context)


def unpacked(model: onnx.ModelProto) -> list[Array]:
    """The constant weights that layers are given, in the layers' order, as ONNX Runtime computes them."""
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    readers = [n for n in model.graph.node if n.op_type in {"Conv", "Gemm"} or (n.op_type == "MatMul" and n.name)]
    computed = {name for n in model.graph.node for name in n.output} - set(constants)
    wanted = [n.input[1] for n in readers]
    opened = copy.deepcopy(model)
    del opened.graph.output[:]
    names = [name for name in dict.fromkeys(wanted) if name in computed]
    opened.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    if names:
        values = session(opened).run(names, {"input": inputs(1).numpy()})
        constants |= dict(zip(names, values, strict=True))
    return [constants[name] for name in wanted]


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256])
@pytest.mark.parametrize("count", [1, 23, 1000])
def test_packed_integers_come_back(levels: int, count: int) -> None:
    """By Python's own integers: each word is a number in that base."""
    values = np.random.default_rng(levels).integers(0, levels, count)
    packing = densest(levels)
    found: list[int] = []
    for word in packing.pack(values):
        number = int.from_bytes(word.tobytes(), "little")
        for _ in range(packing.digits):
            number, digit = divmod(number, levels)
            found.append(digit)
        assert number == 0
    assert found[:count] == values.tolist()
    assert not any(found[count:])
    assert packing.pack(values).nbytes == packing.size_bytes(count)


def test_integers_are_packed_densely() -> None:
    bits = {levels: densest(levels).bits for levels in range(2, 257)}
    assert all(bits[2**b] == b for b in range(1, 9))
    assert bits[3] == 1.6
    assert all(math.log2(n) <= b <= math.ceil(math.log2(n)) for n, b in bits.items())
    assert bits[7] < 2.84


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("code", CODES)
def test_the_file_computes_what_was_trained(name: str, code: str, context: Context) -> None:
    """Logits of the packed file against the float file and torch, and every weight against the float file's."""
    config = WeightCodesConfig(code, 3 if code in ("uniform", "codebook", "logarithmic") else None, depthwise="coded")
    plain, graph, packed = made(toy(name), config, context, samples=64)
    x = inputs().numpy()
    expected, found = logits(session(graph), x), logits(session(packed), x)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())
    assert check_parity(plain, packed, inputs(), 1e-4) < 1e-4
    weights, originals = unpacked(packed), unpacked(graph)
    assert len(weights) == len(originals)
    for weight, original in zip(weights, originals, strict=True):
        np.testing.assert_allclose(weight, original, atol=1e-6 * float(np.abs(original).max()))
    onnx.checker.check_model(packed, full_check=True)
    assert packed.ByteSize() < graph.ByteSize()


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_weights_in_the_file_are_codes_times_the_folded_normalisation(granularity: str, context: Context) -> None:
    """Export folds batch normalisation into a convolution: each channel of codes is scaled by gamma / deviation."""
    config = WeightCodesConfig("codebook", 2, granularity=granularity)
    plain, _, packed = made(toy("plain"), config, context, samples=64)
    layers = {layer.name: layer for layer in load_codes(context.work_dir)}
    convolutions = ["1.0", "1.3", "1.6"]
    for name, found in zip(convolutions, unpacked(packed), strict=False):
        conv_name, _, place = name.rpartition(".")
        layer, norm = plain.get_submodule(name), plain.get_submodule(f"{conv_name}.{int(place) + 1}")
        assert isinstance(layer, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None
        gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        folded = (layer.weight.double() * gain.view(-1, 1, 1, 1)).detach().numpy()
        np.testing.assert_allclose(found, folded, atol=1e-6 * float(np.abs(folded).max()))
        codes = layers[name]
        scaled = found / (gain.detach().numpy() * codes.units).reshape(-1, 1, 1, 1)
        assert len(np.unique(np.round(scaled, 4))) == len(codes.levels) == 4
        if granularity == "tensor":
            assert len(set(codes.units.tolist())) == 1


@pytest.mark.parametrize(
    ("config", "levels"),
    [
        (WeightCodesConfig("uniform", 2), 3),
        (WeightCodesConfig("uniform", 4), 15),
        (WeightCodesConfig("codebook", 4), 16),
        (WeightCodesConfig("logarithmic", 3), 7),
        (WeightCodesConfig("ternary", ends="coded"), 3),
        (WeightCodesConfig("trained_ternary", ends="coded"), 3),
        (WeightCodesConfig("binary", ends="coded"), 2),
    ],
    ids=lambda c: c.code if isinstance(c, WeightCodesConfig) else str(c),
)
def test_levels_in_the_file(config: WeightCodesConfig, levels: int, context: Context) -> None:
    """A channel of a weight has at most as many values, one has them all, and a table holds them where it must."""
    _, _, packed = made(toy("plain"), config, context)
    counts = [len(np.unique(channel)) for weight in unpacked(packed) for channel in weight.reshape(len(weight), -1)]
    assert max(counts) == levels
    tables = [i for i in packed.graph.initializer if i.data_type == onnx.TensorProto.FLOAT and len(i.dims) == 1]
    consecutive = config.code in ("uniform", "ternary")  # computed by an addition
    assert (levels in {i.dims[0] for i in tables}) != consecutive
    codes = [i for i in packed.graph.initializer if i.data_type == onnx.TensorProto.UINT8]
    assert len(codes) == 1


def large() -> nn.Module:
    """300,000 weights, with normalisations that differ from channel to channel."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [*conv(CHANNELS, 64, stride=2), nn.ReLU(), *conv(64, 128, stride=2), nn.ReLU()]
        model = nn.Sequential(*layers, *conv(128, 200), nn.ReLU(), *head(200))
        for norm in (m for m in model if isinstance(m, nn.BatchNorm2d)):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
    return model


@pytest.mark.parametrize(
    ("code", "bits", "packed_bits"),
    [
        ("uniform", 8, 8.0),
        ("uniform", 3, 48 / 17),  # seven levels: seventeen of them in six bytes
        ("codebook", 5, 5.0),
        ("codebook", 4, 4.0),
        ("logarithmic", 4, 4.0),
        ("ternary", None, 1.6),
        ("binary", None, 1.0),
    ],
)
def test_the_file_is_as_small_as_its_codes(code: str, bits: int | None, packed_bits: float, context: Context) -> None:
    """Codes at their bits, 8 bytes a channel (factor and bias), and 3 KB for operators, shapes and levels."""
    config = WeightCodesConfig(code, bits, ends="coded")
    plain, graph, packed = made(large(), config, context)
    weights = sum(m.weight.numel() for m in plain.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    channels = sum(len(m.weight) for m in plain.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    assert weights > 300_000
    expected = weights * packed_bits / 8 + 8 * channels
    save_model(packed, context.work_dir / "packed.onnx")
    size = (context.work_dir / "packed.onnx").stat().st_size
    assert expected < size < expected + 3000
    assert size < 1.08 * weights * packed_bits / 8 + 2500
    assert f"at {packed_bits:.2f} bits" in context.notes[-1]
    assert f"{packed.ByteSize():,} bytes instead of {graph.ByteSize():,}" in context.notes[-1]


def test_onnxruntime_unpacks_at_load(context: Context, tmp_path: Path) -> None:
    """The network that runs has the operators of the float file's, and the latency model sees the same kernels."""
    _, graph, packed = made(toy("inverted_residual"), WeightCodesConfig("codebook", 4), context)
    operators = []
    for name, model in (("float", graph), ("packed", packed)):
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(tmp_path / name)
        options.log_severity_level = 4
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        operators.append([n.op_type for n in onnx.load_model(tmp_path / name).graph.node])
    assert operators[0] == operators[1]
    of_float, of_packed = kernels_of(graph), kernels_of(packed)
    assert not of_packed.unsupported
    assert [(k.kind, k.macs, k.features) for k in of_packed.kernels] == [
        (k.kind, k.macs, k.features) for k in of_float.kernels
    ]


def test_the_graph_is_untouched_and_keeps_its_interface(context: Context) -> None:
    config = WeightCodesConfig("uniform", 4)
    plain = WeightCodes().finalize(WeightCodes().structure(toy("self_attention"), config, context), config, context)
    graph = onnx.helper.make_model(
        exported(plain).graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.helper.set_model_props(graph, {"kept": "yes"})
    content = graph.SerializeToString()
    packed = WeightCodes().graph(graph, config, context)
    assert graph.SerializeToString() == content
    assert packed.graph.input == graph.graph.input
    assert packed.graph.output == graph.graph.output
    assert packed.metadata_props == graph.metadata_props
    assert packed.opset_import == graph.opset_import
    names = {n.name for n in packed.graph.node if n.name}
    assert names == {n.name for n in graph.graph.node}
    for count in (1, 7):  # any batch size
        assert logits(session(packed), inputs(count).numpy()).shape == (count, 5)


def test_transposed_weights_are_found(context: Context) -> None:
    """A linear layer on sequences is exported as a product with its weight transposed."""

    class OnPositions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(*conv(CHANNELS, 32, stride=4), nn.ReLU())
            self.mix = nn.Linear(32, 32)
            self.head = nn.Linear(32, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(self.mix(self.stem(x).flatten(2).transpose(1, 2)).relu().mean(1))
            return out

    torch.manual_seed(0)
    for config in (WeightCodesConfig("uniform", 4), WeightCodesConfig("codebook", 3), WeightCodesConfig("ternary")):
        _, graph, packed = made(OnPositions(), config, context)
        assert any(n.op_type == "MatMul" for n in graph.graph.node)
        assert "of 3 layers" in context.notes[-1] or config.code == "ternary"
        expected = logits(session(graph), inputs().numpy())
        np.testing.assert_allclose(logits(session(packed), inputs().numpy()), expected, atol=1e-6)
        constants = {i.name for i in packed.graph.initializer}
        product = next(n for n in packed.graph.node if n.op_type == "MatMul" and n.name)
        assert product.input[1] not in constants


@pytest.mark.parametrize("code", CODES)
def test_one_seed_gives_one_file(code: str, context: Context) -> None:
    config = WeightCodesConfig(code=code, initialisation="kmeans++")
    first, second = (made(toy("depthwise"), config, context, samples=64)[2] for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_weights_that_are_not_the_codes_stay_in_float(context: Context) -> None:
    plain, _, packed = made(toy("plain"), WeightCodesConfig("codebook", 3), context)
    changed = copy.deepcopy(plain)
    layer = changed.get_submodule("1.3")
    assert isinstance(layer, nn.Conv2d)
    with torch.no_grad():
        layer.weight[0, 0] += 0.01
    graph = exported(changed)
    larger = WeightCodes().graph(graph, WeightCodesConfig("codebook", 3), context)
    assert context.notes[-1].endswith("left in float, for the file has other weights there: 1.3")
    assert larger.ByteSize() > packed.ByteSize() + 3 * layer.weight.numel()
    expected = logits(session(graph), inputs().numpy())
    np.testing.assert_allclose(logits(session(larger), inputs().numpy()), expected, atol=1e-5)


def test_a_factor_for_each_channel_is_found(context: Context) -> None:
    """Also a negative one, or 0."""
    plain, graph, _ = made(toy("plain"), WeightCodesConfig("codebook", 3), context)
    layers = load_codes(context.work_dir)
    scaled = copy.deepcopy(plain)
    layer = scaled.get_submodule("1.3")
    assert isinstance(layer, nn.Conv2d)
    gains = torch.arange(48.0) - 10
    with torch.no_grad():
        layer.weight.mul_(gains.view(-1, 1, 1, 1))
    (before, _), (after, missing) = (find_weights(g.graph, layers) for g in (graph, exported(scaled)))
    assert not missing
    for old, new in zip(before, after, strict=True):
        gain = gains.numpy() if len(new.factors) == 48 else 1.0
        np.testing.assert_allclose(new.factors, old.factors * gain, rtol=1e-6)


def test_equal_weights_that_are_written_once_are_found(context: Context) -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(CHANNELS, 32, 3), nn.Conv2d(CHANNELS, 32, 3)
            self.two.load_state_dict(self.one.state_dict())
            self.head = nn.Linear(32, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head((self.one(x).relu() + self.two(x).tanh()).mean((2, 3)))
            return out

    torch.manual_seed(0)
    _, graph, packed = made(Twins(), WeightCodesConfig("codebook", 3), context)
    assert sum(len(i.dims) == 4 for i in graph.graph.initializer) == 1
    assert "other weights" not in context.notes[-1]
    expected = logits(session(graph), inputs().numpy())
    np.testing.assert_allclose(logits(session(packed), inputs().numpy()), expected, atol=1e-6)


def test_a_network_without_codes_is_left_as_it_is(context: Context) -> None:
    plain = WeightCodes().finalize(toy("plain"), WeightCodesConfig(), context)
    graph = exported(plain)
    assert WeightCodes().graph(graph, WeightCodesConfig(), context) is graph
    assert "no coded weights" in context.notes[-1]


def test_codes_are_kept_exactly(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    index = draw.integers(0, 5, (4, 3, 3, 3)).astype(np.uint8)
    layers = [
        CodedLayer("a.0", index, draw.normal(size=5).astype(np.float32), draw.random(4).astype(np.float32)),
        CodedLayer("b", index[:, :, 0, 0], np.arange(5, dtype=np.float32), np.ones(4, np.float32)),
    ]
    save_codes(layers, tmp_path)
    for kept, layer in zip(load_codes(tmp_path), layers, strict=True):
        assert kept.name == layer.name
        assert np.array_equal(kept.weight, layer.weight)
        assert kept.index.dtype == np.uint8


def test_levels_that_no_weight_has_are_dropped_where_that_is_smaller() -> None:
    """10,000 weights take 2,000 bytes at three levels and 1,250 at two; at 255 levels a byte, and half of it at 16."""
    draw, units = np.random.default_rng(0), np.array([1, 2], dtype=np.float32)
    signs, integers = np.array([-1, 0, 1], np.float32), np.arange(255, dtype=np.float32)
    binary = CodedLayer("x", 2 * draw.integers(0, 2, (2, 5000)).astype(np.uint8), signs, units)
    few = CodedLayer("x", 15 * draw.integers(0, 16, (2, 5000)).astype(np.uint8), integers, units)
    for layer, levels in ((binary, [-1, 1]), (few, list(range(0, 240, 15)))):
        smaller = without_unused(layer)
        assert smaller.levels.tolist() == levels
        assert np.array_equal(smaller.weight, layer.weight)
    small = CodedLayer("x", binary.index[:, :500], signs, units)
    many = CodedLayer("x", draw.integers(0, 200, (2, 5000)).astype(np.uint8), integers, units)
    for layer in (small, many):
        assert without_unused(layer) is layer


def test_equal_factors_go_to_the_levels() -> None:
    index = np.random.default_rng(0).integers(0, 4, (8, 20)).astype(np.uint8)
    layer = CodedLayer("x", index, np.array([-2, -0.5, 0.25, 3], np.float32), np.full(8, 0.5, np.float32))
    weight = numpy_helper.from_array(layer.weight, "weight")
    node = onnx.helper.make_node("MatMul", ["input", "weight"], ["logits"], name="product")
    (taken, given) = (
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, s]) for n, s in (("input", 8), ("logits", 20))
    )
    graph = onnx.helper.make_graph([node], "network", [taken], [given], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    packed, _ = pack_weights(model, [layer])
    assert {n.op_type for n in packed.graph.node} <= UNPACKING - {"Mul"}
    x = np.eye(8, dtype=np.float32)[3:4]
    assert np.array_equal(session(packed).run(None, {"input": x})[0], layer.weight[3:4])
