"""Unstructured pruning: which weights go, that they stay zero to the file, and what is said of them."""

from __future__ import annotations

import copy
import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from nas_edge import Context, InvalidCandidate, Objective, Split
from nas_edge.config import TrainConfig
from nas_edge.export import check_parity, export_onnx
from nas_edge.train.trainer import ImageTrainer
from nas_edge_plugins.parametrized import attach, bake, chain_of
from nas_edge_plugins.sparsify import Sparsify, SparsifyConfig
from nas_edge_plugins.sparsify.masks import masks_of
from nas_edge_plugins.sparsify.scores import draw_examples

from .toys import CHANNELS, CLASSES, SIDE, TOYS, inputs, toy

Array = npt.NDArray[np.float64]
POWER = {"abs": 1, "square": 2, "cube": 3}


def weights_of(model: nn.Module, depthwise: bool = False) -> dict[str, Array]:
    """The weights that may be removed, by layer, as float64."""
    return {
        name: layer.weight.detach().double().numpy()
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and (depthwise or getattr(layer, "groups", 1) == 1)
    }


def expected_removed(scores: Mapping[str, Array], config: SparsifyConfig) -> dict[str, npt.NDArray[np.bool_]]:
    """By cut-off values rather than by rank."""
    if config.scope == "relative":
        scores = {name: s / s.mean() for name, s in scores.items()}
    if config.mode == "threshold":
        removed = {name: s < config.threshold for name, s in scores.items()}
    else:
        together = np.concatenate([s.ravel() for s in scores.values()])
        cuts = {n: cut_off(s if config.scope == "layer" else together, config.sparsity) for n, s in scores.items()}
        removed = {name: s <= cuts[name] for name, s in scores.items()}
    for name, gone in removed.items():
        if gone.all():
            gone[np.unravel_index(scores[name].argmax(), gone.shape)] = False
    return removed


def cut_off(scores: Array, share: float) -> float:
    """The score of the last to go."""
    return float(np.sort(scores, axis=None)[round(share * scores.size) - 1])


def weight_at(model: nn.Module, name: str) -> torch.Tensor:
    weight = model.get_submodule(name).weight
    assert isinstance(weight, torch.Tensor)
    return weight


def removed_by(model: nn.Module) -> dict[str, npt.NDArray[np.bool_]]:
    return {name: mask.removed.numpy() for name, _, mask in masks_of(model)}


def zeros(model: nn.Module) -> dict[str, npt.NDArray[np.bool_]]:
    return {name: w == 0 for name, w in weights_of(model, depthwise=True).items()}


def share_removed(model: nn.Module) -> float:
    return float(np.concatenate([r.ravel() for r in removed_by(model).values()]).mean())


def same(one: Mapping[str, npt.NDArray[np.bool_]], other: Mapping[str, npt.NDArray[np.bool_]]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def trained_for(context: Context, model: nn.Module, epochs: float, *objectives: Objective) -> nn.Module:
    """By the real trainer, ten batches of 32 an epoch."""
    trainer = ImageTrainer(context.data, TrainConfig(batch_size=32, device="cpu"), seed=0)
    return trainer.fit(model, samples=round(320 * epochs), objectives=objectives)


def compressed(config: SparsifyConfig, context: Context, model: nn.Module, epochs: float = 1) -> nn.Module:
    """All stages, with real training between them."""
    technique = Sparsify()
    masked = technique.structure(model, config, context)
    objective = technique.objective(config, context)
    fitted = trained_for(context, masked, epochs, *([objective] if objective else []))
    return technique.finalize(fitted, config, context)


@pytest.mark.parametrize("score", POWER)
@pytest.mark.parametrize("scope", ["global", "layer", "relative"])
@pytest.mark.parametrize(("mode", "amount"), [("percentage", 0.3), ("percentage", 0.85), ("threshold", None)])
def test_the_masks_are_what_numpy_says(
    mode: str, amount: float | None, scope: str, score: str, context: Context
) -> None:
    model = toy("squeeze_excite")
    threshold = 0.8 if scope == "relative" else 0.1 ** POWER[score]
    config = SparsifyConfig(mode, amount or 0.5, threshold, score, scope)
    masked = Sparsify().structure(model, config, context)
    scores = {name: np.abs(w) ** POWER[score] for name, w in weights_of(model).items()}
    expected = expected_removed(scores, config)
    assert same(removed_by(masked), expected)
    for name, weight in weights_of(model).items():
        assert np.array_equal(weights_of(masked)[name], np.where(expected[name], 0, weight))
    if amount is not None:
        assert share_removed(masked) == pytest.approx(amount, abs=1e-3)


def test_a_threshold_is_of_the_score(context: Context) -> None:
    """0.1 on w^2 is 0.316 on |w|, and a weight at the threshold stays."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 1, bias=False))
    with torch.no_grad():
        weight_at(model, "1").copy_(torch.tensor([[0.125, -0.25, 0.3, -0.33, 0.45, 0.5]]))
    kept = {}
    for score, threshold in (("abs", 0.25), ("square", 0.1), ("cube", 0.1)):
        config = SparsifyConfig("threshold", threshold=threshold, score=score)
        kept[score] = int(weight_at(Sparsify().structure(model, config, context), "1").count_nonzero())
    assert kept == {"abs": 5, "square": 3, "cube": 1}


def test_scope_and_score_decide_where_weights_go(context: Context) -> None:
    model = toy("plain")
    with torch.no_grad():
        weight_at(model, "1.0").mul_(10)

    def removed(**fields: Any) -> dict[str, npt.NDArray[np.bool_]]:
        return removed_by(Sparsify().structure(model, SparsifyConfig(sparsity=0.6, **fields), context))

    shares = {scope: [r.mean() for r in removed(scope=scope).values()] for scope in ("global", "layer", "relative")}
    assert shares["layer"] == pytest.approx([0.6] * 4, abs=2e-3)
    assert shares["global"][0] < 0.1  # it has the largest weights
    assert shares["relative"] == pytest.approx([0.6] * 4, abs=0.05)  # all are drawn alike but for the scale
    assert shares["relative"] != pytest.approx([0.6] * 4, abs=2e-3)
    for scope in ("global", "layer"):
        assert same(removed(scope=scope, score="abs"), removed(scope=scope, score="cube"))
    assert not same(removed(scope="relative", score="abs"), removed(scope="relative", score="cube"))


def two_layers() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * SIDE * SIDE, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def numpy_sensitivities(model: nn.Sequential, examples: Split) -> list[Array]:
    """|g w| of both layers by hand: back through the softmax, the second layer, the ReLU and the first."""
    first, second = (w for w in weights_of(model).values())
    biases = [b.detach().double().numpy() for name, b in model.named_parameters() if name.endswith("bias")]
    x = examples.images.flatten(1).double().numpy() / 255
    hidden = x @ first.T + biases[0]
    logits = np.maximum(hidden, 0) @ second.T + biases[1]
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = (chances - np.eye(CLASSES)[examples.labels.numpy()]) / len(x)
    gradients = (((error @ second) * (hidden > 0)).T @ x, error.T @ np.maximum(hidden, 0))
    return [np.abs(g * w) for g, w in zip(gradients, (first, second), strict=True)]


@pytest.mark.parametrize("scope", ["global", "layer", "relative"])
@pytest.mark.parametrize("frozen", [False, True])
def test_sensitivity_is_gradient_times_weight(scope: str, frozen: bool, context: Context) -> None:
    model = two_layers()
    model[1].requires_grad_(not frozen)
    config = SparsifyConfig("sensitivity", 0.7, scope=scope, sensitivity_images=150)
    masked = Sparsify().structure(model, config, context)
    scores = numpy_sensitivities(model, draw_examples(context.data.train, 150, context.seed))
    if scope == "relative":
        scores = [s / s.mean() for s in scores]
    removed = list(removed_by(masked).values())
    pairs = list(zip(scores, removed, strict=True))
    if scope != "layer":
        pairs = [(np.concatenate([s.ravel() for s in scores]), np.concatenate([r.ravel() for r in removed]))]
    for score, gone in pairs:
        assert gone.sum() == round(0.7 * gone.size)
        assert score[gone].max() <= score[~gone].min() * (1 + 1e-4) + 1e-12  # but for rounding to float32
    assert masked.training
    assert {n.split(".")[0] for n, p in masked.named_parameters() if not p.requires_grad} == (
        {"1"} if frozen else set()
    )


def test_only_sensitivity_knows_that_large_weights_may_do_nothing(context: Context) -> None:
    """The weights that read a channel that is always black."""
    images = context.data.train.images.clone()
    images[:, 1] = 0
    data = replace(context.data, train=Split(images, context.data.train.labels))
    model = two_layers()
    with torch.no_grad():
        weight_at(model, "1").view(8, CHANNELS, -1)[:, 1] *= 100
        dict(model.named_parameters())["1.bias"].fill_(5.0)  # no unit is dead
    config = SparsifyConfig(sparsity=0.33, scope="global")
    for mode, blind in (("percentage", 0.0), ("sensitivity", 1.0)):
        masked = Sparsify().structure(model, replace(config, mode=mode), replace(context, data=data))
        removed = removed_by(masked)["1"].reshape(8, CHANNELS, -1)
        assert removed[:, 1].mean() == pytest.approx(blind, abs=0.01)


@pytest.mark.parametrize(("depthwise", "classifier"), [(False, True), (True, True), (False, False)])
def test_depthwise_and_classifier_are_fields(depthwise: bool, classifier: bool, context: Context) -> None:
    model = toy("inverted_residual")
    config = SparsifyConfig(scope="layer", depthwise=depthwise, classifier=classifier)
    masked = Sparsify().structure(model, config, context)
    kinds = {m.groups > 1 if isinstance(m, nn.Conv2d) else None for _, m, _ in masks_of(masked)}
    assert kinds == {False} | ({True} if depthwise else set()) | ({None} if classifier else set())
    (note,) = context.notes
    assert ("2 depthwise convolutions" in note) == (not depthwise)
    assert ("the classifier" in note) == (not classifier)


def initializers_of_layers(graph: onnx.GraphProto) -> list[npt.NDArray[np.float32]]:
    """The weights of convolutions and linear layers in the file, in their order."""
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    return [values[node.input[1]] for node in graph.node if node.op_type in {"Conv", "Gemm"}]


@pytest.mark.parametrize("mode", ["percentage", "sensitivity", "threshold"])
def test_one_shot_zeros_hold_through_training_to_the_file(mode: str, context: Context) -> None:
    model = toy("plain")
    config = SparsifyConfig(mode, 0.7, 0.03, scope="layer" if mode == "percentage" else "global")
    masked = Sparsify().structure(model, config, context)
    chosen = removed_by(masked)
    assert Sparsify().objective(config, context) is None
    final = Sparsify().finalize(trained_for(context, masked, 2), config, context)
    assert masks_of(final) == []
    assert [type(m) for m in final.modules()] == [type(m) for m in model.modules()]
    assert same(zeros(final), chosen)
    for name, weight in weights_of(final).items():
        assert not np.signbit(weight[chosen[name]]).any()  # no -0.0, which compresses worse
        moved = weight[~chosen[name]] != weights_of(model)[name][~chosen[name]]
        assert moved.mean() > 0.99
    exported = export_onnx(final, channels=CHANNELS, resolution=SIDE)
    found = initializers_of_layers(exported.graph)
    assert len(found) == len(chosen) == 4
    for values, removed in zip(found, chosen.values(), strict=True):
        assert np.array_equal(values == 0, removed)
    assert check_parity(final, exported, inputs(), 1e-4) < 1e-4


class Watch(Objective):
    """What the masks remove at the end of each epoch, and the dense weights then."""

    def __init__(self) -> None:
        self.removed: list[dict[str, npt.NDArray[np.bool_]]] = []
        self.dense: list[dict[str, Array]] = []

    def epoch_end(self, model: nn.Module, epoch: int, epochs: int) -> None:
        self.removed.append({name: r.copy() for name, r in removed_by(model).items()})
        self.dense.append(
            {n: chain_of(layer).original.detach().double().numpy().copy() for n, layer, _ in masks_of(model)}
        )


@pytest.mark.parametrize("mode", ["percentage", "threshold", "sensitivity"])
def test_the_gradual_schedule_follows_its_formula(mode: str, context: Context) -> None:
    config = SparsifyConfig(mode, 0.8, 0.05, scope="global", schedule="gradual", sensitivity_images=64)
    masked = Sparsify().structure(toy("plain"), config, context)
    assert share_removed(masked) == 0
    objective, watch = Sparsify().objective(config, context), Watch()
    assert objective is not None
    fitted = trained_for(context, masked, 5, objective, watch)
    ramp = [19 / 27, 26 / 27, 1, 1, 1]  # 1 - (1 - t / 3)^3: of five epochs the first three remove
    for epoch, part in enumerate(ramp):
        gone = np.concatenate([r.ravel() for r in watch.removed[epoch].values()])
        if mode != "threshold":
            assert gone.sum() == round(0.8 * part * gone.size)
        if mode != "sensitivity" and epoch < 3:
            scores = {n: np.abs(w) for n, w in watch.dense[epoch].items()}
            at = replace(config, sparsity=0.8 * part, threshold=0.05 * part)
            assert same(watch.removed[epoch], expected_removed(scores, at))
    assert same(watch.removed[4], watch.removed[2])
    final = Sparsify().finalize(fitted, config, context)
    assert same(zeros(final), watch.removed[4])
    assert "removed them at its end" not in context.notes[-1]


def test_a_removed_weight_can_come_back_in_the_gradual_schedule(context: Context) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        weight_at(model, "1").copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    config = SparsifyConfig(sparsity=0.5, schedule="gradual")
    masked = Sparsify().structure(model, config, context)
    objective = Sparsify().objective(config, context)
    assert objective is not None
    objective.epoch_end(masked, 2, 3)
    assert weight_at(masked, "1").tolist() == [[0, 0, 3, 4]]
    with torch.no_grad():
        chain_of(masked.get_submodule("1")).original.copy_(torch.tensor([[1.0, 2.0, 1.5, 4.0]]))
    objective.epoch_end(masked, 3, 3)  # the last epoch's end changes nothing any more
    assert weight_at(masked, "1").tolist() == [[0, 0, 1.5, 4]]
    objective.epoch_end(masked, 2, 4)
    assert weight_at(masked, "1").tolist() == [[0, 2, 0, 4]]


def test_a_training_of_one_epoch_reaches_the_sparsity_at_its_end_and_says_so(context: Context) -> None:
    config = SparsifyConfig(sparsity=0.6, schedule="gradual")
    final = compressed(config, context, toy("plain"), epochs=1)
    gone = np.concatenate([z.ravel() for z in zeros(final).values()])
    assert gone.mean() == pytest.approx(0.6, abs=1e-3)
    assert "removed them at its end" in context.notes[-1]


def test_only_kept_weights_get_gradients(context: Context) -> None:
    masked = Sparsify().structure(toy("depthwise"), SparsifyConfig(sparsity=0.6), context)
    masked(inputs()).square().sum().backward()
    for _, layer, mask in masks_of(masked):
        gradient = chain_of(layer).original.grad
        assert gradient is not None
        assert float(gradient[mask.removed].abs().sum()) == 0
        assert float(gradient[~mask.removed].abs().sum()) > 0


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])  # the trainer's
def test_every_layer_keeps_its_best_weight(memory_format: torch.memory_format, context: Context) -> None:
    model: nn.Module = toy("plain").to(memory_format=memory_format)  # type: ignore[call-overload]
    with torch.no_grad():
        weight_at(model, "1.3").mul_(1e-6)
    for config in (SparsifyConfig(sparsity=0.6, scope="global"), SparsifyConfig("threshold", threshold=0.001)):
        masked = Sparsify().structure(model, config, context)
        kept = weights_of(masked)["1.3"]
        before = np.abs(weights_of(model)["1.3"])
        assert np.flatnonzero(kept).tolist() == [int(before.argmax())]
        assert "kept the best weight of layers that would have lost all: 1.3" in context.notes[-1]
        Sparsify().finalize(masked, config, context)
        assert "one weight is left of 1.3" in context.notes[-1]
    nearly_all = Sparsify().structure(toy("squeeze_excite"), SparsifyConfig(sparsity=0.9999), context)
    assert all((~r).sum() >= 1 for r in removed_by(nearly_all).values())


def test_a_threshold_that_removes_everything_is_refused(context: Context) -> None:
    for schedule in ("one_shot", "gradual"):
        config = SparsifyConfig("threshold", threshold=5.0, schedule=schedule)
        with pytest.raises(InvalidCandidate, match=r"sparsify: threshold=5\.0 must be .* lower it"):
            Sparsify().structure(toy("plain"), config, context)
    masked = Sparsify().structure(toy("plain"), config, replace(context, trained=False))  # weights are random there
    assert all((~r).sum() == 1 for r in removed_by(masked).values())


def test_a_network_without_such_layers_is_refused(context: Context) -> None:
    only_depthwise = nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(InvalidCandidate, match="sparsify: the network holds no layer that may lose weights"):
        Sparsify().structure(only_depthwise, SparsifyConfig(), context)


@pytest.mark.parametrize("mode", ["percentage", "sensitivity"])
@pytest.mark.parametrize("schedule", ["one_shot", "gradual"])
def test_the_quick_pass_masks_at_once_and_needs_no_data(mode: str, schedule: str, context: Context) -> None:
    nothing = Split(context.data.train.images[:0], context.data.train.labels[:0])
    quick = replace(context, trained=False, data=replace(context.data, train=nothing))
    config = SparsifyConfig(mode, 0.6, schedule=schedule)
    masked = Sparsify().structure(toy("plain"), config, quick)
    assert share_removed(masked) == pytest.approx(0.6, abs=1e-3)
    assert Sparsify().objective(config, quick) is None
    assert same(zeros(Sparsify().finalize(masked, config, quick)), removed_by(masked))
    assert "deflate" not in quick.notes[-1]


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_the_note_says_zeros_and_compressed_bytes_but_no_speed(sparsity: float, context: Context) -> None:
    config = SparsifyConfig(sparsity=sparsity)
    masked = Sparsify().structure(toy("plain"), config, context)
    final = Sparsify().finalize(masked, config, context)

    def deflated(model: nn.Module) -> int:
        raw = b"".join(w.astype(np.float32).tobytes() for w in weights_of(model).values())
        return len(zlib.compress(raw)) - 6  # less zlib's own header and check sum

    note = context.notes[-1]
    total = sum(w.size for w in weights_of(final).values())
    numbers = [float(n) for n in re.findall(r"\d+(?:\.\d+)?", note)]
    assert numbers[:3] == [round(100 * sparsity, 1), total, 4]
    assert numbers[3:6] == [4 * total, deflated(final), deflated(toy("plain"))]
    assert deflated(final) < (1 - 0.8 * sparsity) * 4 * total
    assert "stores each zero" in note
    assert not re.search("fast|speed|latenc", note)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("mode", ["percentage", "sensitivity"])
def test_a_masked_model_is_not_changed_by_what_follows(mode: str, grad: bool, context: Context) -> None:
    config = SparsifyConfig(mode, 0.6)
    model = toy("squeeze_excite")
    model.get_submodule("1.0").requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    outside = torch.get_rng_state()
    with torch.set_grad_enabled(grad):
        masked = Sparsify().structure(model, config, context)
        state, expected = copy.deepcopy(masked.state_dict()), masked.eval()(inputs()).detach()
        final = Sparsify().finalize(masked, config, context)
        assert torch.is_grad_enabled() == grad
    assert torch.equal(torch.get_rng_state(), outside)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in (*model.parameters(), *masked.parameters()))
    assert all(torch.equal(value, state[name]) for name, value in masked.state_dict().items())
    assert torch.equal(masked(inputs()), expected)
    assert torch.equal(final(inputs()), expected)
    assert [p.requires_grad for p in final.parameters()] == [p.requires_grad for p in model.parameters()]


def test_a_schedule_leaves_modes_gradients_and_random_state(context: Context) -> None:
    config = SparsifyConfig("sensitivity", 0.6, schedule="gradual", sensitivity_images=32)
    masked = Sparsify().structure(toy("plain"), config, context)
    masked.get_submodule("1.1").eval()
    modes = [m.training for m in masked.modules()]
    statistics = [b.clone() for n, b in masked.named_buffers() if "running" in n]
    objective = Sparsify().objective(config, context)
    assert objective is not None
    outside = torch.get_rng_state()
    objective.epoch_end(masked, 1, 3)
    assert torch.equal(torch.get_rng_state(), outside)
    assert [m.training for m in masked.modules()] == modes
    assert all(p.grad is None for p in masked.parameters())
    after = [b for n, b in masked.named_buffers() if "running" in n]
    assert all(torch.equal(a, b) for a, b in zip(after, statistics, strict=True))


@pytest.mark.parametrize("schedule", ["one_shot", "gradual"])
def test_two_runs_with_one_seed_give_the_same_file(schedule: str, context: Context) -> None:
    config = SparsifyConfig("sensitivity", 0.6, schedule=schedule, sensitivity_images=64)
    files = {
        export_onnx(
            compressed(config, context, toy("depthwise"), epochs=2), channels=CHANNELS, resolution=SIDE
        ).SerializeToString(deterministic=True)
        for _ in range(2)
    }
    assert len(files) == 1
    other = Sparsify().structure(toy("depthwise"), config, replace(context, seed=1))
    if schedule == "one_shot":
        assert not same(removed_by(other), removed_by(Sparsify().structure(toy("depthwise"), config, context)))


class Tenths(nn.Module):
    """Rounds to multiples of a tenth, with the straight-through estimator."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + ((10 * weight).round() / 10 - weight).detach()


def test_another_parametrization_acts_on_the_masked_weights(context: Context) -> None:
    config = SparsifyConfig(sparsity=0.5, schedule="gradual")
    masked = Sparsify().structure(toy("plain"), config, context)
    for _, layer, _ in masks_of(masked):
        attach(layer, Tenths())
    objective, watch = Sparsify().objective(config, context), Watch()
    assert objective is not None
    fitted = trained_for(context, masked, 3, objective, watch).eval()
    expected = fitted(inputs()).detach()
    with pytest.raises(ValueError, match="Mask acts before Tenths"):
        bake(copy.deepcopy(fitted), Tenths)
    halfway = Sparsify().finalize(fitted, config, context)
    assert masks_of(halfway) == []
    torch.testing.assert_close(halfway(inputs()), expected)
    bake(halfway, Tenths)
    torch.testing.assert_close(halfway(inputs()), expected)
    for name, weight in weights_of(halfway).items():
        assert (weight[watch.removed[-1][name]] == 0).all()
        np.testing.assert_allclose(10 * weight, np.round(10 * weight), atol=1e-5)


@pytest.mark.parametrize("first", [False, True])
def test_a_mask_after_another_parametrization_scores_what_it_is_given(first: bool, context: Context) -> None:
    """Rounded to 0.1, weights tie: which of them go is decided by their place, not by what they were."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        weight_at(model, "1").copy_(torch.tensor([[0.34, 0.32, 0.5, 0.6]]))
    if first:
        attach(model[1], Tenths())
    masked = Sparsify().structure(model, SparsifyConfig(sparsity=0.25), context)
    assert removed_by(masked)["1"].tolist() == [[first, not first, False, False]]


@pytest.mark.parametrize("name", TOYS)
def test_every_kind_of_network_exports_with_its_zeros(name: str, context: Context) -> None:
    config = SparsifyConfig("sensitivity", 0.5, scope="relative", depthwise=True, sensitivity_images=32)
    final = Sparsify().finalize(Sparsify().structure(toy(name), config, context), config, context).eval()
    exported = export_onnx(final, channels=CHANNELS, resolution=SIDE)
    assert check_parity(final, exported, inputs(), 1e-4) < 1e-4
    stored = sum(int((w == 0).sum()) for w in initializers_of_layers(exported.graph))
    assert stored == sum(int(z.sum()) for z in zeros(final).values())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "random"),
        ("sparsity", 1.0),
        ("sparsity", 0),
        ("sparsity", float("nan")),
        ("threshold", 0),
        ("threshold", "low"),
        ("score", "l2"),
        ("scope", "everywhere"),
        ("schedule", "linear"),
        ("sensitivity_images", 0),
        ("depthwise", 1),
        ("classifier", "no"),
    ],
)
def test_a_bad_config_is_refused_with_its_value(field: str, value: object) -> None:
    with pytest.raises(InvalidCandidate, match=re.escape(f"sparsify: {field}={value!r} must be ")) as caught:
        Sparsify().config_from_json({field: value})
    assert "try" in str(caught.value) or "use" in str(caught.value)
