"""Which decisions mattered: Optuna's PED-ANOVA on the study's trials, for accuracy and for latency."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas_edge.report.points import spread
from nas_edge.samplers.history import effective_params
from nas_edge.store.study import StoredStudy

LEAST_TRIALS = 20  # PED-ANOVA looks at the best tenth, and needs some
MOST_TRIALS = 1000  # reading and comparing more takes seconds, and moves the shares by little


@dataclass(frozen=True)
class Importances:
    """The share of each decision in what sets the best tenth of candidates apart from the others, the largest first.

    Found on `trials` of `known` candidates, evenly spaced over the study. What the gate undid counts as off.
    """

    trials: int
    known: int
    accuracy: dict[str, float]
    latency_ms: dict[str, float]


def importances(stored: StoredStudy) -> Importances | None:
    """None for a study of fewer than 20 candidates, and for one without decisions."""
    evaluated = stored.evaluated()
    if len(evaluated) < LEAST_TRIALS:
        return None
    trials = stored.with_params(spread(evaluated, MOST_TRIALS))
    study = _study(trials)
    accuracy = _shares(study, lambda trial: -trial.values[0])
    latency = _shares(study, lambda trial: trial.values[1])
    return Importances(len(trials), len(evaluated), accuracy, latency) if accuracy or latency else None


def _study(trials: Sequence[FrozenTrial]) -> optuna.Study:
    """A study in memory of these trials as they came about: what was undone is off."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # or it says that it made a study
    made = optuna.create_study(directions=["maximize", "minimize"])
    optuna.logging.set_verbosity(verbosity)
    for trial in trials:
        params = effective_params(trial)
        distributions = {name: trial.distributions[name] for name in params}
        values = [float(v) for v in trial.values[:2]]
        made.add_trial(
            create_trial(state=TrialState.COMPLETE, params=params, distributions=distributions, values=values)
        )
    return made


def _shares(study: optuna.Study, target: Callable[[FrozenTrial], float]) -> dict[str, float]:
    if len({target(trial) for trial in study.get_trials(deepcopy=False)}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the evaluator is experimental, and minimises the target
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target=target)
    return {name: float(share) for name, share in found.items() if share > 0}
