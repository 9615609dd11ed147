from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from openkeypoints.errors import InputError, OutputExistsError, WeightsError
from openkeypoints.models import Model, ModelSpec, opening
from openkeypoints.models import export as module
from openkeypoints.models.base import Description
from openkeypoints.models.export import Exported, difference, export
from openkeypoints.models.facts import FileFacts
from openkeypoints.models.family import ExportGraph, Family
from openkeypoints.models.opening import Located
from openkeypoints.models.yolo.exports import read_export
from openkeypoints.models.yolo.predictor import YoloPredictor
from openkeypoints.models.yolo.record import spec_to_json
from openkeypoints.models.yolo.spec import InputSpec, OutputSpec, YoloSpec
from openkeypoints.results import empty_prediction
from openkeypoints.runtimes import Artifact, open_session
from openkeypoints.settings import Settings
from openkeypoints.skeletons import skeleton_from_names
from tests.yolo_graphs import columns, graph_bytes

SIDES = ("n", "h", "w", 3)
SPEC = YoloSpec(
    task="keypoint-detection",
    class_names=("tube",),
    skeletons={0: skeleton_from_names("tube", ("head", "tail"))},
    input=InputSpec("images", (64, 64), pictures=True),
    outputs={
        "one2many": OutputSpec("columns", {"table": "output0"}, "one2many", 1, keypoints=(2, 3))
    },
    licence="mine",
)


def own_graph(offset=0.0):
    """Return a graph of ours whose instances are moved by some pixels."""
    table = columns(11)
    table[0, 0] += offset
    return graph_bytes(table, sides=SIDES, output=("n", 11, 84), kind=TensorProto.UINT8)


class Source:
    """A family whose files have the ending .drawn; its exports are YOLO's records."""

    def __init__(self):
        self.moved = 0.0
        self.cards = []

    def load(self, facts, loading):
        path = facts.path
        self.cards.append(dict(loading.spec.card))
        spec, artifact = SPEC, Artifact(own_graph(), "drawn")
        if path.suffix != ".drawn":
            spec, artifact = read_export(path, loading.spec.card)
        predictor = YoloPredictor(
            spec,
            lambda _: open_session(artifact, runtime=loading.spec.runtime, precision="f32"),
            "x",
        )
        description = Description(
            "x", spec.task, spec.class_names, spec.skeletons, spec.input.size, 0.25, 0.7,
            spec.licence, spec.card,
        )  # fmt: skip
        return Model(description, predictor, loading.settings)

    def export(self, facts, loading, precision):
        return ExportGraph(own_graph(self.moved), spec_to_json(SPEC))


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def original(tmp_path, monkeypatch, source):
    """Return a model file of the family that is exported here, in an empty working folder."""
    family = Family(
        "drawn", (), (".drawn",), lambda facts: None, model=source.load, export=source.export
    )

    def locate(spec, settings, *, files=True):
        return Located(family, FileFacts(tmp_path / spec.model, "other"))

    for asked in (module, opening):
        monkeypatch.setattr(asked, "locate", locate)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tubes.drawn"
    path.write_bytes(b"weights")
    return path


def write(original, out=None, **choices) -> Exported:
    settings = Settings(cache_dir=original.parent / "cache")
    return export(ModelSpec(str(original)), out, settings=settings, **choices)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "cache")


@pytest.mark.parametrize(
    ("format", "name"), [("onnx", "tubes.onnx"), ("openvino", "tubes_openvino_model")]
)
def test_an_export_is_named_after_the_model(original, format, name):
    assert write(original, format=format).path.name == name
    assert names(original.parent) == sorted(["tubes.drawn", name])


@pytest.mark.parametrize("precision", ["f32", "fp16"])
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_an_export_describes_itself(original, format, precision):
    done = write(original, format=format, precision=precision)
    spec, _ = read_export(done.path, {})
    assert replace(spec, card={}) == SPEC
    assert spec.card["precision"] == precision
    assert spec.card["source_sha256"] == module.sha256_of(original)


def test_an_export_is_compared_in_every_runtime_that_opens_it(original):
    done = write(original)
    assert done.runtimes == ("openvino", "onnxruntime")
    assert done.difference.instances > 0
    assert done.difference.pixels < 1e-3
    assert write(original, format="openvino").runtimes == ("openvino",)


def test_an_openvino_folder_holds_three_files(original):
    assert names(write(original, format="openvino").path) == [
        "metadata.yaml", "model.bin", "model.xml",
    ]  # fmt: skip


def test_no_path_of_this_machine_is_written(original):
    folder = write(original, format="openvino").path
    text = (folder / "model.xml").read_text() + (folder / "metadata.yaml").read_text()
    model = onnx.load(write(original).path)
    text += str(model.metadata_props) + model.producer_name
    assert str(original.parent) not in text


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_an_export_that_answers_differently_is_not_written(original, source, format):
    source.moved = 1.0
    with pytest.raises(WeightsError, match=r"answers differently .* px.* 0\.05 px"):
        write(original, original.parent / "new" / "x.onnx", format=format)
    assert names(original.parent) == ["tubes.drawn"]


def test_fp16_may_differ_more(original, source):
    source.moved = 1.0  # of a picture ten times as wide
    with pytest.raises(WeightsError, match=r"1\.5 px, 0\.01 in scores .* are allowed"):
        write(original, precision="fp16")
    source.moved = 0.1
    assert 0.5 < write(original, precision="fp16").difference.pixels < 1.5


def test_the_card_is_for_the_original_alone(original, source):
    settings = Settings(cache_dir=original.parent / "cache")
    spec = ModelSpec(str(original), {"class_names": ["glue"]})
    export(spec, format="openvino", settings=settings)
    assert source.cards == [{"class_names": ["glue"]}, {}]  # original, artefact


# What is there already


def test_an_export_of_the_same_model_is_replaced(original):
    first = write(original).path
    first_again = write(original, precision="fp16").path
    assert first == first_again
    assert read_export(first, {})[0].card["precision"] == "fp16"


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_an_export_of_another_model_stays_without_overwrite(original, format):
    made = write(original, format=format).path
    original.write_bytes(b"other weights")
    with pytest.raises(OutputExistsError, match="add --overwrite"):
        write(original, made, format=format)
    write(original, made, format=format, overwrite=True)
    assert read_export(made, {})[0].card["source_sha256"] == module.sha256_of(original)


def test_a_file_of_somebody_else_stays(original):
    (original.parent / "tubes.onnx").write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match=r"was not made from tubes\.drawn"):
        write(original)
    assert (original.parent / "tubes.onnx").read_bytes() == b"mine"


def test_other_files_of_the_folder_stay(original):
    folder = original.parent / "out"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    write(original, folder, format="openvino")
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("linked", [False, True])
def test_the_model_itself_is_never_written_over(original, linked):
    out = original.with_suffix(".onnx")
    out.symlink_to(original) if linked else original.rename(out)
    with pytest.raises(OutputExistsError, match="is the model itself"):
        write(original if linked else out, out, overwrite=True)


def test_a_folder_takes_the_file(original):
    folder = original.parent / "out"
    folder.mkdir()
    assert write(original, folder).path == folder / "tubes.onnx"


@pytest.mark.parametrize(
    ("out", "format", "error", "message"),
    [
        ("x.bin", "onnx", InputError, "does not end with .onnx"),
        ("tubes.drawn", "openvino", OutputExistsError, "is no folder"),
    ],
)
def test_outputs_that_cannot_be_are_refused(original, out, format, error, message):
    with pytest.raises(error, match=message):
        write(original, original.parent / out, format=format)


# Choices


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"format": "onx"}, "Did you mean 'onnx'"),
        ({"precision": "fp32"}, "Did you mean 'f32'"),
        ({"precision": "bf16"}, "bf16 is chosen when a model runs"),
        ({"precision": "int8"}, "int8 needs calibration"),
    ],
)
def test_unknown_choices_say_what_there_is(original, choice, message):
    with pytest.raises(InputError, match=message):
        write(original, **choice)


def test_a_pico_model_is_not_exported():
    with pytest.raises(InputError, match=r"already holds its networks as ONNX graphs"):
        export(ModelSpec(), settings=Settings())


# The comparison


def found(*boxes, score=0.9):
    skeleton = skeleton_from_names("tube", ("head", "tail"))
    count = len(boxes)
    return replace(
        empty_prediction((100, 100), "x", ("tube",), {0: skeleton}),
        boxes=np.array(boxes, np.float32),
        scores=np.full(count, score, np.float32),
        class_ids=np.zeros(count, np.int64),
        keypoints=np.full((count, 2, 2), np.nan, np.float32),
        keypoint_scores=np.zeros((count, 2), np.float32),
    )


def test_instances_are_compared_with_their_nearest_whatever_their_order():
    one, other = [0, 0, 10, 10], [50, 50, 60, 60]
    apart = difference(found(one, other), found(other, [0, 0, 10, 10.25]))
    assert (apart.pixels, apart.instances) == (0.25, 2)


def test_equal_boxes_are_told_apart_by_their_scores():
    box = [0, 0, 100, 100]
    both = replace(found(box, box), scores=np.array([0.9, 0.4], np.float32))
    assert difference(both, both).score == 0


def test_scores_are_compared():
    apart = difference(found([0, 0, 1, 1]), found([0, 0, 1, 1], score=0.8))
    assert apart.score == pytest.approx(0.1)


def test_an_answer_without_the_class_is_endlessly_far():
    nothing = empty_prediction((100, 100), "x", ("tube",), {})
    assert difference(found([0, 0, 1, 1]), nothing).pixels == np.inf


def test_the_record_is_plain_json():
    assert json.dumps(spec_to_json(SPEC))
