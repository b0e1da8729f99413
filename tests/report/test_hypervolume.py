"""How a search advanced, against areas counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_edge.engine.baseline import stored_baselines
from nas_edge.report.hypervolume import advances

from .made import hand_made


def test_shares_are_areas_counted_by_hand(tmp_path: Path) -> None:
    """Latency 4, 2, 3, 1 ms and error 0.1, 0.3, 0.5, 0.6: the third is dominated, the others are the front."""
    stored = hand_made(tmp_path, [(0.9, 4.0), (0.7, 2.0), (0.5, 3.0), (0.4, 1.0)])
    found = advances(stored.snapshot())
    assert found is not None
    latency, error = found.reference
    assert (latency, error) == pytest.approx((4 * 1.05, 0.6 + 0.01))
    first = (latency - 4) * (error - 0.1)
    second = first + (4 - 2) * (error - 0.3)
    whole = second + (2 - 1) * (error - 0.6)
    (search,) = found.searches
    assert [m.candidates for m in search.moments] == [0, 1, 2, 4, 4]
    assert [m.front for m in search.moments] == [0, 1, 2, 3, 3]
    assert [m.share for m in search.moments] == pytest.approx([0, first / whole, second / whole, 1, 1])
    assert [m.seconds for m in search.moments] == pytest.approx([0, 50, 100, 200, 200])


def test_random_search_stands_beside_and_both_are_shares_of_all(tmp_path: Path) -> None:
    stored = hand_made(tmp_path, [(0.9, 2.0)], [(0.5, 1.0)], baseline="random")
    found = advances(stored.snapshot(), [other.snapshot() for other in stored_baselines(stored)])
    assert found is not None
    own, random = found.searches
    assert (own.random, random.random) == (False, True)
    areas = [(2.1 - 2) * (0.51 - 0.1), (2.1 - 1) * (0.51 - 0.5)]
    both = areas[0] + (2 - 1) * (0.51 - 0.5)
    assert own.moments[-1].share == pytest.approx(areas[0] / both)
    assert random.moments[-1].share == pytest.approx(areas[1] / both)


def test_what_is_over_the_limit_adds_nothing(tmp_path: Path) -> None:
    stored = hand_made(tmp_path, [(0.9, 4.0), (0.7, 2.0)], max_latency_ms=3.0)
    found = advances(stored.snapshot())
    assert found is not None
    assert [m.candidates for m in found.searches[0].moments] == [0, 2, 2]


def test_nothing_is_known_before_the_first_candidate(tmp_path: Path) -> None:
    assert advances(hand_made(tmp_path, []).snapshot()) is None
