"""`model.json` of a pico file: written and read back, and every part that does not fit named."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from openkeypoints.errors import UnknownModelError, WeightsError
from openkeypoints.models.pico.spec import spec_from_okp, spec_to_json
from openkeypoints.weights.okp import OkpFile, open_okp, write_okp


@pytest.fixture
def good(tiny_okp):
    return open_okp(tiny_okp)


def changed(file, change):
    model = copy.deepcopy(json.loads(json.dumps(dict(file.model))))
    change(model)
    return OkpFile(file.path, model)


def test_what_is_written_is_read_back(good, tmp_path):
    spec = spec_from_okp(good)
    write_okp(tmp_path / "copy.okp", spec_to_json(spec), {})
    again = spec_from_okp(open_okp(tmp_path / "copy.okp"))
    assert again.views == spec.views
    assert np.array_equal(again.calibration, spec.calibration)
    assert spec_to_json(again) == spec_to_json(spec)


def test_a_file_that_says_nothing_of_sizes_does_not_count_them(good):
    def drop(model):
        model["detector"].pop("size_exponent")

    assert spec_from_okp(changed(good, drop)).size_exponent == 0


def test_a_class_without_keypoints_is_written_and_read_back(good):
    def add(model):
        model["detector"]["network"]["classes"] = 2
        for view in model["views"]:
            view["classes"].append({"name": "ball", "maps": [], "skeleton": None})

    spec = spec_from_okp(changed(good, add))
    _, view = spec.view(None)
    assert view.class_names == ("person", "ball")
    assert set(view.skeletons) == {0}
    assert spec_to_json(spec)["views"][0]["classes"][1]["skeleton"] is None


def test_none_is_the_first_view(good):
    assert spec_from_okp(good).view(None)[0] == "person"


def test_an_unknown_view_lists_those_there_are(good):
    with pytest.raises(UnknownModelError, match="it has person, person-19"):
        spec_from_okp(good).view("cat")


CHANGES = {
    "no views": lambda m: m.pop("views"),
    "empty views": lambda m: m["views"].clear(),
    "a view without classes": lambda m: m["views"][0].pop("classes"),
    "a class more than the detector has": lambda m: m["views"][0]["classes"].append(
        {"name": "x", "maps": [], "skeleton": None}
    ),
    "a map that is not there": lambda m: m["views"][1]["classes"][0]["maps"].__setitem__(18, 19),
    "maps too few": lambda m: m["views"][0]["classes"][0]["maps"].pop(),
    "a skeleton that pairs nothing": lambda m: m["views"][0]["classes"][0]["skeleton"].update(
        flip=[1] * 17
    ),
    "groups as a list": lambda m: m["views"][0]["classes"][0]["skeleton"].update(groups=["face"]),
    "an exchange of other maps": lambda m: m["pose"].update(flip=[0, 1]),
    "an exchange that loses a map": lambda m: m["pose"].update(flip=[0] * 19),
    "a falling calibration": lambda m: m["pose"].update(calibration=[[0, 1], [1, 0]]),
    "a calibration of one row": lambda m: m["pose"].update(calibration=[[0, 1]]),
    "no crop size": lambda m: m["pose"].pop("input_size"),
    "three sides": lambda m: m["pose"].update(input_size=[1, 2, 3]),
    "a part that is a list": lambda m: m.update(pose=[]),
    "a fill of nothing": lambda m: m["pose"].update(fill=0),
    "no thresholds": lambda m: m.pop("thresholds"),
    "words as numbers": lambda m: m["thresholds"].update(iou="much"),
    "another family": lambda m: m.update(family="yolo"),
}


@pytest.mark.parametrize("defect", CHANGES)
def test_a_file_whose_parts_do_not_fit_is_refused(good, defect):
    with pytest.raises(WeightsError, match=good.path.name):
        spec_from_okp(changed(good, CHANGES[defect]))
