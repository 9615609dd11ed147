"""Skeletons made from what a file says: bare names, or a COCO category with its usual defects."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from openkeypoints.results import DEFAULT_SIGMA, Skeleton
from openkeypoints.skeletons.packaged import list_skeletons, load_skeleton

LEFT, RIGHT, CENTRE = "#56b4e9", "#e69f00", "#f5f5f5"
"""Colours of the two sides and the middle; told apart with every common colour blindness."""
CYCLE = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2")
"""Colours of keypoints that have no sides (Okabe and Ito's palette)."""

_SIDE = re.compile(r"left|right|(?<![a-z])[lr](?![a-z])", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left", "l": "r", "r": "l"}
_log = logging.getLogger(__name__)


def skeleton_from_names(
    name: str, keypoints: Sequence[str], edges: Sequence[tuple[int, int]] = ()
) -> Skeleton:
    """Return a skeleton for keypoint names: the packaged one, or one derived from the names.

    Names equal to those of a packaged skeleton give that skeleton, with the given edges where
    there are any. Otherwise ``left_``/``right_`` (also ``l``/``r``) names become flip pairs and
    take the colours of their side, and names that COCO knows take COCO's sigmas.

    Args:
        name: name of a derived skeleton.
        keypoints: K names.
        edges: 0-based pairs.
    """
    names = tuple(keypoints)
    for packaged in (load_skeleton(n) for n in list_skeletons()):
        if packaged.keypoints == names:
            same = not edges or _same_edges(edges, packaged.edges)
            return packaged if same else replace(packaged, name=name, edges=tuple(edges))
    return _build(name, names, tuple(edges), _flip_from_names(names))


def skeleton_from_coco_category(category: Mapping[str, Any]) -> Skeleton | None:
    """Return the skeleton of a COCO category, None for a category without keypoints.

    Survives what real files contain: edges (1-based in COCO) that are counted from 0 are shifted,
    those that name no keypoint are dropped; ``flip_idx`` and ``flip_pairs`` are taken where they
    pair the keypoints, and derived from left and right in the names otherwise; ``sigmas`` are
    optional. Colours and groups of a packaged skeleton with the same names are kept.

    Args:
        category: one entry of ``categories``.
    """
    listed = category.get("keypoints")
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        return None
    names = tuple(str(n) for n in listed)
    edges = _edges_from_coco(category.get("skeleton"), len(names))
    found = skeleton_from_names(str(category.get("name", "unnamed")), names, edges)
    flip = _flip_from_category(category, len(names)) or found.flip
    sigmas = _sigmas_from_category(category, len(names)) or found.sigmas
    if (flip, sigmas) == (found.flip, found.sigmas):
        return found
    return replace(found, flip=flip, sigmas=sigmas)


def _build(
    name: str, names: tuple[str, ...], edges: tuple[tuple[int, int], ...], flip: tuple[int, ...]
) -> Skeleton:
    known = _known_sigmas()
    sided = any(i != j for i, j in enumerate(flip))
    return Skeleton(
        name=name,
        keypoints=names,
        edges=edges,
        flip=flip,
        sigmas=tuple(known.get(n.lower(), DEFAULT_SIGMA) for n in names),
        colors=tuple(
            _side_color(n) if sided else CYCLE[i % len(CYCLE)] for i, n in enumerate(names)
        ),
    )


@cache
def _known_sigmas() -> dict[str, float]:
    person = load_skeleton("person19")
    return dict(zip(person.keypoints, person.sigmas, strict=True))


def _same_edges(a: Sequence[tuple[int, int]], b: Sequence[tuple[int, int]]) -> bool:
    return {frozenset(edge) for edge in a} == {frozenset(edge) for edge in b}


def _side_color(name: str) -> str:
    found = _SIDE.search(name)
    if found is None:
        return CENTRE
    return LEFT if found[0][0] in "lL" else RIGHT


def _flip_from_names(names: tuple[str, ...]) -> tuple[int, ...]:
    where = {n.lower(): i for i, n in enumerate(names)}
    flip = list(range(len(names)))
    for i, name in enumerate(names):
        partner = _SIDE.sub(lambda found: _OTHER[found[0].lower()], name.lower())
        j = where.get(partner, i)
        if flip[i] == i and flip[j] == j:
            flip[i], flip[j] = j, i
    return tuple(flip)


def _flip_from_category(category: Mapping[str, Any], count: int) -> tuple[int, ...] | None:
    flip_idx, pairs = category.get("flip_idx"), category.get("flip_pairs")
    if isinstance(flip_idx, Sequence) and _is_pairing(flip_idx, count):
        return tuple(flip_idx)
    if not isinstance(pairs, Sequence) or not all(_is_pair(p) for p in pairs):
        return None
    flip = list(range(count))
    for a, b in pairs:
        if not (0 <= a < count and 0 <= b < count):
            return None
        flip[a], flip[b] = b, a
    return tuple(flip) if _is_pairing(flip, count) else None


def _is_pairing(flip: Sequence[Any], count: int) -> bool:
    if len(flip) != count or not all(isinstance(i, int) and 0 <= i < count for i in flip):
        return False
    return all(flip[flip[i]] == i for i in range(count))


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(i, int) for i in pair)


def _edges_from_coco(skeleton: Any, count: int) -> tuple[tuple[int, int], ...]:
    if not isinstance(skeleton, Sequence):
        return ()
    pairs = [(int(p[0]), int(p[1])) for p in skeleton if _is_pair(p)]
    indexes = {i for pair in pairs for i in pair}
    # COCO counts from 1. A 0 without the largest number means that the file counts from 0.
    base = 0 if 0 in indexes and count not in indexes else 1
    shifted = [(a - base, b - base) for a, b in pairs]
    edges = tuple((a, b) for a, b in shifted if 0 <= a < count and 0 <= b < count and a != b)
    if len(edges) < len(skeleton):
        _log.warning("dropped %d skeleton edges that join no keypoints", len(skeleton) - len(edges))
    return edges


def _sigmas_from_category(category: Mapping[str, Any], count: int) -> tuple[float, ...] | None:
    sigmas = category.get("sigmas")
    if not isinstance(sigmas, Sequence) or len(sigmas) != count:
        return None
    if not all(isinstance(s, int | float) and 0 < s < 10 for s in sigmas):
        return None
    return tuple(float(s) for s in sigmas)
