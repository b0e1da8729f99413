"""Scores before training, against closed forms and an independent count."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from nas_edge.train.zero_cost import NOTHING, naswot, scores, synflow

from ..plugins.toys import toy, toy_data


def test_synflow_of_a_chain_of_layers() -> None:
    """Without biases each layer's sum is the sum of the logits: the product of the absolute matrices."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 7, bias=False), nn.ReLU(), nn.Linear(7, 3, bias=False))
    first, second = (m.weight.detach().double().abs() for m in model if isinstance(m, nn.Linear))
    flow = float((second @ first @ torch.ones(12, dtype=torch.float64)).sum())
    assert synflow(model, torch.rand(4, 3, 2, 2)) == pytest.approx(math.log(2 * flow))


def test_naswot_counts_the_units_that_images_share() -> None:
    torch.manual_seed(1)
    images = torch.rand(5, 1, 3, 3) - 0.5
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 40), nn.ReLU(), nn.Linear(40, 20), nn.Hardswish())
    one = model[1](images.flatten(1)).detach()
    other = model[3](one.clamp_min(0)).detach()
    codes = np.concatenate([one.numpy(), other.numpy()], axis=1) > 0
    kernel = [[(a == b).sum() for b in codes] for a in codes]
    assert naswot(model, images) == pytest.approx(np.log(np.linalg.det(np.array(kernel, dtype=float))))


def test_images_that_a_network_cannot_tell_apart_give_nothing() -> None:
    assert naswot(nn.Sequential(nn.Flatten(), nn.Linear(9, 2)), torch.rand(4, 1, 3, 3)) == NOTHING


def test_they_are_repeatable_and_leave_everything_as_it_was() -> None:
    model, data = toy("depthwise").eval(), toy_data()
    before, state = {n: t.clone() for n, t in model.state_dict().items()}, torch.random.get_rng_state()
    first = scores(model, data.train)
    torch.rand(3)
    assert first == scores(model, data.train) and all(math.isfinite(value) for value in first.values())
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    torch.random.set_rng_state(state)
    scores(model, data.train)
    assert torch.equal(torch.random.get_rng_state(), state) and not model.training
