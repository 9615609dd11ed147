"""What every model owes its callers: the packaged one, and a tiny one of each family."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import openkeypoints
from openkeypoints.errors import RuntimeUnavailableError
from openkeypoints.models import FAMILIES, InferOptions, Model, get_model
from openkeypoints.models.topdown import TopDown
from openkeypoints.results import Prediction
from openkeypoints.runtimes import available_runtimes
from tests.contract.conftest import ADDED, TINY, Tiny
from tests.doubles import FixedDetector
from tests.doubles import model as double
from tests.drawn import dots

PACKAGE = Path(openkeypoints.__file__).parent
RNG = np.random.default_rng(0)
NOISE = [RNG.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((90, 120), (64, 64), (150, 70))]
BOX = np.array([[8, 4, 60, 58], [20, 10, 63, 60]], np.float32)
MODELS = ["person", *TINY]
RUNTIMES = ("openvino", "onnxruntime", "torch")
CLOSE_PX, BOXES_PX = 1e-3, 1e-2


@pytest.fixture(scope="module", params=MODELS)
def tiny(request, tiny_models, added_families) -> Tiny:
    return tiny_models[request.param]


@pytest.fixture(scope="module")
def model(tiny) -> Iterator[Model]:
    with get_model(tiny.path, runtime="openvino", precision="f32", **tiny.arguments) as opened:
        yield opened


@pytest.fixture(scope="module")
def per_runtime(tiny) -> Iterator[dict[str, Model]]:
    opened = {}
    for runtime in RUNTIMES:
        chosen = {"runtime": runtime, "device": "cpu", "precision": "f32"}
        try:
            opened[runtime] = get_model(tiny.path, **chosen, **tiny.arguments)
        except RuntimeUnavailableError:
            assert runtime == "torch"  # the families of graphs have no module for it
    yield opened
    for one in opened.values():
        one.close()


def assert_same(a: Prediction, b: Prediction, *, atol: float = 0.0) -> None:
    for f in fields(Prediction):
        first, second = getattr(a, f.name), getattr(b, f.name)
        if isinstance(first, np.ndarray):
            assert first.dtype == second.dtype, f.name
            np.testing.assert_allclose(first, second, rtol=0, atol=atol, err_msg=f.name)


def given(model: Model, *boxes: np.ndarray) -> dict[str, Any]:
    """Return the arguments of a call that finds something: two boxes where they can be given."""
    if "boxes" in model.predictor.honours:
        return {"options": InferOptions(boxes=boxes)}
    return {"confidence": 0.3, "max_detections": 2}


def test_every_family_has_a_tiny_model_here():
    assert set(TINY) == {*FAMILIES, *ADDED}


def test_every_runtime_of_the_contract_is_installed():
    assert set(available_runtimes()) == set(RUNTIMES)


def test_four_pictures_at_once_are_four_times_one(model, tiny):
    four = [*NOISE, NOISE[0][::-1].copy()]
    together = model.infer(four, confidence=tiny.confidence, max_detections=4)
    assert sum(map(len, together)) > 0
    for picture, found in zip(four, together, strict=True):
        (alone,) = model.infer(picture, confidence=tiny.confidence, max_detections=4)
        # Another number of crops goes through the network at once, so the last bits may differ.
        assert_same(found, alone, atol=CLOSE_PX)


def test_a_picture_without_instances_gives_length_zero_with_the_same_types(model):
    (empty,) = model.infer(np.full((48, 64, 3), 114, np.uint8), confidence=1.0)
    (some,) = model.infer(NOISE[0], **given(model, BOX))
    assert (len(empty), len(some)) == (0, 2)
    for f in fields(Prediction):
        value = getattr(some, f.name)
        if isinstance(value, np.ndarray):
            none = getattr(empty, f.name)
            assert (none.dtype, none.shape[1:]) == (value.dtype, value.shape[1:]), f.name


def test_an_instance_has_everything_that_results_promise(model):
    (found,) = model.infer(NOISE[0], **given(model, BOX))
    k = max(len(s) for s in model.skeletons.values())
    assert found.image_size == (120, 90)
    assert found.keypoints.shape == (2, k, 2)
    assert np.isfinite(found.keypoints).all()
    assert ((found.keypoint_scores >= 0) & (found.keypoint_scores <= 1)).all()
    assert found.covariances is None or np.linalg.eigvalsh(found.covariances).min() > 0
    assert (found.class_names, found.skeletons) == (model.class_names, model.skeletons)


def test_points_of_a_drawn_picture_return_to_its_pixels():
    points = np.array([[61.3, 40.8], [92.6, 71.2], [75.0, 95.5]])
    picture = dots((200, 140), points)
    (found,) = double(FixedDetector([[40, 25, 115, 112]])).infer(picture, color="rgb")
    assert np.abs(found.keypoints[0] - points).max() < 0.5


def test_runtimes_agree_in_the_same_boxes(per_runtime):
    if "boxes" not in per_runtime["openvino"].predictor.honours:
        return  # the next test compares its keypoints too
    options = InferOptions(boxes=[BOX, BOX * 0.9 + 2, BOX[:1]])
    first, *others = (m.infer(NOISE, options=options) for m in per_runtime.values())
    for other in others:
        for a, b in zip(first, other, strict=True):
            rows = np.argsort(a.extras["box_index"]), np.argsort(b.extras["box_index"])
            apart = np.abs(a.keypoints[rows[0]] - b.keypoints[rows[1]])
            assert apart.max() < CLOSE_PX


def test_runtimes_find_the_same_boxes(per_runtime, tiny):
    limits = {"confidence": tiny.confidence, "max_detections": 3}
    answers = {r: m.infer(NOISE, **limits) for r, m in per_runtime.items()}
    first, *others = answers
    assert sum(map(len, answers[first])) > 0
    for other in others:
        for a, b in zip(answers[first], answers[other], strict=True):
            assert len(a) == len(b)
            assert np.abs(a.boxes - b.boxes).max(initial=0) < BOXES_PX, other
            if "boxes" not in per_runtime[first].predictor.honours:  # one network gives both
                assert np.abs(a.keypoints - b.keypoints).max(initial=0) < BOXES_PX, other


def test_two_threads_get_the_answer_that_one_gets(model):
    arguments = given(model, BOX)
    (expected,) = model.infer(NOISE[0], **arguments)
    answers: list[Prediction] = []
    start = threading.Barrier(2)

    def work() -> None:
        start.wait()
        answers.extend(model.infer(NOISE[0], **arguments)[0] for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 10
    for answer in answers:
        assert_same(answer, expected)


def test_at_most_five_frames_of_ours_lie_between_the_call_and_the_network(model, monkeypatch):
    depths: dict[str, list[str]] = {}

    def watched(session, name):
        def run(feeds):
            depths[name] = list(own_frames(sys._getframe(1)))
            return session.run(feeds)

        return type("Watched", (), {"run": staticmethod(run)})()

    predictor = model.predictor
    whole = InferOptions(whole_image="whole_image" in predictor.honours)
    if isinstance(predictor, TopDown):
        for half in (predictor.reader, predictor.detector):
            monkeypatch.setattr(half, "_session", watched(half._session, str(half)))
    else:
        sessions = {head: watched(s, head) for head, s in predictor._sessions.items()}
        monkeypatch.setattr(predictor, "_sessions", sessions)
    model.infer(NOISE[0], confidence=1e-4, max_detections=1, options=whole)
    assert len(depths) == (2 if isinstance(predictor, TopDown) else 1)
    for names in depths.values():
        assert names[-1] == "infer"
        assert len(names) <= 5, names


def own_frames(frame: FrameType | None) -> Iterator[str]:
    """Yield the functions of the package on the stack, the innermost first."""
    while frame is not None:
        if PACKAGE in Path(frame.f_code.co_filename).parents:
            yield frame.f_code.co_name
        frame = frame.f_back
