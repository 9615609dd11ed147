from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from openkeypoints.errors import InputError, RuntimeUnavailableError
from openkeypoints.runtimes import Artifact, cpu_flags, open_session
from openkeypoints.runtimes.base import Plan, choose_precision
from tests.unit.runtimes.graphs import graph, int8_graph, picture, tiny

FLOAT = Artifact(b"", "float")
INT8 = Artifact(b"", "small", int8=True)
WITH = frozenset({"avx2", "amx_bf16"})
WITHOUT = frozenset({"avx2", "avx512_bf16"})
HAS_UNITS = "amx_bf16" in cpu_flags()


def test_the_flags_are_those_of_the_system():
    if sys.platform.startswith("linux"):
        assert cpu_flags() <= set(Path("/proc/cpuinfo").read_text().split())
        assert cpu_flags()
    else:
        assert cpu_flags() == frozenset()


@pytest.mark.parametrize(
    ("asked", "artifact", "flags", "chosen"),
    [
        ("auto", FLOAT, WITH, "bf16"),
        ("auto", FLOAT, WITHOUT, "f32"),
        ("auto", FLOAT, frozenset(), "f32"),
        ("f32", FLOAT, WITH, "f32"),
        ("bf16", FLOAT, WITH, "bf16"),
        ("auto", INT8, WITH, "int8"),
        ("int8", INT8, WITHOUT, "int8"),
    ],
)
def test_precision_follows_the_flags_and_the_artefact(asked, artifact, flags, chosen):
    assert choose_precision(asked, artifact, flags) == chosen


def test_bf16_without_units_names_the_flag():
    with pytest.raises(RuntimeUnavailableError, match="flag amx_bf16"):
        choose_precision("bf16", FLOAT, WITHOUT)


@pytest.mark.parametrize(
    ("asked", "artifact", "message"),
    [
        ("int8", FLOAT, "'float' is not an int8 artefact"),
        ("f32", INT8, "'small' is an int8 artefact"),
        ("bf16", INT8, "'small' is an int8 artefact"),
    ],
)
def test_a_precision_that_is_not_the_artefacts_is_an_input_error(asked, artifact, message):
    with pytest.raises(InputError, match=message):
        choose_precision(asked, artifact, WITH)


@pytest.mark.parametrize("runtime", ["auto", "openvino", "torch"])
def test_bf16_runs_only_where_this_cpu_has_units(runtime):
    image = {"image": picture(1, 16, 16)}
    exact = open_session(tiny(), runtime=runtime, device="cpu", precision="f32").run(image)
    if not HAS_UNITS:
        with pytest.raises(RuntimeUnavailableError, match="flag amx_bf16"):
            open_session(tiny(), runtime=runtime, device="cpu", precision="bf16")
        return
    opened = open_session(tiny(), runtime=runtime, device="cpu", precision="bf16")
    found = opened.run(image)["maps"]
    assert (opened.precision, found.dtype) == ("bf16", np.float32)
    np.testing.assert_allclose(found, exact["maps"], atol=0.03)
    assert np.abs(found - exact["maps"]).max() > 0


def test_auto_is_what_this_cpu_does_best():
    opened = open_session(tiny(), device="cpu")
    assert opened.precision == ("bf16" if HAS_UNITS else "f32")


def test_onnxruntime_refuses_bf16_on_every_cpu():
    reason = "computes no bf16" if HAS_UNITS else "flag amx_bf16"
    with pytest.raises(RuntimeUnavailableError, match=reason):
        open_session(tiny(), runtime="onnxruntime", device="cpu", precision="bf16")


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime", "torch"])
def test_int8_of_a_float_graph_is_an_input_error(runtime):
    with pytest.raises(InputError, match="not an int8 artefact"):
        open_session(tiny(), runtime=runtime, precision="int8")


@pytest.mark.parametrize("runtime", ["auto", "openvino", "onnxruntime"])
def test_f32_of_an_int8_graph_is_an_input_error(runtime):
    with pytest.raises(InputError, match="is an int8 artefact"):
        open_session(Artifact(int8_graph(), "s", int8=True), runtime=runtime, precision="f32")


@pytest.mark.parametrize(
    ("threads", "streams", "each"), [(0, 1, 0), (4, 1, 4), (0, 3, 1), (8, 4, 2), (2, 4, 1)]
)
def test_streams_share_the_threads(threads, streams, each):
    assert Plan(threads=threads, streams=streams).threads_per_stream == each


def test_a_graph_in_memory_needs_no_file():
    assert Artifact(graph(), "tiny").source() == graph()
