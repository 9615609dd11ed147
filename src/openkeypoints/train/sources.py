"""Weighted mixtures of datasets, with decoded pictures kept in memory up to a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from openkeypoints.images import read_image
from openkeypoints.results import Image
from openkeypoints.settings import Settings
from openkeypoints.train.coco import Dataset, Picture


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset and the part of all samples that it gives (shares are normalised)."""

    dataset: Dataset
    share: float


@dataclass(slots=True)
class PictureCache:
    """Decoded pictures, kept until the budget is used up; later ones are decoded each time."""

    budget_bytes: int
    settings: Settings = field(default_factory=Settings.from_env)
    used: int = 0
    kept: dict[int, Image] = field(default_factory=dict)

    def get(self, picture: Picture) -> Image:
        """Return the picture as RGB uint8 (H, W, 3)."""
        key = id(picture)
        if (image := self.kept.get(key)) is not None:
            return image
        image = read_image(picture.read(), settings=self.settings)
        if self.used + image.nbytes <= self.budget_bytes:
            self.kept[key] = image
            self.used += image.nbytes
        return image


def draw_index(cumulative: NDArray[np.float64], rng: np.random.Generator) -> int:
    """Return an index drawn by its share, from cumulative shares."""
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))


def cumulative_shares(sources: Sequence[Source], counts: Sequence[int]) -> NDArray[np.float64]:
    """Return cumulative probabilities of all items when each source has its share of the draws.

    Args:
        sources: the mixture.
        counts: number of items of each source; a source without items gives none.
    """
    parts = [np.full(c, s.share / c) for s, c in zip(sources, counts, strict=True) if c]
    return np.cumsum(np.concatenate(parts)) if parts else np.zeros(0)
