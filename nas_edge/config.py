"""What a study is asked to do: from a TOML file, from flags, or from Python. Flags override the file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nas_edge.conditions import Until
from nas_edge.errors import UserError, unknown_name
from nas_edge.files import Malformed, parse_json, read_toml
from nas_edge.goals import Goals

DEFAULT_EPOCHS = 4
DEFAULT_MOST_SAMPLES = 6_000  # they rank candidates well enough; those worth it are trained for longer at the end
BATCH, LEAST_STEPS = 64, 300
OBJECTIVES = ("accuracy", "latency_ms", "size_bytes")
# A search weighs accuracy against latency itself, so the gate only takes back what wrecks a network: 5 points are three
# standard errors of the difference of two accuracies near 95 % on 350 images.
MAX_DROP = 5.0
LARGEST = "largest"
TRAIN_PREFIX = "train."  # before the names of `TrainConfig`, where they are given among choices


class TrainConfig(BaseModel):
    """How candidates are trained. Budgets count images seen, so that they mean the same for every data set."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    samples: int | None = Field(
        None,
        ge=1,
        description="images that the training of one candidate sees; by default 4 epochs, at most 6,000",
        examples=[6_000],
    )
    recovery_share: float = Field(
        0.4, gt=0, lt=1, description="share of them kept for recovery after structure changes"
    )
    finetune_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of them for joint fine-tuning after recovery, at a tenth of the learning rate",
    )
    teacher_budget: float = Field(10.0, gt=0, description="the teacher's training, in units of one candidate's")
    supernet_budget: float = Field(20.0, gt=0, description="the supernet's training, likewise")
    supernet_share: float = Field(
        0.2, gt=0, le=1, description="share of a candidate's images that settle the weights it inherits"
    )
    ranking_sample: int = Field(
        6, ge=0, description="candidates trained on their own to see how well inherited accuracy ranks; 0 for none"
    )
    final_budget: float = Field(10.0, ge=0, description="the finalists' training, likewise; 0 keeps them as searched")
    finalists: int | None = Field(
        None,
        ge=0,
        description="the most accurate members of the front to train again for longer; by default all",
        examples=[5],
    )
    batch_size: int | None = Field(
        None,
        ge=2,
        description="images in a step; by default 64, or 32 in trainings that would have under 300 steps",
        examples=[64],
    )
    learning_rate: float = Field(6e-3, gt=0, description="the highest of AdamW's, which follows one cosine")
    weight_decay: float = Field(0.02, ge=0, description="of AdamW")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="share of each label spread over all classes")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="what training multiplies in (autocast); float16 needs CUDA"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="what trains; auto takes CUDA where it is")

    @model_validator(mode="after")
    def _leaves_a_first_training(self) -> TrainConfig:
        if self.recovery_share + self.finetune_share >= 1:
            total = self.recovery_share + self.finetune_share
            raise ValueError(f"recovery_share and finetune_share together must be below 1, not {total:g}; lower one")
        return self

    def batch_for(self, samples: int) -> int:
        """Images in a step of a training that sees so many."""
        return self.batch_size or (BATCH if samples >= LEAST_STEPS * BATCH else BATCH // 2)

    def samples_for(self, train_images: int) -> int:
        """Images that the training of one candidate sees, where the training split has so many."""
        return self.samples or min(DEFAULT_EPOCHS * train_images, DEFAULT_MOST_SAMPLES)


class StudyConfig(BaseModel):
    """One study. The fields are the flags of `nas-edge search`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    study: str = Field(
        "", description="the study's name, and that of its folder under runs; by default that of the data"
    )
    space: str = Field("mobilenet", description="search space; `nas-edge spaces` lists them")
    model: str | None = Field(None, description="the network to compress, in place of a search space")
    goals: Goals | None = Field(None, description="what its compression is to reach")
    data: str = Field("digits", description="digits, fashion-mnist:ROOT, cifar10:ROOT, folder:PATH or arrays:FILE.npz")
    target: str = Field("local", description="device; local?threads=2, or a name of `nas-edge targets`")
    trials: int = Field(40, ge=1, description="evaluated candidates, in all")
    timeout: float | None = Field(
        None, gt=0, description="seconds after which no new candidate is asked for", examples=[3600.0]
    )
    until: str | None = Field(
        None,
        description="what one candidate is to reach, which ends the search",
        examples=["accuracy >= 0.92 and latency_ms <= 2"],
    )
    objectives: list[str] = Field(
        default=["accuracy", "latency_ms"], description="what is traded off; size_bytes may be the third"
    )
    max_latency_ms: float | None = Field(None, gt=0, description="latency budget of a candidate", examples=[2.0])
    techniques: list[str] | None = Field(
        None,
        description="those to search over, by default all but those that must be named; `nas-edge plugins` lists them",
        examples=[["prune", "quantize", "distill"]],
    )
    set: dict[str, Any] = Field(
        default={},
        description="decisions by name, fixed or narrowed to several values",
        examples=[{"prune.criterion": ["l1", "l2"]}],
    )
    gate: bool = Field(True, description="undo what makes a candidate neither faster nor smaller, or costs too much")
    max_drop: float = Field(
        MAX_DROP, ge=0, le=100, description="accuracy, in points, that one step may cost with the gate on"
    )
    latency_first: bool = Field(
        True, description="leave out candidates whose predicted latency and plausible accuracy are no match for others"
    )
    zero_cost: bool = Field(
        False, description="let scores before training say what accuracy is plausible, where they are seen to rank"
    )
    early_stopping: bool = Field(
        False, description="end a training that stands badly among the others after a quarter, or half of it"
    )
    supernet: bool = Field(False, description="let candidates inherit their weights from a network of all of them")
    teacher: str = Field(LARGEST, description="largest of the space, torchvision:NAME[:WEIGHTS] or module:function")
    sampler: str = Field("surrogate", description="what proposes candidates; `nas-edge plugins` lists them")
    baseline: Literal["random"] | None = Field(
        None, description="what is given the same budget after the search, to compare", examples=["random"]
    )
    baseline_seeds: int = Field(1, ge=1, description="how often, each with another seed")
    storage: str | None = Field(
        None, description="URL of a database; by default SQLite under out", examples=["postgresql://nas@db.example/nas"]
    )
    artifacts: str | None = Field(
        None,
        pattern=r"s3://[a-z0-9][a-z0-9.-]+",
        description="a bucket for the models, by default a folder under out",
        examples=["s3://my-bucket"],
    )
    workers: int = Field(1, ge=1, description="processes on this machine")
    on: str | None = Field(
        None,
        pattern=r"^ray(://[^?/]+)?([?].*)?$",
        description="a Ray cluster that runs the workers",
        examples=["ray://head.example:10001?cpus=2"],
    )
    trial_timeout: float | None = Field(
        None,
        gt=0,
        description="seconds after which a trial is ended; by default 20 times the median, at least 600",
        examples=[1800.0],
    )
    trial_memory_mb: int | None = Field(
        None,
        ge=1,
        description="memory at which a worker is ended; by default 9 tenths of the machine's for all of them",
        examples=[4000],
    )
    seed: int = Field(0, ge=0, lt=2**63, description="of the splits, the sampler and the training")
    sampler_seed: int | None = Field(
        None, ge=0, lt=2**63, description="of the sampler alone, in place of the seed", examples=[1]
    )
    out: str | None = Field(
        None, description="folder of the study's files; by default runs/NAME", examples=["runs/mine"]
    )
    train_images: int | None = Field(None, ge=1, description="use only so many training images", examples=[10_000])
    calibration_seconds: float = Field(60.0, ge=5, description="time to learn how fast the target is, where it is new")
    audit_trials: int = Field(
        8, ge=0, description="predicted latencies, besides the front's, that the end of a search measures; 0 for none"
    )
    audit_every: int = Field(50, ge=1, description="finished trials between the smaller audits of a long search")
    train: TrainConfig = Field(TrainConfig(), description="how candidates are trained")

    @field_validator("objectives", "techniques", mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        return list(value) if isinstance(value, tuple) else value

    @field_validator("set", mode="before")
    @classmethod
    def _as_choices(cls, value: object) -> object:
        return _flat(value) if isinstance(value, Mapping) else value

    @field_validator("out", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, Path) else value

    @field_validator("objectives")
    @classmethod
    def _known_objectives(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in OBJECTIVES:
                raise ValueError(str(unknown_name("objective", name, OBJECTIVES)))
        if value not in (list(OBJECTIVES[:2]), list(OBJECTIVES)):
            raise ValueError("give accuracy, latency_ms and, where wanted, size_bytes, in this order")
        return value

    @field_validator("teacher")
    @classmethod
    def _known_teacher(cls, value: str) -> str:
        if value != LARGEST and not re.fullmatch(r"[^:]+:[^:]+(:.+)?", value):
            raise ValueError("use largest, torchvision:NAME, torchvision:NAME:WEIGHTS.pt or module:function")
        return value

    @field_validator("until")
    @classmethod
    def _conditions(cls, value: str | None) -> str | None:
        if value is not None:
            Until.parse(value)
        return value

    @field_validator("study")
    @classmethod
    def _safe_name(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
            raise ValueError(f"{value!r} is not a study name; use letters, digits, '.', '_' and '-'")
        return value

    @model_validator(mode="after")
    def _together(self) -> StudyConfig:
        if (self.model is None) != (self.goals is None):
            raise ValueError("a model and the goals of its compression go together; use `nas-edge compress`")
        if self.zero_cost and not self.latency_first:
            raise ValueError("zero_cost takes part in latency_first; switch that on too")
        if self.model is not None and self.baseline is not None:
            raise ValueError("a compression ends when its goals are met, and has no baseline of the same budget")
        if self.model is not None and (self.workers > 1 or self.on is not None):
            raise ValueError("a compression measures between its trials, and takes one worker, on this machine")
        return self

    @property
    def name(self) -> str:
        """The study's name; by default that of its data set, after that of the model to compress."""
        model = f"{self.model.split(':')[1]}-" if self.model and ":" in self.model else ""
        return self.study or re.sub(r"[^A-Za-z0-9._-]+", "-", model + self.data.split(":")[0]).strip("-._") or "study"

    @property
    def folder(self) -> Path:
        """Where the study's files go."""
        return Path(self.out) if self.out else Path("runs") / self.name

    @property
    def storage_url(self) -> str:
        return self.storage or f"sqlite:///{self.folder / 'study.db'}"

    def identity(self) -> dict[str, Any]:
        """What makes two configs the same study: all but how long, where and by how many it is run.

        Data and target are left out: their fingerprints are compared, wherever they lie.
        """
        elsewhere = {"study", "trials", "timeout", "storage", "workers", "out", "target", "data", "goals", "until"}
        elsewhere |= {"baseline", "baseline_seeds", "trial_timeout", "trial_memory_mb", "on"}
        latency = {"calibration_seconds", "audit_trials", "audit_every"}
        return self.model_dump(exclude=elsewhere | latency)


def make_config(file: Path | None, options: Mapping[str, Any]) -> StudyConfig:
    """The config of a TOML file with the options of `nas-edge search` on top; None means not given.

    Two options are short for others: `samples` for `train.samples`, `threads=N` for `target="local?threads=N"`. What is
    `set` goes on top of the file's `[set]`, name by name, and what begins with "train." on top of its `[train]`; on the
    command line it is a list of `NAME=VALUE`.

    Raises `UserError` naming the field, its value and what would do.
    """
    values = _read(file) if file else {}
    given = {k: v for k, v in options.items() if v is not None}
    samples, chosen = given.pop("samples", None), _choices(given.pop("set", None))
    if (threads := given.pop("threads", None)) is not None:
        if "target" in given:
            raise UserError("threads and target are both given; write the target as 'local?threads=N'")
        given["target"] = f"local?threads={threads}"
    values.update(given)
    trained = {n.removeprefix(TRAIN_PREFIX): chosen.pop(n) for n in list(chosen) if n.startswith(TRAIN_PREFIX)}
    trained |= {} if samples is None else {"samples": samples}
    if chosen and isinstance(filed := values.get("set", {}), Mapping):
        values["set"] = {**_flattened(filed), **chosen}
    if trained and isinstance(filed := values.get("train", {}), Mapping):
        values["train"] = {**filed, **trained}
    return parse_config(values, str(file) if file else None)


def _choices(given: Mapping[str, Any] | Iterable[str] | None) -> dict[str, Any]:
    """What is `set`, by its full names."""
    return _flattened(given if isinstance(given, Mapping) else parse_assignments(given or ()))


def _flattened(choices: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return _flat(choices)
    except ValueError as error:
        raise UserError(f"set: {error}") from None


def parse_config(values: Mapping[str, Any], origin: str | None = None) -> StudyConfig:
    try:
        return StudyConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(_describe(error, origin)) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_toml(file)
    except OSError as error:
        raise UserError(f"study file {file} cannot be read: {error}") from None
    except Malformed as error:
        raise UserError(f"study file {file} {error}") from None


def _describe(error: ValidationError, origin: str | None) -> str:
    """The first fault in one line, in the user's words."""
    fault = error.errors()[0]
    path = [str(p) for p in fault["loc"] if not isinstance(p, int)]
    name = ".".join(path)
    where = f"{origin}: " if origin else ""
    flag = f"--{name.replace('_', '-')}" if not origin and "." not in name else name
    if fault["type"] == "extra_forbidden":
        parts: dict[str, type[BaseModel]] = {"train": TrainConfig, "goals": Goals}
        model = parts.get(path[0], StudyConfig)
        return f"{where}{unknown_name('key', name, ['.'.join([*path[:-1], f]) for f in model.model_fields])}"
    message = fault["msg"].removeprefix("Value error, ")
    if not path or (fault["type"] == "value_error" and isinstance(fault["input"], Mapping)):  # of values together
        return f"{where}{message}"
    return f"{where}{flag} is {fault['input']!r}: {message[0].lower() + message[1:]}"


def parse_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """`NAME=VALUE` to the value, `NAME=A,B` to a list of values: each is JSON, or else a word as it stands.

    Raises `UserError` for a text that is none, and for a name that comes twice.
    """
    chosen: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not name or not equals or not value.strip():
            raise UserError(f"--set is {text!r}; write NAME=VALUE, as in prune.criterion=l1")
        if name in chosen:
            raise UserError(f"--set {name} is given twice; for several values write {name}=A,B")
        chosen[name] = _value(value.strip())
    return chosen


def _value(text: str) -> Any:
    try:
        return parse_json(text)
    except Malformed:
        pass
    return [_value(part.strip()) for part in text.split(",")] if "," in text else text


def _flat(choices: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Choices by their full names: TOML reads `prune.ratio = 0.5` as a table in a table. One value of a list is fixed.

    Raises `ValueError` for what is no choice.
    """
    found: dict[str, Any] = {}
    for key, value in choices.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{name}.")
            continue
        values = list(value) if isinstance(value, list | tuple) else [value]
        for one in values:
            if not isinstance(one, None | bool | int | float | str) or (
                isinstance(one, float) and not math.isfinite(one)
            ):
                raise ValueError(f"{name} is {one!r}; give true or false, a number or a word")
        if not values or any(a == b and type(a) is type(b) for i, a in enumerate(values) for b in values[:i]):
            raise ValueError(f"{name} is {value!r}; give at least one value, and each once")
        found[name] = values[0] if len(values) == 1 else values
    return found
