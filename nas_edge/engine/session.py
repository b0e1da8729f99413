"""What every trial of a study needs, made once: the plugins it uses, the data, the target, the teacher, the profile."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
from torch import nn

from nas_edge.config import StudyConfig
from nas_edge.contracts import Context, ImageData, SearchSpace, Target, Technique
from nas_edge.cpu import channel_block
from nas_edge.data import load_data
from nas_edge.engine.calibration import calibrated, use_pipeline
from nas_edge.engine.candidates import RandomCandidates, searched_techniques
from nas_edge.engine.checking import check_choices
from nas_edge.engine.choices import Choices
from nas_edge.engine.given import GivenModel, check_given, searched_space
from nas_edge.engine.limits import calibration_limits
from nas_edge.engine.predictions import StoredPredictions, profile_key
from nas_edge.engine.progress import Progress
from nas_edge.engine.sample import RandomTrial, suggest_spec
from nas_edge.engine.supernets import make_supernet
from nas_edge.engine.supervised import in_hand
from nas_edge.engine.teachers import check_teacher, make_teacher
from nas_edge.errors import InvalidCandidate, UserError
from nas_edge.estimate import predict
from nas_edge.gate import Gate
from nas_edge.latency.predictor import ProfilePredictor
from nas_edge.latency.profile import Profile, default_path
from nas_edge.pipeline import build_model
from nas_edge.plugins import Registry
from nas_edge.records import Prediction
from nas_edge.spec import ArchSpec
from nas_edge.store.study import StoredStudy
from nas_edge.targets.address import fingerprint_key, parse_target
from nas_edge.train.supernet import SharedWeights
from nas_edge.train.trainer import ImageTrainer, check_precision

FIT_DRAWS = 20
USUAL_ACCURACY = 0.95
# A compressed network's loss falls as a power of the images that its recovery sees (Rosenfeld et al. 2021). From 4,000
# to 100,000 images, where it was measured here: by 0.1 (low rank, few bits) to 0.7 (pruned).
RECOVERY_POWER = 1 / 2
PREDICTOR_NAME = "nas_edge.predictor"


@dataclass
class Session:
    """The live objects of a study."""

    config: StudyConfig
    registry: Registry
    space: SearchSpace
    techniques: list[Technique]
    data: ImageData
    target: Target
    teacher: nn.Module | None = None
    predictions: StoredPredictions | None = None  # those of the profile in use
    shared: SharedWeights | None = None  # of the supernet

    @classmethod
    def open(cls, config: StudyConfig, registry: Registry) -> Session:
        """Resolve every name and load the data. Raises `UserError` for what does not exist."""
        registry, space = searched_space(config, registry)
        registry.find("sampler", config.sampler)
        techniques = searched_techniques(config, registry)
        check_choices(Choices.of(config.set), space, techniques, registry.techniques)
        check_precision(config.train)
        target = parse_target(registry.targets, config.target)
        data = load_data(registry.datasets, config.data, seed=config.seed, train_images=config.train_images)
        use_pipeline(registry)
        session = cls(config, registry, space, techniques, data, target)
        check_given(session)
        session.check_fit()
        check_teacher(session)
        return session

    @property
    def facts(self) -> dict[str, Any]:
        """What a stored study must have in common with this session to be gone on with."""
        versions = {f"technique {t.name}": t.version for t in self.techniques}
        return {
            "plugins": {f"search space {self.space.name}": self.space.version, **versions},
            "data": {
                "name": self.data.name,
                "fingerprint": self.data.fingerprint,
                "classes": list(self.data.classes),
                "channels": self.data.channels,
                "resolution": self.data.resolution,
                "preprocessing": self.data.preprocessing,
                "images": [len(self.data.train), len(self.data.validation), len(self.data.test)],
            },
            "target": {"name": self.target.name, "fingerprint": self.target_key},
        }

    @cached_property
    def target_key(self) -> str:
        return fingerprint_key(self.target.fingerprint())

    @property
    def domain(self) -> str:
        """What networks a profile was calibrated on."""
        return self.candidates.domain

    @cached_property
    def choices(self) -> Choices:
        """What the user fixed by name."""
        return Choices.of(self.config.set)

    @property
    def gate(self) -> Gate | None:
        """With a goal for the drop of all steps, one may cost as much, and what chance adds on the validation split.

        Those to be trained for longer at the end may cost what that will make good.
        """
        if not self.config.gate:
            return None
        goals = self.config.goals
        if goals is None or goals.max_drop is None:
            return Gate(self.config.max_drop / 100)
        return Gate(self.recoverable * goals.max_drop / 100 + chance_drop(len(self.data.validation)))

    @property
    def recoverable(self) -> float:
        """How many times the drop of a goal a short training may leave, for a finalist's training makes it good."""
        return math.pow(max(1.0, self.config.train.final_budget), RECOVERY_POWER)

    @property
    def samples(self) -> int:
        """Images that the training of one candidate sees."""
        return self.config.train.samples_for(len(self.data.train))

    @property
    def settling_samples(self) -> int:
        """Images that a candidate with inherited weights sees."""
        return max(1, round(self.samples * self.config.train.supernet_share))

    @cached_property
    def trainer(self) -> ImageTrainer:
        return ImageTrainer(self.data, self.config.train, self.config.seed)

    @contextlib.contextmanager
    def context(self, budget: float = 1.0, *, final: bool = False) -> Iterator[Context]:
        """What techniques may touch, with a work folder that is gone afterwards; `budget` scales the training.

        Inherited weights are what a candidate is judged by, and what a `final` training begins with.
        """
        ready = self.shared is not None and not final
        with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
            yield Context(
                data=self.data,
                target=self.target,
                trainer=self.trainer,
                work_dir=Path(folder),
                seed=self.config.seed,
                samples=self.settling_samples if ready else max(1, round(self.samples * budget)),
                teacher=copy.deepcopy(self.teacher),
                inherit=self.inherit if self.shared else None,
                ready=ready,
                log=logging.getLogger("nas_edge"),
            )

    def check_fit(self) -> None:
        """Raise `UserError` where no network of the space can be built for these images."""
        if isinstance(self.space, GivenModel):  # held against the data where it is loaded
            return
        reason: InvalidCandidate | None = None
        for index in range(FIT_DRAWS):
            arch = suggest_spec(RandomTrial(index), self.space, [], self.choices).arch
            try:
                build_model(self.registry, arch, self.data, self.config.seed)
                return
            except InvalidCandidate as error:
                reason = error
        raise UserError(f"search space {self.space.name!r} does not fit the data {self.config.data!r}: {reason}")

    # --- the latency predictor

    def ensure_profile(self, stored: StoredStudy, progress: Progress) -> Profile:
        """Use the study's profile of this target, or the one kept on this machine, or calibrate one and keep it."""
        profile = self._stored_profile(stored, progress)
        if profile is None:
            profile = self._kept_profile(progress) or self._fresh_profile(progress)
            stored.tables.add_calibration(self.target_key, self.domain, profile.to_json())
        self.use_profile(profile, stored)
        return profile

    def recalibrate(self, stored: StoredStudy, progress: Progress) -> Profile:
        """Replace the profile by a new one, here, in the study and on this machine. Raises like `calibrate`."""
        profile = self._fresh_profile(progress)
        stored.tables.add_calibration(self.target_key, self.domain, profile.to_json())
        self.use_profile(profile, stored)
        return profile

    def _fresh_profile(self, progress: Progress) -> Profile:
        seconds = self.config.calibration_seconds
        with in_hand(self.config.name, None, **calibration_limits(self.config)):  # plugins make the networks
            profile = self.calibrate(seconds, progress)
        try:
            profile.keep()
        except UserError as error:  # the study holds it anyhow
            progress.warn(str(error))
        return profile

    def _stored_profile(self, stored: StoredStudy, progress: Progress) -> Profile | None:
        found = stored.tables.calibration(self.target_key, self.domain)
        try:
            return None if found is None else Profile.from_json(found)
        except UserError as error:
            progress.warn(f"the study's own latency profile is not used: {error}")
            return None

    def _kept_profile(self, progress: Progress) -> Profile | None:
        path = default_path(self.target.fingerprint(), self.domain)
        try:
            profile = Profile.load(path) if path.is_file() else None
        except UserError as error:
            progress.warn(f"the latency profile kept on this machine is not used: {error}")
            return None
        # One of an older version may have been fitted to the kernels of other CPUs.
        return profile if profile and profile.block == channel_block(profile.fingerprint) else None

    def use_profile(self, profile: Profile, stored: StoredStudy) -> None:
        """Predict with this profile from now on, and remember its predictions in the study's database."""
        hooks = self.registry.hooks
        if hooks.get_plugin(PREDICTOR_NAME) is not None:
            hooks.unregister(name=PREDICTOR_NAME)
        hooks.register(ProfilePredictor(profile, self.target), PREDICTOR_NAME)
        key = profile_key(profile, self.registry)
        self.predictions = StoredPredictions(stored.tables, self.target_key, profile, key)

    def predict(self, path: Path) -> Prediction | None:
        """What the profile in use says of an ONNX file, or said of it before."""
        return predict(self.registry, onnx.load(path), path, self.target, self.predictions)

    def calibrate(self, budget_s: float, progress: Progress) -> Profile:
        """A profile of the target from random candidates of this space, with their techniques, for these images."""
        return calibrated(self.target, self.candidates, self.domain, budget_s, progress)

    @property
    def candidates(self) -> RandomCandidates:
        """Random candidates of the search's own distribution."""
        return RandomCandidates(self.registry, self.space, self.techniques, self.config, self.target, self.data)

    # --- the supernet and the teacher

    def inherit(self, arch: ArchSpec, model: nn.Module) -> None:
        """Give a network the supernet's weights, in place."""
        if self.shared is not None:
            self.shared.load_into(arch.params, model)

    def ensure_supernet(self, stored: StoredStudy, progress: Progress) -> None:
        """Load the study's supernet, or train it once and store it with the study."""
        self.shared = make_supernet(self, stored, progress)

    def ensure_teacher(self, stored: StoredStudy, progress: Progress) -> None:
        """Load the study's teacher, or make it once and store it with the study. Raises `UserError`."""
        self.teacher = make_teacher(self, stored, progress)


def chance_drop(images: int) -> float:
    """Three standard errors of the difference of two accuracies near 95 % on so many images."""
    return 3 * math.sqrt(2 * USUAL_ACCURACY * (1 - USUAL_ACCURACY) / images)
