from __future__ import annotations

import json

import numpy as np
import pytest

from openkeypoints.errors import WeightsError
from openkeypoints.models.facts import read_facts
from openkeypoints.models.request import SettledRequest
from openkeypoints.models.yolo.exports import claims, read_export
from openkeypoints.models.yolo.predictor import YoloPredictor
from openkeypoints.runtimes import open_session
from tests.yolo_graphs import SIZE, columns, rows, write_onnx

KEYPOINTS = [
    {"object_class": "cap", "object_class_id": 1, "keypoints": {"0": "middle"}, "edges": []},
    {
        "object_class": "tube",
        "object_class_id": 0,
        "keypoints": {"1": "tail", "0": "head"},
        "edges": [{"from": 0, "to": 1}],
    },
]
NETWORK = {
    "training_input_size": {"height": SIZE, "width": SIZE},
    "dynamic_spatial_size_supported": False,
    "color_mode": "rgb",
    "resize_mode": "stretch",
    "input_channels": 3,
    "scaling_factor": 255,
}
SIDES = ("N", 3, SIZE, SIZE)


@pytest.fixture
def package(tmp_path):
    """Return a function that writes a package folder with some of its parts changed."""

    def write(*, network=(), steps=(), fused=False, environment=None, table=None, keypoints=None):
        folder = tmp_path / "tubes-3"
        folder.mkdir()
        table = columns(4 + 2 + 6, classes=2) if table is None else table
        output = ("N", *table.shape[1:])
        write_onnx(folder / "weights.onnx", table, sides=SIDES, output=output)
        (folder / "class_names.txt").write_text("tube\ncap\n")
        if keypoints is not False:
            (folder / "keypoints_metadata.json").write_text(json.dumps(keypoints or KEYPOINTS))
        if environment is not None:
            (folder / "environment.json").write_text(json.dumps(environment))
        else:
            config = {
                "image_pre_processing": {"auto-orient": {"enabled": True}, **dict(steps)},
                "network_input": NETWORK | dict(network),
                "post_processing": {"type": "nms", "fused": fused},
            }
            (folder / "inference_config.json").write_text(json.dumps(config))
        return folder

    return write


def spec_of(folder):
    return read_export(folder, {})[0]


def test_a_package_is_recognised_by_its_files(package, tmp_path):
    assert claims(read_facts(package()))
    assert not claims(read_facts(tmp_path))


def test_classes_and_skeletons_come_from_the_texts(package):
    spec = spec_of(package())
    assert spec.class_names == ("tube", "cap")
    assert [s.keypoints for s in spec.skeletons.values()] == [("head", "tail"), ("middle",)]
    assert spec.skeletons[0].edges == ((0, 1),)
    assert spec.outputs["one2many"].keypoints == (2, 3)


def test_a_stretched_package_answers_in_pixels_of_the_picture(package):
    spec, artifact = read_export(package(), {})
    predictor = YoloPredictor(spec, lambda _: open_session(artifact, precision="f32"), "tubes/3")
    (found,) = predictor.predict(
        [np.zeros((2 * SIZE, 4 * SIZE, 3), np.uint8)], SettledRequest(0.25, 0.7)
    )
    assert found.details["letterbox"] == "stretch"
    np.testing.assert_allclose(found.boxes[0], [60, 40, 100, 80], atol=1e-3)


def test_the_preprocessing_is_taken_over(package):
    spec = spec_of(
        package(
            network={
                "resize_mode": "letterbox", "padding_value": 127, "color_mode": "bgr",
                "scaling_factor": 1, "normalization": [[1, 2, 3], [4, 5, 6]],
            }
        )
    )  # fmt: skip
    entry = spec.input
    assert (entry.fit, entry.fill, entry.bgr, entry.scale) == ("letterbox", 127, True, 1.0)
    assert (entry.mean, entry.std) == ((1, 2, 3), (4, 5, 6))


def test_a_letterbox_without_a_value_is_black(package):
    assert spec_of(package(network={"resize_mode": "letterbox"})).input.fill == 0


def test_fused_packages_have_rows(package):
    output = spec_of(package(table=rows(6 + 6), fused=True)).outputs["embedded-nms"]
    assert (output.layout, output.classes) == ("rows", 2)


def test_a_package_without_keypoints_is_a_detector(package):
    spec = spec_of(package(table=columns(6), keypoints=False))
    assert spec.task == "object-detection"


@pytest.mark.parametrize(
    ("kind", "fit", "fill"),
    [
        ("Stretch to", "stretch", 114),
        ("Fit (black edges) in", "letterbox", 0),
        ("Fit (grey edges) in", "letterbox", 114),
        ("Fit (white edges) in", "letterbox", 255),
    ],
)
@pytest.mark.parametrize("as_text", [True, False])
def test_older_packages_say_it_in_their_environment(package, kind, fit, fill, as_text):
    steps = {"resize": {"enabled": True, "width": SIZE, "height": SIZE, "format": kind}}
    folder = package(environment={"PREPROCESSING": json.dumps(steps) if as_text else steps})
    entry = spec_of(folder).input
    assert (entry.fit, entry.fill, entry.static) == (fit, fill, True)


def test_older_packages_name_their_classes_in_the_environment_too(package):
    folder = package(environment={"CLASS_LIST": ["tube", "cap"]})
    (folder / "class_names.txt").unlink()
    assert spec_of(folder).class_names == ("tube", "cap")


@pytest.mark.parametrize("step", ["static-crop", "contrast", "grayscale"])
@pytest.mark.parametrize("older", [False, True])
def test_steps_that_are_not_done_here_are_refused(package, step, older):
    steps = {step: {"enabled": True, "type": "any"}}
    folder = package(environment={"PREPROCESSING": steps}) if older else package(steps=steps)
    with pytest.raises(WeightsError, match=f"wants the step '{step}'"):
        spec_of(folder)


def test_a_step_that_is_switched_off_is_no_obstacle(package):
    assert spec_of(package(steps={"contrast": {"enabled": False}, "static-crop": None}))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"resize_mode": "center-crop"}, "resized by 'center-crop'; 'stretch' and 'letterbox'"),
        ({"input_channels": 1}, "takes 1 channels"),
        ({"training_input_size": None}, "incomplete or wrong"),
        ({"padding_value": 999}, "padding_value is 999"),
        ({"normalization": [[0, 0], [1, 1]]}, "incomplete or wrong"),
    ],
)
def test_what_the_network_cannot_want_is_refused(package, network, message):
    with pytest.raises(WeightsError, match=message):
        spec_of(package(network=network))


def test_an_unknown_way_to_resize_of_an_older_package_is_refused(package):
    steps = {"resize": {"width": SIZE, "height": SIZE, "format": "Fill (with center crop) in"}}
    with pytest.raises(WeightsError, match=r"'Fill \(with center crop\) in'"):
        spec_of(package(environment={"PREPROCESSING": steps}))


def test_a_damaged_text_is_named(package):
    folder = package()
    (folder / "keypoints_metadata.json").write_text("[{")
    with pytest.raises(WeightsError, match=r"tubes-3/keypoints_metadata\.json is not JSON"):
        spec_of(folder)


def test_keypoints_of_an_unknown_class_are_refused(package):
    entry = {"object_class": "lid", "object_class_id": 7, "keypoints": {"0": "a"}}
    with pytest.raises(WeightsError, match="class 'lid'"):
        spec_of(package(keypoints=[entry]))


def test_a_package_without_classes_says_which_file_is_missing(package):
    folder = package()
    (folder / "class_names.txt").unlink()
    with pytest.raises(WeightsError, match=r"put class_names\.txt"):
        spec_of(folder)


def test_an_output_that_does_not_fit_the_texts_is_refused(package):
    with pytest.raises(WeightsError, match=r"has the shape .* does not fit 2 classes"):
        spec_of(package(table=columns(20)))


# Texts that are wrong, and cards that say what is right


def corrected(folder):
    card = {"class_names": ["tube", "cap"], "keypoints": {"tube": ["head", "tail"], "cap": ["top"]}}
    return read_export(folder, card)[0]


@pytest.mark.parametrize("text", ["", "person\n", "a\n" * 80])
def test_a_card_corrects_class_names(package, text):
    folder = package()
    (folder / "class_names.txt").write_text(text)
    with pytest.raises(WeightsError):
        spec_of(folder)
    assert corrected(folder).class_names == ("tube", "cap")


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[1]",
        json.dumps([{"object_class": "lid", "keypoints": {"0": "a"}}]),
        json.dumps([{"object_class": "tube", "keypoints": {"1": "a"}}]),
        json.dumps([{"object_class": "tube", "keypoints": {str(i): "a" for i in range(17)}}]),
    ],
)
def test_a_card_corrects_names_of_keypoints(package, text):
    folder = package()
    (folder / "keypoints_metadata.json").write_text(text)
    with pytest.raises(WeightsError):
        spec_of(folder)
    spec = corrected(folder)
    assert [s.keypoints for s in spec.skeletons.values()] == [("head", "tail"), ("top",)]
    assert spec.outputs["one2many"].keypoints == (2, 3)


def test_a_card_that_renames_classes_keeps_their_keypoints(package):
    spec = read_export(package(), {"class_names": ["one", "two"]})[0]
    assert [s.keypoints for s in spec.skeletons.values()] == [("head", "tail"), ("middle",)]
