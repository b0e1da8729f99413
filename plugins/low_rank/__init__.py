"""Low rank: one layer of many weights becomes a chain of layers with few."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nas_edge import Context, Scope, Technique, hookimpl

from ..checks import check_choice, check_count, check_number, refuse

if TYPE_CHECKING:
    from torch import nn

METHODS = ("svd", "spatial", "tucker2", "cp", "auto")
RANK_RULES = ("energy", "ratio", "latency")
CP_KERNELS = ("joint", "separable")


@dataclass(frozen=True)
class LowRankConfig:
    """How layers are factored, and how far.

    `method` is for full convolutions, of more than a pixel: "svd" leaves them alone, "spatial", "tucker2" and "cp"
    factor them so, "auto" takes the best of these three for each layer. Linear and pointwise layers are factored by
    their singular values with every method. `cp_kernel` is the middle of a CP chain: "joint", one depthwise k x k, or
    "separable", k x 1 and 1 x k.

    `rank_by` chooses the ranks, of multiples of `rank_multiple` and the full rank:
    - "energy": the least that keep `energy` of the weight's squared norm, `1 - |W - approximation|^2 / |W|^2`; "auto"
      takes the method with the fewest multiply-adds.
    - "ratio": the largest with at most `ratio` of the layer's weights; "auto" takes the method that keeps most.
    - "latency": the largest with which the layer takes at most `1 - faster_by` of its time on the target; "auto"
      takes the method that keeps most.
    Where the factors of a layer would have as many weights or multiply-adds, it is left alone; and, with
    `check_latency`, where they would be no faster on the target by what can be told, if it can be asked.
    """

    energy: float = 0.9
    rank_multiple: int = 8
    method: str = "svd"
    rank_by: str = "energy"
    ratio: float = 0.5
    faster_by: float = 0.2
    cp_kernel: str = "joint"
    check_latency: bool = True

    def __post_init__(self) -> None:
        check_number("low_rank", "energy", self.energy, above=0, below=1, remedy="try 0.6 to 0.99")
        check_count("low_rank", "rank_multiple", self.rank_multiple, remedy="try 4 or 8")
        check_choice("low_rank", "method", self.method, METHODS)
        check_choice("low_rank", "rank_by", self.rank_by, RANK_RULES)
        check_number("low_rank", "ratio", self.ratio, above=0, below=1, remedy="try 0.2 to 0.7")
        check_number("low_rank", "faster_by", self.faster_by, above=0, below=1, remedy="try 0.1 to 0.5")
        check_choice("low_rank", "cp_kernel", self.cp_kernel, CP_KERNELS)
        if not isinstance(self.check_latency, bool):
            raise refuse("low_rank", "check_latency", self.check_latency, "true or false", "use true")


class LowRank(Technique):
    """Linear layers and convolutions as chains of smaller ones, which together compute nearly the same.

    With a kernel `W` `[out, in, height, width]`, where a matrix is one of 1 x 1:
    - singular values (Denton et al. 2014): `W = P Q`, `[out, rank]` times `[rank, in]`, the best of its rank: the
      squared error is the sum of the discarded squared singular values (Eckart and Young 1936);
    - spatial (Jaderberg et al. 2014): `W[o, i, y, x] = sum over r of H[o, r, x] V[r, i, y]`;
    - Tucker-2 (Kim et al. 2016): `W[o, i, y, x] = sum over r, s of P[o, r] C[r, s, y, x] Q[i, s]`;
    - CP (Lebedev et al. 2015): `W[o, i, y, x] = sum over r of A[o, r] B[i, r] V[y, r] H[x, r]`, or with `K[y, x, r]` in
      place of the last two.
    Convolutions with groups, which depthwise ones are, or padded with anything but zeros are left alone.
    """

    name: ClassVar[str] = "low_rank"
    version: ClassVar[int] = 2  # 1 factored layers for any gain in time
    config_type: ClassVar[type] = LowRankConfig
    after: ClassVar[frozenset[str]] = frozenset({"prune"})
    shape_follows_weights: ClassVar[bool] = True
    summary: ClassVar[str] = "factor layers by svd, spatial, tucker2 or cp; rank by energy, ratio or latency"

    def suggest(self, scope: Scope) -> LowRankConfig:
        """Ranks by energy; full convolutions are left alone, or factored by the method that suits each."""
        return LowRankConfig(
            energy=scope.suggest_float("energy", 0.6, 0.99),
            rank_multiple=scope.suggest_categorical("rank_multiple", [4, 8]),
            method=scope.suggest_categorical("method", ["svd", "auto"]),
        )

    def structure(self, model: nn.Module, config: LowRankConfig, context: Context) -> nn.Module:
        """A copy in which every layer that gains from it is a chain; what is left alone is noted, and why."""
        from .factor import factor_layers

        factored, report = factor_layers(model, config, context)
        context.note(report)
        return factored


@hookimpl
def register_techniques(register: Callable[[Technique], None]) -> None:
    register(LowRank())
