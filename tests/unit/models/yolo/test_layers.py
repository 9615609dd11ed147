"""From the YAML of a checkpoint to operations, outputs and tensors."""

from __future__ import annotations

import copy
import math

import pytest

from openkeypoints.errors import WeightsError
from openkeypoints.models.yolo.layers import needed_tensors, read_network
from openkeypoints.models.yolo.ops import Conv, Step
from tests.yolo_yamls import SIZES, yolo_yaml

# Parameters and tensors of the published networks with one class and 17 keypoints, n to x.
COUNTS = {
    "v8": [(3295470, 397), (11626046, 397), (26464462, 517), (44489196, 637), (69491724, 637)],
    "v8-p6": [(5182152, 523), (18563608, 523), (45724712, 679), (63496736, 835), (99182640, 835)],
    "11": [(2874462, 541), (9918238, 541), (20912364, 691), (26169836, 1057), (58798636, 1057)],
    "26": [(3679464, 879), (11809352, 879), (24222664, 939), (28626120, 1263), (62731860, 1263)],
}
NO_PARAMETERS = ("running_mean", "running_var", "num_batches_tracked", "flow_model.loc",
                 "flow_model.cov", "flow_model.mask")  # fmt: skip


def convs(yaml, prefix=""):
    found = read_network(yaml).convolutions()
    return {conv.path: conv for conv in found if conv.path.startswith(prefix)}


def edited(yaml, index, row):
    """Return a YAML with another row in place of one of its backbone's."""
    yaml = copy.deepcopy(yaml)
    yaml["backbone"][index] = row
    return yaml


@pytest.mark.parametrize("family", COUNTS)
@pytest.mark.parametrize("size", SIZES)
def test_a_network_needs_as_many_tensors_and_parameters_as_the_published_one(family, size):
    needed = needed_tensors(yolo_yaml(family, "pose", nc=1, scale=size))
    parameters = sum(math.prod(s) for n, s in needed.items() if not n.endswith(NO_PARAMETERS))
    assert (parameters, len(needed)) == COUNTS[family][SIZES.index(size)]


def test_the_strides_follow_from_the_rows():
    assert read_network(yolo_yaml("v8", "pose", nc=1)).strides == (8, 16, 32)
    assert read_network(yolo_yaml("v8-p6", "pose", nc=1)).strides == (8, 16, 32, 64)


def test_half_repeats_round_to_the_even_number_and_never_to_none():
    yaml = yolo_yaml("11", "detect", nc=1, depth=0.5)
    yaml["backbone"][2][1] = 5
    assert "model.2.m.1.cv1" in convs(yaml)
    assert "model.2.m.2.cv1" not in convs(yaml)
    assert "model.4.m.0.cv1" in convs(yolo_yaml("11", "detect", nc=1, depth=0.1))


def test_the_files_of_december_2022_have_their_scale_outside_of_a_table():
    yaml = yolo_yaml("v8", "detect", nc=80)
    old = {k: v for k, v in yaml.items() if k not in ("scales", "scale", "channels")}
    old |= {"depth_multiple": 0.33, "width_multiple": 0.25, "ch": 3}
    assert needed_tensors(old) == needed_tensors(yaml)


def test_the_sizes_m_l_and_x_have_the_nested_block_everywhere():
    assert "model.2.m.0.cv3" not in convs(yolo_yaml("11", "pose", nc=1, scale="s"))
    assert "model.2.m.0.cv3" in convs(yolo_yaml("11", "pose", nc=1, scale="m"))


def test_the_longer_row_of_pooling_means_no_first_activation_and_an_added_input():
    for family, activation, added in (("11", "SiLU", 0), ("26", "Identity", 1)):
        network = read_network(yolo_yaml(family, "pose", nc=1))
        conv = next(c for c in network.convolutions() if c.path == "model.9.cv1")
        assert conv.activation == activation
        places = [i for i, op in enumerate(network.ops.sequence) if "model.9.cv2" in op.outputs]
        following = network.ops.sequence[places[0] + 1]
        assert (isinstance(following, Step) and following.kind == "add") == bool(added)


def test_the_attention_block_wins_over_the_nested_one():
    inside = convs(yolo_yaml("26", "pose", nc=1), "model.22.m.0")
    assert {"model.22.m.0.0.cv1", "model.22.m.0.1.attn.qkv"} <= set(inside)


def test_only_networks_with_the_newer_block_look_for_classes_channel_by_channel():
    assert convs(yolo_yaml("v8", "detect", nc=3))["model.22.cv3.0.0"].groups == 1
    assert convs(yolo_yaml("11", "detect", nc=3))["model.23.cv3.0.0.0"].groups == 64


def test_the_second_head_reads_nothing_of_the_first():
    network = read_network(yolo_yaml("26", "pose", nc=1))
    paths = [op.path for op in network.needed_for("one2one") if isinstance(op, Conv)]
    head = [path for path in paths if path.startswith("model.23.")]
    assert head
    assert all(path.startswith("model.23.one2one_") for path in head)


def test_the_activation_of_the_yaml_holds_for_every_block():
    yaml = yolo_yaml("v8", "detect", nc=1) | {"activation": "nn.ReLU()"}
    assert {c.activation for c in convs(yaml).values() if c.kind == "unit"} == {"ReLU"}


@pytest.mark.parametrize("block", ["C3", "OBB", "Classify", "WorldDetect", "C2fAttn", "v10Detect"])
def test_a_block_that_is_not_supported_is_named_beside_those_that_are(block):
    yaml = yolo_yaml("v8", "detect", nc=1)
    yaml["head"][-1][2] = block
    with pytest.raises(WeightsError, match=rf"'{block}' \(row 22\).*C2f.*Detect"):
        needed_tensors(yaml)


def test_a_head_among_the_other_rows_is_not_supported():
    yaml = yolo_yaml("v8", "detect", nc=1)
    with pytest.raises(WeightsError, match="Detect"):
        needed_tensors(edited(yaml, 3, [-1, 1, "Detect", ["nc"]]))


@pytest.mark.parametrize(
    "row",
    [
        [-1, 1, "Conv"],
        "Conv",
        [-1, 1, "Conv", [64, 3, 2, 1, 1]],
        [-1, 1, "Conv", [0, 3, 2]],
        [-1, 1, "Conv", ["64", 3, 2]],
        [-1, 1, "Conv", []],
        [-1, 1, "Conv", [1 << 40, 3, 2]],
        [-1, 10**9, "C2f", [64, True]],
        [-1, 9, "Conv", [64, 3, 2]],
        [-1, 0, "C2f", [64, True]],
        [-1, 1, "C2f", [64, "True"]],
        [99, 1, "Conv", [64, 3, 2]],
        [-9, 1, "Conv", [64, 3, 2]],
        [[], 1, "Concat", [1]],
        [["a"], 1, "Concat", [1]],
        [[-1, 0], 1, "Concat", [1]],
        [[-1, 2], 1, "Conv", [64, 3, 2]],
        [-1, 1, "Concat", [2]],
        [-1, 1, "nn.Upsample", [None, 2, "bilinear"]],
        [-1, 1, "nn.Upsample", [None, 3, "nearest"]],
        [-1, 1, "C2PSA", [64]],
    ],
    ids=str,
)
def test_a_row_that_makes_no_sense_is_refused(row):
    with pytest.raises(WeightsError):
        needed_tensors(edited(yolo_yaml("v8", "detect", nc=1), 3, row))


@pytest.mark.parametrize(
    "change",
    [
        {"nc": 0},
        {"nc": "many"},
        {"kpt_shape": [17]},
        {"kpt_shape": [17, 4]},
        {"kpt_shape": None},
        {"scale": "q"},
        {"scale": ["n"]},
        {"scales": [1]},
        {"scales": {"n": [0.33, -1, 1024]}},
        {"scales": {"n": [0.33, "wide", 1024]}},
        {"channels": 4},
        {"reg_max": 0},
        {"activation": "__import__('os')"},
        {"backbone": None},
        {"backbone": [[-1, 1, "Conv", [64, 3, 2]]] * 600},
        {"backbone": [], "head": []},
        {"backbone": [[-1, 1, "nn.Upsample", [None, 2, "nearest"]]]},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_yaml_that_makes_no_sense_is_refused(change):
    with pytest.raises(WeightsError):
        needed_tensors(yolo_yaml("v8", "pose", nc=1) | change)
