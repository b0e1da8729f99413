"""When a search ends early, and when it says that it gains nothing any more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nas_edge import Measurement, Target
from nas_edge.engine import ending
from nas_edge.plugins import Registry

from ..studies import Said, search, tiny_config


def test_a_search_ends_where_it_was_to_get(tiny: Registry, tmp_path: Path) -> None:
    whole = search(tiny_config(tmp_path / "whole", trials=6), tiny)
    sizes = [t.user_attrs["size_bytes"] for t in whole.trials()]
    smallest = min(sizes[1:4])
    number = sizes.index(smallest)
    heard = Said()
    text = f"accuracy >= 0.01 and latency_ms <= {1e-5 * smallest + 1e-6} and size_bytes <= {smallest}"
    ended = search(tiny_config(tmp_path / "run", trials=6, until=text), tiny, heard)
    first = next(i for i, size in enumerate(sizes) if size <= smallest)
    assert ended.finished() == first + 1 <= number + 1
    assert f"trial {first} reaches {text}" in heard.said


def test_it_goes_on_where_the_measured_latency_is_too_long(
    tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny device is measured as twice as slow as it is predicted."""
    whole = search(tiny_config(tmp_path / "whole", trials=5, audit_trials=0), tiny)
    predicted = [t.values[1] for t in whole.trials()]
    device = type(tiny.targets["bench"](""))
    measured = device.measure

    def slower(self: Target, model: Path, budget_s: float) -> Measurement:
        found: Measurement = measured(self, model, budget_s)
        return replace(found, p50_ms=2 * found.p50_ms)

    monkeypatch.setattr(device, "measure", slower)
    limit = 2 * min(predicted[1:]) + 1e-6
    text = f"latency_ms <= {limit}"
    assert sum(ms <= limit for ms in predicted) > 1
    stored = search(tiny_config(tmp_path / "run", trials=5, audit_trials=0, until=text), tiny)
    assert stored.finished() == 1 + next(i for i, ms in enumerate(predicted) if 2 * ms <= limit)


def test_a_study_that_got_there_asks_for_no_more(tiny: Registry, tmp_path: Path) -> None:
    search(tiny_config(tmp_path / "run", trials=2), tiny)
    again = search(tiny_config(tmp_path / "run", trials=9, until="accuracy >= 0.01"), tiny)
    assert again.finished() == 2


def test_workers_end_together(tiny: Registry, tiny_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tiny_site))
    stored = search(tiny_config(tmp_path / "run", trials=40, workers=2, until="accuracy >= 0.01"), tiny)
    assert 1 <= stored.finished() <= 3


def test_a_plateau_is_noticed(tiny: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "PLATEAU", 3)
    heard = Said()
    stored = search(tiny_config(tmp_path / "run", trials=14), tiny, heard)
    trials = stored.trials()
    expected = []
    for count in range(1, len(trials) + 1):
        newest = max(t.number for t in stored.front(trials[:count]))
        since, length = count - 1 - newest, max(3, round(ending.PLATEAU_SHARE * count))
        if since and since % length == 0:
            expected.append(f"no new best trade-off in the last {since} trials; an interrupt ends the search well")
    assert [text for text in heard.said if text.startswith("no new best")] == expected and expected
