"""The losses: they pull to the labels, leave the unlabelled alone and punish what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from openkeypoints.models.pico.process import STRIDE, decode_centers, decode_maps
from openkeypoints.train.detector_samples import Window
from openkeypoints.train.pico import (
    CENTER_TARGETS,
    boxes_from_distances,
    center_targets,
    detector_loss,
    keypoint_loss,
)

POINTS = torch.tensor([[[30.0, 50.0], [100.0, 20.0]]])
ONES = torch.ones(1, 2)


def descended(loss, *tensors, steps=60, rate=1.0):
    """Follow the gradient of a loss from zero."""
    optimizer = torch.optim.Adam(tensors, lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def test_following_the_gradient_leads_to_the_point():
    maps = torch.zeros(1, 2, 16, 16, requires_grad=True)
    descended(lambda: keypoint_loss(maps, POINTS, ONES), maps)
    assert np.abs(decode_maps(maps.detach().numpy()).points - POINTS.numpy()).max() < 0.5


def test_a_perfect_map_has_no_loss():
    maps = torch.zeros(1, 2, 16, 16, requires_grad=True)
    before = float(keypoint_loss(maps, POINTS, ONES).detach())
    descended(lambda: keypoint_loss(maps, POINTS, ONES), maps, steps=150)
    assert float(keypoint_loss(maps, POINTS, ONES).detach()) < 0.01 < before


def gradient(weights, **arguments):
    maps = torch.zeros(1, 2, 16, 16, requires_grad=True)
    keypoint_loss(maps, POINTS, weights, **arguments).backward()
    return maps.grad.abs().sum((2, 3))[0]


def test_an_unlabelled_keypoint_gives_no_gradient():
    first, second = gradient(torch.tensor([[1.0, 0.0]]))
    assert first > 0
    assert second == 0


def test_a_half_sure_label_pulls_half_as_much():
    first, second = gradient(torch.tensor([[1.0, 0.5]]))
    assert second / first == pytest.approx(0.5, rel=0.1)


def test_a_batch_without_labels_has_no_loss_and_no_trouble():
    assert gradient(torch.zeros(1, 2)).tolist() == [0, 0]


def test_a_capped_label_does_not_pull():
    assert gradient(ONES, cap=0.1).tolist() == [0, 0]
    assert (gradient(ONES, cap=100.0) > 0).all()


@pytest.mark.parametrize("far", [1e6, -1e6])
def test_a_point_far_outside_stays_finite(far):
    maps = torch.zeros(1, 1, 16, 16, requires_grad=True)
    loss = keypoint_loss(maps, torch.full((1, 1, 2), far), torch.ones(1, 1))
    assert torch.isfinite(loss)


# ---------------------------------------------------------------- detector

BOX = [20.0, 30, 68, 90]


def window(boxes=(BOX,), *, ignore=None, class_ids=None, complete=True):
    n = len(boxes)
    return Window(
        np.zeros((128, 128, 3), np.uint8),
        np.array(boxes, np.float32).reshape(n, 4),
        np.array(class_ids or [0] * n, np.int64),
        np.array(ignore or [False] * n, bool),
        complete,
    )


def outputs(classes=1):
    return {
        "centers": torch.full((1, classes, 16, 16), -2.0, requires_grad=True),
        "distances": torch.zeros(1, 4, 16, 16, requires_grad=True),
    }


def losses(out, *windows, classes=1, incomplete=None, **choice):
    return detector_loss(out, center_targets(windows, classes, 128), incomplete, **choice)


def test_following_the_gradient_leads_to_the_box():
    out = outputs()
    descended(lambda: sum(losses(out, window())), *out.values(), steps=200, rate=0.2)
    centers, distances = (out[k].detach().numpy()[0] for k in ("centers", "distances"))
    found = decode_centers(centers, distances, threshold=0.5)
    assert np.abs(found.boxes - BOX).max() < 1.5


MIDDLE = (7, 5)
"""Row and column of the cell in the middle of BOX, at the pixel (44, 60)."""


def learned_score(target, *, found):
    """Return what the cell in the middle of BOX scores once the box found there is ``found``."""
    out = outputs()
    x, y = 44, 60
    sides = torch.tensor([x - found[0], y - found[1], found[2] - x, found[3] - y]) / STRIDE
    out["distances"].data[:] = sides.log()[None, :, None, None]
    centers = out["centers"]
    loss = lambda: losses(out, window(), center_target=target)[0]  # noqa: E731
    descended(loss, centers, steps=300, rate=0.3)
    return float(torch.sigmoid(centers.detach())[0, 0, *MIDDLE])


@pytest.mark.parametrize(
    ("found", "iou"),
    [
        (BOX, 1.0),
        ([20.0, 30, 68, 78], 0.8),
        ([20.0, 45, 68, 75], 0.5),
        ([32.0, 45, 56, 75], 0.25),
    ],
)
def test_a_score_that_knows_its_box_becomes_their_overlap(found, iou):
    assert learned_score("iou", found=found) == pytest.approx(iou, abs=0.06)


def test_a_score_that_does_not_know_its_box_becomes_one():
    assert learned_score("one", found=[32.0, 45, 56, 75]) > 0.9


@pytest.mark.parametrize("target", CENTER_TARGETS)
def test_the_loss_of_centres_does_not_move_boxes(target):
    out = outputs()
    losses(out, window(), center_target=target)[0].backward()
    assert out["distances"].grad is None or not out["distances"].grad.any()
    assert out["centers"].grad.any()


def test_of_two_unsure_cells_the_one_with_the_better_box_is_pulled_more():
    tight, loose = [10.0, 30, 34, 54], [70.0, 30, 122, 82]
    out = outputs()
    out["distances"].data[:] = float(np.log(12 / STRIDE))  # 24 x 24 px boxes everywhere
    losses(out, window([tight, loose]), center_target="iou")[0].backward()
    gradient = out["centers"].grad[0, 0]
    assert gradient[5, 2] < 5 * gradient[6, 11] < 0


def test_training_and_inference_read_distances_alike():
    rng = np.random.default_rng(0)
    distances = rng.normal(0.5, 0.5, (4, 16, 16)).astype(np.float32)
    centers = np.full((1, 16, 16), -9, np.float32)
    centers[0, 3, 7] = 9
    (box,) = decode_centers(centers, distances, threshold=0.5).boxes
    trained = boxes_from_distances(torch.from_numpy(distances)[None])[0, :, 3, 7]
    assert np.allclose(box, trained, atol=1e-4)


def test_the_cell_nearest_to_the_middle_is_the_positive_one():
    targets = center_targets([window()], 1, 128)
    row, col = np.unravel_index(int(targets.heat[0, 0].argmax()), (16, 16))
    assert (col, row) == (int(44 // STRIDE), int(60 // STRIDE))
    assert (targets.heat == 1).sum() == 1


def test_of_two_boxes_the_smaller_one_has_the_cells_they_share():
    small = [36.0, 50, 52, 70]
    targets = center_targets([window([BOX, small])], 1, 128)
    assert targets.boxes[0, :, 7, 5].tolist() == small


def test_classes_have_maps_of_their_own():
    targets = center_targets([window([BOX, BOX], class_ids=[0, 1])], 3, 128)
    assert targets.heat.amax((0, 2, 3)).tolist() == [1, 1, 0]


def center_gradient(*windows, incomplete=None, raised=None, **choice):
    out = outputs()
    if raised is not None:
        out["centers"].data[0, 0, raised[0], raised[1]] = 3.0
    losses(out, *windows, incomplete=incomplete, **choice)[0].backward()
    return out["centers"].grad[0, 0]


@pytest.mark.parametrize("target", CENTER_TARGETS)
def test_a_confident_cell_in_an_ignored_box_is_not_punished(target):
    inside = center_gradient(window(ignore=[True]), raised=(7, 5), center_target=target)
    assert inside[7, 5] == 0
    assert center_gradient(window([]), raised=(7, 5), center_target=target)[7, 5] > 0


def test_an_ignored_box_smaller_than_a_cell_is_not_punished_either():
    tiny = [41.0, 57, 43, 59]  # holds the middle of no cell
    assert center_gradient(window([tiny], ignore=[True]), raised=(7, 5))[7, 5] == 0


def test_an_ignored_box_teaches_no_box():
    assert center_targets([window(ignore=[True])], 1, 128).box_weight.sum() == 0


def test_a_wanted_box_inside_an_ignored_one_is_still_wanted():
    targets = center_targets([window([[0, 0, 128, 128], BOX], ignore=[True, False])], 1, 128)
    assert targets.heat.max() == 1
    gradient = center_gradient(window([[0, 0, 128, 128], BOX], ignore=[True, False]))
    assert gradient.min() < 0


@pytest.mark.parametrize(("complete", "punished"), [(True, True), (False, False)])
def test_a_confident_find_beside_incomplete_labels_is_not_punished(complete, punished):
    incomplete = torch.tensor([not complete])
    gradient = center_gradient(window(complete=complete), incomplete=incomplete, raised=(2, 14))
    assert bool(gradient[2, 14] > 0) == punished


def test_an_unsure_find_beside_incomplete_labels_is_punished():
    gradient = center_gradient(window(complete=False), incomplete=torch.tensor([True]))
    assert gradient[2, 14] > 0


def test_a_window_without_instances_has_finite_losses():
    centers, boxes = losses(outputs(), window([]))
    assert torch.isfinite(centers)
    assert float(boxes.detach()) == 0
