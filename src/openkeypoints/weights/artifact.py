"""What ONNX files and OpenVINO folders of any origin say of themselves, read without their weights.

Nothing here is executed, and nothing outside the folder of the file is opened.
"""

from __future__ import annotations

import ast
import json
import mmap
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import onnx
import yaml
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx import TensorProto

from openkeypoints.errors import NotFoundError, WeightsError

OWN_KEY = "openkeypoints"
"""Key of the metadata under which our own exports describe themselves."""
MAX_ONNX_BYTES = 2 << 30
"""The format itself ends here."""
MAX_GRAPH_BYTES = 256 << 20
"""Of an ONNX file without its weights."""
MAX_XML_BYTES = 128 << 20
MAX_TEXT = 1 << 20
"""Characters of one entry of metadata."""
MAX_DEPTH = 16
"""Brackets inside brackets in an entry of metadata."""

MEMORY = "_ORT_MEM_ADDR_"
"""Part of a place of weights that means an address in this process, to some runtimes."""

Shape = tuple[int | None, ...]
_Bytes = bytes | mmap.mmap

# Numbers of the fields in onnx.proto: where the weights lie in the file.
_GRAPH, _INITIALIZER = 7, 5
_NUMBERS_OF_A_TENSOR = frozenset({4, 5, 6, 7, 9, 10, 11})
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_LITERAL = re.compile(r"\s*(?:[\[{(]|(?:True|False|None|-?\d+(?:\.\d+)?)\s*$)")
_EIGHT_BIT = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger"}
)


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph.

    Attributes:
        name: of the tensor.
        shape: None where a side may vary; None as a whole where the graph does not say.
        dtype: numpy's name of the type, for example ``float32``.
    """

    name: str
    shape: Shape | None
    dtype: str


@dataclass(frozen=True, slots=True)
class OnnxFacts:
    """What an ONNX file says apart from its weights.

    Attributes:
        metadata: its entries; those that are Python or JSON literals are parsed.
        inputs: of the graph.
        outputs: of the graph, in order.
        int8: the graph holds 8-bit layers.
        suppresses: box suppression is part of the graph.
    """

    metadata: Mapping[str, Any]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    int8: bool
    suppresses: bool


@dataclass(frozen=True, slots=True)
class OpenVINOFacts:
    """What an OpenVINO export says; its inputs and outputs are known to the runtime.

    Attributes:
        xml: the graph; its weights lie beside it.
        metadata: content of ``metadata.yaml``, empty without one.
        int8: the graph holds 8-bit layers.
        suppresses: box suppression is part of the graph.
    """

    xml: Path
    metadata: Mapping[str, Any]
    int8: bool
    suppresses: bool


# --- ONNX ------------------------------------------------------------------------------------


def onnx_metadata(path: Path) -> OnnxFacts:
    """Read metadata, inputs and outputs of an ONNX file; its weights stay on the disk.

    Raises:
        NotFoundError: there is no such file.
        WeightsError: it is no whole ONNX file, too large, or its weights lie in files that are
            missing or outside its folder.
    """
    if not path.is_file():
        raise NotFoundError(f"No model file at {path}.")
    size = path.stat().st_size
    if not 0 < size <= MAX_ONNX_BYTES:
        raise WeightsError(
            f"{path.name} has {size} bytes; an ONNX file has 1 to {MAX_ONNX_BYTES}: write it again."
        )
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        model = _model(data, path.name)
    if not model.graph.output:
        raise WeightsError(f"{path.name} is no whole ONNX file (its graph has no output).")
    _check_external(path, model)
    kinds = {node.op_type for node in model.graph.node}
    stored = {tensor.name for tensor in model.graph.initializer}
    return OnnxFacts(
        metadata={entry.key: _parsed(entry.key, entry.value) for entry in model.metadata_props},
        inputs=tuple(_port(value) for value in model.graph.input if value.name not in stored),
        outputs=tuple(_port(value) for value in model.graph.output),
        int8=bool(kinds & _EIGHT_BIT),
        suppresses="NonMaxSuppression" in kinds,
    )


def check_complete(graph: bytes, name: str) -> None:
    """Refuse a graph in memory whose weights are not all in it: it has no folder of its own.

    Args:
        graph: an ONNX file's bytes.
        name: of the file that they came from, for messages.

    Raises:
        WeightsError: it wants weights from elsewhere, and may be damaged.
    """
    if b"location" not in graph:  # without this word, which is quicker looked for, no tensor can
        return
    for tensor in _tensors(_model(graph, name)):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise WeightsError(
                f"{name} wants weights from another file, which is not opened: store them inside."
            )


def _model(data: _Bytes, name: str) -> onnx.ModelProto:
    """Return a serialised model without the numbers of its initializers."""
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(_without_weights(data))
    except (DecodeError, ValueError, EOFError) as error:
        raise WeightsError(f"{name} is no whole ONNX file ({error}).") from error
    return model


def _without_weights(data: _Bytes) -> bytes:
    """Return a serialised model whose initializers have names and shapes and no numbers."""
    kept = bytearray()
    for number, start, end, body in _fields(data, 0, len(data)):
        if number != _GRAPH or body is None:
            _keep(kept, data[start:end])
            continue
        graph = bytearray()
        for inner, inner_start, inner_end, inner_body in _fields(data, body, end):
            if inner != _INITIALIZER or inner_body is None:
                _keep(graph, data[inner_start:inner_end])
                continue
            tensor = b"".join(
                data[a:b]
                for field, a, b, _ in _fields(data, inner_body, inner_end)
                if field not in _NUMBERS_OF_A_TENSOR
            )
            _keep(graph, _message(_INITIALIZER, tensor))
        _keep(kept, _message(_GRAPH, bytes(graph)))
    return bytes(kept)


def _keep(kept: bytearray, part: bytes) -> None:
    if len(kept) + len(part) > MAX_GRAPH_BYTES:
        raise ValueError(f"its graph without weights is larger than {MAX_GRAPH_BYTES} bytes")
    kept += part


def _fields(data: _Bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int | None]]:
    """Yield number, start, end and, of messages, the start of the body of each field."""
    while at < end:
        start = at
        tag, at = _varint(data, at, end)
        kind, body = tag & 7, None
        if kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind == _BYTES:
            length, body = _varint(data, at, end)
            at = body + length
        elif kind in (_EIGHT, _FOUR):
            at += 8 if kind == _EIGHT else 4
        else:
            raise ValueError("a field is of no known kind")
        if at > end:
            raise EOFError("it is cut short")
        yield tag >> 3, start, at, body


def _varint(data: _Bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise EOFError("it is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number is longer than 64 bits")


def _message(number: int, body: bytes) -> bytes:
    head = bytearray([number << 3 | _BYTES])
    length = len(body)
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + body


def _check_external(path: Path, model: onnx.ModelProto) -> None:
    """Refuse weights in other files unless these lie whole in the folder of the graph.

    A tensor may name its place more than once, and runtimes differ in which they believe.
    """
    for tensor in _tensors(model):
        external = tensor.data_location == TensorProto.EXTERNAL
        places = [entry.value for entry in tensor.external_data if entry.key == "location"]
        for where in places or [""] * external:
            target = _place(path, where)
            if target is None:
                raise WeightsError(
                    f"{path.name} wants its weights from {where!r}, outside its own folder: such a "
                    "file is not opened. Store the weights inside the file or beside it."
                )
            if external and not target.is_file():
                raise WeightsError(
                    f"{path.name} keeps its weights in {where!r}, which is missing: put that file "
                    "beside it."
                )


def _place(path: Path, where: str) -> Path | None:
    """Return the file of weights that a graph names, None for one outside its folder."""
    # As Windows reads it, whose separators and drives other systems take for parts of names.
    parts = PureWindowsPath(where)
    if not parts.name or parts.anchor or ".." in parts.parts or "\0" in where or MEMORY in where:
        return None
    # Where runtimes look, links followed. A graph that is a link itself, as in the folders of the
    # hub's downloads, has its weights beside what it leads to.
    target = (path.parent / where).resolve()
    folders = {path.parent.resolve(), path.resolve().parent}
    return None if folders.isdisjoint(target.parents) else target


def _tensors(message: Message) -> Iterator[TensorProto]:
    # Also in subgraphs and attributes, wherever the format allows one.
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for child in (value,) if isinstance(value, Message) else value:
            if isinstance(child, TensorProto):
                yield child
            else:
                yield from _tensors(child)


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(side.dim_value or None for side in tensor.shape.dim)
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except KeyError:
        dtype = "unknown"
    return Port(value.name, shape, dtype)


def _parsed(key: str, text: str) -> Any:
    """Return what an entry says: a literal where it is one, JSON of our own, else the text."""
    if len(text) > MAX_TEXT or not (key == OWN_KEY or _LITERAL.match(text)) or _deep(text):
        return text
    try:
        if key == OWN_KEY:
            return json.loads(text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in foreign text
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _deep(text: str) -> bool:
    depth = 0
    for bracket in re.findall(r"[\[\](){}]", text):
        depth += 1 if bracket in "[({" else -1
        if depth > MAX_DEPTH:
            return True
    return False


# --- OpenVINO --------------------------------------------------------------------------------


def openvino_metadata(path: Path) -> OpenVINOFacts:
    """Read what an OpenVINO export says.

    Args:
        path: its folder, or the ``.xml`` in it.

    Raises:
        NotFoundError: there is no such file.
        WeightsError: the graph or its weights are missing, or the metadata cannot be read.
    """
    xml = find_xml(path) if path.is_dir() else path
    if xml is None:
        raise WeightsError(
            f"{path.name} is no OpenVINO export: it must hold one .xml beside its .bin."
        )
    if not xml.is_file():
        raise NotFoundError(f"No model file at {xml}.")
    if not xml.with_suffix(".bin").is_file():
        raise WeightsError(
            f"The weights of {xml.name} are missing: put {xml.with_suffix('.bin').name} beside it."
        )
    if xml.stat().st_size > MAX_XML_BYTES:
        raise WeightsError(f"{xml.name} is too large for a graph: {xml.stat().st_size} bytes.")
    graph = xml.read_bytes()
    return OpenVINOFacts(
        xml=xml,
        metadata=_yaml_mapping(xml.with_name("metadata.yaml")),
        int8=b'type="FakeQuantize"' in graph,
        suppresses=b'type="NonMaxSuppression"' in graph,
    )


def find_xml(folder: Path) -> Path | None:
    """Return the graph of an OpenVINO folder, None where there is none or more than one."""
    found = sorted(folder.glob("*.xml"))
    return found[0] if len(found) == 1 else None


def write_metadata(folder: Path, metadata: Mapping[str, Any]) -> Path:
    """Write ``metadata.yaml`` of an OpenVINO folder and return its path."""
    path = folder / "metadata.yaml"
    text = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")
    return path


class _PlainLoader(yaml.SafeLoader):
    """Reads plain values: no repeated parts, which can stand for endlessly many."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it repeats a part by reference")
        return super().compose_node(parent, index)


def _yaml_mapping(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    if path.stat().st_size > MAX_TEXT:
        raise WeightsError(f"{path.name} is too large for metadata: {path.stat().st_size} bytes.")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)  # noqa: S506  # a safe one
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise WeightsError(f"{path.name} cannot be read as metadata ({error}).") from error
    if not isinstance(data, dict):
        raise WeightsError(f"{path.name} holds no mapping of names to values.")
    return data
