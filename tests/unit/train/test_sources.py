"""Mixtures of datasets, and pictures at the size they were annotated at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openkeypoints.errors import FormatError
from openkeypoints.images import encode_image
from openkeypoints.settings import Settings
from openkeypoints.train.coco import read_dataset
from openkeypoints.train.sources import (
    PictureCache,
    Source,
    cumulative_shares,
    draw_index,
    load_picture,
)
from tests.drawn import dots, find_dot, write_sticks


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return read_dataset(write_sticks(tmp_path_factory.mktemp("sticks"), 4))


def test_each_source_gives_its_share_whatever_its_size(dataset):
    few = replace(dataset, pictures=dataset.pictures[:1])
    shares = cumulative_shares([Source(dataset, 1.0), Source(few, 3.0)], [4, 1])
    rng = np.random.default_rng(0)
    drawn = np.bincount([draw_index(shares, rng) for _ in range(4000)], minlength=5)
    assert drawn[4] / 4000 == pytest.approx(0.75, abs=0.03)
    assert np.allclose(drawn[:4] / 4000, 1 / 16, atol=0.02)


def test_a_source_without_items_gives_none(dataset):
    shares = cumulative_shares([Source(dataset, 1.0), Source(dataset, 9.0)], [2, 0])
    assert len(shares) == 2


def test_pictures_are_decoded_once_while_the_budget_lasts(dataset):
    cache = PictureCache(96 * 96 * 3)
    first, second = dataset.pictures[:2]
    assert cache.get(first) is cache.get(first)
    assert cache.get(second) is not cache.get(second)
    assert np.array_equal(cache.get(second), load_picture(second, Settings()))


def stored(dataset, size):
    picture = dots(size, [(size[0] / 2, size[1] / 4)], radius=size[0] / 10)
    data = encode_image(picture, "png")
    return replace(dataset.pictures[0], read=lambda: data, size=(96, 48))


@pytest.mark.parametrize("size", [(96, 48), (192, 96), (48, 24), (193, 96)])
def test_a_picture_stored_at_another_size_comes_at_the_annotated_one(dataset, size):
    image = load_picture(stored(dataset, size), Settings())
    assert image.shape == (48, 96, 3)
    assert np.abs(find_dot(image, 0) - [48, 12]).max() < 0.5


@pytest.mark.parametrize("size", [(48, 96), (96, 96), (120, 48)])
def test_a_picture_of_other_proportions_is_refused(dataset, size):
    with pytest.raises(FormatError, match=rf"{size[0]} x {size[1]} when upright.*96 x 48"):
        load_picture(stored(dataset, size), Settings())
