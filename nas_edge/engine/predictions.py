"""The predictions that a study's database holds: each file is predicted once by each profile."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from nas_edge.latency.profile import Profile
from nas_edge.plugins import Registry
from nas_edge.records import Prediction
from nas_edge.store.tables import Tables


@dataclass(frozen=True)
class StoredPredictions:
    """What a profile said of files on the target with this fingerprint; `key` stands for who predicts."""

    tables: Tables
    fingerprint: str
    profile: Profile
    key: str

    def find(self, onnx_sha256: str) -> Prediction | None:
        return self.tables.prediction(onnx_sha256, self.fingerprint, self.key)

    def keep(self, onnx_sha256: str, prediction: Prediction) -> None:
        self.tables.add_prediction(onnx_sha256, self.fingerprint, self.key, prediction)


def profile_key(profile: Profile, registry: Registry) -> str:
    """16 hex digits for who predicts: the profile, and the plugins that answer the hook before it."""
    versions = {plugin.name: plugin.version for plugin in registry.plugins}
    before = {name: versions.get(name) for name in predictors(registry)}
    stored = Profile.from_json(profile.to_json()).to_json()  # as it will be read again: 1 is written 1.0 then
    text = json.dumps([stored, before], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def predictors(registry: Registry) -> list[str]:
    """The plugins that have a `predict_latency` hook."""
    return [implementation.plugin_name for implementation in registry.hooks.hook.predict_latency.get_hookimpls()]
