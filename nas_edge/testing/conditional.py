"""A space with conditions, as search spaces and techniques have them, and trials of it."""

from __future__ import annotations

from typing import Any

import optuna


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """Stages with a kind each, of which one has a size of its own; a switch with settings behind it."""
    stages = trial.suggest_int("net.stages", 1, 3)
    chosen: dict[str, Any] = {"stages": stages, "rate": trial.suggest_float("net.rate", 0.1, 10.0, log=True)}
    for number in range(1, stages + 1):
        kind = trial.suggest_categorical(f"net.stage{number}.kind", ["plain", "wide"])
        width = trial.suggest_int(f"net.stage{number}.width", 8, 24, step=8)
        factor = trial.suggest_int(f"net.stage{number}.factor", 2, 6) if kind == "wide" else 1
        chosen[f"stage{number}"] = kind, width, factor
    if trial.suggest_categorical("prune.enabled", [False, True]):
        chosen["ratio"] = trial.suggest_float("prune.ratio", 0.0, 0.6, step=0.1)
    return chosen


def objectives(trial: optuna.Trial) -> tuple[float, float]:
    """A quality to be maximised that grows slower than the cost."""
    chosen = suggest(trial)
    cost = sum(width * factor for _, width, factor in (chosen[f"stage{n}"] for n in range(1, chosen["stages"] + 1)))
    kept = 1 - chosen.get("ratio", 0.0)
    return 1 - 1 / (1 + cost) ** 0.5 - 0.1 * (1 - kept) ** 2, cost * kept


def study(sampler: optuna.samplers.BaseSampler, trials: int) -> optuna.Study:
    made = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    made.optimize(objectives, n_trials=trials)
    return made
