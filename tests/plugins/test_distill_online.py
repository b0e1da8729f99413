"""Students that are trained together and teach each other."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nas_edge import Context, InvalidCandidate
from nas_edge.config import TrainConfig
from nas_edge.train.trainer import ImageTrainer
from nas_edge_plugins.distill import Distill, DistillConfig
from nas_edge_plugins.distill.online import MutualLearning, untrained
from nas_edge_plugins.distill.softened import softened_divergence

from .toys import inputs, toy, toy_context, toy_data

SAMPLES = 960
LABELS = torch.arange(8) % 5


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    trainer = ImageTrainer(toy_data(), TrainConfig(batch_size=32, device="cpu"), 0)
    yield replace(toy_context(tmp_path_factory.mktemp("work")), trainer=trainer)


def mutual(context: Context, config: DistillConfig) -> MutualLearning:
    objective = Distill().objective(config, context)
    assert isinstance(objective, MutualLearning)
    return objective


def divergence(said: Tensor, other: Tensor, temperature: float) -> float:
    """T^2 KL(other || said), the mean over the batch."""
    own, taught = (log_softmax(t.detach().double().numpy() / temperature, axis=1) for t in (said, other))
    return float(temperature**2 * (np.exp(taught) * (taught - own)).sum(1).mean())


def cross_entropy(said: Tensor) -> float:
    own = log_softmax(said.detach().double().numpy(), axis=1)
    return float(-own[np.arange(8), LABELS.numpy()].mean())


@pytest.mark.parametrize("peers", [1, 2, 3])
def test_the_loss_is_that_of_every_network(peers: int, context: Context) -> None:
    student = toy("depthwise")
    objective = mutual(context, DistillConfig(2.0, 0.5, "online", peers=peers))
    objective.prepare(student)
    said = [student(inputs()), *(copy.deepcopy(peer)(inputs()) for peer in objective.peers)]
    expected = float(sum(cross_entropy(logits) for logits in said[1:]))
    for k, own in enumerate(said):
        expected += 0.5 * fmean(divergence(own, other, 2.0) for i, other in enumerate(said) if i != k)
    assert objective.loss(inputs(), LABELS, said[0]).item() == pytest.approx(expected, rel=1e-4)


def test_no_gradient_passes_between_networks(context: Context) -> None:
    """Each learns from its own loss, in which what the others say is given."""
    student = toy("depthwise").eval()
    objective = mutual(context, DistillConfig(2.0, 0.5, "online", peers=2))
    objective.prepare(student)
    for peer in objective.peers:
        peer.eval()
    networks = [student, *objective.peers]
    objective.loss(inputs(), LABELS, student(inputs())).backward()
    found = [[p.grad.clone() for p in net.parameters() if p.grad is not None] for net in networks]
    for k, network in enumerate(networks):
        others = [net(inputs()).detach() for net in networks if net is not network]
        said = network(inputs())
        own = 0.5 * torch.stack([softened_divergence(said, other, 2.0) for other in others]).mean()
        if k:  # the student's own cross entropy is the trainer's
            own = own + nn.functional.cross_entropy(said, LABELS)
        expected = torch.autograd.grad(own, list(network.parameters()))
        for a, b in zip(found[k], expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_peers_are_trained_and_differ(context: Context) -> None:
    objective = mutual(context, DistillConfig(3.0, 1.0, "online", peers=2))
    student = toy("depthwise")
    objective.prepare(student)
    before = [context.trainer.accuracy(peer, context.data.validation) for peer in objective.peers]
    trained = context.trainer.fit(student, samples=SAMPLES, objectives=[objective])
    after = [context.trainer.accuracy(peer, context.data.validation) for peer in objective.peers]
    assert all(b > a + 0.3 for a, b in zip(before, after, strict=True))
    kernels = [net.get_submodule("1.0").weight for net in (trained, *objective.peers)]
    for i, a in enumerate(kernels):
        for b in kernels[:i]:
            assert isinstance(a, Tensor) and isinstance(b, Tensor)
            assert (a - b).abs().mean() > 0.3 * a.abs().mean()
    owned = {id(p) for p in trained.parameters()}
    assert not owned & {id(p) for p in objective.parameters()}
    assert trained.state_dict().keys() == student.state_dict().keys()


def test_networks_that_teach_each_other_agree_more(context: Context) -> None:
    disagreements = []
    x = context.data.validation.images.float() / 255
    for weight in (1e-6, 3.0):
        objective = mutual(context, DistillConfig(3.0, weight, "online"))
        trained = context.trainer.fit(toy("depthwise"), samples=SAMPLES, objectives=[objective])
        with torch.no_grad():
            disagreements.append(softened_divergence(trained(x), objective.peers[0].eval()(x), 3.0).item())
    assert disagreements[1] < 0.5 * disagreements[0]


def test_one_seed_gives_the_same_student_and_peers(context: Context) -> None:
    states = []
    for _ in range(2):
        objective = mutual(context, DistillConfig(method="online"))
        trained = context.trainer.fit(toy("plain"), samples=64, objectives=[objective])
        states.append({**trained.state_dict(), **{f"peer.{k}": v for k, v in objective.peers[0].state_dict().items()}})
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_peer_can_have_the_architecture_of_the_teacher(context: Context) -> None:
    teacher = toy("plain").eval().requires_grad_(False)
    given = replace(context, teacher=teacher)
    objective = mutual(given, DistillConfig(method="online", peer="teacher"))
    student = toy("depthwise")
    objective.prepare(student)
    (peer,) = objective.peers
    assert [p.shape for p in peer.parameters()] == [p.shape for p in teacher.parameters()]
    assert not torch.equal(peer.get_submodule("1.0").weight, teacher.get_submodule("1.0").weight)  # type: ignore[arg-type]
    assert peer.training and all(p.requires_grad for p in peer.parameters())
    assert not any(p.requires_grad for p in teacher.parameters())
    with pytest.raises(InvalidCandidate, match="teacher=None"):
        Distill().objective(DistillConfig(method="online", peer="teacher"), context)


def test_who_needs_a_teacher() -> None:
    technique = Distill()
    needs = {method: technique.needs_teacher_for(DistillConfig(method=method)) for method in ("outputs", "online")}
    assert needs == {"outputs": True, "online": False}
    assert technique.needs_teacher_for(DistillConfig(method="online", peer="teacher"))


def test_an_untrained_copy_has_the_same_scales_and_nothing_else_of_the_weights() -> None:
    model = toy("plain")
    layer, norm = model.get_submodule("1.3"), model.get_submodule("1.4")
    assert isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    parametrize.register_parametrization(layer, "weight", nn.Hardtanh(-1e-3, 1e-3))
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first, again, other = (untrained(model, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(parametrize.is_parametrized(m) for m in first.modules())
    fresh = first.get_submodule("1.3").weight
    assert isinstance(fresh, nn.Parameter)
    assert fresh.std().item() == pytest.approx(layer.weight.std().item(), rel=0.05)
    correlation = np.corrcoef(fresh.detach().flatten(), layer.weight.detach().flatten())[0, 1]
    assert abs(correlation) < 0.05
    assert torch.equal(fresh, again.get_submodule("1.3").weight)  # type: ignore[arg-type]
    assert not torch.equal(fresh, other.get_submodule("1.3").weight)  # type: ignore[arg-type]
    new_norm = first.get_submodule("1.4")
    assert isinstance(new_norm, nn.BatchNorm2d) and new_norm.running_var is not None
    assert torch.equal(new_norm.weight, norm.weight) and bool((new_norm.running_var == 1).all())
