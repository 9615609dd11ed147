from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openkeypoints.errors import FormatError
from openkeypoints.metrics.report import score

NAMES = ("nose", "left_shoulder", "right_hip", "left_wrist", "neck")
REFERENCE = Path(__file__).parents[2] / "data" / "score.py"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def reference() -> Callable[..., Json]:
    """Return the reference scorer's function."""
    spec = importlib.util.spec_from_file_location("reference_scorer", REFERENCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.score


class Drawn:
    """Random truth and predictions with everything that annotation files and models bring."""

    def __init__(self, seed: int, *, box_given: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.box_given = box_given
        self.predicted_names = list(
            self.rng.permutation([*NAMES[: self.rng.integers(2, 6)], "tail"])
        )
        self.truth: Json = {
            "images": [{"id": i} for i in range(12)],
            "categories": [{"keypoints": list(NAMES)}],
            "annotations": [],
        }
        self.results: list[Json] = []
        for image in range(12):
            for _ in range(self.rng.choice([0, 1, 1, 2, 4])):
                self._person(image)
            if not box_given:
                self._false_alarms(image)
        self.predictions = {"keypoints": self.predicted_names, "results": self.results}

    def _person(self, image: int) -> None:
        rng = self.rng
        box = np.round([*rng.uniform(0, 150, 2), *rng.uniform(30, 150, 2)])
        points = box[:2] + rng.uniform(0, 1, (len(NAMES), 2)) * box[2:]
        flags = rng.choice([0, 1, 2], len(NAMES))
        person: Json = {
            "id": len(self.truth["annotations"]) + 100,
            "image_id": image,
            "bbox": box.tolist(),
            "area": float(box[2] * box[3] * 0.6),
            "iscrowd": int(rng.uniform() < 0.15),
            "keypoints": np.column_stack([points, flags]).ravel().tolist(),
        }
        kind = rng.uniform()
        if kind < 0.1:
            del person["area"]
        elif kind < 0.2:
            del person["keypoints"]
        elif kind < 0.25:
            person["keypoints"] = [0] * (3 * len(NAMES))
        self.truth["annotations"].append(person)
        for _ in range(1 if self.box_given else rng.choice([0, 1, 1, 2])):
            if rng.uniform() < 0.85:
                self._predict(person, box, points)

    def _predict(self, person: Json, box: np.ndarray, points: np.ndarray) -> None:
        rng = self.rng
        own = dict(zip(NAMES, points, strict=True))
        spread = rng.choice([1.0, 5.0, 25.0])
        triples = []
        for name in self.predicted_names:
            x, y = own.get(name, np.zeros(2)) + rng.normal(0, spread, 2)
            lost = rng.uniform() < 0.05
            triples += [float("nan") if lost else float(x), float(y), float(rng.uniform())]
        row = {
            "image_id": person["image_id"],
            "bbox": (box + rng.normal(0, spread, 4)).tolist(),
            "keypoints": triples,
            # Few values, so that ties happen.
            "score": float(rng.integers(1, 12) / 12),
        }
        if self.box_given:
            row["annotation_id"] = person["id"]
        self.results.append(row)

    def _false_alarms(self, image: int) -> None:
        for _ in range(self.rng.choice([0, 0, 1, 2])):
            box = np.array([*self.rng.uniform(0, 150, 2), *self.rng.uniform(30, 150, 2)])
            points = self.rng.uniform(0, 200, (len(NAMES), 2))
            self._predict({"image_id": image}, box, points)


def without_joint_tables(figures: Json) -> Json:
    return {name: value for name, value in figures.items() if not name.startswith("joints_")}


@pytest.mark.parametrize("box_given", [False, True], ids=["found", "given"])
@pytest.mark.parametrize("seed", range(40))
def test_figures_equal_the_reference_scorer(
    reference: Callable[..., Json], seed: int, box_given: bool
) -> None:
    drawn = Drawn(seed, box_given=box_given)
    min_side = (48.0, 0.0, 80.0)[seed % 3]
    expected = reference(drawn.truth, drawn.predictions, min_side, 0.5)
    ours = score(drawn.truth, drawn.predictions, min_side=min_side, threshold=0.5)
    assert without_joint_tables(ours) == pytest.approx(expected, abs=1e-3)


def test_drawn_cases_reach_every_figure() -> None:
    seen: dict[str, set[float]] = {}
    for seed in range(12):
        drawn = Drawn(seed, box_given=False)
        for name, value in score(drawn.truth, drawn.predictions, threshold=0.5).items():
            if isinstance(value, float):
                seen.setdefault(name, set()).add(value)
    names = {"torso.2", "within.1", "within.2", "oks", "oks_ap", "box_ap50", "clean"}
    assert set(seen) == names
    assert all(len(values) > 3 for values in seen.values())


def test_a_person_found_exactly_has_full_marks_everywhere() -> None:
    drawn = Drawn(0, box_given=False)
    people = [
        {**person, "iscrowd": 0, "keypoints": np.full(15, 9.0).tolist()}
        for person in drawn.truth["annotations"][:1]
    ]
    rows = [{**person, "score": 0.9} for person in people]
    figures = score(
        {**drawn.truth, "annotations": people}, {"keypoints": NAMES, "results": rows}, min_side=0
    )
    assert {figures[name] for name in ("within.1", "box_ap50")} == {1.0}
    assert figures["joints"] == len(NAMES)
    assert figures["people"] == 1


def test_joint_tables_name_every_counted_joint() -> None:
    drawn = Drawn(7, box_given=True)
    figures = score(drawn.truth, drawn.predictions)
    table = figures["joints_within.1"]
    shared = set(NAMES) & set(drawn.predicted_names)
    assert set(table) == shared
    assert min(table.values()) <= figures["within.1"] <= max(table.values())


def test_figures_are_plain_json() -> None:
    drawn = Drawn(3, box_given=False)
    figures = score(drawn.truth, drawn.predictions, threshold=0.5)
    assert json.loads(json.dumps(figures)) == figures


def test_a_box_detector_is_scored_by_its_boxes_alone(reference: Callable[..., Json]) -> None:
    drawn = Drawn(5, box_given=False)
    truth = {**drawn.truth, "categories": [{"name": "person"}]}
    figures = score(truth, drawn.predictions)
    assert figures == pytest.approx(reference(truth, drawn.predictions), abs=1e-3)
    assert set(figures) == {"box_ap50", "joints", "people"}


def test_a_model_that_finds_nothing_misses_everything(reference: Callable[..., Json]) -> None:
    drawn = Drawn(6, box_given=False)
    nothing = {"keypoints": list(NAMES), "results": []}
    figures = score(drawn.truth, nothing, threshold=0.5)
    expected = reference(drawn.truth, nothing, threshold=0.5)
    assert without_joint_tables(figures) == pytest.approx(expected, abs=1e-3)
    assert figures["within.2"] == figures["box_ap50"] == 0.0
    assert figures["clean"] == 1.0


@pytest.mark.parametrize(
    ("truth", "predictions", "message"),
    [
        ({"annotations": [], "images": []}, {}, "'categories'"),
        ({"categories": [], "annotations": []}, {}, "no categories"),
        ({"categories": [{}], "annotations": []}, {"keypoints": []}, "'results'"),
        (
            {
                "categories": [{"keypoints": ["nose"]}],
                "images": [],
                "annotations": [
                    {"id": 1, "image_id": 1, "bbox": [0, 0, 9, 9], "keypoints": [1, 1, 2]}
                ],
            },
            {
                "keypoints": ["nose"],
                "results": [{"image_id": 1, "bbox": [0, 0, 9, 9], "score": 1, "keypoints": [1]}],
            },
            "do not fit",
        ),
    ],
)
def test_files_of_another_shape_are_refused(truth: Json, predictions: Json, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        score(truth, predictions)
