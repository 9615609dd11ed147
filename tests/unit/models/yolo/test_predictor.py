from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from openkeypoints.errors import InputError, RuntimeUnavailableError
from openkeypoints.models.request import InferOptions, SettledRequest
from openkeypoints.models.yolo.predictor import YoloPredictor
from openkeypoints.models.yolo.spec import Head, InputSpec, OutputSpec, YoloSpec
from openkeypoints.results import Prediction, Skeleton

ROWS = OutputSpec("rows", {"table": "found"}, "one2one", 1, keypoints=(1, 3))
COLUMNS = OutputSpec("columns", {"table": "found"}, "one2many", 1, keypoints=(1, 3))
SPEC = YoloSpec(
    task="keypoint-detection",
    class_names=("square",),
    skeletons={0: Skeleton("middle", ("middle",))},
    input=InputSpec("images", (96, 96), pictures=True),
    outputs={"one2many": COLUMNS, "one2one": ROWS},
)


class SquareFinder:
    """A session that finds the white square in each picture: a network without weights."""

    outputs = ("found",)
    runtime, device, precision = "double", "cpu", "f32"

    def __init__(self, head: Head) -> None:
        self.head, self.shapes, self.closed = head, list[tuple[int, ...]](), False
        self.inputs = {"images": (None, None, None, 3)}

    def run(self, feeds: Any, /) -> dict[str, NDArray[Any]]:
        pixels = feeds["images"]
        self.shapes.append(pixels.shape)
        return {"found": np.stack([self._look(picture) for picture in pixels])}

    def close(self) -> None:
        self.closed = True

    def _look(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        ys, xs = np.nonzero(picture.min(axis=2) > 200)
        if not len(xs):
            return np.zeros((1, 9) if self.head == "one2one" else (8, 1), np.float32)
        x1, y1, x2, y2 = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
        x, y, wide, high = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        if self.head == "one2one":
            return np.array([[x1, y1, x2, y2, 0.75, 0, x, y, 0.5]], np.float32)
        return np.array([[x, y, wide, high, 0.9, x, y, 0.5]], np.float32).T


class Opener:
    """Opens square finders and remembers them."""

    def __init__(self) -> None:
        self.sessions: list[SquareFinder] = []

    def __call__(self, head: Head) -> SquareFinder:
        time.sleep(0.01)  # so that two threads would meet here
        self.sessions.append(SquareFinder(head))
        return self.sessions[-1]


def predictor(spec: YoloSpec = SPEC) -> tuple[YoloPredictor, Opener]:
    opener = Opener()
    return YoloPredictor(spec, opener, "squares"), opener


def picture(width: int, height: int, x: int = 20, y: int = 10) -> NDArray[np.uint8]:
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + 16, x : x + 24] = 255
    return image


def ask(confidence: float = 0.25, **options: Any) -> SettledRequest:
    return SettledRequest(confidence, 0.7, options=InferOptions(**options))


def one(spec: YoloSpec = SPEC, request: SettledRequest | None = None) -> Prediction:
    (found,) = predictor(spec)[0].predict([picture(192, 96)], request or ask())
    return found


@pytest.mark.parametrize("options", [{}, {"letterbox": "square"}, {"input_size": (192, 192)}])
def test_what_is_found_lies_in_pixels_of_the_picture(options: dict[str, Any]) -> None:
    found = one(request=ask(**options))
    np.testing.assert_allclose(found.boxes, [[20, 10, 44, 26]], atol=1)
    np.testing.assert_allclose(found.keypoints, [[[32, 18]]], atol=1)
    assert found.image_size == (192, 96)


def test_results_come_in_the_order_of_the_pictures() -> None:
    model, _ = predictor()
    sizes = [(96, 96), (192, 96), (96, 96), (96, 192), (192, 96)]
    found = model.predict([picture(*size, x=8 * i) for i, size in enumerate(sizes)], ask())
    assert [p.image_size for p in found] == sizes
    np.testing.assert_allclose([p.boxes[0, 0] for p in found], [0, 8, 16, 24, 32], atol=1)


def test_pictures_of_one_input_size_run_together_and_give_the_same() -> None:
    model, opener = predictor()
    pictures = [picture(192, 96, x=9 * i, y=5 * i) for i in range(10)]
    together = model.predict(pictures, ask())
    assert [shape[0] for shape in opener.sessions[0].shapes] == [8, 2]
    for image, found in zip(pictures, together, strict=True):
        (alone,) = model.predict([image], ask())
        np.testing.assert_array_equal(found.boxes, alone.boxes)
        np.testing.assert_array_equal(found.keypoints, alone.keypoints)


def test_a_fixed_batch_runs_full_and_answers_for_its_pictures() -> None:
    model, opener = predictor(replace(SPEC, input=replace(SPEC.input, batch=2)))
    found = model.predict([picture(96, 96)] * 3, ask())
    assert [shape[0] for shape in opener.sessions[0].shapes] == [2, 2]
    assert [len(p) for p in found] == [1, 1, 1]


def test_no_pictures_give_no_predictions() -> None:
    assert predictor()[0].predict([], ask()) == []


def test_nothing_found_keeps_the_shapes() -> None:
    found = one(request=ask(0.95))
    assert found.boxes.shape == (0, 4)
    assert found.keypoints.shape == (0, 1, 2)


def test_a_prediction_says_how_it_was_made() -> None:
    assert dict(one().details) == {
        "head": "one2many",
        "letterbox": "rect",
        "input_size": (96, 64),
        "keypoint_values": 3,
    }
    assert set(one().timings) == {"prepare", "run", "finish"}


@pytest.mark.parametrize(
    ("change", "way", "size"),
    [({"static": True}, "square", (96, 96)), ({"fit": "stretch"}, "stretch", (96, 96))],
)
def test_the_graph_decides_how_pictures_are_fitted(
    change: dict[str, Any], way: str, size: tuple[int, int]
) -> None:
    found = one(replace(SPEC, input=replace(SPEC.input, **change)))
    assert (found.details["letterbox"], found.details["input_size"]) == (way, size)
    np.testing.assert_allclose(found.boxes, [[20, 10, 44, 26]], atol=1.5)


# --- heads -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end2end", "head", "score"),
    [(None, "one2many", 0.9), (False, "one2many", 0.9), (True, "one2one", 0.75)],
)
def test_the_caller_chooses_the_head(end2end: bool | None, head: str, score: float) -> None:
    found = one(request=ask(end2end=end2end))
    assert found.details["head"] == head
    np.testing.assert_allclose(found.scores, [score])


@pytest.mark.parametrize(
    ("head", "end2end"), [("one2many", True), ("one2one", False), ("embedded-nms", True)]
)
def test_a_head_that_the_file_lacks_is_refused(head: Head, end2end: bool) -> None:
    spec = replace(SPEC, outputs={head: replace(ROWS, head=head)})
    with pytest.raises(InputError, match=f"end2end is {end2end}, but .*'squares'"):
        one(spec, ask(end2end=end2end))


def test_the_other_head_is_opened_once_when_it_is_needed() -> None:
    model, opener = predictor()
    assert [session.head for session in opener.sessions] == ["one2many"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: model.predict([picture(96, 96)], ask(end2end=True)), range(8)))
    assert [session.head for session in opener.sessions] == ["one2many", "one2one"]


def test_closing_closes_every_head_and_opens_none_again() -> None:
    model, opener = predictor()
    model.close()
    assert opener.sessions[0].closed
    with pytest.raises(RuntimeUnavailableError, match="closed"):
        model.predict([picture(96, 96)], ask(end2end=True))


def test_many_threads_get_their_own_answers() -> None:
    model, _ = predictor()
    barrier = threading.Barrier(4)

    def look(x: int) -> float:
        barrier.wait()
        (found,) = model.predict([picture(192, 96, x=x)], ask())
        return float(found.boxes[0, 0])

    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_allclose(list(pool.map(look, [0, 40, 80, 120])), [0, 40, 80, 120], atol=1)


# --- options ---------------------------------------------------------------------------------

SEGMENTS = replace(COLUMNS, keypoints=None, coefficients=4, names={"table": "a", "prototypes": "b"})


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda s: s, {"input_size", "letterbox", "class_agnostic", "max_candidates"}),
        (
            lambda s: replace(s, input=replace(s.input, static=True)),
            {"class_agnostic", "max_candidates"},
        ),
        (
            lambda s: replace(s, input=replace(s.input, fit="stretch")),
            {"input_size", "class_agnostic", "max_candidates"},
        ),
        (lambda s: replace(s, outputs={"one2one": ROWS}), {"input_size", "letterbox"}),
        (
            lambda s: replace(s, outputs={"one2many": SEGMENTS}),
            {"input_size", "letterbox", "class_agnostic", "max_candidates", "retina_masks"},
        ),
    ],
)
def test_the_options_are_those_that_the_graph_leaves_open(
    change: Callable[[YoloSpec], YoloSpec], names: set[str]
) -> None:
    assert predictor(change(SPEC))[0].honours == names | {"end2end"}
