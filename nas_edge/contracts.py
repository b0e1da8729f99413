"""What a plugin is: the classes that techniques, search spaces, targets and data sources are written against.

Importing this module imports neither torch nor onnxruntime, and a plugin's module should not either: do it inside
the methods that need them, so that `nas-edge plugins` stays quick.

Every model that a technique sees takes images as the data set has them, float32 `[batch, channels, height, width]`
in 0..1, and gives logits `[batch, classes]`; normalisation and resizing are its first layer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from nas_edge.errors import InvalidCandidate
from nas_edge.records import Measurement, StepRecord
from nas_edge.spec import ArchSpec, CandidateSpec

if TYPE_CHECKING:
    import onnx
    import torch
    from torch import nn

T = TypeVar("T", bool, int, float, str)
STAGES = ("structure", "objective", "finalize", "graph")


class Suggests(Protocol):
    """The part of an Optuna trial that a `Scope` uses."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...
    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...
    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


class Scope:
    """Samples parameters for one owner, and puts the owner's name before each: `prune.ratio`."""

    def __init__(self, trial: Suggests, owner: str) -> None:
        self._trial = trial
        self._owner = owner

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """An integer in low..high, both included."""
        return self._trial.suggest_int(f"{self._owner}.{name}", low, high, step=step, log=log)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A float in low..high."""
        return self._trial.suggest_float(f"{self._owner}.{name}", low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[T]) -> T:
        """One of `choices`, which must be the same, in the same order, in every trial of a study."""
        value: T = self._trial.suggest_categorical(f"{self._owner}.{name}", list(choices))
        return value

    def within(self, name: str) -> Scope:
        """A scope for a part of the owner: `scope.within("stage2")` samples `mobilenet.stage2.kernel`."""
        return Scope(self._trial, f"{self._owner}.{name}")


@dataclass(frozen=True)
class Split:
    """Images, uint8 `[count, channels, height, width]`, and their labels, int64 `[count]`, on the CPU."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def spread(self, most: int) -> Split:
        """At most so many of its images, evenly spread over it."""
        some = slice(None, None, max(1, -(-len(self) // most)))
        return Split(self.images[some], self.labels[some])


@dataclass(frozen=True)
class Augmentation:
    """What training may do to an image without changing its class: shift by up to a share of its side, mirror."""

    shift: float = 0.0
    mirror: bool = False


@dataclass(frozen=True)
class ImageData:
    """A data set in memory, in three disjoint splits.

    `train` is for weights and calibration, `validation` for choosing, `test` for the final report alone.
    `mean` and `std` are those of the training images in 0..1, a value a channel. `fingerprint` changes when an
    image, a label or the splits do. `skipped` names the files that did not decode.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation
    fingerprint: str
    preprocessing: str
    skipped: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        return int(self.train.images.shape[1])

    @property
    def resolution(self) -> int:
        """The side of the (square) images in pixels."""
        return int(self.train.images.shape[2])


class DataSource:
    """Loads a data set: `name:location` on the command line."""

    name: ClassVar[str]
    needs_location: ClassVar[bool] = True

    def load(self, location: str, *, seed: int, train_images: int | None = None) -> ImageData:
        """The data in its splits, the same for the same seed.

        `train_images` bounds the training split, drawn evenly over the classes; validation and test stay whole.
        Raises `DataError` where the location holds no usable data.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Supernet:
    """Which weights the networks of a space share, so that all of them are trained at once (Cai et al. 2020).

    A weight of a network is a part of a shared one: the leading channels, and of a kernel the middle. `shared_name`
    gives the shared weight's name for an architecture and the weight's own name in the network that `build` returns;
    it may be the same for weights that stand for each other in networks that differ in depth, width, kernel, expansion
    or resolution. `largest` and `smallest` are trained in each step; `whole` are architectures that together hold every
    shared weight in its full size.
    """

    largest: Mapping[str, Any]
    smallest: Mapping[str, Any]
    whole: Sequence[Mapping[str, Any]]
    shared_name: Callable[[Mapping[str, Any], str], str]


class SearchSpace:
    """A family of architectures.

    `trained` says that its networks come with weights for the data: then all of a candidate's training comes after its
    techniques. `takes_images` says that they take the images as they are, in 0..1, and no preprocessing is put before
    them. `family` names what its networks have in common: a latency profile of some is one of all.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    trained: ClassVar[bool] = False
    takes_images: ClassVar[bool] = False

    @property
    def family(self) -> str:
        return f"{self.name}{self.version}"

    def suggest(self, scope: Scope) -> dict[str, Any]:
        """Sample the JSON-able parameters of one architecture. Must not depend on the data."""
        raise NotImplementedError

    def build(self, params: Mapping[str, Any], *, in_channels: int, num_classes: int, resolution: int) -> nn.Module:
        """The network, `[batch, in_channels, resolution, resolution]` to `[batch, num_classes]`, freshly initialised.

        Raises `InvalidCandidate` for parameters that make no network at this resolution.
        """
        raise NotImplementedError

    def input_size(self, params: Mapping[str, Any], native: int) -> int:
        """The resolution in pixels that this architecture runs at, for images of side `native`."""
        return native

    def largest(self) -> dict[str, Any] | None:
        """The parameters of a strong network, for a teacher; None lets the engine take the largest of a few."""
        return None

    def supernet(self) -> Supernet | None:
        """Which weights its networks share; None has each trained from nothing."""
        return None


class Objective:
    """What a technique adds to the recovery training. Each default adds nothing."""

    def prepare(self, model: nn.Module) -> None:
        """Attach to the layers of the model that is about to be trained."""

    def loss(self, inputs: torch.Tensor, labels: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor | None:
        """A scalar that is added to the task's loss.

        `inputs` are augmented images in 0..1 `[batch, channels, height, width]`, `labels` `[batch]` and `outputs`
        logits `[batch, classes]`.
        """
        return None

    def parameters(self) -> Iterable[nn.Parameter]:
        """Parameters of its own, trained along."""
        return ()

    def epoch_end(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Called after each epoch, 1 to `epochs`: for schedules."""

    def finish(self, model: nn.Module) -> None:
        """Called once when the training has ended, also by an error: take off the model what `prepare` attached."""


class Technique:
    """One compression technique. Override the stages it needs; each default changes nothing.

    `version` is raised when the same config would give another result. `after` names the techniques that must act
    earlier where both are on. `needs_teacher` has the study train a teacher, `context.teacher`. `shape_follows_weights`
    says that what is left of a network depends on its weights, so that its latency before training is an estimate.
    `exclusive` names what only one of the techniques of a candidate may decide, such as "precision": the engine rejects
    a candidate with two that do. `by_default` False leaves a technique to the searches that name it,
    and with `for_size` to a compression that is to make the file smaller by so much.
    A technique never changes the model it is given, and leaves the random state, the threads and the gradient mode as
    it found them.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    config_type: ClassVar[type]
    after: ClassVar[frozenset[str]] = frozenset()
    exclusive: ClassVar[frozenset[str]] = frozenset()
    needs_teacher: ClassVar[bool] = False
    shape_follows_weights: ClassVar[bool] = False
    by_default: ClassVar[bool] = True
    for_size: ClassVar[bool] = False
    summary: ClassVar[str] = ""

    def suggest(self, scope: Scope) -> Any:
        """Sample a config. Whether the technique is on at all is sampled by the engine."""
        return self.config_type()

    def needs_teacher_for(self, config: Any) -> bool:
        """Whether this config learns from `context.teacher`; by default, whether any does."""
        return self.needs_teacher

    def structure(self, model: nn.Module, config: Any, context: Context) -> nn.Module:
        """Before recovery training: prune channels, factor layers, insert fake quantizers."""
        return model

    def objective(self, config: Any, context: Context) -> Objective | None:
        """During recovery training: an extra loss or a schedule."""
        return None

    def finalize(self, model: nn.Module, config: Any, context: Context) -> nn.Module:
        """After it: fold masks, drop training-only modules."""
        return model

    def graph(self, model: onnx.ModelProto, config: Any, context: Context) -> onnx.ModelProto:
        """After export: quantize, fuse."""
        return model

    def overrides(self, stage: str) -> bool:
        """Whether this technique does anything at a stage."""
        return getattr(type(self), stage) is not getattr(Technique, stage)

    def config_from_json(self, value: Mapping[str, Any]) -> Any:
        """The config that `config_to_json` wrote, or a user's.

        Raises `InvalidCandidate` naming a field that it does not have.
        """
        known = {f.name for f in fields(self.config_type)}
        for name in value:
            if name not in known:
                raise InvalidCandidate(
                    f"{self.name}: unknown field {name!r}; its fields are {', '.join(sorted(known)) or 'none'}"
                )
        return self.config_type(**value)

    def config_to_json(self, config: Any) -> dict[str, Any]:
        if not is_dataclass(config) or isinstance(config, type):
            raise InvalidCandidate(f"{self.name}: its config must be a dataclass instance, not {config!r}")
        return asdict(config)


class Target:
    """A device to run on."""

    name: str

    def fingerprint(self) -> dict[str, Any]:
        """CPU model, instruction sets, onnxruntime version, provider, threads: what a latency depends on.

        `architecture` and `instruction_sets` also decide by which kernels latencies are predicted, and how many bits
        8-bit weights have (see `int8_saturates`).
        """
        raise NotImplementedError

    def measure(self, model: Path, budget_s: float) -> Measurement:
        """The latency of an ONNX file at batch 1, in about `budget_s` seconds.

        Raises `MeasurementError`, or `ModelError` for a file that is no ONNX model.
        """
        raise NotImplementedError

    def measure_many(self, models: Sequence[Path], budget_s: float) -> list[Measurement]:
        """Several files in about `budget_s` seconds each. A target that can interleave them overrides this."""
        return [self.measure(model, budget_s) for model in models]


class Trainer(Protocol):
    """What a technique may ask of the training: in `context.trainer`."""

    def fit(self, model: nn.Module, *, samples: int, objectives: Sequence[Objective] = ()) -> nn.Module:
        """A trained copy of the model, after `samples` images seen."""
        ...

    def accuracy(self, model: nn.Module, split: Split) -> float:
        """The fraction of a split that the torch model gets right."""
        ...


@dataclass(frozen=True)
class Context:
    """All that a technique may touch.

    `samples` is the number of images that the candidate's training sees; `trained` is False in the quick pass that
    only asks how fast a candidate would be, where weights are random. `work_dir` is the candidate's own folder.
    `latency_ms` estimates how long a torch model takes on the target, in ms for one image: exported, and predicted
    where a profile knows such networks, else measured. It is None where the target cannot be asked, as in a
    calibration. `inherit` gives a network, in place, the weights that it begins with; where it is `ready` these are
    those to judge it by, and all of its training comes after its techniques.
    """

    data: ImageData
    target: Target
    trainer: Trainer
    work_dir: Path
    seed: int
    samples: int
    trained: bool = True
    teacher: nn.Module | None = None
    latency_ms: Callable[[nn.Module], float] | None = None
    inherit: Callable[[ArchSpec, nn.Module], None] | None = None
    ready: bool = False
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("nas_edge"))
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Say in the step's record what was done or left alone, and why."""
        self.notes.append(text)


@dataclass
class Candidate:
    """A candidate on its way: the spec, the torch model until export, the ONNX file after it, and the record.

    `techniques` are those of the spec that were not undone; `accuracy` is that of the graph in ONNX Runtime on the
    validation split, where it is known.
    """

    spec: CandidateSpec
    model: nn.Module | None = None
    graph: onnx.ModelProto | None = None
    onnx_path: Path | None = None
    steps: list[StepRecord] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    techniques: tuple[str, ...] = ()
    accuracy: float | None = None
