"""The command line's verbs from Python."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

import nas_edge
from nas_edge import PluginError, UserError
from nas_edge.engine.progress import Progress
from nas_edge.plugins import Registry
from nas_edge.report.front import front_rows

from .studies import assert_whole, keep_profile, tiny_config, tiny_values

BOWL = 40


def test_a_search_from_python_on_this_machine(tiny: Registry, tmp_path: Path) -> None:
    """With the real target: predicted by its profile, and measured at the end."""
    values = {**tiny_values(tmp_path), "target": "local", "trials": 1}
    keep_profile(tiny_config(tmp_path, target="local"), tiny)
    stored = nas_edge.search(**values)
    assert_whole(stored, 1, tmp_path)
    (row,) = front_rows(stored)
    assert row.measured_ms is not None and 0 < row.measured_ms < 10
    assert row.measured_low_ms is not None and row.measured_low_ms <= row.measured_ms
    again = nas_edge.load_study(str(tmp_path))
    assert again.finished() == 1 and again.config.target == "local"


def test_a_study_file_with_options_on_top(tiny: Registry, tmp_path: Path) -> None:
    from .studies import study_file

    file = study_file(tmp_path / "study.toml", tiny_values(tmp_path / "out"))
    keep_profile(tiny_config(tmp_path / "out"), tiny)
    stored = nas_edge.search(file, trials=1, seed=4)
    assert stored.config.seed == 4 and stored.finished() == 1
    with pytest.raises(UserError, match="unknown key 'trails'; did you mean 'trials'"):
        nas_edge.search(trails=3)


def test_a_calibration_from_python(tiny: Registry) -> None:
    """Of a target that offers no campaign: networks are made, and then measured."""
    heard: list[int] = []

    class Counting(Progress):
        def calibrated(self, networks: int, seconds: float, error: float | None) -> None:
            heard.append(networks)

    profile = nas_edge.calibrate(
        space="tiny", target="bench", techniques=[], train_images=100, calibration_seconds=5.0, progress=Counting()
    )
    assert profile.target == "bench" and profile.error.networks >= 8
    assert heard[-1] == profile.error.networks
    assert profile.error.median < 0.05  # the latency is linear in the size of the file


@pytest.mark.parametrize("name", ["random", "tpe", "nsga2", "surrogate", "evolution", "reinforce"])
def test_a_sampler_works_in_a_plain_optuna_study(name: str) -> None:
    """On two bowls whose Pareto set is the line between their centres, (0, 0) and (1, 1)."""

    def bowls(trial: optuna.Trial) -> tuple[float, float]:
        x, y = trial.suggest_float("x", -2, 2), trial.suggest_float("y", -2, 2)
        return x**2 + y**2, (x - 1) ** 2 + (y - 1) ** 2

    runs = []
    for _ in range(2):
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=nas_edge.sampler(name, seed=3))
        study.optimize(bowls, n_trials=BOWL)
        runs.append([t.params for t in study.get_trials(states=(TrialState.COMPLETE,))])
    assert runs[0] == runs[1] and len(runs[0]) == BOWL
    assert nas_edge.sampler(name) is not nas_edge.sampler(name)


def test_samplers_that_do_not_exist_or_do_not_work(tiny: Registry) -> None:
    with pytest.raises(UserError, match="unknown sampler 'nsga'; did you mean 'nsga2'"):
        nas_edge.sampler("nsga")
    tiny.samplers["broken"] = lambda seed: seed  # type: ignore[assignment,return-value]
    with pytest.raises(PluginError, match="sampler 'broken' made int, not an Optuna BaseSampler"):
        nas_edge.sampler("broken")
