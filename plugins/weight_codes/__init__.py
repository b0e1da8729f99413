"""Weight codes: few distinct weights a layer, packed in the ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nas_edge import Context, Scope, Technique, hookimpl

from ..checks import check_choice, refuse

if TYPE_CHECKING:
    import onnx
    from torch import nn

CODES = ("uniform", "codebook", "logarithmic", "ternary", "trained_ternary", "binary")
LEAST_BITS = {"uniform": 2, "codebook": 1, "logarithmic": 2}
DEFAULT_BITS, MOST_BITS = 4, 8
SIZES = {"ternary": 3, "trained_ternary": 3, "binary": 2}
ENDS = ("auto", "float", "int8", "coded")
PLACES = ("int8", "coded", "float")


@dataclass(frozen=True)
class WeightCodesConfig:
    """`code` says which values weights have, and `bits` (1 or 2 to 8; null is 4) how many, where the code asks.

    `granularity`: a unit for each output "channel", or one for the "tensor". `ends`, the first and the last layer, are
    left in "float", made "int8" (uniform codes of 8 bits) or "coded" as the others; "auto" leaves them in float for
    ternary and binary codes, as their authors do, and codes them otherwise. `depthwise` says so for depthwise
    convolutions. `initialisation` ("linear", "kmeans++") is where k-means starts for a codebook, and `assignments`
    whether its weights may go on to another centroid ("trained") or keep theirs ("fixed", Han et al. 2016).
    """

    code: str = "codebook"
    bits: int | None = None
    granularity: str = "channel"
    ends: str = "auto"
    depthwise: str = "int8"
    initialisation: str = "linear"
    assignments: str = "trained"

    def __post_init__(self) -> None:
        check_choice("weight_codes", "code", self.code, CODES)
        check_choice("weight_codes", "granularity", self.granularity, ("channel", "tensor"))
        check_choice("weight_codes", "ends", self.ends, ENDS)
        check_choice("weight_codes", "depthwise", self.depthwise, PLACES)
        check_choice("weight_codes", "initialisation", self.initialisation, ("linear", "kmeans++"))
        check_choice("weight_codes", "assignments", self.assignments, ("trained", "fixed"))
        self._check_bits()

    def _check_bits(self) -> None:
        if self.bits is None:
            return
        whole = isinstance(self.bits, int) and not isinstance(self.bits, bool)
        if not whole or not 1 <= self.bits <= MOST_BITS:
            raise refuse("weight_codes", "bits", self.bits, f"a whole number from 1 to {MOST_BITS}", "try 2 to 4")
        if not self.takes_bits:
            must = f"left out for {self.code} codes, which have {SIZES[self.code]} levels"
            raise refuse("weight_codes", "bits", self.bits, must, "use code='uniform' for a number of bits")
        if self.bits < LEAST_BITS[self.code]:
            must = f"at least {LEAST_BITS[self.code]} for {self.code} codes"
            raise refuse("weight_codes", "bits", self.bits, must, "try 2 to 4")

    @property
    def takes_bits(self) -> bool:
        return self.code in LEAST_BITS

    @property
    def resolved_bits(self) -> int:
        return DEFAULT_BITS if self.bits is None else self.bits

    @property
    def resolved_ends(self) -> str:
        """Ternary and binary networks keep the first and last layer in float (Rastegari et al. 2016; Zhu et al. 2017);
        codebooks and powers of two are used throughout (Han et al. 2016; Zhou et al. 2017)."""
        if self.ends != "auto":
            return self.ends
        return "coded" if self.takes_bits else "float"

    @property
    def level_count(self) -> int:
        """The levels of a layer: symmetric codes have one less than 2^bits."""
        if not self.takes_bits:
            return SIZES[self.code]
        return (1 << self.resolved_bits) - (self.code != "codebook")


class WeightCodes(Technique):
    """Weights of convolutions and linear layers in codes, `unit[channel] * level[index]`, activations in float.

    Trained through the straight-through estimator, and packed in the ONNX file: small integers in a stream of bytes,
    the levels, and a factor for each output channel, which takes up the unit and the batch normalisation that export
    folds in. ONNX operators unpack them, and ONNX Runtime does so once, when it loads the file: the file is small, and
    the speed is that of float. The codes, with their sources, are in `codes.py`.
    """

    name: ClassVar[str] = "weight_codes"
    config_type: ClassVar[type] = WeightCodesConfig
    after: ClassVar[frozenset[str]] = frozenset({"prune", "low_rank", "sparsify", "distill"})
    exclusive: ClassVar[frozenset[str]] = frozenset({"precision"})
    by_default: ClassVar[bool] = False  # the file is smaller and loads slower; it runs no faster
    for_size: ClassVar[bool] = True
    summary: ClassVar[str] = "weights as codebook, powers of two, few bits, ternary or binary; packed in the file"

    def suggest(self, scope: Scope) -> WeightCodesConfig:
        code = scope.suggest_categorical("code", CODES)
        return WeightCodesConfig(code=code, bits=scope.suggest_int("bits", 2, 8) if code in LEAST_BITS else None)

    def structure(self, model: nn.Module, config: WeightCodesConfig, context: Context) -> nn.Module:
        """A copy that trains its weights in codes. Raises `InvalidCandidate` where no layer is left to code."""
        from .layers import code_layers

        coded, report = code_layers(model, config, context)
        context.note(report)
        return coded

    def finalize(self, model: nn.Module, config: WeightCodesConfig, context: Context) -> nn.Module:
        """A copy in plain layers with the coded weights. The codes are kept in `context.work_dir` for `graph`."""
        from .layers import bake_codes

        return bake_codes(model, context.work_dir)

    def graph(self, model: onnx.ModelProto, config: WeightCodesConfig, context: Context) -> onnx.ModelProto:
        """The model with its coded weights packed: those of the last `finalize` with this work folder."""
        from .layers import load_codes
        from .onnx_file import pack_weights

        packed, report = pack_weights(model, load_codes(context.work_dir))
        context.note(report)
        return packed


@hookimpl
def register_techniques(register: Callable[[Technique], None]) -> None:
    register(WeightCodes())
