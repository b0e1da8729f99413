"""The checks of a sampler."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

from nas_edge.testing import checks, conditional
from nas_edge.testing.checks import doing, require

MakeSampler = Callable[[int], optuna.samplers.BaseSampler]
DIRECTIONS = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
PROPOSALS = 4
READ_ONLY_COMPLETE = "look at each trial's state: only complete ones have values, and those that run have none yet"


class SamplerTests(checks.OwnWorld):
    """Give the fixture `make_sampler`, what is registered: a function of the seed that makes a sampler.

    The checks are of plain Optuna studies: two objectives over integers, floats and choices, some of them conditional.
    `trials` of them come before a check looks at what is proposed; give enough that the sampler has left its random
    start behind.
    """

    trials: ClassVar[int] = 20

    @pytest.fixture
    def make_sampler(self) -> MakeSampler:
        """What makes the sampler under test: the one thing that a subclass must give."""
        raise NotImplementedError("give the fixture: `@pytest.fixture def make_sampler(self): return my_factory`")

    @pytest.fixture(autouse=True)
    def quiet(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)

    def made(self, make_sampler: MakeSampler, seed: int) -> optuna.samplers.BaseSampler:
        with doing(f"making a sampler with the seed {seed}", "take the seed as the one argument"):
            sampler = make_sampler(seed)
        require(
            isinstance(sampler, optuna.samplers.BaseSampler),
            f"the sampler is {sampler!r}; return an instance of optuna.samplers.BaseSampler",
        )
        return sampler

    def study(self, make_sampler: MakeSampler, seed: int, storage: Any = None) -> optuna.Study:
        sampler = self.made(make_sampler, seed)
        return optuna.create_study(directions=DIRECTIONS, sampler=sampler, storage=storage, study_name="kit")

    def test_it_makes_a_sampler(self, make_sampler: MakeSampler) -> None:
        self.made(make_sampler, 0)

    def test_it_searches_with_two_objectives(self, make_sampler: MakeSampler) -> None:
        """Over a mixed, conditional space, in which each trial has the parameters that it should."""
        study = self.study(make_sampler, 0)
        with doing("a search with two objectives", "use study.directions and trial.values, which are lists"):
            study.optimize(conditional.objectives, n_trials=self.trials)
        for trial in study.trials:
            stages = trial.params["net.stages"]
            require(
                {f"net.stage{n + 1}.kind" for n in range(stages)} <= set(trial.params),
                f"trial {trial.number} has {sorted(trial.params)}; let sample_independent answer what "
                "sample_relative left out",
            )

    def test_the_same_seed_proposes_the_same(self, make_sampler: MakeSampler) -> None:
        found = []
        for ambient in (1, 2):
            checks.disturb(ambient)
            study = self.study(make_sampler, 3)
            study.optimize(conditional.objectives, n_trials=self.trials)
            found.append([trial.params for trial in study.trials])
        for number, (first, second) in enumerate(zip(*found, strict=True)):
            require(
                first == second,
                f"with the same seed trial {number} was proposed as {first!r} and as {second!r}; draw from a generator "
                "that is made with the seed, and from no global one",
            )

    def test_the_process_stays_as_it_is(self, make_sampler: MakeSampler) -> None:
        with checks.watched("a search with the sampler"):
            self.study(make_sampler, 0).optimize(conditional.objectives, n_trials=self.trials)

    def test_it_digests_pruned_failed_and_forbidden_trials(self, make_sampler: MakeSampler) -> None:
        ends = {3: TrialState.PRUNED, 4: TrialState.FAIL}
        study = self.study(make_sampler, 0)
        with doing("a search in which trials are pruned, fail or break a constraint", READ_ONLY_COMPLETE):
            for number in range(self.trials):
                trial = study.ask()
                values, state = conditional.objectives(trial), ends.get(number % 5)
                trial.set_constraint("budget", float(number % 3 - 1))
                study.tell(trial, None if state else values, state)

    def test_it_digests_trials_that_run_elsewhere(self, make_sampler: MakeSampler) -> None:
        """Several are asked for before any is told, and they end in another order."""
        study = self.study(make_sampler, 0)
        study.optimize(conditional.objectives, n_trials=self.trials)
        with doing("a search with several trials at once", READ_ONLY_COMPLETE):
            for _ in range(2):
                running = [study.ask() for _ in range(PROPOSALS)]
                values = [conditional.objectives(trial) for trial in running]
                for trial, value in reversed(list(zip(running, values, strict=True))):
                    study.tell(trial, value)
        require(
            all(trial.state is TrialState.COMPLETE for trial in study.trials),
            "a trial that was told its values is not complete; change no trial in the sampler",
        )

    def test_it_goes_on_from_what_is_stored(self, make_sampler: MakeSampler, tmp_path: Path) -> None:
        """The engine makes the sampler anew for each trial: two that are made alike, of one record, propose alike."""
        first = self.study(make_sampler, 0, stored(tmp_path / "first"))
        first.optimize(conditional.objectives, n_trials=self.trials)
        found = []
        for name in ("second", "third"):
            shutil.copy(tmp_path / "first", tmp_path / name)
            study = optuna.load_study(study_name="kit", storage=stored(tmp_path / name))
            for seed in range(PROPOSALS):
                study.sampler = self.made(make_sampler, seed)
                with doing(
                    "a search that goes on with a sampler made anew",
                    "keep nothing in the sampler: read what it needs from study.get_trials()",
                ):
                    study.optimize(conditional.objectives, n_trials=1)
            found.append([trial.params for trial in study.trials[self.trials :]])
        require(
            found[0] == found[1],
            f"of one record and the same seeds it proposed {found[0]!r} and {found[1]!r}; let what is proposed follow "
            "from the stored trials and the seed alone",
        )


def stored(path: Path) -> optuna.storages.BaseStorage:
    """A study's record in a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.storages.JournalStorage(JournalFileBackend(str(path)))
