"""One architecture of the space as data: its ranges, its checks, and the rules that fit it to an image size.

Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from nas_edge import InvalidCandidate


class Ints(NamedTuple):
    """The integers low, low + step, ..., high."""

    low: int
    high: int
    step: int = 1

    def values(self) -> list[int]:
        return list(range(self.low, self.high + 1, self.step))


class Floats(NamedTuple):
    """The numbers low, low + step, ..., high; all are exact in binary."""

    low: float
    high: float
    step: float

    def values(self) -> list[float]:
        return [self.low + i * self.step for i in range(round((self.high - self.low) / self.step) + 1)]


ACTIVATIONS = ("relu", "relu6", "hard_swish")
BLOCKS = ("separable", "inverted")
ATTENTIONS = ("none", "se", "spatial", "self")
INPUT_SCALES = Floats(0.75, 1.25, 0.25)
WIDTH_MULTIPLIERS = Floats(0.5, 1.0, 0.25)
# Widths differ by 16, so that with the smallest multiplier they still differ after rounding to multiples of 8.
STEM_WIDTHS = Ints(16, 32, 16)
STEM_KERNELS = Ints(3, 5, 2)
STAGE_COUNTS = Ints(2, 4)
STAGE_WIDTHS = (Ints(16, 32, 16), Ints(32, 48, 16), Ints(32, 80, 16), Ints(48, 128, 16))
DEPTHS = Ints(1, 3)
STRIDES = Ints(1, 2)
KERNELS = Ints(3, 7, 2)
EXPANSIONS = Ints(2, 6)

SMALLEST, LARGEST = 6, 224
# Smaller images the stem leaves at full size; each doubling of this halves them once more.
FULL_SIZE_BELOW = 24
MAX_STEM_REDUCTIONS = 3


@dataclass(frozen=True)
class Stem:
    width: int
    kernel: int


@dataclass(frozen=True)
class Stage:
    """`expansion` is 1 for a separable block, which does not expand; `stride` is 1 in the first stage."""

    depth: int
    width: int
    block: str
    kernel: int
    attention: str
    stride: int = 1
    expansion: int = 1


@dataclass(frozen=True)
class Architecture:
    """The checked parameters of one network. Widths are those before the multiplier."""

    input_scale: float
    width_multiplier: float
    activation: str
    stem: Stem
    stages: tuple[Stage, ...]

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Architecture:
        """Read what `MobileNetSpace.suggest` wrote. Raises `InvalidCandidate`, naming the field and its value."""
        _check_keys("mobilenet", params, ("input_scale", "width_multiplier", "activation", "stem", "stages"))
        stem, stages = params["stem"], params["stages"]
        _check_keys("stem", stem, ("width", "kernel"))
        if not isinstance(stages, list | tuple) or len(stages) not in STAGE_COUNTS.values():
            low, high, _ = STAGE_COUNTS
            raise InvalidCandidate(f"stages is {stages!r}; give a list of {low} to {high} stages")
        return cls(
            _one_of("input_scale", params["input_scale"], INPUT_SCALES.values()),
            _one_of("width_multiplier", params["width_multiplier"], WIDTH_MULTIPLIERS.values()),
            _one_of("activation", params["activation"], ACTIVATIONS),
            Stem(
                _one_of("stem.width", stem["width"], STEM_WIDTHS.values()),
                _one_of("stem.kernel", stem["kernel"], STEM_KERNELS.values()),
            ),
            tuple(_stage(stage, index) for index, stage in enumerate(stages)),
        )


def _stage(params: Mapping[str, Any], index: int) -> Stage:
    owner = f"stage{index + 1}"
    allowed: dict[str, Iterable[Any]] = {
        "depth": DEPTHS.values(),
        "width": STAGE_WIDTHS[index].values(),
        "block": BLOCKS,
        "kernel": KERNELS.values(),
        "attention": ATTENTIONS,
    }
    if index > 0:
        allowed["stride"] = STRIDES.values()
    if isinstance(params, Mapping) and params.get("block") == "inverted":
        allowed["expansion"] = EXPANSIONS.values()
    _check_keys(owner, params, allowed)
    return Stage(**{name: _one_of(f"{owner}.{name}", params[name], values) for name, values in allowed.items()})


def _check_keys(owner: str, params: Any, expected: Iterable[str]) -> None:
    if not isinstance(params, Mapping):
        raise InvalidCandidate(f"{owner} is {params!r}; give a mapping with {', '.join(expected)}")
    wrong = set(params) ^ set(expected)
    for name in sorted(map(str, wrong)):
        what = "does not apply here; remove it" if name in params else "is missing; add it"
        raise InvalidCandidate(f"{owner}: parameter {name!r} {what} (it takes {', '.join(expected)})")


def _one_of(name: str, value: Any, allowed: Iterable[Any]) -> Any:
    choices = list(allowed)
    if value not in choices:
        raise InvalidCandidate(f"{name} is {value!r}; give one of {', '.join(map(str, choices))}")
    return choices[choices.index(value)]


def input_size(scale: float, native: int) -> int:
    """The resolution in pixels for images of side `native`: `scale` times it, rounded to an even number.

    Near the ends of 6 to 224 pixels the scale is relative to the nearest size at which the whole range of scales
    fits, so that every scale gives another resolution at every native size.
    """
    base = min(max(native, SMALLEST / INPUT_SCALES.low), LARGEST / INPUT_SCALES.high)
    size = scale * base
    return native if size == native else 2 * round(size / 2)


def stem_reductions(resolution: int, scale: float) -> int:
    """How often the stem halves the image: 0 under 24 native pixels, 1 under 48, 2 under 96, then 3.

    Reducing early keeps large images affordable (FD-MobileNet, Qin et al. 2018, section 3.1). It follows from the
    native size, `resolution / scale`, so that a larger scale always means larger feature maps. Of images of 8 pixels
    and more at least 6 x 6 reach the stages, which is what keeps each of their three strides alive.
    """
    native = resolution / scale
    count = 0
    while count < MAX_STEM_REDUCTIONS and native >= FULL_SIZE_BELOW * 2**count:
        count += 1
    return count


def channels(width: int, multiplier: float) -> int:
    """`width * multiplier` as a multiple of 8, at least 8 and at least 90 % of it (MobileNetV2's rule)."""
    exact = width * multiplier
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * exact else rounded + 8
