"""On how many images a candidate is looked at between its steps."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from nas_edge import Context, Split
from nas_edge.config import TrainConfig
from nas_edge.estimate import Estimator
from nas_edge.export import accuracy
from nas_edge.figures import Observer
from nas_edge.gate import Gate
from nas_edge.train.trainer import ImageTrainer

from .plugins.toys import toy_data
from .test_gate import Bench, ByMacs, make, record, renamed
from .test_pipeline import make_registry, technique


@pytest.mark.parametrize("max_drop", [0.05, 0.02, 0.5])
def test_so_many_images_tell_the_drop_from_chance(max_drop: float) -> None:
    images = Gate(max_drop).images
    assert 3 * math.sqrt(2 * 0.25 / images) <= max_drop < 3 * math.sqrt(2 * 0.25 / (images - 1))


def test_no_drop_at_all_takes_every_image() -> None:
    assert Gate(0.05).images == 1800
    assert Gate(0.0).images > 10**8


def test_a_split_is_spread_evenly() -> None:
    split = Split(torch.arange(10).view(10, 1, 1, 1), torch.arange(10))
    assert split.spread(4).labels.tolist() == [0, 3, 6, 9]
    assert split.spread(3).labels.tolist() == [0, 4, 8]
    assert split.spread(4).images.flatten().tolist() == [0, 3, 6, 9]
    assert len(split.spread(10)) == len(split.spread(10**9)) == 10


def test_steps_are_seen_on_some_images_and_the_candidate_is_judged_on_all(tmp_path: Path) -> None:
    data = toy_data()
    few, gate = data.validation.spread(18), Gate(max_drop=0.5)
    assert gate.images == 18 < len(data.validation)
    trainer = ImageTrainer(data, TrainConfig(device="cpu"), 0)
    context = Context(data, Bench(), trainer, tmp_path, seed=0, samples=64)
    made = make(context, technique("a", graph=renamed), gate=gate)
    assert made.graph is not None
    assert record(made, "training", "train").after.accuracy == trainer.accuracy(made.model, few)  # type: ignore[arg-type]
    assert record(made, "a", "graph").after.accuracy == accuracy(made.graph, few)
    assert made.accuracy is None, "its accuracy on all of validation is still to be found"
    registry = make_registry()
    registry.hooks.register(ByMacs())
    observer = Observer(context, Estimator(registry, context.target, tmp_path), images=18)
    assert observer.graph(made.graph).figures.accuracy == accuracy(made.graph, few)
    assert not observer.sees_all and Observer(context).sees_all
