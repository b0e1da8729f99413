"""The user's own model as a search space of one architecture, its weights stored with the study."""

from __future__ import annotations

import copy
import hashlib
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from nas_edge.config import StudyConfig
from nas_edge.contracts import Scope, SearchSpace
from nas_edge.engine.progress import Progress
from nas_edge.errors import ExportError, ModelError, StudyMismatch, UserError
from nas_edge.export import check_parity, export_onnx
from nas_edge.making import PARITY_IMAGES
from nas_edge.model_names import ModelReference
from nas_edge.models import bare_model, load_model
from nas_edge.plugins import Registry
from nas_edge.store.locate import stored_techniques
from nas_edge.store.study import StoredStudy
from nas_edge.train.weights import BadWeights, read_weights

if TYPE_CHECKING:
    from nas_edge.engine.session import Session

WEIGHTS_FILE = "given.pt"
DEVIATIONS = 3.0  # of the difference of two accuracies, beyond which it is no chance
CHANCE = 1.5  # a network below this many times the accuracy of guessing was not trained on such images


class GivenModel(SearchSpace):
    """One network: `network`, once it is loaded."""

    name: ClassVar[str] = "given"
    trained: ClassVar[bool] = True
    takes_images: ClassVar[bool] = True

    def __init__(self, reference: ModelReference) -> None:
        self.reference = reference
        self.network: nn.Module | None = None

    @property
    def family(self) -> str:
        """Of networks with the same names and shapes of weights."""
        shapes = sorted((name, tuple(value.shape)) for name, value in self._loaded().state_dict().items())
        return f"{self.name}{self.version}/{hashlib.sha256(repr(shapes).encode()).hexdigest()[:12]}"

    def suggest(self, scope: Scope) -> dict[str, Any]:
        """Nothing is to be decided."""
        return {"model": self.reference.text}

    def largest(self) -> dict[str, Any]:
        return {"model": self.reference.text}

    def build(self, params: Mapping[str, Any], *, in_channels: int, num_classes: int, resolution: int) -> nn.Module:
        """A copy with its weights."""
        return copy.deepcopy(self._loaded())

    def _loaded(self) -> nn.Module:
        if self.network is None:
            raise UserError(f"the model {self.reference.text!r} is not loaded yet")
        return self.network


def searched_space(config: StudyConfig, registry: Registry) -> tuple[Registry, SearchSpace]:
    """The space of a study, and the registry in which it is found: that of a given model is the study's alone."""
    if config.model is None:
        return registry, registry.find("search space", config.space)
    space = GivenModel(ModelReference.parse(config.model))
    return replace(registry, search_spaces={**registry.search_spaces, space.name: space}), space


def check_given(session: Session) -> None:
    """Load the model of a new study. Raises `UserError` for one that cannot be used, before the study is made.

    A study that is stored holds the weights itself, so their file may be gone.
    """
    space = session.space
    if not isinstance(space, GivenModel) or stored_techniques(session.config) is not None:
        return
    data = session.data
    space.network = load_model(space.reference, data, seed=session.config.seed)
    try:
        graph = export_onnx(space.network, channels=data.channels, resolution=data.resolution)
        check_parity(space.network, graph, data.validation.images[:PARITY_IMAGES].float() / 255)
    except (ExportError, ModelError) as error:
        raise space.reference.refuse(f"cannot be compressed: {error}", "change what does not export") from error


def ensure_given(session: Session, stored: StoredStudy, progress: Progress) -> None:
    """Load the model with the weights that the study holds; a new study is given them, trained where they were not."""
    space = session.space
    if not isinstance(space, GivenModel):
        return
    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        path = Path(folder) / WEIGHTS_FILE
        if stored.download(WEIGHTS_FILE, stored.study, path):
            model = bare_model(space.reference, session.data, seed=session.config.seed)
            space.network = load_stored(model, path, "model")
            return
        space.network = _ready(session, space, progress)
        torch.save(space.network.state_dict(), path)
        stored.upload(path, stored.study)


def _ready(session: Session, space: GivenModel, progress: Progress) -> nn.Module:
    """The model with its weights: as they were given, or trained here where it came without."""
    reference, validation = space.reference, session.data.validation
    model = space.network or load_model(reference, session.data, seed=session.config.seed)
    if reference.trained:
        right = session.trainer.accuracy(model, validation)
        guessing = right < CHANCE / len(session.data.classes)
        progress.say(f"model: {right:.1%} on validation as it was given" + ", no more than by guessing" * guessing)
        if guessing and reference.weights is not None:
            progress.warn("the model's weights do not fit the data; was it trained on such images, in 0..1?")
        tested = session.trainer.accuracy(model, session.data.test)
        if learned_by_heart(right, tested, len(validation), len(session.data.test)):
            progress.warn(
                f"the model has {right:.1%} of the validation images right, and {tested:.1%} of the test images: it "
                "was trained on what validation was drawn from, where a loss of accuracy hardly shows; give images "
                "that it has not seen as a split of their own, such as a folder 'validation'"
            )
        if not guessing or reference.weights is not None:
            return model.requires_grad_(True)
    progress.phase("Training the model, which came without weights")
    start = time.perf_counter()
    samples = max(1, round(session.samples * session.config.train.teacher_budget))
    model = session.trainer.fit(model.requires_grad_(True), samples=samples)
    right = session.trainer.accuracy(model, validation)
    progress.say(f"model: {right:.1%} on validation after {time.perf_counter() - start:.0f} s of training")
    return model


def learned_by_heart(validation: float, test: float, validation_images: int, test_images: int) -> bool:
    """Whether an accuracy on validation is so far above that on the test split as two draws of images do not differ.

    By the standard error of the difference, `sqrt(p (1 - p) (1 / n + 1 / m))` with p the accuracy on the test split.
    """
    error = math.sqrt(test * (1 - test) * (1 / validation_images + 1 / test_images))
    return validation - test > DEVIATIONS * error


def load_stored(model: nn.Module, path: Path, what: str) -> nn.Module:
    """The network with the state dict that a study holds. Raises `StudyMismatch` where they do not fit."""
    with stored_weights(what):
        model.load_state_dict(read_weights(path))
    return model


@contextmanager
def stored_weights(what: str) -> Iterator[None]:
    """Raises `StudyMismatch` where weights that a study holds cannot be read or used."""
    try:
        yield
    except (BadWeights, RuntimeError, TypeError, AttributeError) as error:
        raise StudyMismatch(
            f"the study's stored {what} cannot be loaded: {str(error)[:200]}; start another study with --study NAME"
        ) from None
