from __future__ import annotations

import pytest

from nas_edge import UserError
from nas_edge.conditions import Condition, Until, Where
from nas_edge.config import make_config


def test_conditions_and_when_they_are_met() -> None:
    until = Until.parse("accuracy >= 0.92 and latency_ms<=2 and size_bytes <= 3e5")
    assert until.conditions == (
        Condition("accuracy", ">=", 0.92),
        Condition("latency_ms", "<=", 2.0),
        Condition("size_bytes", "<=", 3e5),
    )
    found = {"accuracy": 0.92, "latency_ms": 2.0, "size_bytes": 300_000}
    assert until.met(found)
    assert not until.met({**found, "accuracy": 0.9199})
    assert not until.met({**found, "latency_ms": 2.01}) and not until.met({**found, "size_bytes": 300_001})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is no condition; join some of accuracy >= NUMBER, latency_ms <= NUMBER"),
        ("accuracy <= 0.9", "'accuracy <= 0.9' is no condition"),
        ("latency_ms < 2", "'latency_ms < 2' is no condition"),
        ("speed >= 3", "'speed >= 3' is no condition"),
        ("accuracy >= 0.9 or latency_ms <= 2", "is no condition"),
        ("accuracy >= 92", "'92' in 'accuracy >= 92' is not a share above 0, at most 1"),
        ("accuracy >= high", "'high' in 'accuracy >= high' is not a share"),
        ("latency_ms <= 0", "'0' in 'latency_ms <= 0' is not a number above 0"),
        ("latency_ms <= nan", "'nan' in 'latency_ms <= nan' is not a number above 0"),
        ("latency_ms <= 2 and latency_ms <= 1", "a figure is named twice"),
    ],
)
def test_what_is_no_condition_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match="--until is ") as refused:
        make_config(None, {"until": text})
    assert said in str(refused.value)


FIGURES = ("number", "accuracy", "latency_ms")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("accuracy > 0.9", [2, 3]),
        ("accuracy >= 0.9 and latency_ms<0.4", [1, 2]),
        ("latency_ms > 0.1 and latency_ms <= 0.2", [1]),
        ("number != 2 and number != 4", [1, 3]),
        ("number == 3", [3]),
        ("latency_ms < 1e9", [1, 2, 3]),
        ("latency_ms > -1", [1, 2, 3]),
    ],
)
def test_trials_that_meet_conditions(text: str, numbers: list[int]) -> None:
    """What is not known meets none."""
    rows: list[dict[str, float | None]] = [
        {"number": 1, "accuracy": 0.9, "latency_ms": 0.2},
        {"number": 2, "accuracy": 0.95, "latency_ms": 0.3},
        {"number": 3, "accuracy": 0.97, "latency_ms": 0.4},
        {"number": 4, "accuracy": None, "latency_ms": None},
    ]
    where = Where.parse(text, FIGURES)
    assert [row["number"] for row in rows if where.met(row)] == numbers


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is no condition; write FIGURE SIGN NUMBER, with a figure of number, accuracy, latency_ms and a sign"),
        ("test_accuracy > 0.9", "'test_accuracy > 0.9' is no condition"),
        ("accuracy => 0.9", "'accuracy => 0.9' is no condition"),
        ("accuracy > 0.9 or latency_ms < 2", "is no condition"),
        ("accuracy > 0.9 and", "'' is no condition"),
        ("accuracy > high", "'high' in 'accuracy > high' is not a number"),
        ("latency_ms < inf", "'inf' in 'latency_ms < inf' is not a number"),
        ("__class__ == 1", "'__class__ == 1' is no condition"),
    ],
)
def test_what_no_trial_can_be_asked_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        Where.parse(text, FIGURES)
    assert said in str(refused.value)
