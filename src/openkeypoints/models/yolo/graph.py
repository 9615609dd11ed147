"""Writes the network of a YOLO checkpoint as an ONNX graph that every runtime opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from openkeypoints.errors import InputError, WeightsError
from openkeypoints.models.yolo.checkpoint import Checkpoint, heads
from openkeypoints.models.yolo.layers import PICTURE, read_network
from openkeypoints.models.yolo.ops import NORM, Conv, Step
from openkeypoints.models.yolo.spec import Head

OPSET = 17
IR_VERSION = 8
INPUT, THRESHOLD = "images", "threshold"
REACH = 2
"""Rows to each side that two convolutions of 3x3 read."""
ROWS = 8
"""Windows begin and end at multiples of it: a runtime prepares itself anew for every height."""
_NUMBERS = (-1, 0, 1, REACH, ROWS, REACH + ROWS)
NOTHING: Mapping[str, str] = MappingProxyType({})
EPSILON = 1e-3
"""Of every normalisation."""
WHITE = 255.0
GREY = (0.299, 0.587, 0.114)
"""Red, green and blue in a grey picture, for networks that take one channel."""

_ACTIVATIONS = {"ReLU": "Relu", "Hardswish": "HardSwish", "Sigmoid": "Sigmoid", "Tanh": "Tanh"}
"""Those that are a single node; SiLU is two, which runtimes fuse."""


def write_graph(
    checkpoint: Checkpoint, head: Head, *, half: bool = False, sparse: bool = False
) -> bytes:
    """Return a network as ONNX: pictures in, raw maps of one head out.

    The input ``images`` is uint8 (N, H, W, 3) RGB with N free and H and W multiples of the largest
    stride. The outputs are ``boxes`` (N, 4R, A), ``scores`` (N, C, A) logits and, where the network
    has them, ``keypoints`` (N, K·D, A), ``coefficients`` (N, M, A) and ``prototypes``
    (N, M, H/4, W/4); A counts the cells of all levels, row by row, the finest level first.

    Args:
        checkpoint: tensors and YAML.
        head: which of its heads.
        half: store the weights of convolutions as float16, in half the bytes.
        sparse: compute boxes, keypoints and coefficients only in the rows of a level around cells
            that score more than a further input, ``threshold`` (1,), a logit; elsewhere they are 0.
            Nobody reads them there, and they are a sixth of the work.

    Raises:
        InputError: the checkpoint does not hold this head.
        CheckpointKeyError: the tensors are not those of the YAML.
        WeightsError: the network has something that is not supported.
    """
    held = heads(checkpoint)
    if head not in held:
        raise InputError(f"The checkpoint holds no head {head!r}: it has {', '.join(held)}.")
    network = read_network(checkpoint.yaml)
    # By its own name: behind an Identity, OpenVINO gives the output two names in any order.
    renamed = {m.name: "prototypes" for m in network.outputs[head].get("prototypes", ())}
    writer = _Writer(checkpoint, renamed, half=half)
    writer.picture()
    roles = {role: [m.name for m in maps] for role, maps in network.outputs[head].items()}
    if sparse:
        dense = network.ops.needed_for([*roles["scores"], *roles.get("prototypes", ())])
        writer.operations(dense)
        windows = [_Window(writer, i, name) for i, name in enumerate(roles["scores"])]
        # A list, for a set has another order in every process.
        for role in [role for role in roles if role not in ("scores", "prototypes")]:
            for i, name in enumerate(roles[role]):
                branch = [op for op in network.ops.needed_for([name]) if op not in dense]
                roles[role][i] = windows[i].branch(branch, name)
    else:
        writer.operations(network.needed_for(head))
    outputs = []
    for role, maps in network.outputs[head].items():
        names, channels = roles[role], maps[0].channels
        if role == "prototypes":
            sides = ["prototypes_h", "prototypes_w"]
        else:
            writer.cells(names, channels, role)
            sides = ["cells"]
        shape: list[str | int | None] = ["n", channels, *sides]
        outputs.append(helper.make_tensor_value_info(role, TensorProto.FLOAT, shape))
    return writer.finish(outputs, sparse=sparse)


class _Writer:
    """Collects nodes and numbers; maps keep the names of the operations."""

    def __init__(self, checkpoint: Checkpoint, renamed: Mapping[str, str], *, half: bool) -> None:
        self._tensors = checkpoint.tensors
        self._activations = checkpoint.activations
        self._renamed = renamed
        self._half = half
        self._names: set[str] = set()
        # Filled in place: the functions that put a model together copy all numbers twice.
        self._model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="openkeypoints")
        self._model.opset_import.append(helper.make_opsetid("", OPSET))
        self._graph = self._model.graph
        self._graph.name = "yolo"

    def node(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> None:
        """Append a node."""
        names = [self._renamed.get(name, name) for name in outputs]
        self._graph.node.append(helper.make_node(kind, inputs, names, **attributes))

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Store numbers under a name; the same name always means the same numbers."""
        if name not in self._names:
            self._names.add(name)
            self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def picture(self) -> None:
        """Append the way from the input to the map that the first row reads."""
        self.node("Cast", [INPUT], ["picture.float"], to=TensorProto.FLOAT)
        self.node("Transpose", ["picture.float"], [PICTURE], perm=[0, 3, 1, 2])

    def operations(self, ops: Sequence[Conv | Step], renamed: Mapping[str, str] = NOTHING) -> None:
        """Append operations, some of their inputs under other names."""
        for op in ops:
            if isinstance(op, Conv):
                self.convolution(op, renamed.get(op.source, op.source))
            else:
                self.step(op)

    def convolution(self, conv: Conv, source: str) -> None:
        """Append a convolution with its activation."""
        weights, bias = self._numbers(conv)
        name = self._weights(conv, weights)
        inputs = [source, name, self.constant(f"{conv.path}.b", bias.astype(np.float32))]
        kernel = conv.shape[2]
        kind, pad = ("ConvTranspose", 0) if conv.kind == "transposed" else ("Conv", kernel // 2)
        activation = self._activations.get(conv.path, conv.activation)
        plain = conv.kind != "unit" or activation == "Identity"
        output = conv.path if plain else f"{conv.path}.linear"
        self.node(
            kind,
            inputs,
            [output],
            kernel_shape=[kernel, kernel],
            strides=[conv.stride] * 2,
            pads=[pad] * 4,
            group=conv.groups,
        )
        if not plain:
            self._activate(activation, output, conv.path)

    def step(self, step: Step) -> None:
        """Append an operation that has no tensors."""
        match step.kind:
            case "add":
                self.node("Add", step.inputs, step.outputs)
            case "concat":
                self.node("Concat", step.inputs, step.outputs, axis=1)
            case "split":
                self._split(step.inputs[0], step.outputs, step.sizes, axis=1)
            case "pool":
                (kernel,) = step.sizes
                pads = [kernel // 2] * 4
                self.node(
                    "MaxPool", step.inputs, step.outputs, kernel_shape=[kernel] * 2, pads=pads
                )
            case "enlarge":
                factor = float(step.sizes[0])
                scales = np.array([1, 1, factor, factor], np.float32)
                self.node(
                    "Resize",
                    [step.inputs[0], "", self.constant(f"scales.{factor:g}", scales)],
                    step.outputs,
                    mode="nearest",
                    coordinate_transformation_mode="asymmetric",
                    nearest_mode="floor",
                )
            case "attend":
                self._attend(step)

    def cells(self, maps: Sequence[str], channels: int, output: str) -> None:
        """Append the maps of all levels, each flattened, one after the other."""
        shape = self.constant(f"cells.{channels}", np.array([0, channels, -1], np.int64))
        flat = [f"{name}.cells" for name in maps]
        for name, cells in zip(maps, flat, strict=True):
            self.node("Reshape", [name, shape], [cells])
        self.node("Concat", flat, [output], axis=2)

    def finish(self, outputs: Sequence[onnx.ValueInfoProto], *, sparse: bool) -> bytes:
        """Return the graph as the bytes of a file."""
        shape: list[str | int | None] = ["n", "h", "w", 3]
        picture = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, shape)
        self._graph.input.append(picture)
        if sparse:
            threshold = helper.make_tensor_value_info(THRESHOLD, TensorProto.FLOAT, [1])
            self._graph.input.append(threshold)
        self._graph.output.extend(outputs)
        data: bytes = self._model.SerializeToString(deterministic=True)
        return data

    def _numbers(self, conv: Conv) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weights and bias, the normalisation and the scale of pictures folded in."""
        own = f"{conv.path}.conv" if conv.kind == "unit" else conv.path
        weights = self._tensors[f"{own}.weight"].astype(np.float64)
        bias = np.zeros(conv.channels)
        if f"{own}.bias" in self._tensors:
            bias = self._tensors[f"{own}.bias"].astype(np.float64)
        if conv.kind == "unit" and f"{conv.path}.bn.weight" in self._tensors:
            gain, offset, mean, variance = (
                self._tensors[f"{conv.path}.bn.{name}"].astype(np.float64) for name in NORM
            )
            gain = gain / np.sqrt(variance + EPSILON)
            weights = weights * gain[:, None, None, None]
            bias = offset + (bias - mean) * gain
        if conv.source == PICTURE:
            weights = weights / WHITE
            if weights.shape[1] == 1:
                weights = weights * np.array(GREY)[:, None, None]
        return weights, bias

    def _weights(self, conv: Conv, weights: NDArray[np.float64]) -> str:
        name = f"{conv.path}.w"
        # The first ones are divided by 255, below what float16 holds well, and few.
        if not self._half or conv.source == PICTURE:
            return self.constant(name, weights.astype(np.float32))
        stored = self.constant(f"{name}.half", weights.astype(np.float16))
        self.node("Cast", [stored], [name], to=TensorProto.FLOAT)
        return name

    def _activate(self, activation: str, source: str, output: str) -> None:
        if activation == "SiLU":
            self.node("Sigmoid", [source], [f"{output}.sigmoid"])
            self.node("Mul", [source, f"{output}.sigmoid"], [output])
        elif activation in _ACTIVATIONS:
            self.node(_ACTIVATIONS[activation], [source], [output])
        else:
            raise WeightsError(
                f"The network has the activation {activation!r} at {output}, which is not "
                f"supported: SiLU, Identity, {', '.join(_ACTIVATIONS)} are."
            )

    def _split(
        self, source: str, outputs: Sequence[str], sizes: Sequence[int], *, axis: int
    ) -> None:
        name = "sizes." + ".".join(map(str, sizes))
        parts = self.constant(name, np.array(sizes, np.int64))
        self.node("Split", [source, parts], outputs, axis=axis)

    def _attend(self, step: Step) -> None:
        (qkv, x), (seen, values) = step.inputs, step.outputs
        heads, key, value = step.sizes

        def name(part: str) -> str:
            return f"{seen}.{part}"

        per_head = np.array([0, heads, 2 * key + value, -1], np.int64)
        shape = self.constant("heads." + ".".join(map(str, per_head)), per_head)
        self.node("Reshape", [qkv, shape], [name("heads")])
        parts = [name("q"), name("k"), name("v")]
        self._split(name("heads"), parts, (key, key, value), axis=2)
        scale = self.constant(f"scale.{key}", np.array(key**-0.5, np.float32))
        self.node("Mul", [name("q"), scale], [name("scaled")])
        self.node("Transpose", [name("scaled")], [name("rows")], perm=[0, 1, 3, 2])
        self.node("MatMul", [name("rows"), name("k")], [name("logits")])
        self.node("Softmax", [name("logits")], [name("weights")], axis=-1)
        self.node("Transpose", [name("weights")], [name("columns")], perm=[0, 1, 3, 2])
        self.node("MatMul", [name("v"), name("columns")], [name("sum")])
        self.node("Shape", [x], [name("shape")])
        self.node("Reshape", [name("sum"), name("shape")], [seen])
        self.node("Reshape", [name("v"), name("shape")], [values])


class _Window:
    """The rows of one level around the cells that may hold an instance."""

    def __init__(self, writer: _Writer, level: int, scores: str) -> None:
        """Append what finds the rows.

        Args:
            writer: appended to.
            level: its number.
            scores: map of its logits.
        """
        self._writer, self._name = writer, f"window.{level}"
        self._sliced: dict[str, str] = {}
        self._made: list[str] = []
        numbers = {n: writer.constant(f"rows.{n}", np.array([n], np.int64)) for n in _NUMBERS}
        best = self._add("ReduceMax", scores, axes=[0, 1, 3], keepdims=0)
        hit = self._add("Greater", best, THRESHOLD)
        self._height = self._add("Shape", best)
        every = self._add(
            "Range",
            writer.constant("rows.zero", np.array(0, np.int64)),
            self._add("Squeeze", self._height),
            writer.constant("rows.one", np.array(1, np.int64)),
        )
        first = self._add("ReduceMin", self._add("Where", hit, every, self._height), axes=[0])
        last = self._add("ReduceMax", self._add("Where", hit, every, numbers[-1]), axes=[0])
        start = self._add("Max", self._add("Sub", first, numbers[REACH]), numbers[0])
        start = self._add("Div", start, numbers[ROWS])
        self._start = self._add("Mul", start, numbers[ROWS])
        end = self._add("Add", last, numbers[REACH + ROWS])  # one past the last, rounded up
        end = self._add("Mul", self._add("Div", end, numbers[ROWS]), numbers[ROWS])
        # Without any such cell a single row is left: no runtime likes maps without rows.
        end = self._add("Max", end, self._add("Add", self._start, numbers[1]))
        self._end = self._add("Min", end, self._height)
        below = self._add("Sub", self._height, self._end)
        nought = numbers[0]
        self._pads = self._add(
            "Concat",
            *(nought, nought, self._start, nought, nought, nought, below, nought),
            axis=0,
        )
        self._axis = writer.constant("rows.axis", np.array([2], np.int64))

    def branch(self, ops: Sequence[Conv | Step], result: str) -> str:
        """Append a branch inside the window; return its map, brought back to the whole level."""
        source = ops[0].inputs[0]
        if source not in self._sliced:
            self._sliced[source] = self._add("Slice", source, self._start, self._end, self._axis)
        self._writer.operations(ops, self._sliced)
        return self._add("Pad", result, self._pads)

    def _add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{self._name}.{len(self._made)}"
        self._made.append(output)
        self._writer.node(kind, inputs, [output], **attributes)
        return output
