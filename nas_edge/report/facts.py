"""Where and on what a study was made, as names and values: the device, its calibration, the data, the search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas_edge import __version__
from nas_edge.latency.profile import Profile
from nas_edge.report.layers import profiles
from nas_edge.store.study import StoredStudy

CPU = "CPU"
# What an agent says of its device, in words; other facts come under their own names.
NAMES = {
    "cpu": CPU,
    "architecture": "architecture",
    "instruction_sets": "instruction sets",
    "cores": "cores",
    "onnxruntime": "ONNX Runtime",
    "provider": "execution provider",
    "threads": "threads of ONNX Runtime",
    "governor": "frequency governor",
}
HIDDEN = frozenset(("affinity", "load", "providers"))  # of one moment
MOST_CLASSES = 30

Facts = dict[str, str]


def facts(stored: StoredStudy) -> dict[str, Facts]:
    """Tables by title."""
    attrs = stored.study.user_attrs
    profile = next(iter(profiles(stored)), None)
    return {
        "Device": _device(stored, profile),
        "Calibration": _calibration(profile),
        "Data": _data(attrs.get("data") or {}),
        "Search": _search(stored),
    }


def _device(stored: StoredStudy, profile: Profile | None) -> Facts:
    target = stored.study.user_attrs.get("target") or {}
    measured = next(iter(stored.tables.measurements(stored.target_key).values()), None)
    known = measured.fingerprint if measured else profile.fingerprint if profile else {}
    return {"target": str(target.get("name", "not known")), **of_device(known), "images at a time": "1"}


def of_device(fingerprint: Mapping[str, Any]) -> Facts:
    """What an agent said of its device, in words, without what is of one moment."""
    return {NAMES.get(k, k): _text(v) for k, v in fingerprint.items() if k not in HIDDEN and v not in (None, "", [])}


def _calibration(profile: Profile | None) -> Facts:
    if profile is None:
        return {}
    error = profile.error
    return {
        "networks that were predicted unseen": f"{error.networks:,}",
        "error on them, median": f"{error.median:.1%}",
        "error on them, 90% quantile": f"{error.q90:.1%}",
        "within 5%": f"{error.within5:.0%} of them",
        "within 10%": f"{error.within10:.0%} of them",
        "latencies calibrated": f"{profile.low_ms:.3g} to {profile.high_ms:.3g} ms",
    }


def _data(data: Mapping[str, Any]) -> Facts:
    if not data:
        return {}
    train, validation, test = data["images"]
    classes = list(data["classes"])
    named = ", ".join(classes[:MOST_CLASSES]) + (", ..." if len(classes) > MOST_CLASSES else "")
    return {
        "data set": data["name"],
        "fingerprint": data["fingerprint"],
        "classes": f"{len(classes)}: {named}",
        "images for training": f"{train:,}",
        "images for validation": f"{validation:,}",
        "images for the test": f"{test:,}",
        "image": f"{data['channels']} x {data['resolution']} x {data['resolution']}",
        "preprocessing": data["preprocessing"],
    }


def _search(stored: StoredStudy) -> Facts:
    config, plugins = stored.config, stored.study.user_attrs.get("plugins") or {}
    limit = "none" if config.max_latency_ms is None else f"{config.max_latency_ms:g} ms"
    return {
        "search space": config.model or config.space,
        "techniques": ", ".join(config.techniques or []) or "none",
        "objectives": ", ".join(config.objectives),
        "latency limit": limit,
        "sampler": config.sampler,
        "seed": str(config.seed),
        "a candidate's training": f"{_samples(stored):,} images seen",
        "accuracy that one step may cost": f"{config.max_drop:g} points" if config.gate else "any: the gate is off",
        "plugins": ", ".join(f"{name} (version {version})" for name, version in plugins.items()),
        "nas-edge": f"version {__version__} wrote this",
    }


def _samples(stored: StoredStudy) -> int:
    images = (stored.study.user_attrs.get("data") or {}).get("images", [0])[0]
    return stored.config.train.samples_for(images)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
