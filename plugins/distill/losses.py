"""What is compared between a student and a teacher beyond their outputs: pure functions of tensors.

Each is zero where both say the same. A teacher's tensors are taken as given: they carry no gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Samples of a batch that relations are taken between: the triplets of angles grow with its third power.
MOST_SAMPLES = 64
# What brings each relation to the size of the task's loss in a training of some hundred steps: ten times as much
# drowns it. Distances and angles have the ratio of Park et al. 2019.
DISTANCE_WEIGHT, ANGLE_WEIGHT, SIMILARITY_WEIGHT = 1.0, 2.0, 0.25
TINY = 1e-6
SHORT = 1e-2


def as_float(x: Tensor) -> Tensor:
    """In float32 at least: a mixed-precision training hands over halves."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def same_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps `[B, C, H, W]`, averaged down to the smaller height and width of the two."""
    size = min(a.shape[-2], b.shape[-2]), min(a.shape[-1], b.shape[-1])
    return F.adaptive_avg_pool2d(a, size), F.adaptive_avg_pool2d(b, size)


def feature_error(student: Tensor, teacher: Tensor) -> Tensor:
    """`||student - teacher||^2 / ||teacher||^2` over a batch of maps of one shape `[B, C, H, W]`.

    The squared error of FitNets (Romero et al. 2015, equation 3), as a share of the teacher's energy: it is the same
    in whatever units both are, and 1 for a student that says nothing.
    """
    return (student - teacher).square().sum() / teacher.square().sum().clamp_min(TINY)


def attention_map(features: Tensor) -> Tensor:
    """Where a network looks: the sum over channels of the squares of `[B, C, H, W]`, as `[B, 1, H, W]`.

    Zagoruyko & Komodakis 2017, section 3.1, F^2_sum.
    """
    return features.square().sum(1, keepdim=True)


def attention_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """`||Q_S / ||Q_S|| - Q_T / ||Q_T|| ||`, the mean over the batch; Q are the attention maps as vectors.

    Zagoruyko & Komodakis 2017, equation 2, for one pair of maps `[B, C, H, W]` of any channels and sizes. Between 0 and
    sqrt(2), and the same in whatever units each of them is.
    """
    maps = same_size(attention_map(student), attention_map(teacher))
    seen, taught = (F.normalize(m.flatten(1), dim=1, eps=TINY) for m in maps)
    distances: Tensor = torch.linalg.vector_norm(seen - taught, dim=1)
    return distances.mean()


def distance_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between the distances of all pairs of embeddings `[B, features]`, each in units of their mean.

    Park et al. 2019, equations 4 to 6, as the mean over the pairs. Zero for a batch of one.
    """
    # smooth L1 with its beta of 1 is the Huber loss
    errors = F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher), reduction="sum")
    return errors / max(1, len(student) * (len(student) - 1))


def angle_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between the cosines of the angles at j that samples i and k make, for all triplets of `[B, features]`.

    Park et al. 2019, equations 7 and 8, as the mean over the triplets. Zero for a batch below three.
    """
    triplets = _triplets(len(student), student.device)
    errors = F.smooth_l1_loss(_cosines(student), _cosines(teacher), reduction="none")
    return torch.where(triplets, errors, 0).sum() / triplets.sum().clamp_min(1)


def similarity_error(student: Tensor, teacher: Tensor) -> Tensor:
    """`||G_S - G_T||_F^2 / B`, where G is the matrix of inner products `[B, B]` of embeddings with rows of norm 1.

    Tung & Mori 2019, equations 1 to 4, times B: the mean over the rows does not shrink as batches grow.
    """
    seen, taught = (_directions(e @ e.T) for e in (student, teacher))
    return (seen - taught).square().sum() / len(student)


def relation_error(student: Tensor, teacher: Tensor, relation: str) -> Tensor:
    """How differently two networks arrange a batch, by embeddings `[B, features]` of any two widths.

    `relation` is "distance", "angle", "distance_angle" (both), or "similarity". The first 64 samples are compared.
    """
    student, teacher = student[:MOST_SAMPLES], teacher[:MOST_SAMPLES]
    if relation == "similarity":
        return SIMILARITY_WEIGHT * similarity_error(student, teacher)
    total = student.new_zeros(())
    if relation != "angle":
        total = total + DISTANCE_WEIGHT * distance_error(student, teacher)
    if relation != "distance":
        total = total + ANGLE_WEIGHT * angle_error(student, teacher)
    return total


def _directions(vectors: Tensor) -> Tensor:
    """Rows of norm 1; one much shorter than the mean stays short, and its gradient bounded."""
    return vectors / _not_short(torch.linalg.vector_norm(vectors, dim=-1, keepdim=True))


def _not_short(lengths: Tensor) -> Tensor:
    """Lengths to divide by."""
    return lengths.clamp_min(SHORT * lengths.detach().mean().clamp_min(TINY))


def _relative_distances(embeddings: Tensor) -> Tensor:
    """Of all pairs, in units of their mean over those that differ `[B, B]`."""
    distances = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    pairs = max(1, len(embeddings) * (len(embeddings) - 1))
    return distances / (distances.sum() / pairs).clamp_min(TINY)


def _cosines(embeddings: Tensor) -> Tensor:
    """Of the angles at j between i and k `[j, i, k]`, from inner products: <i - j, k - j> = ik - ij - jk + jj.

    Samples in one place make no angle: a short edge counts as a longer one, and its gradient is bounded.
    """
    centred = embeddings - embeddings.mean(0)  # differences of inner products are exact near the origin
    gram = centred @ centred.T
    inner = gram - gram[:, :, None] - gram[:, None, :] + gram.diagonal()[:, None, None]
    lengths = _not_short(torch.cdist(centred, centred, compute_mode="donot_use_mm_for_euclid_dist"))
    return inner / (lengths[:, :, None] * lengths[:, None, :])


def _triplets(count: int, device: torch.device) -> Tensor:
    """Which i, j, k are three, `[j, i, k]`."""
    same = torch.eye(count, dtype=torch.bool, device=device)
    return ~(same[:, :, None] | same[:, None, :] | same)
