"""Old and new ``supervision`` read our answers: every joint in its slot."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from openkeypoints.models import get_model
from tests.clients.environments import SUPERVISION, run, supervision_path
from tests.synthetic import encoded, gradient

pytestmark = [pytest.mark.client, pytest.mark.slow]
PROGRAM = """
import json, sys
import supervision as sv
found = sv.KeyPoints.from_inference(json.load(open(sys.argv[1])))
scores = getattr(found, "keypoint_confidence", None)
scores = found.confidence if scores is None else scores
print(json.dumps([sv.__version__, found.xy.tolist(), scores.tolist()]))
"""


@pytest.mark.parametrize("version", SUPERVISION)
def test_every_joint_is_in_its_slot(server: str, package: Path, tmp_path, version: str) -> None:
    picture = encoded(gradient())
    answer = httpx.post(
        f"{server}/my-pose/3", files={"file": ("a.jpg", picture)}, timeout=30
    ).json()
    with get_model(package) as model:
        mine = model.infer(picture, confidence=0.4, iou_threshold=0.3)[0]
    boxes = [[p["x"], p["y"], p["width"], p["height"]] for p in answer["predictions"]]
    own = [[p["x"], p["y"], p["width"], p["height"]] for p in mine.dict()["predictions"]]
    np.testing.assert_allclose(boxes, own, atol=1e-3)
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    path = os.pathsep.join([str(supervision_path(version)), *filter(None, sys.path)])
    program = [sys.executable, "-W", "ignore", "-c", PROGRAM, tmp_path / "answer.json"]
    ended = run(program, PYTHONPATH=path)
    assert ended.returncode == 0, ended.stderr[-2000:]
    told, xy, scores = json.loads(ended.stdout)
    assert told == version
    np.testing.assert_allclose(xy, mine.keypoints, atol=1e-3)
    np.testing.assert_allclose(scores, mine.keypoint_scores, atol=1e-6)
