"""Low rank: one layer of many weights becomes two of few."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nas_edge import Context, Scope, Technique, hookimpl

from ..checks import check_count, check_number

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LowRankConfig:
    """`energy` is the share of the squared singular values to keep; the rank is rounded up to `rank_multiple`."""

    energy: float = 0.9
    rank_multiple: int = 8

    def __post_init__(self) -> None:
        check_number("low_rank", "energy", self.energy, above=0, below=1, remedy="try 0.6 to 0.99")
        check_count("low_rank", "rank_multiple", self.rank_multiple, remedy="try 4 or 8")


class LowRank(Technique):
    """Linear layers and pointwise convolutions by truncated singular values (Denton et al. 2014).

    A weight `[out, in]` becomes `[out, rank]` times `[rank, in]`, the best approximation of its rank (Eckart and
    Young 1936): the squared error is the sum of the discarded squared singular values.
    """

    name: ClassVar[str] = "low_rank"
    config_type: ClassVar[type] = LowRankConfig
    after: ClassVar[frozenset[str]] = frozenset({"prune"})
    shape_follows_weights: ClassVar[bool] = True
    summary: ClassVar[str] = "factor linear and pointwise layers by singular values, rank by energy kept"

    def suggest(self, scope: Scope) -> LowRankConfig:
        return LowRankConfig(
            energy=scope.suggest_float("energy", 0.6, 0.99),
            rank_multiple=scope.suggest_categorical("rank_multiple", [4, 8]),
        )

    def structure(self, model: nn.Module, config: LowRankConfig, context: Context) -> nn.Module:
        """A copy in which every layer that gains from it is two; a layer that would grow is left alone and noted."""
        from .factor import factor_layers

        factored, report = factor_layers(model, config.energy, config.rank_multiple)
        context.note(report)
        return factored


@hookimpl
def register_techniques(register: Callable[[Technique], None]) -> None:
    register(LowRank())
