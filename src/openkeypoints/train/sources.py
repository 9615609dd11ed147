"""Weighted mixtures of datasets, with decoded pictures kept in memory up to a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from openkeypoints.errors import FormatError
from openkeypoints.images import read_image, resize
from openkeypoints.results import Image
from openkeypoints.settings import Settings
from openkeypoints.train.coco import Dataset, Picture

SAME_SHAPE = 0.02
"""Two pictures whose proportions differ by more are not the same picture at two sizes."""


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
        """Return the picture as :func:`load_picture` does."""
        key = id(picture)
        if (image := self.kept.get(key)) is not None:
            return image
        image = load_picture(picture, self.settings)
        if self.used + image.nbytes <= self.budget_bytes:
            self.kept[key] = image
            self.used += image.nbytes
        return image


def load_picture(picture: Picture, settings: Settings) -> Image:
    """Return a picture as RGB uint8 (H, W, 3) at the size that it was annotated at.

    Raises:
        FormatError: its proportions are others than those of the annotation.
    """
    image = read_image(picture.read(), settings=settings)
    height, width = image.shape[:2]
    wide, high = picture.size
    # Rounding to whole pixels may cost one on each side.
    room = max(SAME_SHAPE * wide * high, width, height, wide, high)
    if abs(width * high - height * wide) > room * max(1.0, width / wide):
        raise FormatError(
            f"The picture {picture.image_id!r} is {width} x {height} when upright, its annotation "
            f"says {wide} x {high}: correct the annotation, or store the picture turned."
        )
    return resize(image, picture.size)


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
