"""The figures of an audit, and the decision whether a profile is worse than it states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from nas_edge.engine.agreement import Agreement, above_stated, leaves_stated_error, p_value
from nas_edge.records import Audited, LatencyAudit


def models(errors: Sequence[float], unstable: Sequence[int] = ()) -> tuple[Audited, ...]:
    """Models measured at 1, 2, 3, ... ms whose predictions err by so much."""
    return tuple(
        Audited(i, (i + 1) * (1 + error), float(i + 1), "the clock moves" if i in unstable else None)
        for i, error in enumerate(errors)
    )


def audit(
    errors: Sequence[float], *, q90: float = 0.05, networks: int = 400, unstable: Sequence[int] = ()
) -> LatencyAudit:
    return LatencyAudit(40, "profile", q90 / 2, q90, networks, models(errors, unstable))


def test_figures_by_hand() -> None:
    found = Agreement.of(models([0.1, -0.2, 0.0, 0.05, -0.4]))
    # predicted 1.1, 1.6, 3, 4.2, 3 for measured 1, 2, 3, 4, 5: of 10 pairs one is the wrong way round and one is a tie
    assert found.audited == 5 and found.median == pytest.approx(0.1)
    assert found.q90 == pytest.approx(0.2 + 0.6 * (0.4 - 0.2))
    assert found.kendall_tau == pytest.approx((8 - 1) / (10 * 9) ** 0.5)


def test_unstable_measurements_are_left_out() -> None:
    errors = [0.1, 9.0, -0.2, 0.3]
    assert Agreement.of(models(errors, unstable=[1])).median == pytest.approx(0.2)
    doubted = audit(errors, unstable=[1])
    assert above_stated(doubted) == 3
    assert p_value(doubted) == pytest.approx(p_value(audit([0.1, 0.2, 0.3])))


@pytest.mark.parametrize(("errors", "known"), [([], 0), ([0.1], 1)])
def test_few_models_leave_figures_unknown(errors: list[float], known: int) -> None:
    found = Agreement.of(models(errors))
    assert (found.audited, found.median is None, found.kendall_tau) == (known, not known, None)
    assert not leaves_stated_error(audit(errors))


def test_equal_predictions_have_no_rank() -> None:
    assert Agreement.of([Audited(0, 1.0, 1.0), Audited(1, 1.0, 2.0)]).kendall_tau is None


@pytest.mark.parametrize(
    ("above", "of", "networks", "left"),
    [
        (2, 8, 10**6, False),
        (3, 8, 10**6, False),
        (4, 8, 10**6, True),
        (4, 8, 8, False),
        (6, 8, 8, True),
        (3, 3, 8, True),
    ],
)
def test_how_many_large_errors_are_too_many(above: int, of: int, networks: int, left: bool) -> None:
    errors = [0.06] * above + [-0.049] * (of - above)
    assert leaves_stated_error(audit(errors, networks=networks)) is left


def test_the_probability_is_the_binomial_one_where_the_stated_error_is_well_known() -> None:
    # P(X >= 4) of 8 at 0.1: 1 - 0.9**8 - 8 * 0.1 * 0.9**7 - 28 * 0.01 * 0.9**6 - 56 * 0.001 * 0.9**5
    assert p_value(audit([0.06] * 4 + [0.0] * 4, networks=10**9)) == pytest.approx(0.005024, rel=1e-3)


@pytest.mark.parametrize("networks", [8, 30, 200])
def test_noise_alone_seldom_leaves_the_stated_error(networks: int) -> None:
    """However few networks the error was stated on."""
    generator = np.random.default_rng(networks)
    left = 0
    for _ in range(2000):
        stated = float(np.quantile(np.abs(generator.normal(0, 0.04, networks)), 0.9))
        left += leaves_stated_error(audit(list(generator.normal(0, 0.04, 8)), q90=stated, networks=networks))
    assert left <= 40


def test_a_profile_that_errs_twice_as_much_is_found_out() -> None:
    generator = np.random.default_rng(0)
    stated = 0.04 * 1.645  # the 90 % quantile of the size of such errors
    left = sum(leaves_stated_error(audit(list(generator.normal(0, 0.12, 8)), q90=stated)) for _ in range(200))
    assert left >= 140
