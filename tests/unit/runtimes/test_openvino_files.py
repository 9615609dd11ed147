from __future__ import annotations

import numpy as np
import openvino as ov
import pytest

from openkeypoints.errors import NotFoundError, RuntimeUnavailableError, WeightsError
from openkeypoints.runtimes import Artifact, open_session, openvino_ports
from tests.unit.runtimes.graphs import graph, picture, tiny


def unnamed(folder, **names):
    """Write ``graph`` as OpenVINO's own file and return an artefact of it."""
    model = ov.Core().read_model(graph())
    for kind, ports in (("input", model.inputs), ("output", model.outputs)):
        for port in ports:
            port.get_tensor().set_names(set(names.get(kind, ())))
    ov.save_model(model, folder / "tiny.xml", compress_to_fp16=False)
    return Artifact(None, "tiny", openvino=folder / "tiny.xml")


def test_outputs_without_names_are_called_by_their_number(tmp_path):
    session = open_session(unnamed(tmp_path, input=["x.1"]), precision="f32")
    assert (session.runtime, [*session.inputs], session.outputs) == (
        "openvino", ["x.1"], ("output0", "output1"),
    )  # fmt: skip


def test_an_input_without_a_name_is_called_by_its_number(tmp_path):
    session = open_session(unnamed(tmp_path), precision="f32")
    assert [*session.inputs] == ["input0"]


@pytest.mark.parametrize("cached", [False, True])
def test_unnamed_ports_give_the_numbers_of_the_named_ones(tmp_path, cached):
    image = picture(2, 24, 32)
    expected = open_session(tiny(), runtime="onnxruntime", precision="f32").run({"image": image})
    for _ in range(2):  # the second time, from the cache
        session = open_session(
            unnamed(tmp_path, input=["x.1"]),
            precision="f32",
            cache_dir=tmp_path / "cache" if cached else None,
        )
        found = session.run({"x.1": image})
        np.testing.assert_allclose(found["output0"], expected["maps"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(found["output1"], expected["peak"], rtol=0, atol=1e-5)


def test_ports_are_known_without_a_session(tmp_path):
    inputs, outputs = openvino_ports(unnamed(tmp_path, input=["x.1"]))
    assert inputs == (("x.1", (None, None, None, 3), np.uint8),)
    assert [(name, shape[1], dtype) for name, shape, dtype in outputs] == [
        ("output0", 5, np.float32),
        ("output1", 5, np.float32),
    ]


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_other_runtimes_say_that_they_do_not_open_it(tmp_path, runtime):
    with pytest.raises(RuntimeUnavailableError, match=r"use runtime='openvino'( or 'auto')?\."):
        open_session(unnamed(tmp_path), runtime=runtime)


def test_a_missing_graph_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match=r"gone\.xml"):
        open_session(Artifact(None, "gone", openvino=tmp_path / "gone.xml"))


def test_auto_says_that_a_graph_is_damaged(tmp_path):
    (tmp_path / "broken.xml").write_text("<net")
    (tmp_path / "broken.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match="OpenVINO cannot open 'broken'"):
        open_session(Artifact(None, "broken", openvino=tmp_path / "broken.xml"))
