"""Compresses a given model: a study that ends once its goals are met on the target, by more than chance."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.trial import FrozenTrial
from pydantic import ValidationError

from nas_edge.config import StudyConfig, make_config
from nas_edge.engine.audit import measure_searched
from nas_edge.engine.given import GivenModel
from nas_edge.engine.paired import gain
from nas_edge.engine.progress import Progress
from nas_edge.engine.recipes import MODEL_FILE, copy_model, read_recipe
from nas_edge.engine.session import Session
from nas_edge.engine.standing import Standing, Standings, was_trained
from nas_edge.errors import UserError
from nas_edge.export import hits
from nas_edge.goals import DROP, Goals
from nas_edge.model_names import ModelReference
from nas_edge.store.study import StoredStudy
from nas_edge.store.tables import trained_longer

# A search trains networks from nothing; a given one only has to recover, and a high rate would undo what it learned.
LEARNING_RATE = 1e-3
GIVEN_BUDGET = 5.0  # of a model that comes without weights: compression of a half-trained one looks free
FINALISTS = 2  # where no trial meets the goals yet: short trainings rank those that are near each other by chance
TRAIN = {"learning_rate": LEARNING_RATE, "teacher_budget": GIVEN_BUDGET, "finalists": FINALISTS}
DEFAULTS = {"space": GivenModel.name, "objectives": ["accuracy", "latency_ms", "size_bytes"]}


def compress_config(model: str, options: Mapping[str, Any]) -> StudyConfig:
    """The config of a compression: the options of a search, and the goals. None means not given.

    Raises `UserError` naming the option, its value and what would do.
    """
    ModelReference.parse(model)
    given = {name: value for name, value in options.items() if value is not None}
    goals = {name: given.pop(name) for name in Goals.model_fields if name in given}
    try:
        Goals.model_validate(goals)
    except ValidationError as error:
        fault = error.errors()[0]
        flag, said = "--" + str(fault["loc"][0]).replace("_", "-"), fault["msg"]
        raise UserError(f"{flag} is {fault['input']!r}: {said[0].lower()}{said[1:]}") from None
    train = {**TRAIN, **given.pop("train", {})}
    return make_config(None, {**DEFAULTS, **given, "model": model, "goals": goals, "train": train})


def goals_met(session: Session, stored: StoredStudy, progress: Progress, doubted: set[int]) -> bool:
    """Whether a trial meets all goals on the target, and its accuracy by more than chance: then no more are needed.

    What is promising is measured now. A target that cannot be measured costs a warning. Trials that may meet the goals
    by chance are added to those `doubted`, and not looked at again.
    """
    standings = Standings.of(stored)
    if standings is None:
        return False
    if standings.promising:
        measure_searched(session, stored, standings.promising, progress, "whether the goals are met")
        standings = Standings.of(stored) or standings
    winner = standings.winner
    if winner is None:
        return False
    number = winner.trial.number
    if number in doubted:
        return False
    spare = _spare_points(session, stored, standings, winner)
    if spare is None or spare >= 0:
        progress.say(f"trial {number} meets all goals")
        return True
    doubted.add(number)
    progress.say(f"trial {number} meets all goals, but its accuracy may do so by chance: the search goes on")
    return False


def _spare_points(session: Session, stored: StoredStudy, standings: Standings, winner: Standing) -> float | None:
    """By how many points the drop and its standard error stay within the goal; None where there is none."""
    most = standings.goals.max_drop
    if most is None:
        return None
    gained, error = gain(*(_hits(session, stored, standing) for standing in (standings.given, winner)))
    return most + 100 * (gained - error)


def _hits(session: Session, stored: StoredStudy, standing: Standing) -> npt.NDArray[np.bool_]:
    """Which validation images a trial's model gets right."""
    final = stored.tables.finals(stored.config.name).get(standing.trial.number)
    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        path = Path(folder) / MODEL_FILE
        copy_model(stored, standing.trial, path, final=trained_longer(final))
        return hits(path, session.data.validation, session.target)


def finalists(stored: StoredStudy) -> tuple[list[FrozenTrial], list[FrozenTrial] | None]:
    """What the end of a compression tests and measures besides the front, and what it trains for longer.

    That is what meets the goals: it was chosen for its accuracy on validation, and is to have some to spare. Where
    nothing does, it is the nearest that miss nothing but accuracy, then the nearest of all. Only what was trained
    before is trained again. A search has its own way.
    """
    standings = Standings.of(stored)
    if standings is None:
        return [], None
    winner, config = standings.winner, stored.config.train
    kept = [standings.given.trial] + ([winner.trial] if winner else [])
    if not config.final_budget:
        return kept, []
    nearest = [winner] if winner else sorted(standings.ranked, key=lambda s: not _misses_accuracy_alone(s))
    longer: dict[str, FrozenTrial] = {}  # by their files: an undone technique can leave two trials with the same
    for standing in nearest:
        if len(longer) == config.finalists:
            break
        if _was_trained(stored, standing):
            longer.setdefault(standing.trial.user_attrs["onnx_sha256"], standing.trial)
    return kept, list(longer.values())


def _misses_accuracy_alone(standing: Standing) -> bool:
    return [goal.name for goal in standing.goals if not goal.met] == [DROP]


def _was_trained(stored: StoredStudy, standing: Standing) -> bool:
    return was_trained(read_recipe(stored, standing.trial, final=False)[1])
