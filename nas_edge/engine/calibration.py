"""Calibrates a target on random networks, and says what came out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx

from nas_edge import pipeline
from nas_edge.config import StudyConfig
from nas_edge.contracts import Target
from nas_edge.engine.candidates import RandomCandidates, searched_techniques, with_probes
from nas_edge.engine.checking import check_choices
from nas_edge.engine.choices import Choices
from nas_edge.engine.progress import Progress
from nas_edge.latency.calibrate import calibrate
from nas_edge.latency.profile import Profile
from nas_edge.plugins import Registry
from nas_edge.targets.address import parse_target

PIPELINE_NAME = "nas_edge.pipeline"


def use_pipeline(registry: Registry) -> None:
    """Register the engine's own way to apply techniques, once."""
    if registry.hooks.get_plugin(PIPELINE_NAME) is None:
        registry.hooks.register(pipeline, PIPELINE_NAME)


def any_candidates(config: StudyConfig, registry: Registry, seed: int | None = None) -> RandomCandidates:
    """Random candidates of the config's space and techniques, for images of any size. Raises `UserError`."""
    use_pipeline(registry)
    space = registry.find("search space", config.space)
    techniques = searched_techniques(config, registry)
    check_choices(Choices.of(config.set), space, techniques, registry.techniques)
    target = parse_target(registry.targets, config.target)
    candidates = RandomCandidates(registry, space, techniques, config, target)
    return candidates if seed is None else replace(candidates, seed=seed)


def calibrate_any(
    config: StudyConfig, registry: Registry, progress: Progress, earlier: Profile | None = None
) -> Profile:
    """A profile for networks of any family and image size: of the space's candidates, and of common blocks."""
    candidates = any_candidates(config, registry)
    sample = partial(with_probes, candidates)
    return calibrated(
        candidates.target, sample, candidates.domain, config.calibration_seconds, progress, earlier=earlier
    )


def calibrated(
    target: Target,
    sample: Callable[[int], onnx.ModelProto | Path],
    domain: str,
    budget_s: float,
    progress: Progress,
    *,
    earlier: Profile | None = None,
    record: Callable[[Path, float], None] | None = None,
) -> Profile:
    """The profile of a target from random networks, in about `budget_s` seconds."""
    progress.phase(f"Calibrating latency on {target.name} (at most {budget_s:.0f} s)")
    with tempfile.TemporaryDirectory(prefix="nas_edge_") as folder:
        profile = calibrate(
            target,
            sample,
            budget_s=budget_s,
            progress=progress.calibrated,
            work_dir=Path(folder),
            earlier=earlier,
            record=record,
        )
    error = profile.error
    progress.say(
        f"calibrated on {error.networks} networks; held-out error {error.median:.1%} (median), "
        f"{error.q90:.1%} (90 % quantile)"
    )
    return replace(profile, domain=domain)
