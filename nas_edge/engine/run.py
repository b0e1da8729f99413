"""One search from its config to its finished front."""

from __future__ import annotations

import time

import optuna

from nas_edge.config import StudyConfig
from nas_edge.engine.baseline import baseline_configs, share
from nas_edge.engine.candidates import default_techniques
from nas_edge.engine.cluster import RayCluster
from nas_edge.engine.compress import finalists
from nas_edge.engine.ending import Ending, reached_by_prediction
from nas_edge.engine.finish import finish, front_evaluations
from nas_edge.engine.given import ensure_given
from nas_edge.engine.loop import notify, run_trials
from nas_edge.engine.progress import Progress
from nas_edge.engine.session import Session
from nas_edge.engine.starts import enqueue_starts
from nas_edge.engine.workers import cores_shared_out, siblings
from nas_edge.engine.zero_cost import describe
from nas_edge.plugins import load_plugins
from nas_edge.store.database import storage_errors
from nas_edge.store.locate import stored_techniques
from nas_edge.store.study import PREPARED, StoredStudy


def run_search(config: StudyConfig, progress: Progress | None = None) -> StoredStudy:
    """Start a study, or go on with the stored one, up to `config.trials` evaluated candidates in all.

    Its baselines come after it. Raises `UserError` for anything the user can mend, before the study is touched;
    KeyboardInterrupt leaves it whole.
    """
    progress = progress or Progress()
    stored = _run(config, progress)
    for number, baseline in enumerate(baseline_configs(stored), start=1):
        progress.say(f"random search with the same budget, seed {number} of {config.baseline_seeds}")
        _run(baseline, progress, beside=stored)
    return stored


def _run(config: StudyConfig, progress: Progress, beside: StoredStudy | None = None) -> StoredStudy:
    """One search; `beside` another one, whose teacher and supernet it shares."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    started = time.monotonic()
    deadline = None if config.timeout is None else started + config.timeout
    cluster = None if config.on is None else RayCluster.of(config)
    with storage_errors(), cores_shared_out(1 if cluster else config.workers):
        config = _settled(config)
        progress.phase("Loading the data")
        session = Session.open(config, load_plugins())
        if session.data.skipped:
            names = ", ".join(session.data.skipped[:3])
            progress.warn(f"{len(session.data.skipped)} files did not decode and were left out: {names} ...")
        stored = StoredStudy.create_or_load(config, session.facts)
        ensure_given(session, stored, progress)
        if beside is not None:
            share(beside, stored)
        session.ensure_supernet(stored, progress)
        session.ensure_profile(stored, progress)
        session.ensure_teacher(stored, progress)
        stored.study.set_user_attr(PREPARED, True)
        if config.goals is not None:
            enqueue_starts(session, stored)
        ending = Ending(session, stored, progress)
        if stored.finished() < config.trials and not ending.reached():
            progress.phase("Searching")
            # Beside the training of siblings a measurement would lie.
            after_trial = ending.after_trial if config.workers == 1 else reached_by_prediction(stored)
            if cluster is not None:
                cluster.run(stored, progress, deadline)
            else:
                with siblings(stored, progress, config.workers, deadline=deadline):
                    run_trials(session, stored, progress, deadline=deadline, after_trial=after_trial)
        if said := describe(stored.trials()):
            progress.say(said)
        kept, longer = finalists(stored)
        finish(session, stored, progress, kept=kept, longer=longer)
        notify(stored, progress, session.registry.hooks.hook.study_finished, evaluations=front_evaluations(stored))
    return stored


def _settled(config: StudyConfig) -> StudyConfig:
    """The config with its techniques named: those of the stored study, or the default ones.

    So a technique that is installed later does not change the studies that are there.
    """
    if config.techniques is not None:
        return config
    names = stored_techniques(config)
    return config.model_copy(
        update={"techniques": default_techniques(config, load_plugins()) if names is None else names}
    )
