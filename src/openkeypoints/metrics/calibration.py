"""How far confidence can be believed, and the monotone map that makes it so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openkeypoints.errors import InputError

Array = NDArray[np.float64]
Knots = tuple[Array, Array]
"""A piecewise linear map: scores (strictly rising) and the chances (never falling) there."""

MAX_KNOTS = 16


@dataclass(frozen=True, slots=True)
class ReliabilityRow:
    """One range of scores: what was claimed and what came true.

    Attributes:
        low: the range begins here.
        high: and ends here.
        count: how many scores lie in it.
        confidence: their mean.
        accuracy: the share of them that are hits.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(scores: ArrayLike, hits: ArrayLike, *, bins: int = 10) -> list[ReliabilityRow]:
    """Return the claimed and the real share of hits for equally wide ranges of scores.

    Args:
        scores: (N,) confidences 0..1.
        hits: (N,) 1 where the keypoint was right, 0 where not.
        bins: number of ranges; empty ones are left out.

    Raises:
        InputError: lengths differ, or a value lies outside 0..1.
    """
    score, hit = _checked(scores, hits)
    place = np.minimum((score * bins).astype(np.int64), bins - 1)
    rows = []
    for index in np.unique(place):
        inside = place == index
        rows.append(
            ReliabilityRow(
                low=float(index / bins),
                high=float((index + 1) / bins),
                count=int(inside.sum()),
                confidence=float(score[inside].mean()),
                accuracy=float(hit[inside].mean()),
            )
        )
    return rows


def expected_calibration_error(scores: ArrayLike, hits: ArrayLike, *, bins: int = 10) -> float:
    """Return the mean distance of claimed from real shares, weighted by count; 0 without scores.

    Source: Naeini, Cooper, Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian
    Binning", AAAI 2015.
    """
    rows = reliability(scores, hits, bins=bins)
    total = sum(row.count for row in rows)
    off = sum(row.count * abs(row.confidence - row.accuracy) for row in rows)
    return off / total if total else 0.0


def fit_monotone(scores: ArrayLike, hits: ArrayLike, *, max_knots: int = MAX_KNOTS) -> Knots:
    """Fit the chance of a hit as a never falling function of the score.

    Isotonic regression by pooling adjacent violators; then the neighbouring pools whose merging
    costs least squared error are joined until few enough are left. Each pool gives one knot: its
    mean score and its share of hits.

    Args:
        scores: (N,) raw confidences 0..1, at least one.
        hits: (N,) 1 where the keypoint was right, 0 where not.
        max_knots: the most knots that are returned.

    Raises:
        InputError: nothing to fit, lengths differ, or a value lies outside 0..1.
    """
    score, hit = _checked(scores, hits)
    if not len(score) or max_knots < 1:
        raise InputError(
            f"cannot fit {max_knots} knots to {len(score)} scores: give at least one of both"
        )
    values, place = np.unique(score, return_inverse=True)
    weight = np.bincount(place).astype(np.float64)
    hit_sums = np.bincount(place, hit).astype(np.float64)
    pools = _pool_violators(values * weight, hit_sums, weight)
    sum_score, sum_hit, weight = _merge_cheapest(pools, max_knots)
    return sum_score / weight, sum_hit / weight


def apply(knots: Knots, scores: ArrayLike) -> NDArray[np.float32]:
    """Return the calibrated confidences of scores of any shape, flat beyond the outer knots."""
    return np.interp(np.asarray(scores, np.float64), *knots).astype(np.float32)


def _checked(scores: ArrayLike, hits: ArrayLike) -> Knots:
    score, hit = np.asarray(scores, np.float64).ravel(), np.asarray(hits, np.float64).ravel()
    if len(score) != len(hit):
        raise InputError(f"{len(score)} scores but {len(hit)} hits: each score needs one")
    for name, array in (("score", score), ("hit", hit)):
        outside = array[~((array >= 0) & (array <= 1))]
        if len(outside):
            raise InputError(f"a {name} is {outside[0]}: allowed are values from 0 to 1")
    return score, hit


def _pool_violators(sum_score: Array, sum_hit: Array, weight: Array) -> NDArray[Any]:
    """Join neighbours until the share of hits rises from pool to pool; (3, pools) of sums."""
    pools: list[tuple[float, float, float]] = []
    for single in zip(sum_score.tolist(), sum_hit.tolist(), weight.tolist(), strict=True):
        score, hit, count = single
        while pools and pools[-1][1] * count >= hit * pools[-1][2]:
            before = pools.pop()
            score, hit, count = score + before[0], hit + before[1], count + before[2]
        pools.append((score, hit, count))
    return np.array(pools).T


def _merge_cheapest(pools: NDArray[Any], limit: int) -> NDArray[Any]:
    """Join neighbouring pools until at most ``limit`` are left, the least loss of fit first."""
    while pools.shape[1] > limit:
        rise = np.diff(pools[1] / pools[2])
        cost = rise**2 * pools[2, :-1] * pools[2, 1:] / (pools[2, :-1] + pools[2, 1:])
        first = int(cost.argmin())
        pools[:, first] += pools[:, first + 1]
        pools = np.delete(pools, first + 1, axis=1)
    return pools
