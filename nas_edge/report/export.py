"""`nas-edge export`: one trial's files into a folder."""

from __future__ import annotations

from pathlib import Path

from optuna.trial import TrialState

from nas_edge.engine.finish import finalise, is_published
from nas_edge.engine.progress import Progress
from nas_edge.engine.recipes import read_recipe
from nas_edge.engine.session import Session
from nas_edge.errors import UserError
from nas_edge.plugins import load_plugins
from nas_edge.report.audit import latency_audit
from nas_edge.report.card import write_export
from nas_edge.report.front import measurement_of
from nas_edge.store.study import StoredStudy


def export_trial(stored: StoredStudy, number: int, folder: Path, progress: Progress) -> list[Path]:
    """Write a finished trial's `model.onnx`, `recipe.json` and `card.md`.

    A trial that the search did not test yet is tested and measured now, which needs the data and the target.
    Raises `UserError` for a trial that holds no model.
    """
    trial = stored.evaluated_in(stored.trial(number))
    number = trial.number
    if trial.state is not TrialState.COMPLETE:
        why = trial.user_attrs.get("why", trial.state.name.lower())
        raise UserError(f"trial {number} has no model to export ({why}); `nas-edge show` lists those that have")
    finals = stored.tables.finals(stored.config.name)
    path = stored.model_path(number)
    if number not in finals or not is_published(stored, number, finals[number]):
        session = Session.open(stored.config, load_plugins())
        stored.check(stored.config, session.facts)
        finalise(session, stored, [trial], progress)
        finals = stored.tables.finals(stored.config.name)
    final = finals[number]
    spec, evaluation = read_recipe(stored, trial, final=final["final"])
    attrs = stored.study.user_attrs
    study = {
        "name": stored.config.name,
        "trial": number,
        "trained_longer": final["final"],
        "max_latency_ms": stored.config.max_latency_ms,
        "config": attrs["config"],
        "data": attrs["data"],
        "plugins": attrs["plugins"],
        "target": attrs["target"],
    }
    return write_export(
        folder,
        path,
        spec,
        evaluation,
        final=final,
        study=study,
        measurement=measurement_of(stored, final),
        audit=latency_audit(stored),
    )
