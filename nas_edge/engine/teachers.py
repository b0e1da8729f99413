"""The teacher of a study: chosen by the config, trained where it comes untrained, and stored with the study."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from nas_edge.config import LARGEST
from nas_edge.contracts import Technique
from nas_edge.engine.choices import Choices
from nas_edge.engine.given import CHANCE, load_stored
from nas_edge.engine.progress import Progress
from nas_edge.engine.sample import NO_CHOICES, RandomTrial, suggest_config, suggest_spec
from nas_edge.errors import InvalidCandidate, StorageError
from nas_edge.model_names import ModelReference
from nas_edge.models import bare_model, load_model
from nas_edge.pipeline import build_model
from nas_edge.spec import ArchSpec
from nas_edge.store.locate import stored_techniques
from nas_edge.store.study import StoredStudy

if TYPE_CHECKING:
    from nas_edge.engine.session import Session

TEACHER_FILE = "teacher.pt"
TEACHER_ACCURACY = "teacher_accuracy"  # of the study: on validation
TEACHER_DRAWS = 16


def learners(techniques: Sequence[Technique], choices: Choices = NO_CHOICES) -> list[str]:
    """The techniques that learn from a teacher in any of a few random configs, as a study samples them."""
    return [t.name for t in techniques if any(_learns(t, choices, draw) for draw in range(TEACHER_DRAWS))]


def _learns(technique: Technique, choices: Choices, draw: int) -> bool:
    if not technique.needs_teacher:
        return False
    try:
        config = technique.config_from_json(suggest_config(RandomTrial(draw), technique, choices))
    except InvalidCandidate:
        return False
    return technique.needs_teacher_for(config)


def check_teacher(session: Session) -> None:
    """Raise `UserError` for a teacher that cannot be used, before a study is made with it.

    A study that is stored holds its teacher's weights itself, so their file may be gone.
    """
    reference = teacher_reference(session)
    if reference is not None and stored_techniques(session.config) is None:
        load_model(reference, session.data, seed=session.config.seed)


def teacher_reference(session: Session) -> ModelReference | None:
    """The given teacher; None for the space's largest, and where nothing learns from one. Raises `UserError`."""
    names = learners(session.techniques, session.choices)
    if session.config.teacher == LARGEST or not names:
        return None
    return ModelReference.parse(session.config.teacher, f"{', '.join(names)}: teacher")


def make_teacher(session: Session, stored: StoredStudy, progress: Progress) -> nn.Module | None:
    """The study's teacher as it is stored, or made, and then stored; None where nothing learns from one."""
    if not learners(session.techniques, session.choices):
        return None
    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        path = Path(folder) / TEACHER_FILE
        if stored.download(TEACHER_FILE, stored.study, path):
            model = load_stored(_architecture(session), path, "teacher")
        elif TEACHER_ACCURACY in stored.study.user_attrs:
            raise StorageError(f"the study's teacher is missing in {stored.where}; start another study")
        else:
            model, how = _ready(session, progress)
            right = session.trainer.accuracy(model, session.data.validation)
            progress.say(f"teacher: {right:.1%} on validation {how}")
            if right < CHANCE / len(session.data.classes):
                progress.warn(
                    f"the teacher is right in {right:.1%} of the validation images, hardly more than by guessing; "
                    "was it trained on such images, in 0..1?"
                )
            torch.save(model.state_dict(), path)
            stored.upload(path, stored.study)
            stored.study.set_user_attr(TEACHER_ACCURACY, round(right, 4))
    return model.eval().requires_grad_(False)


def _architecture(session: Session) -> nn.Module:
    reference = teacher_reference(session)
    if reference is not None:
        return bare_model(reference, session.data, seed=session.config.seed)
    return build_model(session.registry, largest_arch(session), session.data, session.config.seed)


def _ready(session: Session, progress: Progress) -> tuple[nn.Module, str]:
    """The teacher with its weights, and where they are from: given, or trained here."""
    reference = teacher_reference(session)
    if reference is None:
        model = _architecture(session)
        if session.space.trained:
            return model, "as it was given"
    else:
        model = load_model(reference, session.data, seed=session.config.seed)
        if reference.trained:
            return model, "as it was given"
    progress.phase("Training the teacher")
    start = time.perf_counter()
    model = session.trainer.fit(model, samples=max(1, round(session.samples * session.config.train.teacher_budget)))
    return model, f"after {time.perf_counter() - start:.0f} s"


def largest_arch(session: Session) -> ArchSpec:
    """The space's own proposal, or the largest of a few random architectures."""
    space = session.space
    params = space.largest()
    if params is not None:
        return ArchSpec(space.name, space.version, params)
    draws = [suggest_spec(RandomTrial(i), space, []).arch for i in range(TEACHER_DRAWS)]
    return max(draws, key=lambda arch: _parameters(session, arch))


def _parameters(session: Session, arch: ArchSpec) -> int:
    try:
        model = build_model(session.registry, arch, session.data, session.config.seed)
    except InvalidCandidate:
        return 0
    return sum(p.numel() for p in model.parameters())
