"""Unstructured pruning: single weights become zero, wherever they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nas_edge import Context, Objective, Scope, Technique, hookimpl

from ..checks import check_choice, check_count, check_number, refuse

if TYPE_CHECKING:
    from torch import nn

MODES = ("percentage", "sensitivity", "threshold")
SCORES = ("abs", "square", "cube")
SCOPES = ("global", "layer", "relative")
SCHEDULES = ("one_shot", "gradual")


@dataclass(frozen=True)
class SparsifyConfig:
    """Which weights become zero, and when.

    `mode` says what decides: "percentage" and "sensitivity" remove the share `sparsity` of the weights whose score is
    the smallest, "threshold" each weight whose score is below `threshold`. The score is a magnitude, |w| ("abs"), w^2
    ("square") or |w| w^2 ("cube"); with "sensitivity" it is |g w| instead, with g the gradient of the loss over
    `sensitivity_images` training images.

    `scope` says what the scores are compared with: all others ("global"), those of the same layer ("layer"), or all
    others in units of each layer's mean ("relative"). Batch norm leaves the size of a layer's weights without meaning,
    which "relative" makes up for. Magnitudes order weights alike, so with "percentage" the choice of one matters in the
    relative scope alone. A threshold is absolute in the scopes "global" and "layer".

    `schedule` "one_shot" removes all before the recovery training, "gradual" a part after each epoch of its first half,
    which takes a training of many epochs.

    Weights of convolutions and linear layers are removed, never biases or norms. `depthwise` convolutions are left
    dense by default: they hold about a hundredth of a MobileNet's weights and lose the most accuracy (as in Zhu & Gupta
    2017). The `classifier`, the last layer with an output a class, holds many weights and takes part.
    """

    mode: str = "percentage"
    sparsity: float = 0.5
    threshold: float = 0.01
    score: str = "abs"
    scope: str = "layer"
    schedule: str = "one_shot"
    sensitivity_images: int = 256
    depthwise: bool = False
    classifier: bool = True

    @property
    def amount(self) -> float:
        """What a schedule arrives at: the threshold or the sparsity."""
        return self.threshold if self.mode == "threshold" else self.sparsity

    def __post_init__(self) -> None:
        check_choice("sparsify", "mode", self.mode, MODES)
        check_number("sparsify", "sparsity", self.sparsity, above=0, below=1, remedy="try 0.3 to 0.9")
        check_number("sparsify", "threshold", self.threshold, above=0, remedy="try 0.001 to 0.1")
        check_choice("sparsify", "score", self.score, SCORES)
        check_choice("sparsify", "scope", self.scope, SCOPES)
        check_choice("sparsify", "schedule", self.schedule, SCHEDULES)
        check_count("sparsify", "sensitivity_images", self.sensitivity_images, remedy="try 128 to 1024")
        for field, value in (("depthwise", self.depthwise), ("classifier", self.classifier)):
            if not isinstance(value, bool):
                raise refuse("sparsify", field, value, "true or false", "use true to let these layers lose weights")


class Sparsify(Technique):
    """Unstructured pruning by magnitude (Han et al. 2015) or connection sensitivity (SNIP, Lee et al. 2019, sec. 4.1).

    Every layer keeps its shape; a mask holds the removed weights at exactly 0 through the recovery training. In one
    shot they stay removed. A gradual schedule (Zhu & Gupta 2017, eq. 1) chooses anew after each epoch, and a weight can
    come back. At least one weight of each layer stays.

    ONNX Runtime stores and multiplies zeros like any other numbers: the file is neither smaller nor faster for them,
    only what a compressed archive makes of it is smaller.
    """

    name: ClassVar[str] = "sparsify"
    config_type: ClassVar[type] = SparsifyConfig
    after: ClassVar[frozenset[str]] = frozenset({"prune", "low_rank"})
    by_default: ClassVar[bool] = False  # it gains nothing that a search counts: neither latency nor bytes of the file
    summary: ClassVar[str] = "zero single weights by magnitude or sensitivity: smaller only once compressed"

    def suggest(self, scope: Scope) -> SparsifyConfig:
        """Not the thresholds, which depend on the network, and not the gradual schedule, which takes many epochs."""
        return SparsifyConfig(
            mode=scope.suggest_categorical("mode", ["percentage", "sensitivity"]),
            sparsity=scope.suggest_float("sparsity", 0.3, 0.9),
            scope=scope.suggest_categorical("scope", SCOPES),
        )

    def structure(self, model: nn.Module, config: SparsifyConfig, context: Context) -> nn.Module:
        """A copy with masks on its weights; before a gradual schedule they keep everything.

        In the quick pass the masks are one-shot and need no data. Raises `InvalidCandidate` where no layer can lose
        weights, or a threshold would remove all of them.
        """
        from .structure import with_masks

        masked, report = with_masks(model, config, context)
        context.note(report)
        return masked

    def objective(self, config: SparsifyConfig, context: Context) -> Objective | None:
        """The gradual schedule; None for one shot, and in the quick pass."""
        if config.schedule != "gradual" or not context.trained:
            return None
        from .gradual import Gradual
        from .structure import examples_for

        return Gradual(config, examples_for(config, context))

    def finalize(self, model: nn.Module, config: SparsifyConfig, context: Context) -> nn.Module:
        """A copy whose weights are the masked ones, for good; notes the zeros and what compression makes of them."""
        from .structure import without_masks

        plain, report = without_masks(model, compress=context.trained)
        context.note(report)
        return plain


@hookimpl
def register_techniques(register: Callable[[Technique], None]) -> None:
    register(Sparsify())
