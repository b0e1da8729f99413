"""Fixtures for searches on a device whose measurements the test decides."""

from __future__ import annotations

import pytest

from nas_edge.engine.session import Session
from nas_edge.plugins import Registry

from .devices import Device


@pytest.fixture
def device(tiny: Registry, monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()
    bench = type(tiny.find("target", "bench")("bench"))
    monkeypatch.setattr(bench, "measure", lambda target, model, budget_s: made.measure(target, model, budget_s))
    return made


@pytest.fixture
def no_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "calibrate", lambda *a, **k: pytest.fail("calibrated again"))
