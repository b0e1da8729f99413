"""Structured pruning: whole channels and attention heads are cut, with all that depends on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nas_edge import Context, Scope, Technique, hookimpl

from ..checks import check_choice, check_count, check_number, refuse

if TYPE_CHECKING:
    from torch import nn

SCOPES = ("global", "layer")
CRITERIA = ("l1", "l2", "activation", "taylor")
SCHEDULES = ("one_shot", "iterative")
AUTO = "auto"


@dataclass(frozen=True)
class PruneConfig:
    """What to cut.

    `ratio` is the share of the channels to cut: of all of them, the least important wherever they are, with the scope
    "global"; of each layer's with "layer". What stays is rounded to the nearest multiple of `round_to` channels, and at
    least that many stay in every layer; "auto" takes the multiple that the target's kernels work in, 16 or 8. Attention
    is cut by whole heads.

    `criterion` says how important a channel is: the "l1" or "l2" norm of its weights, its mean "activation", or its
    contribution to the loss ("taylor"); the last two look at `importance_images` training images.

    The `schedule` "one_shot" cuts everything at once; "iterative" cuts in `steps` equal parts, judges the channels
    afresh for each, and trains between two on equal parts of `train_share` of the candidate's training images, which
    come on top of them. Recovery training follows in either case.
    """

    ratio: float = 0.3
    scope: str = "layer"
    criterion: str = "l2"
    round_to: int | str = 8
    schedule: str = "one_shot"
    steps: int = 4
    train_share: float = 0.2
    importance_images: int = 512

    def __post_init__(self) -> None:
        check_number("prune", "ratio", self.ratio, above=0, below=1, remedy="try 0.1 to 0.6")
        check_choice("prune", "scope", self.scope, SCOPES)
        check_choice("prune", "criterion", self.criterion, CRITERIA)
        if self.round_to != AUTO:
            check_count("prune", "round_to", self.round_to, remedy="try 4, 8, 16 or 'auto'")
        check_choice("prune", "schedule", self.schedule, SCHEDULES)
        check_count("prune", "steps", self.steps, remedy="try 2 to 8")
        if self.steps < 2:
            raise refuse("prune", "steps", self.steps, "at least 2", "use schedule='one_shot' for a single cut")
        check_number("prune", "train_share", self.train_share, above=0, remedy="try 0.1 to 0.5")
        check_count("prune", "importance_images", self.importance_images, remedy="try 256 to 2048")


class Prune(Technique):
    """Structured pruning by dependency groups (Fang et al. 2023, DepGraph).

    A group is all the layers that must lose a channel together: across residuals, depthwise convolutions,
    squeeze-excite; or the layers of an attention, which lose a whole head (see `heads.HeadedAttention` for how a
    network offers that). The importance of a channel or head is a sum over its group, see `importance`: of absolute
    weights (l1, after Li et al. 2017), of their squares (l2), of mean absolute activations (Molchanov et al. 2017,
    section 2.2), or of gradient times weight, in absolute value (Molchanov et al. 2019, section 3.1). The iterative
    schedule is that of Molchanov et al. 2017, section 2.

    In the quick pass, where weights are random, the norm l2 stands in for the criteria that need data, and all is cut
    at once: with the scope "layer" to the same widths as after training.
    """

    name: ClassVar[str] = "prune"
    version: ClassVar[int] = 2  # 1 never cut attention heads
    config_type: ClassVar[type] = PruneConfig
    shape_follows_weights: ClassVar[bool] = True
    summary: ClassVar[str] = "cut the least important channels and attention heads, with all that depends on them"

    def suggest(self, scope: Scope) -> PruneConfig:
        return PruneConfig(
            ratio=scope.suggest_float("ratio", 0.1, 0.6),
            scope=scope.suggest_categorical("scope", SCOPES),
            criterion=scope.suggest_categorical("criterion", CRITERIA),
            round_to=scope.suggest_categorical("round_to", [4, 8, 16]),
        )

    def structure(self, model: nn.Module, config: PruneConfig, context: Context) -> nn.Module:
        """A copy with fewer channels. Raises `InvalidCandidate` where none can be cut, or the shapes no longer fit."""
        from .schedule import prune

        return prune(model, config, context)


@hookimpl
def register_techniques(register: Callable[[Technique], None]) -> None:
    register(Prune())
