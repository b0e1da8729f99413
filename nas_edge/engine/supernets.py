"""The supernet of a study: trained once, stored with the study, and used where it ranks candidates."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from scipy.stats import kendalltau
from torch import nn

from nas_edge.contracts import Supernet
from nas_edge.engine.given import stored_weights
from nas_edge.engine.progress import Progress
from nas_edge.engine.sample import RandomTrial, suggest_spec
from nas_edge.pipeline import build_model
from nas_edge.spec import ArchSpec
from nas_edge.store.study import StoredStudy
from nas_edge.train.supernet import SharedWeights, SupernetTrainer
from nas_edge.train.weights import read_weights

if TYPE_CHECKING:
    from nas_edge.engine.session import Session

SUPERNET_FILE, CHECKPOINT_FILE = "supernet.pt", "supernet-checkpoint.pt"
TAU = "supernet_tau"  # of the study: what was found of the ranking
LEAST_TAU = 0.3  # of a ranking that is worth having
SAMPLE_SEED = 1 << 20  # of the candidates to rank, none of which the training draws


@dataclass(frozen=True)
class Networks:
    """The networks of a study's space, under the choices that the user fixed."""

    session: Session

    def build(self, params: Mapping[str, Any]) -> nn.Module:
        session = self.session
        return build_model(session.registry, self.arch(params), session.data, session.config.seed)

    def draw(self, seed: int) -> Mapping[str, Any]:
        trial = RandomTrial(self.session.config.seed * SAMPLE_SEED * 2 + seed)
        return suggest_spec(trial, self.session.space, [], self.session.choices).arch.params

    def arch(self, params: Mapping[str, Any]) -> ArchSpec:
        return ArchSpec(self.session.space.name, self.session.space.version, dict(params))

    @property
    def prefix(self) -> str:
        """Of the names of weights behind the preprocessing."""
        return "" if self.session.space.takes_images else "1."


def make_supernet(session: Session, stored: StoredStudy, progress: Progress) -> SharedWeights | None:
    """The shared weights as stored, or trained and then stored; None where candidates are not to have them."""
    if not session.config.supernet:
        return None
    supernet = session.space.supernet()
    if supernet is None:
        progress.say(f"the search space {session.space.name} has no supernet: each candidate is trained from nothing")
        return None
    networks = Networks(session)
    shared = _stored(supernet, networks, stored)
    if shared is None:
        shared = _trained(supernet, networks, stored, progress)
    return shared if _ranks(shared, networks, stored, progress) else None


def _stored(supernet: Supernet, networks: Networks, stored: StoredStudy) -> SharedWeights | None:
    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        path = Path(folder) / SUPERNET_FILE
        if not stored.download(SUPERNET_FILE, stored.study, path):
            return None
        with stored_weights("supernet"):
            return SharedWeights(supernet, read_weights(path), networks.prefix)


def _trained(supernet: Supernet, networks: Networks, stored: StoredStudy, progress: Progress) -> SharedWeights:
    session, start = networks.session, time.perf_counter()
    shared = SharedWeights.of(supernet, networks.build, networks.prefix)
    samples = max(1, round(session.samples * session.config.train.supernet_budget))
    checkpoint = stored.folder / CHECKPOINT_FILE
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    progress.phase("Training the supernet")
    SupernetTrainer(session.trainer, networks.build, networks.draw).fit(
        shared, samples=samples, checkpoint=checkpoint, each_round=progress.part_done
    )
    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        path = Path(folder) / SUPERNET_FILE
        torch.save(shared.state(), path)
        stored.upload(path, stored.study)
    checkpoint.unlink(missing_ok=True)
    progress.say(f"supernet: trained on {samples:,} images in {time.perf_counter() - start:.0f} s")
    return shared


def _ranks(shared: SharedWeights, networks: Networks, stored: StoredStudy, progress: Progress) -> bool:
    """Whether inherited accuracies rank candidates as their own training does, by Kendall's tau on a few."""
    session, known = networks.session, stored.study.user_attrs.get(TAU)
    count = session.config.train.ranking_sample
    if count < 2:
        return True
    if known is None:
        progress.phase("Training a few candidates to see how the supernet ranks them")
        pairs = [_accuracies(shared, networks, SAMPLE_SEED + i) for i in range(count)]
        tau = float(kendalltau(*zip(*pairs, strict=True)).statistic)
        known = {"tau": 0.0 if math.isnan(tau) else round(tau, 4), "candidates": count, "pairs": pairs}
        stored.study.set_user_attr(TAU, known)
        progress.say(
            f"inherited accuracy ranks trained accuracy with Kendall tau {known['tau']:.2f} on {count} candidates"
        )
    if known["tau"] >= LEAST_TAU:
        return True
    progress.warn("the supernet ranks candidates too badly to choose by: each is trained from nothing")
    return False


def _accuracies(shared: SharedWeights, networks: Networks, seed: int) -> tuple[float, float]:
    """The accuracies of a random candidate on validation: with what it inherits, and trained from nothing."""
    session, params = networks.session, networks.draw(seed)
    model = networks.build(params)
    trained = session.trainer.fit(model, samples=session.samples)
    shared.load_into(params, model)
    settled = session.trainer.fit(model, samples=session.settling_samples)
    validation = session.data.validation
    return session.trainer.accuracy(settled, validation), session.trainer.accuracy(trained, validation)
