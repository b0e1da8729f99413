"""Structured pruning: whole channels are cut, with all that depends on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nas_edge import Context, Scope, Technique, hookimpl

from ..checks import check_choice, check_count, check_number

if TYPE_CHECKING:
    from torch import nn

SCOPES = ("global", "layer")
CRITERIA = ("l1", "l2")


@dataclass(frozen=True)
class PruneConfig:
    """What to cut.

    `ratio` is the share of the channels to cut: of all of them, the least important wherever they are, with the scope
    "global"; of each layer's with "layer". `criterion` is the norm that says how important a channel is. What stays
    is rounded to the nearest multiple of `round_to`, and at least that many channels stay in every layer.
    """

    ratio: float = 0.3
    scope: str = "global"
    criterion: str = "l2"
    round_to: int = 8

    def __post_init__(self) -> None:
        check_number("prune", "ratio", self.ratio, above=0, below=1, remedy="try 0.1 to 0.6")
        check_choice("prune", "scope", self.scope, SCOPES)
        check_choice("prune", "criterion", self.criterion, CRITERIA)
        check_count("prune", "round_to", self.round_to, remedy="try 4, 8 or 16")


class Prune(Technique):
    """Structured channel pruning by dependency groups (Fang et al. 2023, DepGraph).

    A group is all the layers that must lose a channel together: across residuals, depthwise convolutions,
    squeeze-excite. The importance of a channel is the sum over the group of its weights' absolute values (l1, after
    Li et al. 2017) or squares (l2), in units of the group's mean.
    """

    name: ClassVar[str] = "prune"
    config_type: ClassVar[type] = PruneConfig
    shape_follows_weights: ClassVar[bool] = True
    summary: ClassVar[str] = "cut whole channels of the smallest norm, with all that depends on them"

    def suggest(self, scope: Scope) -> PruneConfig:
        return PruneConfig(
            ratio=scope.suggest_float("ratio", 0.1, 0.6),
            scope=scope.suggest_categorical("scope", SCOPES),
            criterion=scope.suggest_categorical("criterion", CRITERIA),
            round_to=scope.suggest_categorical("round_to", [4, 8, 16]),
        )

    def structure(self, model: nn.Module, config: PruneConfig, context: Context) -> nn.Module:
        """A copy with fewer channels. Raises `InvalidCandidate` where none can be cut, or the shapes no longer fit."""
        from .channels import prune_channels

        shape = (1, context.data.channels, context.data.resolution, context.data.resolution)
        pruned, report = prune_channels(model, config, shape)
        context.note(report)
        return pruned


@hookimpl
def register_techniques(register: Callable[[Technique], None]) -> None:
    register(Prune())
