"""The engine's own answer to the `predict_latency` hook: the profile of one target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas_edge.contracts import Target
from nas_edge.hookspecs import hookimpl
from nas_edge.latency.profile import Profile
from nas_edge.records import Prediction
from nas_edge.targets.address import fingerprint_key

if TYPE_CHECKING:
    import onnx


class ProfilePredictor:
    """Predicts for the target that its profile is of, and says nothing about others."""

    def __init__(self, profile: Profile, target: Target) -> None:
        """Raises `StudyMismatch` where the profile is of another target."""
        profile.check(target.fingerprint())
        self._profile = profile
        self._target = target

    @hookimpl(trylast=True)
    def predict_latency(self, graph: onnx.ModelProto, target: Target) -> Prediction | None:
        same = target is self._target or (
            fingerprint_key(target.fingerprint()) == fingerprint_key(self._profile.fingerprint)
        )
        return self._profile.predict(graph) if same else None
