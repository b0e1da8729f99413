"""Distillation: the student learns the teacher's softened outputs beside the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from nas_edge import Context, InvalidCandidate, Objective, Scope, Technique, hookimpl

from ..checks import check_number


@dataclass(frozen=True)
class DistillConfig:
    """`temperature` softens both outputs; `weight` is the teacher's beside the task's own loss, which has 1."""

    temperature: float = 3.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_number("distill", "temperature", self.temperature, above=0, remedy="try 1 to 6")
        check_number("distill", "weight", self.weight, above=0, remedy="try 0.3 to 3, or leave distill out")


class Distill(Technique):
    """Distillation from softened outputs (Hinton, Vinyals, Dean 2015, section 2).

    Adds `weight * T^2 * KL(softmax(teacher / T) || softmax(student / T))`, the mean over the batch, to the task's
    loss. The gradient of the softened divergence falls as 1/T^2, so T^2 keeps its share the same at each temperature.
    """

    name: ClassVar[str] = "distill"
    config_type: ClassVar[type] = DistillConfig
    after: ClassVar[frozenset[str]] = frozenset({"prune", "low_rank"})
    needs_teacher: ClassVar[bool] = True
    summary: ClassVar[str] = "learn a larger network's softened outputs (Hinton et al. 2015)"

    def suggest(self, scope: Scope) -> DistillConfig:
        return DistillConfig(
            temperature=scope.suggest_float("temperature", 1.0, 6.0),
            weight=scope.suggest_float("weight", 0.3, 3.0, log=True),
        )

    def objective(self, config: DistillConfig, context: Context) -> Objective | None:
        """The extra loss; None in the quick pass, where nothing is trained.

        Raises `InvalidCandidate` without a teacher, or with one for another number of classes.
        """
        if not context.trained:
            return None
        if context.teacher is None:
            raise InvalidCandidate("distill: teacher=None, and there is nothing to learn from; give a teacher")
        from .softened import SoftenedOutputs, frozen_copy, output_count

        teacher = frozen_copy(context.teacher)
        classes = len(context.data.classes)
        outputs = output_count(teacher, context.data.train.images[:1])
        if outputs != classes:
            raise InvalidCandidate(
                f"distill: teacher has {outputs} classes but the data has {classes}; "
                "train a teacher on this data, or leave distill out"
            )
        return SoftenedOutputs(teacher, config.temperature, config.weight)


@hookimpl
def register_techniques(register: Callable[[Technique], None]) -> None:
    register(Distill())
