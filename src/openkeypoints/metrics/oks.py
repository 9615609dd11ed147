"""Object keypoint similarity of predictions with the people they were bound to, joints by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openkeypoints import geometry
from openkeypoints.skeletons import load_skeleton


def coco_sigmas(names: Sequence[str]) -> NDArray[np.float64]:
    """Return the (K,) standard deviations that COCO measured, NaN for names it does not have."""
    coco = load_skeleton("coco17")
    known = dict(zip(coco.keypoints, coco.sigmas, strict=True))
    return np.array([known.get(name, np.nan) for name in names], np.float64)


def person_oks(
    predicted: NDArray[np.float64],
    labelled: NDArray[np.float64],
    *,
    visible: NDArray[np.bool_],
    areas: NDArray[np.float64],
    sigmas: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the similarity (P,) of each prediction with its person, 0..1.

    The formula is COCO's (``geometry.oks``): the mean over labelled joints, where a joint that the
    prediction lacks counts as infinitely far.

    Args:
        predicted: (P, K, 2) pixels, NaN where there is none.
        labelled: (P, K, 2) pixels.
        visible: (P, K), which joints are labelled.
        areas: (P,) px² of the labelled people, NaN where unknown.
        sigmas: (K,); joints whose sigma is NaN are left out.

    Returns:
        (P,), NaN for people without an area or without a joint to compare.
    """
    known = ~np.isnan(sigmas)
    counted = visible[:, known]
    values = geometry.oks(
        predicted[:, known],
        labelled[:, known],
        areas=np.nan_to_num(areas),
        sigmas=sigmas[known],
        visible=counted,
    )
    return np.where(counted.any(axis=1) & ~np.isnan(areas), values, np.nan)
