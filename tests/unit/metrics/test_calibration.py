from __future__ import annotations

import numpy as np
import pytest

from openkeypoints.errors import InputError
from openkeypoints.metrics import calibration


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return scores whose real chance is their square, and the outcomes."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(size=count)
    return scores, (rng.uniform(size=count) < scores**2).astype(float)


def isotonic_by_min_max(hits: np.ndarray) -> np.ndarray:
    """Return isotonic regression by its min-max formula, for distinct sorted scores."""
    n = len(hits)
    mean = [[hits[i : j + 1].mean() if j >= i else np.inf for j in range(n)] for i in range(n)]
    table = np.array(mean)
    return np.array([max(table[i, k:].min() for i in range(k + 1)) for k in range(n)])


def test_reliability_reports_claimed_and_real_shares() -> None:
    rows = calibration.reliability([0.05, 0.15, 0.17, 1.0], [0, 1, 0, 1], bins=10)
    assert [(row.low, row.count, row.accuracy) for row in rows] == [
        (0.0, 1, 0.0),
        (0.1, 2, 0.5),
        (0.9, 1, 1.0),
    ]
    assert rows[1].confidence == pytest.approx(0.16)


def test_calibration_error_weighs_ranges_by_count() -> None:
    error = calibration.expected_calibration_error([0.8, 0.8, 0.8, 0.3], [1, 1, 0, 0])
    assert error == pytest.approx(0.75 * abs(0.8 - 2 / 3) + 0.25 * 0.3)


def test_calibration_error_of_nothing_is_zero() -> None:
    assert calibration.expected_calibration_error([], []) == 0.0


def test_pools_are_those_of_isotonic_regression() -> None:
    rng = np.random.default_rng(5)
    scores, hits = np.sort(rng.uniform(size=40)), rng.integers(0, 2, 40).astype(float)
    _, chances = calibration.fit_monotone(scores, hits, max_knots=40)
    np.testing.assert_allclose(chances, np.unique(isotonic_by_min_max(hits)))


def test_the_map_has_few_knots_and_never_falls() -> None:
    knots = calibration.fit_monotone(*drawn(20_000))
    assert len(knots[0]) <= calibration.MAX_KNOTS
    assert (np.diff(knots[0]) > 0).all()
    assert (np.diff(knots[1]) >= 0).all()


def test_the_map_finds_the_real_chances() -> None:
    knots = calibration.fit_monotone(*drawn(20_000))
    ask = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(calibration.apply(knots, ask), ask**2, atol=0.04)


def test_the_map_makes_unseen_scores_honest() -> None:
    knots = calibration.fit_monotone(*drawn(20_000))
    scores, hits = drawn(20_000, seed=1)
    before = calibration.expected_calibration_error(scores, hits)
    after = calibration.expected_calibration_error(calibration.apply(knots, scores), hits)
    assert before > 0.15
    assert after < 0.02


def test_equal_scores_share_one_knot() -> None:
    knots = calibration.fit_monotone([0.5, 0.5, 0.5, 0.5], [1, 0, 1, 1])
    np.testing.assert_allclose(calibration.apply(knots, [0.0, 0.5, 1.0]), 0.75)


def test_applied_scores_keep_their_shape() -> None:
    knots = calibration.fit_monotone([0.2, 0.8], [0, 1])
    values = calibration.apply(knots, np.full((3, 17), 0.5, np.float32))
    assert values.shape == (3, 17)
    assert values.dtype == np.float32


@pytest.mark.parametrize(
    ("scores", "hits", "message"),
    [
        ([], [], "at least one"),
        ([0.5], [1, 0], "each score needs one"),
        ([1.5], [1], "from 0 to 1"),
        ([np.nan], [1], "from 0 to 1"),
        ([0.5], [2], "from 0 to 1"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    scores: list[float], hits: list[float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        calibration.fit_monotone(scores, hits)
