"""The trainer: repeatable, without side effects, and with the loss and schedule that it states."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_edge import Augmentation, ImageData, Objective, Split, UserError
from nas_edge.config import TrainConfig
from nas_edge.data.batches import Batches
from nas_edge.train.trainer import (
    PRECISIONS,
    RECALIBRATION_SAMPLES,
    ImageTrainer,
    Milestones,
    _rate,
    check_precision,
    cosine,
    decay_groups,
    training_device,
)

from ..plugins.toys import CLASSES, toy, toy_data


def trainer(seed: int = 0, data: ImageData | None = None, **config: object) -> ImageTrainer:
    return ImageTrainer(
        data or toy_data(), TrainConfig.model_validate({"device": "cpu", "batch_size": 64, **config}), seed
    )


def weights(model: nn.Module) -> list[Tensor]:
    return [v.clone() for v in model.state_dict().values()]


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_same_seed_gives_the_same_weights() -> None:
    model = toy("plain")
    first, again = (weights(trainer().fit(model, samples=300)) for _ in range(2))
    assert same(first, again)
    assert not same(first, weights(trainer(seed=1).fit(model, samples=300)))


def test_it_learns() -> None:
    data = toy_data()
    trained = trainer().fit(toy("plain"), samples=3200)
    assert trainer().accuracy(trained, data.train) > 0.9
    assert trainer().accuracy(trained, data.validation) > 0.5 > 2 / CLASSES


def test_everything_around_it_stays_as_it_was() -> None:
    model = toy("depthwise").eval()
    before, random, gradients = weights(model), torch.random.get_rng_state(), torch.is_grad_enabled()
    trained = trainer().fit(model, samples=200)
    assert same(before, weights(model)) and not model.training
    assert torch.equal(random, torch.random.get_rng_state()) and torch.is_grad_enabled() is gradients
    assert trained is not model and not trained.training
    assert all(p.is_contiguous() for p in trained.parameters())
    with torch.no_grad():
        assert same(weights(trained), weights(trainer().fit(model, samples=200)))


def test_a_frozen_layer_stays_frozen() -> None:
    model = toy("plain")
    frozen = model.get_parameter("1.0.weight").requires_grad_(False)
    trained = trainer().fit(model, samples=200)
    assert torch.equal(frozen, trained.get_parameter("1.0.weight"))
    assert not torch.equal(model.get_parameter("1.3.weight"), trained.get_parameter("1.3.weight"))


def test_the_schedule_is_one_cosine_after_a_short_warm_up() -> None:
    rates = [cosine(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])  # a tenth of the steps
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)  # half-way
    assert rates[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert cosine(100, 100) == pytest.approx(0.0)
    assert cosine(0, 1) == 1.0


def black(labels: Tensor) -> ImageData:
    """Images that tell nothing, so that only the last bias is learned."""
    split = Split(torch.zeros(len(labels), 1, 4, 4, dtype=torch.uint8), labels)
    return ImageData("black", tuple("abcd"), split, split, split, (0.0,), (1.0,), Augmentation(), "black", "none")


def test_label_smoothing_ends_at_its_closed_form() -> None:
    """With one label, cross-entropy against (1 - e) at it and e / K everywhere is least where softmax is just that."""
    smoothing, classes = 0.2, 4
    data = black(torch.full((64,), 2))
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, classes))
    made = trainer(data=data, label_smoothing=smoothing, weight_decay=0.0, learning_rate=0.05)
    trained = made.fit(model, samples=64 * 600)
    found = trained(torch.zeros(1, 1, 4, 4)).softmax(1)[0]
    expected = torch.full((classes,), smoothing / classes)
    expected[2] += 1 - smoothing
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_weight_decay_acts_on_matrices_alone() -> None:
    matrix, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    decayed, free = decay_groups([bias, matrix], 0.1)
    assert (decayed["params"], decayed["weight_decay"]) == ([matrix], 0.1)
    assert (free["params"], free["weight_decay"]) == ([bias], 0.0)


def test_batch_norm_holds_the_statistics_of_the_final_weights() -> None:
    """The even average of the batches' means and unbiased variances, worked out without a BatchNorm."""
    data = toy_data()
    made = trainer()
    trained = made.fit(toy("plain"), samples=400)
    preprocess, convolution, norm = (trained.get_submodule(name) for name in ("0", "1.0", "1.1"))
    stream = Batches(
        data.train,
        batch_size=64,
        augmentation=data.augmentation,
        generator=torch.Generator().manual_seed(0),
        samples=RECALIBRATION_SAMPLES,
    )
    with torch.no_grad():
        features = [convolution(preprocess(inputs)).transpose(0, 1).flatten(1) for inputs, _ in stream]
    assert len(features) == 16
    mean = torch.stack([f.mean(1) for f in features]).mean(0)
    variance = torch.stack([f.var(1, unbiased=True) for f in features]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, variance, rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1


class Recorder(Objective):
    """Pulls the logits towards a learned target, and notes the calls."""

    def __init__(self) -> None:
        self.target = nn.Parameter(torch.zeros(CLASSES))
        self.prepared: list[nn.Module] = []
        self.epochs: list[tuple[int, int]] = []
        self.batches = 0

    def prepare(self, model: nn.Module) -> None:
        self.prepared.append(model)

    def loss(self, inputs: Tensor, labels: Tensor, outputs: Tensor) -> Tensor:
        assert inputs.min() >= 0 and inputs.max() <= 1 and len(inputs) == len(labels) == len(outputs)
        self.batches += 1
        return F.mse_loss(outputs, self.target.expand_as(outputs)) + (self.target - 3).square().mean()

    def parameters(self) -> list[nn.Parameter]:
        return [self.target]

    def epoch_end(self, model: nn.Module, epoch: int, epochs: int) -> None:
        self.epochs.append((epoch, epochs))


def test_objectives_are_trained_along() -> None:
    recorder = Recorder()
    model = toy("plain")
    trained = trainer(learning_rate=0.02).fit(model, samples=64 * 12, objectives=[recorder])  # 5 batches an epoch
    assert recorder.batches == 12
    assert recorder.epochs == [(1, 3), (2, 3), (3, 3)]
    assert recorder.prepared and recorder.prepared[0] is not model
    assert (recorder.target > 0.05).all()
    assert not same(weights(trained), weights(trainer(learning_rate=0.02).fit(model, samples=64 * 12)))


def test_an_objective_without_a_loss_changes_nothing() -> None:
    model = toy("plain")
    plain, with_objective = (weights(trainer().fit(model, samples=200, objectives=o)) for o in ([], [Objective()]))
    assert same(plain, with_objective)


def test_accuracy_leaves_the_mode_alone() -> None:
    data = toy_data()
    model = toy("plain").train()
    expected = copy.deepcopy(model).eval()(data.test.images.float() / 255).argmax(1) == data.test.labels
    assert trainer().accuracy(model, data.test) == pytest.approx(float(expected.float().mean()))
    assert model.training


def test_the_device_is_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert training_device("cpu") == torch.device("cpu")
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert training_device("auto").type == ("cuda" if there else "cpu")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_lower_precision_multiplies_in_it_and_keeps_the_rest(precision: str) -> None:
    """Products are those of torch's autocast, the weights stay in float32, and nearly the same is learned.

    Also in float16: a study takes it with CUDA alone, for it is slow on a CPU.
    """
    seen: set[torch.dtype] = set()

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                seen.add(x.dtype)
            return x

    model = nn.Sequential(*toy("plain"), Spy())
    full = trainer().fit(model, samples=640)
    assert seen == {torch.float32}
    seen.clear()
    half = trainer(precision=precision).fit(model, samples=640)
    assert PRECISIONS[precision] in seen
    assert {v.dtype for v in half.state_dict().values()} == {torch.float32, torch.int64}
    assert not same(weights(full), weights(half))
    assert same(weights(half), weights(trainer(precision=precision).fit(model, samples=640)))
    data = toy_data()
    long = [trainer(precision=p).fit(toy("plain"), samples=3200) for p in ("float32", precision)]
    right = [trainer().accuracy(m, data.train) for m in long]
    assert right[1] > 0.9 and abs(right[0] - right[1]) < 0.05


def test_small_gradients_survive_in_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those below its least number, 6e-8, would be 0: the loss is scaled (Micikevicius et al. 2018, section 3.2)."""

    class Fading(nn.Module):
        """Lets a hundred thousandth of the gradient through."""

        def forward(self, x: Tensor) -> Tensor:
            return x.detach() + 1e-5 * (x - x.detach())

    split = Split(toy_data().train.images[:64, :1, :4, :4], torch.arange(64) % 4)
    data = replace(black(split.labels), train=split)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), Fading(), nn.Linear(8, 4))

    def moved(precision: str) -> Tensor:
        trained = trainer(data=data, precision=precision, weight_decay=0.0).fit(model, samples=64)
        return (trained.get_parameter("1.weight") - model.get_parameter("1.weight")).detach()

    exact, found = moved("float32"), moved("float16")
    assert exact.abs().mean() > 1e-3
    torch.testing.assert_close(found, exact, rtol=0.1, atol=3e-4)
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device, enabled: scaler(device, enabled=False))
    lost = moved("float16")
    assert (lost == 0).float().mean() > 0.1 > (found == 0).float().mean()


def test_the_loss_is_in_float32_and_objectives_see_float32_logits() -> None:
    seen: list[torch.dtype] = []

    class Watch(Objective):
        def loss(self, inputs: Tensor, labels: Tensor, outputs: Tensor) -> Tensor:
            seen.append(outputs.dtype)
            loss = outputs.square().mean()
            seen.append(loss.dtype)
            return loss

    trainer(precision="bfloat16").fit(toy("plain"), samples=64, objectives=[Watch()])
    assert seen == [torch.float32, torch.float32]


def test_float16_needs_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(precision="float16", device="cpu")
    with pytest.raises(UserError, match=r"train\.precision is 'float16', which needs a CUDA device; use 'bfloat16'"):
        check_precision(config)
    check_precision(TrainConfig(precision="bfloat16", device="cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_precision(TrainConfig(precision="float16"))


def test_fine_tuning_is_a_second_cosine_at_a_tenth() -> None:
    rates = [_rate(step, 100, 50) for step in range(150)]
    assert rates[:100] == [cosine(step, 100) for step in range(100)]
    assert rates[100:] == pytest.approx([0.1 * cosine(step, 50) for step in range(50)])
    assert max(rates[100:]) == pytest.approx(0.1)
    assert [_rate(step, 100, 0) for step in range(101)] == [cosine(step, 100) for step in range(101)]


def test_fine_tuning_goes_on_where_the_schedules_ended() -> None:
    """All losses go on, no schedule is called again, and the weights hardly move any more."""

    class Positions(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.at: list[Tensor] = []

        def loss(self, inputs: Tensor, labels: Tensor, outputs: Tensor) -> Tensor:
            self.at.append(self.prepared[0].get_parameter("1.0.weight").detach().clone())
            return super().loss(inputs, labels, outputs)

    positions = Positions()
    made = replace(trainer(weight_decay=0.0), finetune_samples=64 * 10)
    made.fit(toy("plain"), samples=64 * 20, objectives=[positions])
    assert positions.batches == 20 and len(positions.prepared) == 1
    assert positions.epochs == [(1, 2), (2, 2)]  # 5 batches an epoch, 10 before the fine-tuning
    moved = [float((b - a).norm()) for a, b in itertools.pairwise(positions.at)]
    assert sum(moved[10:]) < 0.25 * sum(moved[:9])


def test_a_training_that_is_all_fine_tuning_keeps_one_step() -> None:
    recorder = Recorder()
    replace(trainer(), finetune_samples=10**6).fit(toy("plain"), samples=64 * 3, objectives=[recorder])
    assert recorder.batches == 3 and recorder.epochs == [(1, 1)]


@pytest.mark.parametrize("kind", ["plain", "depthwise"])
def test_milestones_see_the_accuracy_and_leave_the_training_as_it_is(kind: str) -> None:
    seen: list[tuple[float, float]] = []
    watching = replace(trainer(), milestones=Milestones((0.25, 0.5), lambda *reached: seen.append(reached)))
    plain, watched = (weights(t.fit(toy(kind), samples=640)) for t in (trainer(), watching))
    assert same(plain, watched)
    assert [share for share, _ in seen] == [0.25, 0.5]
    watching.fit(toy(kind), samples=640)
    assert len(seen) == 2  # a second training is not looked at

    class Enough(Exception):
        pass

    def stop(share: float, accuracy: float) -> None:
        raise Enough

    with pytest.raises(Enough):
        replace(trainer(), milestones=Milestones((0.25,), stop)).fit(toy(kind), samples=640)


def test_a_milestone_sees_what_the_weights_are_worth() -> None:
    """At the very end of a training it is the accuracy of the network that comes out."""
    seen: list[float] = []
    watching = replace(trainer(), milestones=Milestones((1.0,), lambda share, accuracy: seen.append(accuracy)))
    trained = watching.fit(toy("plain"), samples=640)
    assert seen == [trainer().accuracy(trained, toy_data().validation)]
