"""What a study is asked to do: from a TOML file, from flags, or from Python. Flags override the file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from nas_edge.errors import UserError, unknown_name

MAX_FILE_BYTES = 1_000_000
DEFAULT_EPOCHS = 4
DEFAULT_MOST_SAMPLES = 30_000
OBJECTIVES = ("accuracy", "latency_ms", "size_bytes")


class TrainConfig(BaseModel):
    """How candidates are trained. Budgets count images seen, so that they mean the same for every data set."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    samples: int | None = Field(
        None, ge=1, description="images that the training of one candidate sees; by default 4 epochs, at most 30,000"
    )
    recovery_share: float = Field(
        0.4, gt=0, lt=1, description="share of them kept for recovery after structure changes"
    )
    teacher_budget: float = Field(3.0, gt=0, description="the teacher's training, in units of one candidate's")
    final_budget: float = Field(5.0, ge=0, description="the finalists' training, likewise; 0 keeps them as searched")
    finalists: int = Field(1, ge=0, description="members of the front that are trained again for longer")
    batch_size: int = Field(64, ge=2)
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def samples_for(self, train_images: int) -> int:
        """Images that the training of one candidate sees, where the training split has so many."""
        return self.samples or min(DEFAULT_EPOCHS * train_images, DEFAULT_MOST_SAMPLES)


class StudyConfig(BaseModel):
    """One study. The fields are the flags of `nas-edge search`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    study: str = ""
    space: str = "mobilenet"
    data: str = "digits"
    target: str = "local"
    trials: int = Field(40, ge=1, description="evaluated candidates, in all")
    timeout: float | None = Field(None, gt=0, description="seconds")
    objectives: list[str] = ["accuracy", "latency_ms"]
    max_latency_ms: float | None = Field(None, gt=0)
    techniques: list[str] | None = None
    sampler: str = "nsga2"
    storage: str | None = None
    workers: int = Field(1, ge=1)
    seed: int = Field(0, ge=0, lt=2**63)
    out: str | None = None
    train_images: int | None = Field(None, ge=1)
    calibration_seconds: float = Field(60.0, ge=5)
    audit_trials: int = Field(
        8, ge=0, description="predicted latencies, besides the front's, that the end of a search measures; 0 for none"
    )
    audit_every: int = Field(50, ge=1, description="finished trials between the smaller audits of a long search")
    train: TrainConfig = TrainConfig()

    @field_validator("objectives", "techniques", mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        return list(value) if isinstance(value, tuple) else value

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

    @field_validator("study")
    @classmethod
    def _safe_name(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
            raise ValueError(f"{value!r} is not a study name; use letters, digits, '.', '_' and '-'")
        return value

    @property
    def name(self) -> str:
        """The study's name; by default that of its data set."""
        return self.study or re.sub(r"[^A-Za-z0-9._-]+", "-", self.data.split(":")[0]) or "study"

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
        elsewhere = {"study", "trials", "timeout", "storage", "workers", "out", "target", "data"}
        latency = {"calibration_seconds", "audit_trials", "audit_every"}
        return self.model_dump(exclude=elsewhere | latency)


def make_config(file: Path | None, options: Mapping[str, Any]) -> StudyConfig:
    """The config of a TOML file with the options of `nas-edge search` on top; None means not given.

    Two options are short for others: `samples` for `train.samples`, `threads=N` for `target="local?threads=N"`.

    Raises `UserError` naming the field, its value and what would do.
    """
    values = _read(file) if file else {}
    given = {k: v for k, v in options.items() if v is not None}
    if (samples := given.pop("samples", None)) is not None and isinstance(values.get("train", {}), dict):
        values["train"] = {**values.get("train", {}), "samples": samples}
    if (threads := given.pop("threads", None)) is not None:
        if "target" in given:
            raise UserError("threads and target are both given; write the target as 'local?threads=N'")
        given["target"] = f"local?threads={threads}"
    values.update(given)
    return parse_config(values, str(file) if file else None)


def parse_config(values: Mapping[str, Any], origin: str | None = None) -> StudyConfig:
    try:
        return StudyConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(_describe(error, origin)) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"study file {file} is larger than {MAX_FILE_BYTES:,} bytes; is it really one?")
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"study file {file} cannot be read: {error}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"study file {file} is not TOML: {error}") from None


def _describe(error: ValidationError, origin: str | None) -> str:
    """The first fault in one line, in the user's words."""
    fault = error.errors()[0]
    path = [str(p) for p in fault["loc"] if not isinstance(p, int)]
    name = ".".join(path)
    where = f"{origin}: " if origin else ""
    flag = f"--{name.replace('_', '-')}" if not origin and "." not in name else name
    if fault["type"] == "extra_forbidden":
        model = TrainConfig if len(path) > 1 else StudyConfig
        return f"{where}{unknown_name('key', name, ['.'.join([*path[:-1], f]) for f in model.model_fields])}"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{where}{flag} is {fault['input']!r}: {message[0].lower() + message[1:]}"
