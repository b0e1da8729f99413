"""What the tests of the documentation share."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_edge.cpu import channel_block
from nas_edge.engine.session import Session
from nas_edge.latency.heldout import HeldOutError
from nas_edge.latency.model import LatencyModel
from nas_edge.latency.profile import Profile
from nas_edge.plugins import Registry


@pytest.fixture
def quick(tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one; the tiny plugin, whose predictions spare the calibration."""

    def profile(session: Session, budget_s: float, progress: object) -> Profile:
        error = HeldOutError(0.01, 0.02, 1.0, 1.0, 8)
        fingerprint = session.target.fingerprint()
        block, model = channel_block(fingerprint), LatencyModel(0.1, {})
        return Profile(session.target.name, fingerprint, model, error, 0.01, 10.0, 0.1, session.domain, block)

    monkeypatch.setattr(Session, "calibrate", profile)
    monkeypatch.chdir(tmp_path)
    return tmp_path
