from __future__ import annotations

import importlib.util
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from openkeypoints import runtimes
from openkeypoints.errors import (
    InputError,
    MissingExtraError,
    NotFoundError,
    RuntimeUnavailableError,
    WeightsError,
)
from openkeypoints.runtimes import RUNTIMES, Artifact, available_runtimes, open_session
from tests.unit.runtimes.graphs import Tiny, adding, graph, int8_graph, picture, tiny


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    return request.param


@pytest.fixture
def session(runtime):
    opened = open_session(tiny(), runtime=runtime, device="cpu", precision="f32")
    yield opened
    opened.close()


def hide(monkeypatch, *packages):
    """Make packages look as if they were not installed."""
    find = importlib.util.find_spec
    for package in packages:
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in packages else find(name)
    )


# What a session says and computes


def test_every_runtime_is_installed_where_the_tests_run():
    assert available_runtimes() == list(RUNTIMES)


def test_a_session_says_what_runs(session, runtime):
    assert (session.runtime, session.device, session.precision) == (runtime, "cpu", "f32")


def test_a_session_names_its_inputs_with_free_sides_as_none(session):
    assert dict(session.inputs) == {"image": (None, None, None, 3)}


def test_a_session_names_its_outputs_in_order(session):
    assert session.outputs == ("maps", "peak")
    assert list(session.run({"image": picture(1, 8, 8)})) == ["maps", "peak"]


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 20, 44), (2, 7, 5)])
def test_every_runtime_gives_the_numbers_of_torch(session, shape):
    image = picture(*shape)
    truth = open_session(tiny(), runtime="torch", device="cpu", precision="f32")
    for name, expected in truth.run({"image": image}).items():
        found = session.run({"image": image})[name]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_batch_of_four_equals_four_batches_of_one(session):
    images = picture(4, 24, 24)
    single = [session.run({"image": images[i : i + 1]})["maps"] for i in range(4)]
    np.testing.assert_allclose(
        session.run({"image": images})["maps"], np.concatenate(single), rtol=0, atol=1e-5
    )


def test_results_stay_when_the_session_runs_again(session):
    first = session.run({"image": picture(1, 16, 16)})["maps"]
    kept = first.copy()
    session.run({"image": picture(1, 16, 16, seed=2)})
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("change", [np.asfortranarray, lambda image: image[:, ::2, ::-1]])
def test_arrays_of_any_memory_order_are_taken(session, change):
    image = change(picture(2, 16, 16))
    plain = np.ascontiguousarray(image)
    np.testing.assert_array_equal(
        session.run({"image": image})["maps"], session.run({"image": plain})["maps"]
    )


def test_arrays_that_cannot_be_written_are_taken_and_left_alone(session):
    image = picture(1, 16, 16)
    image.flags.writeable = False
    before = image.copy()
    session.run({"image": image})
    np.testing.assert_array_equal(image, before)


def test_inputs_are_matched_by_name(runtime):
    opened = open_session(adding(), runtime=runtime, device="cpu", precision="f32")
    left, right = picture(1, 4, 4), picture(1, 4, 4, seed=2)
    total = opened.run({"right": right, "left": left})["sum"]
    np.testing.assert_array_equal(total, left.astype(np.float32) + right)


# Threads and streams


@pytest.mark.parametrize("streams", [1, 2])
def test_eight_threads_get_their_own_answers(runtime, streams):
    opened = open_session(
        tiny(), runtime=runtime, device="cpu", precision="f32", threads=2, streams=streams
    )
    images = [picture(1, 16 + 2 * i, 24, seed=i) for i in range(8)]
    expected = [opened.run({"image": image})["maps"] for image in images]
    together = threading.Barrier(8)

    def ask(i):
        together.wait()
        return [opened.run({"image": images[i]})["maps"] for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        for answers, truth in zip(pool.map(ask, range(8)), expected, strict=True):
            for answer in answers:
                np.testing.assert_array_equal(answer, truth)


def test_a_session_answers_also_with_more_streams_than_cores(runtime):
    opened = open_session(tiny(), runtime=runtime, device="cpu", precision="f32", streams=64)
    assert opened.run({"image": picture(1, 8, 8)})["peak"].shape == (1, 5)


@pytest.mark.parametrize("numbers", [{"threads": -1}, {"streams": 0}])
def test_impossible_numbers_are_refused(runtime, numbers):
    with pytest.raises(InputError, match=r"threads is 0 .all. or more"):
        open_session(tiny(), runtime=runtime, **numbers)


# Closing


def test_a_closed_session_says_so(session):
    session.close()
    with pytest.raises(RuntimeUnavailableError, match="'tiny' is closed: open a new one"):
        session.run({"image": picture(1, 8, 8)})


def test_closing_twice_is_fine(session):
    session.close()
    session.close()


def test_runs_under_way_finish_when_another_thread_closes(session):
    running = threading.Event()

    def ask(_):
        running.set()
        try:
            return session.run({"image": picture(4, 128, 128)})["maps"].shape
        except RuntimeUnavailableError:
            return "closed"  # for those that came after the close

    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(ask, range(8))
        running.wait()
        session.close()
        assert set(answers) <= {(4, 5, 64, 64), "closed"}


# Inputs that do not fit


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "input 'image' is missing"),
        ({"image": picture(1, 8, 8), "extra": picture(1, 8, 8)}, "Unknown input 'extra'"),
        ({"image": picture(1, 8, 8).astype(np.float32)}, "'image' is float32.*uint8"),
        ({"image": [[1]]}, "'image' is list.*uint8"),
        ({"image": picture(8, 8)}, r"'image' has shape \(8, 8, 3\).*\(any, any, any, 3\)"),
        ({"image": np.zeros((1, 3, 8, 8), np.uint8)}, r"'image' has shape \(1, 3, 8, 8\)"),
        ({"image": picture(0, 8, 8)}, r"'image' has shape \(0, 8, 8, 3\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(session, feeds, message):
    with pytest.raises(InputError, match=message):
        session.run(feeds)


def test_sizes_that_fail_inside_the_network_are_input_errors(runtime):
    opened = open_session(adding(), runtime=runtime, device="cpu", precision="f32")
    with pytest.raises(InputError, match=r"'adding' cannot compute .*\(1, 4, 4, 3\)"):
        opened.run({"left": picture(1, 4, 4), "right": picture(1, 5, 4)})


def test_a_session_works_after_a_failure_inside_the_network(runtime):
    opened = open_session(adding(), runtime=runtime, device="cpu", precision="f32")
    with pytest.raises(InputError):
        opened.run({"left": picture(1, 4, 4), "right": picture(1, 5, 4)})
    assert opened.run({"left": picture(1, 4, 4), "right": picture(1, 4, 4)})["sum"].shape == (
        1, 4, 4, 3,
    )  # fmt: skip


# Artefacts


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_graph_may_lie_in_a_file(runtime, tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(graph())
    image = {"image": picture(1, 8, 8)}
    from_file = open_session(Artifact(path, "tiny"), runtime=runtime, precision="f32").run(image)
    from_bytes = open_session(tiny(), runtime=runtime, precision="f32").run(image)
    np.testing.assert_array_equal(from_file["maps"], from_bytes["maps"])


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_missing_file_is_not_found(runtime, tmp_path):
    with pytest.raises(NotFoundError, match=r"gone\.onnx"):
        open_session(Artifact(tmp_path / "gone.onnx", "tiny"), runtime=runtime)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("data", [b"", b"no graph", graph()[:100]])
def test_a_damaged_graph_is_a_weights_error(runtime, data):
    with pytest.raises(WeightsError, match="cannot open 'broken'"):
        open_session(Artifact(data, "broken"), runtime=runtime)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_damaged_graph_prints_nothing(runtime, capfd):
    with pytest.raises(WeightsError):
        open_session(Artifact(b"no graph", "broken"), runtime=runtime)
    assert capfd.readouterr() == ("", "")


def test_auto_says_that_a_graph_is_damaged():
    with pytest.raises(WeightsError, match="cannot open 'broken'"):
        open_session(Artifact(b"no graph", "broken"))


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_an_int8_graph_runs_as_int8(runtime):
    opened = open_session(Artifact(int8_graph(), "small", int8=True), runtime=runtime, device="cpu")
    assert opened.precision == "int8"
    assert opened.run({"image": picture(2, 8, 8)})["maps"].shape == (2, 8, 6, 6)


def test_torch_does_not_run_an_int8_graph():
    with pytest.raises(RuntimeUnavailableError, match="int8 graph: use runtime='openvino'"):
        open_session(Artifact(int8_graph(), "small", Tiny, int8=True), runtime="torch")


# Choice of runtime and device


def test_auto_takes_openvino_first():
    assert open_session(tiny()).runtime == "openvino"


def test_auto_takes_onnxruntime_without_openvino(monkeypatch):
    hide(monkeypatch, "openvino")
    assert open_session(tiny()).runtime == "onnxruntime"


def test_auto_takes_torch_when_nothing_else_is_there(monkeypatch):
    hide(monkeypatch, "openvino", "onnxruntime")
    assert open_session(tiny()).runtime == "torch"


def test_auto_says_why_no_runtime_can_open_an_artefact(monkeypatch):
    hide(monkeypatch, "openvino", "onnxruntime")
    with pytest.raises(RuntimeUnavailableError, match="'tiny' has no torch module"):
        open_session(Artifact(graph(), "tiny"))


def test_auto_without_any_runtime_says_what_to_do(monkeypatch):
    hide(monkeypatch, "openvino", "onnxruntime", "torch")
    with pytest.raises(RuntimeUnavailableError, match="reinstall 'openkeypoints'"):
        open_session(tiny())


@pytest.mark.parametrize(("name", "extra"), [("onnxruntime", "onnx"), ("torch", "torch")])
def test_a_runtime_that_is_not_installed_names_its_extra(monkeypatch, name, extra):
    hide(monkeypatch, name)
    with pytest.raises(MissingExtraError, match=rf"pip install 'openkeypoints\[{extra}\]'"):
        open_session(tiny(), runtime=name)


def test_openvino_that_is_not_installed_belongs_to_the_base_install(monkeypatch):
    hide(monkeypatch, "openvino")
    with pytest.raises(RuntimeUnavailableError, match="part of the base install"):
        open_session(tiny(), runtime="openvino")


def test_a_runtime_that_does_not_load_is_unavailable(monkeypatch):
    monkeypatch.delitem(sys.modules, "openkeypoints.runtimes.onnx", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime.capi", None)
    with pytest.raises(RuntimeUnavailableError, match="'onnxruntime' is installed but does not"):
        open_session(tiny(), runtime="onnxruntime")


def test_torch_without_a_torch_module_is_unavailable():
    with pytest.raises(RuntimeUnavailableError, match="'tiny' has no torch module"):
        open_session(Artifact(graph(), "tiny"), runtime="torch")


@pytest.mark.parametrize(
    ("choice", "closest"),
    [
        ({"runtime": "openvin"}, "openvino"),
        ({"runtime": "onnx-runtime"}, "onnxruntime"),
        ({"device": "cpus"}, "cpu"),
        ({"device": "cuda:first"}, "cuda:0"),
        ({"precision": "fp32"}, "f32"),
        ({"precision": "int4"}, "int8"),
    ],
)
def test_unknown_names_answer_with_the_closest(choice, closest):
    with pytest.raises(InputError, match=rf"Did you mean '{closest}'\?"):
        open_session(tiny(), **choice)


def test_every_runtime_lists_the_cpu_last(runtime):
    assert runtimes.devices(runtime)[-1] == "cpu"


def test_devices_of_an_unknown_runtime_are_an_input_error():
    with pytest.raises(InputError, match="Unknown runtime"):
        runtimes.devices("tensorrt")


def test_auto_takes_the_first_device_that_the_runtime_lists(runtime):
    assert open_session(tiny(), runtime=runtime).device == runtimes.devices(runtime)[0]


def test_a_device_that_the_runtime_does_not_list_is_unavailable(runtime):
    absent = {"cuda:99", "mps", "gpu:99"} - set(runtimes.devices(runtime))
    for device in absent:
        with pytest.raises(RuntimeUnavailableError, match=f"no device '{device}' here; it lists"):
            open_session(tiny(), runtime=runtime, device=device)
