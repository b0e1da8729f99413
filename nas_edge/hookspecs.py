"""The hooks: where a plugin is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from nas_edge.contracts import Context, DataSource, SearchSpace, Target, Technique
from nas_edge.records import Evaluation, Prediction
from nas_edge.spec import CandidateSpec

if TYPE_CHECKING:
    import onnx
    import optuna
    import typer

hookspec = pluggy.HookspecMarker("nas_edge")
hookimpl = pluggy.HookimplMarker("nas_edge")


@hookspec
def register_techniques(register: Callable[[Technique], None]) -> None:
    """At load: `register(MyTechnique())`."""


@hookspec
def register_search_spaces(register: Callable[[SearchSpace], None]) -> None:
    """At load: `register(MySpace())`."""


@hookspec
def register_targets(register: Callable[[str, Callable[[str], Target]], None]) -> None:
    """At load: `register("ssh", factory)`; `factory` is given the whole address and returns the target."""


@hookspec
def register_samplers(register: Callable[[str, Callable[[int], optuna.samplers.BaseSampler]], None]) -> None:
    """At load: `register("nsga2", factory)`; `factory` is given the seed."""


@hookspec
def register_datasets(register: Callable[[DataSource], None]) -> None:
    """At load: `register(MyDataSource())`."""


@hookspec
def register_commands(cli: typer.Typer) -> None:
    """At CLI start: add commands to `nas-edge`."""


@hookspec
def validate_candidate(spec: CandidateSpec, context: Context) -> str | None:
    """After sampling: a reason rejects the candidate before any training."""


@hookspec(firstresult=True)
def apply_technique(technique: Technique, stage: str, subject: Any, config: Any, context: Context) -> Any:
    """Each technique at each stage it overrides; the engine's own implementation comes last and calls the technique."""


@hookspec(firstresult=True)
def predict_latency(graph: onnx.ModelProto, target: Target) -> Prediction | None:
    """After export; the engine's own implementation is the last and uses the target's calibrated profile."""


@hookspec
def candidate_finished(study: optuna.Study, evaluation: Evaluation) -> None:
    """An observer: a candidate was evaluated and stored."""


@hookspec
def study_finished(study: optuna.Study, evaluations: Sequence[Evaluation]) -> None:
    """An observer: the search ended; `evaluations` are the members of the front."""
