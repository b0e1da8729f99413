"""Low rank: layers become chains that compute the same at full rank, and shrink with what is asked of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from nas_edge import Context, InvalidCandidate
from nas_edge.export import export_onnx
from nas_edge_plugins.low_rank import LowRank, LowRankConfig
from nas_edge_plugins.low_rank.layers import is_matrix

from .low_rank_toys import drawn, on_images
from .toys import CHANNELS, CLASSES, SIDE, TOYS, inputs, parameter_count, toy

METHODS = ("spatial", "tucker2", "cp", "auto")


@pytest.mark.parametrize("kind", ["linear", "pointwise", "strided pointwise", "padded pointwise"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_matrix_of_low_rank_keeps_its_function(kind: str, bias: bool, context: Context) -> None:
    layer: nn.Linear | nn.Conv2d = nn.Linear(32, 48, bias=bias)
    if kind != "linear":
        layer = nn.Conv2d(32, 48, 1, 2 if "strided" in kind else 1, 1 if "padded" in kind else 0, bias=bias)
    with torch.no_grad():
        layer.weight.copy_((drawn(48, 3) @ drawn(3, 32)).reshape(layer.weight.shape) / 10)
    model = on_images(layer)
    factored = LowRank().structure(model, LowRankConfig(0.999999, 1), context)
    torch.testing.assert_close(factored(inputs()), model(inputs()), atol=1e-5, rtol=1e-5)
    assert parameter_count(factored) == parameter_count(model) - 32 * 48 + 3 * (32 + 48)
    assert context.notes == ["factored 1 of 1 linear and pointwise layers"]


def decaying(model: nn.Module) -> nn.Module:
    """The model with matrices as training leaves them: each singular value 0.7 of the one before."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and is_matrix(layer):
            left, values, right = torch.linalg.svd(layer.weight.detach().flatten(1), full_matrices=False)
            values = 2 * 0.7 ** torch.arange(len(values))
            with torch.no_grad():
                layer.weight.copy_((left * values @ right).reshape(layer.weight.shape))
    return model


def test_parameters_and_bytes_fall_with_the_energy(context: Context) -> None:
    model = decaying(toy("inverted_residual"))
    sizes = []
    for energy in (0.99, 0.9, 0.6):
        factored = LowRank().structure(model, LowRankConfig(energy, 1), context)
        sizes.append((parameter_count(factored), export_onnx(factored, channels=CHANNELS, resolution=SIDE).ByteSize()))
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3
    assert sizes[0][0] < parameter_count(model)


@pytest.mark.parametrize("name", TOYS)
def test_the_difference_shrinks_as_energy_grows(name: str, context: Context) -> None:
    model = decaying(toy(name)).eval()
    errors = []
    for energy in (0.5, 0.8, 0.95):
        factored = LowRank().structure(model, LowRankConfig(energy, 1), context)
        errors.append((factored(inputs()) - model(inputs())).norm().item())
    assert errors[0] > errors[1] > errors[2]


def test_a_layer_that_would_grow_is_left_alone_and_named(context: Context) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * SIDE * SIDE, 16), nn.ReLU(), nn.Linear(16, CLASSES))
    factored = LowRank().structure(model, LowRankConfig(0.99, 8), context)
    assert parameter_count(factored) == parameter_count(model)
    assert context.notes == [
        "factored 0 of 2 linear and pointwise layers; left alone, for their factors would be as large: 1, 3"
    ]


def test_a_layer_with_fewer_weights_but_more_multiply_adds_is_left_alone(context: Context) -> None:
    """The 1 x 1 convolution before a core of stride 2 works on four times as many pixels."""
    layer = nn.Conv2d(8, 8, 2, 2, bias=False)
    with torch.no_grad():  # of rank 6 in its inputs alone: 8 * 6 + 6 * 8 * 4 = 240 of 256 weights, but
        mixed = torch.einsum("osyx,is->oiyx", drawn(8, 6, 2, 2), drawn(8, 6))  # 4 * 48 + 192 = 384 of 256 MACs a pixel
        layer.weight.copy_(mixed)
    config = LowRankConfig(0.99999, 1, "tucker2")
    model = on_images(layer)
    assert repr(LowRank().structure(model, config, context)) == repr(model)
    layer.stride = (1, 1)
    factored = LowRank().structure(on_images(layer), config, context)
    assert parameter_count(factored) == parameter_count(model) - 256 + 240


class Special(nn.Linear):
    """Its owner may read the weight."""


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("method", ["svd", *METHODS])
def test_only_plain_layers_are_factored(method: str, context: Context) -> None:
    layers = [
        nn.Conv2d(CHANNELS, 32, 1, groups=1, padding=1, padding_mode="reflect"),
        nn.Conv2d(32, 32, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(32, 32, 3, groups=32),
        nn.Conv2d(32, 32, 3, groups=2),
        nn.Conv2d(32, 32, 2, padding="same"),  # a column more on one side than on the other
        nn.Conv2d(32, 32, 1, groups=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        Special(32, CLASSES),
    ]
    model = nn.Sequential(*layers).eval()
    factored = LowRank().structure(model, LowRankConfig(0.1, 1, method), context)
    assert repr(factored) == repr(model)
    assert torch.equal(factored(inputs()), model(inputs()))
    assert context.notes[0].startswith("factored 0 of 0 ")


def test_layers_that_their_owner_reads_are_left_alone(context: Context) -> None:
    class Encoder(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            out: torch.Tensor = self[1](self[0](tokens).mean(1))
            return out

    encoder = nn.TransformerEncoderLayer(CHANNELS, 1, 64, batch_first=True)
    model = Encoder(encoder, nn.Linear(CHANNELS, CLASSES)).eval()
    factored = LowRank().structure(model, LowRankConfig(0.1, 1), context)
    assert context.notes == ["factored 1 of 1 linear and pointwise layers"]
    assert type(factored.get_submodule("0.linear1")) is nn.Linear
    with torch.no_grad():
        assert factored(inputs()).shape == (8, CLASSES)


def test_a_layer_with_two_names_is_one(context: Context) -> None:
    shared = nn.Conv2d(16, 16, 1)
    model = nn.Sequential(nn.Conv2d(CHANNELS, 16, 1), shared, nn.ReLU(), shared, nn.Flatten(), nn.LazyLinear(CLASSES))
    model(inputs())
    factored = LowRank().structure(model, LowRankConfig(0.3, 1), context)
    assert isinstance(factored, nn.Sequential)
    assert factored[1] is factored[3]
    assert isinstance(factored[1], nn.Sequential)
    assert "of 3 linear" in context.notes[0]


@pytest.mark.parametrize("method", METHODS)
def test_marks_modes_and_types_stay(method: str, context: Context) -> None:
    convolution = nn.Conv2d(CHANNELS, 32, 3, padding=1).requires_grad_(False)
    convolution.nas_edge_keep_channels = True  # type: ignore[assignment]
    model = on_images(convolution).double()
    factored = LowRank().structure(model, LowRankConfig(0.3, 1, method), replace(context, notes=[]))
    chain = factored.get_submodule("1")
    *first, last = chain.children()
    assert chain.nas_edge_keep_channels
    assert last.nas_edge_keep_channels
    assert not any(hasattr(part, "nas_edge_keep_channels") for part in first)
    assert all(part.training for part in chain.modules())
    assert last.out_channels == 32
    assert {(p.requires_grad, p.dtype) for p in chain.parameters()} == {(False, torch.float64)}
    assert not factored.eval().get_submodule("1.0").training


def test_marks_and_modes_of_matrices_stay(context: Context) -> None:
    model = toy("self_attention")
    model.get_submodule("1.3.query").requires_grad_(False)
    factored = LowRank().structure(model, LowRankConfig(0.5, 1), context)
    query = factored.get_submodule("1.3.query")
    first, second = query.children()
    assert query.nas_edge_keep_channels
    assert second.nas_edge_keep_channels
    assert query.training
    assert second.out_channels == 32
    assert not any(p.requires_grad for p in query.parameters())
    assert parameter_count(first) + parameter_count(second) < 32 * 33


@pytest.mark.parametrize("method", METHODS)
def test_two_runs_with_one_seed_give_the_same_file(method: str, context: Context) -> None:
    model = toy("spatial_attention")
    config = LowRankConfig(0.6, 4, method)
    files = set()
    for outside in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(outside)
            factored = LowRank().structure(model, config, context)
        files.add(export_onnx(factored, channels=CHANNELS, resolution=SIDE).SerializeToString(deterministic=True))
    assert len(files) == 1


@pytest.mark.parametrize("method", ["svd", "spatial", "cp"])  # Tucker-2 divides the ratio by the weights
def test_the_quick_pass_has_the_shapes_of_the_ratio(method: str, context: Context) -> None:
    """Where ranks follow from the shapes, the network before training is the one that is trained."""
    config = LowRankConfig(rank_multiple=4, method=method, rank_by="ratio")
    trained = LowRank().structure(toy("plain"), config, context)
    quick = LowRank().structure(toy("plain"), config, replace(context, trained=False))
    assert repr(quick) == repr(trained)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("energy", 1.0),
        ("energy", 0),
        ("rank_multiple", 0),
        ("rank_multiple", 4.0),
        ("method", "qr"),
        ("rank_by", "size"),
        ("ratio", 1.0),
        ("ratio", 0.0),
        ("ratio", "half"),
        ("faster_by", 1.0),
        ("faster_by", 0),
        ("cp_kernel", "3x3"),
        ("check_latency", "yes"),
    ],
)
def test_a_bad_config_is_refused(field: str, value: object) -> None:
    with pytest.raises(InvalidCandidate) as caught:
        LowRank().config_from_json({field: value})
    message = str(caught.value)
    assert message.startswith(f"low_rank: {field}={value!r} must be ")
    assert "; try " in message or "; use " in message
