"""What distillation compares, against numpy written from the papers' equations."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_edge_plugins.distill.losses import (
    MOST_SAMPLES,
    angle_error,
    attention_distance,
    attention_map,
    distance_error,
    feature_error,
    relation_error,
    same_size,
    similarity_error,
)

Loss = Callable[[Tensor, Tensor], Tensor]
Array = NDArray[np.float64]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def huber(a: float, b: float) -> float:
    return 0.5 * (a - b) ** 2 if abs(a - b) <= 1 else abs(a - b) - 0.5


def distances(e: Array) -> Array:
    """Equations 4 and 5 of Park et al. 2019."""
    found = np.array([np.linalg.norm(e[i] - e[j]) for i, j in itertools.permutations(range(len(e)), 2)])
    return np.asarray(found / found.mean())


def cosines(e: Array) -> list[float]:
    """Equation 7."""
    found = []
    for i, j, k in itertools.permutations(range(len(e)), 3):
        a, b = e[i] - e[j], e[k] - e[j]
        found.append(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    return found


def similarities(e: Array) -> Array:
    """Equations 1 and 2 of Tung & Mori 2019."""
    gram = e @ e.T
    return np.asarray(gram / np.linalg.norm(gram, axis=1, keepdims=True))


def test_feature_error_is_a_share_of_the_teachers_energy() -> None:
    student, teacher = drawn(4, 3, 5, 5), drawn(4, 3, 5, 5, seed=1)
    expected = ((student - teacher).numpy() ** 2).sum() / (teacher.numpy() ** 2).sum()
    assert feature_error(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    assert feature_error(torch.zeros_like(teacher), teacher).item() == pytest.approx(1)
    assert feature_error(7 * student, 7 * teacher).item() == pytest.approx(expected, rel=1e-12)
    assert feature_error(teacher, teacher).item() == 0
    assert feature_error(teacher, torch.zeros_like(teacher)).isfinite()


def test_maps_are_averaged_to_the_smaller_size() -> None:
    large, small = drawn(2, 3, 8, 8), drawn(2, 5, 4, 4)
    for a, b in (same_size(large, small), same_size(small, large)[::-1]):
        np.testing.assert_allclose(a.numpy(), large.numpy().reshape(2, 3, 4, 2, 4, 2).mean((3, 5)))
        assert torch.equal(b, small)


def test_attention_distance_is_equation_2() -> None:
    student, teacher = drawn(4, 3, 5, 5), drawn(4, 7, 5, 5, seed=1)
    maps = [(f.numpy() ** 2).sum(1).reshape(4, 25) for f in (student, teacher)]
    seen, taught = (q / np.linalg.norm(q, axis=1, keepdims=True) for q in maps)
    expected = np.linalg.norm(seen - taught, axis=1).mean()
    assert attention_distance(student, teacher).item() == pytest.approx(expected, rel=1e-9)


def test_attention_sees_neither_units_nor_the_order_of_channels() -> None:
    student, teacher = drawn(4, 6, 5, 5), drawn(4, 7, 5, 5, seed=1)
    same = attention_distance(student, teacher).item()
    assert attention_distance(-3 * student.flip(1), 0.1 * teacher).item() == pytest.approx(same, rel=1e-9)
    assert attention_distance(torch.cat([teacher, 2 * teacher], 1), teacher).item() == pytest.approx(0, abs=1e-12)
    assert attention_distance(student.flip(2), teacher).item() != pytest.approx(same, rel=1e-2)


def test_attention_of_larger_maps_is_averaged_after_squaring() -> None:
    student = drawn(2, 3, 8, 8)
    small = attention_map(student).reshape(2, 1, 4, 2, 4, 2).mean((3, 5))
    assert attention_distance(student, small.sqrt()).item() == pytest.approx(0, abs=1e-12)


def test_distance_error_is_the_mean_over_pairs() -> None:
    student, teacher = drawn(6, 3), 4 * drawn(6, 9, seed=1)
    both = zip(distances(student.numpy()), distances(teacher.numpy()), strict=True)
    expected = np.mean([huber(a, b) for a, b in both])
    assert distance_error(student, teacher).item() == pytest.approx(expected, rel=1e-9)


def test_angle_error_is_the_mean_over_triplets() -> None:
    student, teacher = drawn(6, 3), drawn(6, 9, seed=1)
    both = zip(cosines(student.numpy()), cosines(teacher.numpy()), strict=True)
    expected = np.mean([huber(a, b) for a, b in both])
    assert angle_error(student, teacher).item() == pytest.approx(expected, rel=1e-9)


def test_similarity_error_is_b_times_equation_4() -> None:
    student, teacher = drawn(6, 3), drawn(6, 9, seed=1)
    paper = np.linalg.norm(similarities(student.numpy()) - similarities(teacher.numpy())) ** 2 / 6**2
    assert similarity_error(student, teacher).item() == pytest.approx(6 * paper, rel=1e-9)


@pytest.mark.parametrize(
    ("loss", "moved"), [(distance_error, 5.0), (angle_error, 5.0), (similarity_error, 0.0)], ids=lambda v: str(v)[:20]
)
def test_relations_see_neither_units_nor_directions(loss: Loss, moved: float) -> None:
    """Nor where all of it lies, but for inner products."""
    student, teacher = drawn(8, 5), drawn(8, 4, seed=1)
    turned = student @ torch.linalg.qr(drawn(5, 5, seed=2)).Q
    assert loss(3 * turned + moved, 0.2 * teacher).item() == pytest.approx(loss(student, teacher).item(), rel=1e-9)
    assert loss(3 * turned + moved, student).item() == pytest.approx(0, abs=1e-12)
    assert loss(student, teacher).item() > 1e-3


def test_relations_weigh_their_parts_as_the_paper() -> None:
    student, teacher = drawn(8, 5), drawn(8, 4, seed=1)
    found = {name: relation_error(student, teacher, name).item() for name in ("distance", "angle", "distance_angle")}
    assert found["distance_angle"] == pytest.approx(found["distance"] + found["angle"], rel=1e-12)
    ratio = found["angle"] / angle_error(student, teacher) * distance_error(student, teacher) / found["distance"]
    assert ratio.item() == pytest.approx(2)
    similar = relation_error(student, teacher, "similarity").item()
    assert similar == pytest.approx(0.25 * similarity_error(student, teacher).item())


@pytest.mark.parametrize("relation", ["distance_angle", "similarity"])
def test_relations_compare_the_first_samples_of_a_large_batch(relation: str) -> None:
    student, teacher = drawn(MOST_SAMPLES + 20, 3), drawn(MOST_SAMPLES + 20, 4, seed=1)
    first = relation_error(student[:MOST_SAMPLES], teacher[:MOST_SAMPLES], relation)
    assert relation_error(student, teacher, relation).item() == first.item()


@pytest.mark.parametrize("relation", ["distance_angle", "similarity"])
@pytest.mark.parametrize("samples", [1, 2, 3])
def test_a_small_batch_and_equal_samples_give_finite_gradients(relation: str, samples: int) -> None:
    student = torch.zeros(samples, 4, dtype=torch.float64)
    student[-1:] = drawn(1, 4)
    student.requires_grad_()
    loss = relation_error(student, drawn(samples, 5, seed=1), relation)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e4  # without a bound on what is short, 1e7 and more
