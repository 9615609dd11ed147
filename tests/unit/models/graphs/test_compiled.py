from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx
import pytest

from openkeypoints.errors import NotFoundError, WeightsError
from openkeypoints.models.family import Loading
from openkeypoints.models.graphs import open_network
from openkeypoints.models.graphs.cache import CHECKSUM, seal
from openkeypoints.models.spec import ModelSpec
from openkeypoints.runtimes import Artifact
from openkeypoints.settings import Settings
from tests.unit.runtimes.graphs import graph, picture, tiny, weights

IMAGE = {"image": picture(1, 16, 16)}


@pytest.fixture
def loading(tmp_path):
    settings = Settings(cache_dir=tmp_path / "cache")
    spec = ModelSpec(runtime="openvino", device="cpu", precision="f32")
    return Loading(spec, settings)


@pytest.fixture
def compiled(loading):
    return loading.settings.cache_dir / "compiled"


@pytest.fixture
def expected(loading):
    return answer(loading)


def answer(loading, artifact=None):
    return open_network(artifact or tiny(), loading.spec, loading.settings).run(IMAGE)["maps"]


def only(compiled):
    (blob,) = compiled.rglob("*.blob")
    return blob


def test_a_network_is_compiled_once(loading, compiled, expected):
    before = only(compiled).stat()
    np.testing.assert_array_equal(answer(loading), expected)
    assert only(compiled).stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("at", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_compiled_network_with_a_changed_byte_is_never_used(loading, compiled, expected, at):
    blob = only(compiled)
    good = blob.read_bytes()
    place = int(at * len(good))
    put(blob, good[:place] + bytes([good[place] ^ 255]) + good[place + 1 :])
    np.testing.assert_array_equal(answer(loading), expected)
    changed = only(compiled).read_bytes()
    assert changed[place] == good[place]
    assert_used_again(loading, compiled, expected)


@pytest.mark.parametrize("kept", [0, 100, 2000])
def test_a_compiled_network_cut_short_is_never_used(loading, compiled, expected, kept):
    blob = only(compiled)
    put(blob, blob.read_bytes()[:kept])
    np.testing.assert_array_equal(answer(loading), expected)
    assert only(compiled).stat().st_size > kept
    assert_used_again(loading, compiled, expected)


def test_a_compiled_network_that_nobody_sealed_is_never_used(loading, compiled, expected):
    # As a process leaves it that was ended while it wrote.
    blob = only(compiled)
    blob.with_name(blob.name + CHECKSUM).unlink()
    before = blob.stat().st_mtime_ns
    np.testing.assert_array_equal(answer(loading), expected)
    assert only(compiled).stat().st_mtime_ns != before
    assert_used_again(loading, compiled, expected)


def test_a_compiled_network_that_openvino_refuses_is_replaced(loading, compiled, expected):
    # As after an update of OpenVINO: the file is whole, and no longer understood.
    blob = only(compiled)
    put(blob, b"of another version")
    seal(blob)
    np.testing.assert_array_equal(answer(loading), expected)
    assert_used_again(loading, compiled, expected)


def test_a_network_put_in_the_place_of_another_is_never_used(loading, compiled, expected):
    blob = only(compiled)
    changed = weights()
    changed["second"] += 1
    answer(loading, Artifact(graph(changed), "tiny"))
    (other,) = {*compiled.rglob("*.blob")} - {blob}
    put(blob, other.read_bytes())
    seal_of_other = other.with_name(other.name + CHECKSUM).read_bytes()
    blob.with_name(blob.name + CHECKSUM).write_bytes(seal_of_other)
    np.testing.assert_array_equal(answer(loading), expected)


def test_several_that_open_one_network_at_once_all_get_it_whole(loading, compiled):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: answer(loading), range(4)))
    for found in answers[1:]:
        np.testing.assert_array_equal(found, answers[0])
    assert_used_again(loading, compiled, answers[0])


def test_choices_have_folders_of_their_own(loading, compiled, expected):
    answer(replace(loading, settings=replace(loading.settings, streams=2)))
    assert len([*compiled.iterdir()]) == 2


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_other_runtimes_leave_no_trace(loading, compiled, runtime):
    answer(replace(loading, spec=replace(loading.spec, runtime=runtime)))
    assert not compiled.exists()


def test_a_folder_that_cannot_be_used_is_one_notice_and_no_end(loading, tmp_path, caplog):
    (tmp_path / "cache").write_bytes(b"")
    with caplog.at_level(logging.WARNING, "openkeypoints"):
        first, second = answer(loading), answer(loading)
    np.testing.assert_array_equal(first, second)
    (said,) = caplog.messages
    assert "cannot be used" in said


def test_a_missing_network_is_not_found_and_says_nothing_of_the_cache(loading, tmp_path, caplog):
    with (
        caplog.at_level(logging.WARNING, "openkeypoints"),
        pytest.raises(NotFoundError, match=r"gone\.onnx"),
    ):
        answer(loading, Artifact(tmp_path / "gone.onnx", "gone"))
    assert caplog.messages == []


def put(blob, data):
    blob.chmod(0o644)
    blob.write_bytes(data)


def assert_used_again(loading, compiled, expected):
    before = only(compiled).stat().st_mtime_ns
    np.testing.assert_array_equal(answer(loading), expected)
    assert only(compiled).stat().st_mtime_ns == before


def test_a_graph_in_memory_that_wants_weights_from_a_file_is_refused(loading, tmp_path):
    far = tmp_path / "secret"
    far.write_bytes(b"\0" * 4)
    model = onnx.load_from_string(graph())
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "first_bias")
    bias.ClearField("raw_data")
    bias.data_location = onnx.TensorProto.EXTERNAL
    bias.external_data.add(key="location", value=str(far))
    with pytest.raises(WeightsError, match="wants weights from another file"):
        answer(loading, Artifact(model.SerializeToString(), "foreign.okp:pose"))
