"""Distillation: the student learns from a teacher, or with peers, beside the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nas_edge import Context, InvalidCandidate, Objective, Scope, Technique, hookimpl

from ..checks import check_choice, check_count, check_number

if TYPE_CHECKING:
    from torch import nn

METHODS = ("outputs", "features", "attention", "relations", "online")
GUIDED = ("features", "attention", "relations")
RELATIONS = ("distance_angle", "distance", "angle", "similarity")
PEERS = ("student", "teacher")


@dataclass(frozen=True)
class DistillConfig:
    """What is learned, and how much it counts beside the task's own loss, which has 1.

    `temperature` softens the outputs of both, and `weight` is that of the softened outputs. `method` "outputs" is these
    alone. "features", "attention" and "relations" add a loss of their own with `method_weight`; their `weight` may be
    0, which leaves the outputs out. `depths` is how many feature maps are compared at most, the deepest first, and
    `relation` which relation between samples is. "online" trains `peers` more networks beside the student, each of
    them with the architecture of the student or of the teacher, after `peer`; they learn from each other's softened
    outputs.
    """

    temperature: float = 3.0
    weight: float = 1.0
    method: str = "outputs"
    method_weight: float = 1.0
    depths: int = 3
    relation: str = "distance_angle"
    peers: int = 1
    peer: str = "student"

    def __post_init__(self) -> None:
        check_number("distill", "temperature", self.temperature, above=0, remedy="try 1 to 6")
        check_choice("distill", "method", self.method, METHODS)
        guided, remedy = self.method in GUIDED, "try 0.3 to 3, or leave distill out"
        check_number("distill", "weight", self.weight, above=0, or_zero=guided, remedy=remedy)
        check_number("distill", "method_weight", self.method_weight, above=0, remedy="try 0.3 to 10")
        check_count("distill", "depths", self.depths, remedy="try 1 to 4")
        check_choice("distill", "relation", self.relation, RELATIONS)
        check_count("distill", "peers", self.peers, remedy="try 1 to 3")
        check_choice("distill", "peer", self.peer, PEERS)


class Distill(Technique):
    """Distillation from a trained teacher, or among networks that are trained together.

    All methods but "online" add `weight * T^2 * KL(softmax(teacher / T) || softmax(student / T))`, the mean over the
    batch, to the task's loss (Hinton, Vinyals, Dean 2015, section 2). The gradient of the softened divergence falls as
    1/T^2, so T^2 keeps its share the same at each temperature. Beside it, `method_weight` times

    - "features": the squared error between feature maps at several depths, through a learned 1x1 convolution each,
      in units of the teacher's energy (FitNets, Romero et al. 2015);
    - "attention": the distance between normalised attention maps, the sums over channels of squared features
      (Zagoruyko & Komodakis 2017, equation 2);
    - "relations": how differently the two arrange a batch: by the distances and angles between penultimate embeddings
      (Park et al. 2019, equations 4 to 8), or by their inner products (`relation` "similarity", Tung & Mori 2019).

    Maps are those at the end of each resolution, found by running an image through both networks, and matched from the
    deepest on. "online" needs no teacher: see `MutualLearning` (Zhang et al. 2018). Nothing of any method stays in the
    network that was trained.
    """

    name: ClassVar[str] = "distill"
    config_type: ClassVar[type] = DistillConfig
    after: ClassVar[frozenset[str]] = frozenset({"prune", "low_rank"})
    needs_teacher: ClassVar[bool] = True
    summary: ClassVar[str] = "learn a larger network's outputs, features, attention or relations, or learn with peers"

    def suggest(self, scope: Scope) -> DistillConfig:
        return DistillConfig(
            temperature=scope.suggest_float("temperature", 1.0, 6.0),
            weight=scope.suggest_float("weight", 0.3, 3.0, log=True),
            method=scope.suggest_categorical("method", METHODS[:4]),  # peers cost a training each
        )

    def needs_teacher_for(self, config: DistillConfig) -> bool:
        return config.method != "online" or config.peer == "teacher"

    def objective(self, config: DistillConfig, context: Context) -> Objective | None:
        """The extra loss; None in the quick pass, where nothing is trained.

        Raises `InvalidCandidate` without a teacher that is needed, or with one for another number of classes. So does
        the training where the networks have no feature maps, or no embedding, to compare.
        """
        if not context.trained:
            return None
        if config.method == "online":
            from .online import MutualLearning

            architecture = _own_teacher(context) if config.peer == "teacher" else None
            return MutualLearning(
                config.peers, architecture, temperature=config.temperature, weight=config.weight, seed=context.seed
            )
        teacher = _own_teacher(context)
        if config.method == "outputs":
            from .softened import SoftenedOutputs

            return SoftenedOutputs(teacher, config.temperature, config.weight)
        from .guided import GUIDES

        return GUIDES[config.method](teacher, config, context)


def _own_teacher(context: Context) -> nn.Module:
    """A copy of the teacher that is ours. Raises `InvalidCandidate` where it is missing or for other classes."""
    if context.teacher is None:
        raise InvalidCandidate(
            "distill: teacher=None, and there is nothing to learn from; give a teacher, or use method='online'"
        )
    from .softened import frozen_copy, output_count

    teacher = frozen_copy(context.teacher)
    classes = len(context.data.classes)
    outputs = output_count(teacher, context.data.train.images[:1])
    if outputs != classes:
        raise InvalidCandidate(
            f"distill: teacher has {outputs} classes but the data has {classes}; "
            "train a teacher on this data, or leave distill out"
        )
    return teacher


@hookimpl
def register_techniques(register: Callable[[Technique], None]) -> None:
    register(Distill())
