"""`nas-edge show`: a study's front or trials, or one trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_edge.cli import complete
from nas_edge.cli.inspect import JsonFlag
from nas_edge.cli.study import StorageOption, StudyArgument, located, names_of
from nas_edge.errors import UserError
from nas_edge.report.selection import FIGURES, Selection, State, acting

if TYPE_CHECKING:
    from nas_edge.store.study import StoredStudy


def show(
    study: StudyArgument,
    trial: Annotated[
        int | None, typer.Argument(help="One trial, with what each technique did.", autocompletion=complete.trials)
    ] = None,
    all_trials: Annotated[bool, typer.Option("--all", help="All trials, not the front alone.")] = False,
    where: Annotated[
        str | None,
        typer.Option(help=f"Those that meet 'latency_ms <= 0.4 and accuracy > 0.9'; of {', '.join(FIGURES)}."),
    ] = None,
    technique: Annotated[
        str | None,
        typer.Option(
            help="Those in which it acts; prune,quantize: both; none: no technique.", autocompletion=complete.techniques
        ),
    ] = None,
    state: Annotated[State | None, typer.Option(help="Those that ended so; of all trials.")] = None,
    sort: Annotated[
        str | None,
        typer.Option(help="By one of the figures; -accuracy: the highest first.", autocompletion=complete.figures),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many.", min=1)] = None,
    storage: StorageOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a study's front or its trials, or one trial."""
    from nas_edge.cli.output import emit
    from nas_edge.cli.views import front_table, study_view, trial_view, trials_table
    from nas_edge.report.compression import Compression
    from nas_edge.report.front import Present, front_rows, trial_rows
    from nas_edge.report.summary import summary

    stored = located(study, storage)
    if trial is not None:
        if all_trials or any(value is not None for value in (where, technique, state, sort, limit)):
            raise UserError(f"trial {trial} is asked for, and others too; leave out its number, or the filters")
        payload = _trial(stored, trial)
        emit(payload, as_json, lambda: trial_view(payload))
        return
    stored = stored.snapshot()
    present = Present.of(stored)
    front, trials = front_rows(stored, present), trial_rows(stored, present)
    selection = Selection.parse(
        where=where,
        techniques=names_of(technique) or ["none"] if technique is not None else [],
        state=state,
        sort=sort,
        limit=limit,
        known=_techniques(stored, trials),
    )
    found = Compression.of(stored)
    shown, listed = selection.of(front, vars), selection.of(trials, dict)
    payload = {**(found.to_json() if found else {}), **summary(stored, shown), "trials": listed}
    whole = all_trials or state is not None

    def view() -> Any:
        table = trials_table(listed, len(trials)) if whole else front_table(shown, len(front))
        return study_view(stored, table, found)

    emit(payload, as_json, view)


def _techniques(stored: StoredStudy, trials: list[dict[str, Any]]) -> set[str]:
    """Those that the study searches over, and those that act in its trials."""
    return set(stored.config.techniques or ()).union(*map(acting, trials))


def _trial(stored: StoredStudy, number: int) -> dict[str, Any]:
    from dataclasses import asdict

    from optuna.trial import TrialState

    from nas_edge.report.study import Study

    trial = stored.trial(number)
    payload: dict[str, Any] = {"study": stored.config.name, "number": number, "state": trial.state.name.lower()}
    payload["why"] = trial.user_attrs.get("why")
    payload["params"] = trial.params
    if trial.state is TrialState.COMPLETE:
        spec, evaluation = Study(stored).candidate(number)
        final = stored.tables.finals(stored.config.name).get(stored.evaluated_in(trial).number)
        payload |= {"spec": spec.to_json(), "evaluation": asdict(evaluation), "final": final}
    return payload
