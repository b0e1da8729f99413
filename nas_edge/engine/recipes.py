"""The files that a trial left: its model, and the recipe that says what it is and what was found of it."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from pydantic import TypeAdapter, ValidationError

from nas_edge.errors import StorageError
from nas_edge.files import Malformed, read_json
from nas_edge.records import Evaluation
from nas_edge.spec import CandidateSpec
from nas_edge.store.study import StoredStudy

MODEL_FILE, RECIPE_FILE = "model.onnx", "recipe.json"
SPEC, EVALUATION = TypeAdapter(CandidateSpec), TypeAdapter(Evaluation)


def read_recipe(stored: StoredStudy, trial: FrozenTrial, *, final: bool) -> tuple[CandidateSpec, Evaluation]:
    """The spec and the evaluation that a trial's artifacts hold. Raises `StorageError` where they are damaged."""
    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        path = Path(folder) / RECIPE_FILE
        _fetch(stored, trial, RECIPE_FILE, path, final=final)
        try:
            return parse_recipe(read_json(path))
        except Malformed as error:
            raise StorageError(
                f"the recipe of trial {trial.number} in {stored.where} {error}; bring the file back, or start another "
                "study with --study NAME"
            ) from None


def parse_recipe(value: Any) -> tuple[CandidateSpec, Evaluation]:
    """What `recipe_text` wrote. Raises `Malformed` saying what it lacks or holds."""
    try:
        spec, evaluation = CandidateSpec.from_json(value["spec"]), Evaluation.from_json(value["evaluation"])
        return SPEC.validate_python(asdict(spec)), EVALUATION.validate_python(asdict(evaluation))
    except KeyError as error:
        raise Malformed(f"is no recipe: it lacks {error}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(map(str, fault["loc"]))
        raise Malformed(f"is no recipe: {name} is {str(fault['input'])[:80]!r}: {fault['msg']}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise Malformed(f"is no recipe: {error}") from None


def copy_model(stored: StoredStudy, trial: FrozenTrial, to: Path, *, final: bool) -> None:
    """Copy a trial's ONNX file out of the artifacts. Raises `StorageError` where it is missing."""
    _fetch(stored, trial, MODEL_FILE, to, final=final)


def _fetch(stored: StoredStudy, trial: FrozenTrial, name: str, to: Path, *, final: bool) -> None:
    if final:
        found = stored.download(final_name(trial, name), stored.study, to)
    else:
        found = stored.download(name, trial, to)
    if not found:
        raise StorageError(f"the artifact {name} of trial {trial.number} is missing in {stored.where}")


def final_name(trial: FrozenTrial, name: str) -> str:
    """How the study's artifact of a trial that was trained for longer is called."""
    return f"final-{trial.number}-{name}"
