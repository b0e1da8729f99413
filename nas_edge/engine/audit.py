"""Holds a study's predictions against measurements, and calibrates again where they are worse than stated."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from optuna.trial import FrozenTrial

from nas_edge.engine.agreement import Agreement, above_stated, leaves_stated_error, p_value, stable
from nas_edge.engine.progress import Progress
from nas_edge.engine.recipes import MODEL_FILE
from nas_edge.engine.session import Session
from nas_edge.errors import InvalidCandidate, MeasurementError, ModelError
from nas_edge.records import Audited, LatencyAudit
from nas_edge.store.study import StoredStudy

MEASURE_BUDGET_S = 3.0
MIN_SAMPLE = 3  # the errors of fewer models are never improbable enough


@dataclass(frozen=True)
class TrialModel:
    """An ONNX file of a finished trial; `predicted` says whether the search predicted its latency."""

    trial: int
    onnx_sha256: str
    path: Path
    predicted: bool


@dataclass
class Auditor:
    """Audits during a search, after every `audit_every` finished trials.

    For a search of one worker: beside the training of others a measurement would lie.
    """

    session: Session
    stored: StoredStudy
    progress: Progress
    last: int = field(init=False)

    def __post_init__(self) -> None:
        self.last = last_audited(self.stored)

    def after_trial(self, finished: int) -> None:
        """Audit a small sample where that is due. A target that cannot be measured now costs a warning."""
        config = self.session.config
        if not config.audit_trials or finished - self.last < config.audit_every or finished >= config.trials:
            return
        self.last = finished
        size = min(config.audit_trials, max(MIN_SAMPLE, config.audit_trials // 2))
        try:
            with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
                sample = draw_sample(self.stored, size, Path(folder), self.progress)
                measure_missing(self.session, self.stored, sample, self.progress)
                conclude(self.session, self.stored, sample, [], self.progress)
        except (MeasurementError, ModelError) as error:
            self.progress.warn(f"the predictions are not checked now: {error}")
        self.progress.phase("Searching")


def last_audited(stored: StoredStudy) -> int:
    """How many trials were finished at the last audit."""
    return max((audit.finished for audit in stored.tables.audits(stored.config.name)), default=0)


def draw_sample(stored: StoredStudy, size: int, folder: Path, progress: Progress) -> list[TrialModel]:
    """Random finished trials whose latency was predicted, off the front and not audited before; files in `folder`.

    The draw depends on the study alone, so that an audit that was killed goes on with the same trials, and it leaves
    the sampler's seeds as they are.
    """
    trials = stored.evaluated()
    audits = stored.tables.audits(stored.config.name)
    left_out = {model.trial for audit in audits for model in audit.sample} | {t.number for t in stored.front(trials)}
    pool = [t for t in trials if _was_predicted(t) and t.number not in left_out]
    draw = random.Random(f"audit {stored.config.seed} {len(trials)}")
    drawn = sorted(draw.sample(pool, min(size, len(pool))), key=lambda t: t.number)
    models = searched_models(stored, drawn, folder)
    if missing := sorted({t.number for t in drawn} - {m.trial for m in models}):
        progress.warn(f"trials {missing} are left out of the check of predictions: their files are missing")
    return models


def searched_models(stored: StoredStudy, trials: Sequence[FrozenTrial], folder: Path) -> list[TrialModel]:
    """The files of finished trials, copied out of the artifacts into a folder; those that are missing are left out."""
    models = []
    for trial in trials:
        path = folder / f"trial-{trial.number:04d}.onnx"
        if stored.download(MODEL_FILE, trial, path):
            models.append(TrialModel(trial.number, trial.user_attrs["onnx_sha256"], path, _was_predicted(trial)))
    return models


def measure_missing(session: Session, stored: StoredStudy, models: Sequence[TrialModel], progress: Progress) -> None:
    """Measure files in one campaign, where that was not done on this target before."""
    tables, key = stored.tables, session.target_key
    missing = [m for m in models if tables.measurement(m.onnx_sha256, key) is None]
    if not missing:
        return
    progress.phase(f"Measuring {len(missing)} models on {session.target.name}")
    results = session.target.measure_many([m.path for m in missing], MEASURE_BUDGET_S)
    for model, result in zip(missing, results, strict=True):
        tables.add_measurement(model.onnx_sha256, key, result)


def measure_searched(
    session: Session, stored: StoredStudy, trials: Sequence[FrozenTrial], progress: Progress, question: str
) -> None:
    """Measure finished trials in the middle of a search. A target that cannot be measured costs a warning."""
    try:
        with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
            measure_missing(session, stored, searched_models(stored, trials, Path(folder)), progress)
    except MeasurementError as error:
        progress.warn(f"{question} is not known yet: {error}")
    progress.phase("Searching")


def conclude(
    session: Session,
    stored: StoredStudy,
    sample: Sequence[TrialModel],
    front: Sequence[TrialModel],
    progress: Progress,
) -> None:
    """Store what measured models say of the predictions, and calibrate again where they leave the stated error.

    Another audit needs new trials, so that a new profile is not thrown away on the same evidence.
    """
    audits = [_audit(session, stored, sample, front)]
    progress.say(describe(audits[0]))
    if leaves_stated_error(audits[0]) and _recalibrated(session, stored, progress):
        audits.append(_audit(session, stored, sample, front))
        progress.say(_describe_recalibration(*audits))
    stored.tables.add_audits(stored.config.name, audits)


def _audit(
    session: Session, stored: StoredStudy, sample: Sequence[TrialModel], front: Sequence[TrialModel]
) -> LatencyAudit:
    """The profile in use held against the measurements of models."""
    in_use = session.predictions
    if in_use is None:
        raise ValueError("no latency profile is in use; call session.ensure_profile() first")
    error = in_use.profile.error
    return LatencyAudit(
        finished=stored.finished(),
        profile=in_use.key,
        stated_median=error.median,
        stated_q90=error.q90,
        stated_networks=error.networks,
        sample=_compared(session, stored, sample),
        front=_compared(session, stored, front),
    )


def _compared(session: Session, stored: StoredStudy, models: Sequence[TrialModel]) -> tuple[Audited, ...]:
    found = []
    for model in models:
        measured = stored.tables.measurement(model.onnx_sha256, session.target_key)
        predicted = session.predict(model.path) if model.predicted else None
        if measured is not None and predicted is not None and predicted.usable:
            found.append(Audited(model.trial, predicted.ms, measured.p50_ms, measured.unstable_because))
    return tuple(found)


def _recalibrated(session: Session, stored: StoredStudy, progress: Progress) -> bool:
    """Make a new profile, and predict the files of all earlier trials with it for the report.

    The trials themselves keep the values that they were told with: Optuna does not allow otherwise, and samplers
    build on them.
    """
    try:
        session.recalibrate(stored, progress)
    except (MeasurementError, InvalidCandidate) as error:
        progress.warn(f"the predictions are worse than stated, but a new calibration failed: {error}")
        return False
    for trial in stored.evaluated():
        if _was_predicted(trial):
            with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
                for model in searched_models(stored, [trial], Path(folder)):
                    session.predict(model.path)
    return True


def _was_predicted(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs["latency_source"] == "predicted")


def describe(audit: LatencyAudit) -> str:
    """What an audit found, in one line."""
    found = Agreement.of(audit.sample)
    if found.median is None or found.q90 is None:
        said = "no prediction could be checked"
    else:
        said = (
            f"predictions checked on {found.audited} random trials: they err by {found.median:.1%} (median), "
            f"{found.q90:.1%} (90 % quantile); stated {audit.stated_median:.1%}, {audit.stated_q90:.1%}"
        )
        said += "" if found.kendall_tau is None else f"; Kendall tau {found.kendall_tau:.2f}"
    unstable = [str(m.trial) for m in audit.sample if m.unstable_because is not None]
    return said + (f"; left out as unstable: trial {', '.join(unstable)}" if unstable else "")


def _describe_recalibration(before: LatencyAudit, after: LatencyAudit) -> str:
    errors = [Agreement.of(audit.sample).median for audit in (before, after)]
    now = "is not predicted any more" if errors[1] is None else f"is {errors[1]:.1%}"
    return (
        f"calibrated again: {above_stated(before)} of {len(stable(before.sample))} were above the stated "
        f"{before.stated_q90:.1%} (p = {p_value(before):.2g}); their median error was {errors[0]:.1%} and {now}"
    )
