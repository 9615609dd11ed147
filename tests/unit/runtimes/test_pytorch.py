from __future__ import annotations

import numpy as np
import pytest
import torch

from openkeypoints.errors import InputError
from openkeypoints.runtimes import Artifact, open_session
from tests.unit.runtimes.graphs import Nameless, Naming, Tiny, graph, picture


def open_torch(module, **choices):
    artifact = Artifact(graph(), "tiny", module)
    return open_session(artifact, runtime="torch", device="cpu", precision="f32", **choices)


def test_a_module_may_return_a_mapping():
    image = {"image": picture(1, 8, 8)}
    expected = open_torch(Tiny).run(image)
    found = open_torch(Naming).run(image)
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(found["maps"], expected["maps"])


def test_a_module_whose_outputs_have_no_names_is_refused():
    with pytest.raises(InputError, match="returns 2 tensors and its attribute 'outputs' names 0"):
        open_torch(Nameless).run({"image": picture(1, 8, 8)})


def test_a_module_may_state_the_shapes_of_its_inputs():
    class Square(Tiny):
        inputs = {"image": (None, 32, 32, 3)}  # noqa: RUF012

    opened = open_torch(Square)
    with pytest.raises(InputError, match=r"it must be \(any, 32, 32, 3\)"):
        opened.run({"image": picture(1, 16, 32)})


def test_the_module_runs_in_evaluation_mode_without_gradients():
    seen = {}

    class Watching(Tiny):
        def forward(self, image):
            seen.update(training=self.training, gradients=torch.is_grad_enabled())
            return super().forward(image)

    open_torch(Watching).run({"image": picture(1, 8, 8)})
    assert seen == {"training": False, "gradients": False}


def test_a_network_in_training_can_learn_on_after_a_session_used_it():
    network = Tiny()
    open_torch(lambda: network).run({"image": picture(1, 8, 8)})
    network.train()
    maps, _ = network(torch.from_numpy(picture(1, 8, 8)))
    maps.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_number_of_threads_is_set_for_the_process():
    before = torch.get_num_threads()
    try:
        open_torch(Tiny, threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_no_number_of_threads_leaves_the_process_alone():
    before = torch.get_num_threads()
    open_torch(Tiny)
    assert torch.get_num_threads() == before
