"""Writes one of the files that benchmarks/yolo_cpu.py runs beside the checkpoint.

The vendor's package writes its own exports; NNCF turns ours into 8 bits. Runs in the rivals'
environment; arguments: what to write, the folder to write to, the checkpoint, the data.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

SIDE = 640


def vendor(name: str, folder: Path, checkpoint: Path) -> None:
    """Write an export of the vendor's package: OpenVINO, or ONNX with fixed or with free sides."""
    from ultralytics import YOLO  # noqa: PLC0415

    with tempfile.TemporaryDirectory(dir=folder) as place:
        # An export is written beside the checkpoint and takes its name.
        model = YOLO(shutil.copy(checkpoint, Path(place, "model.pt")))
        if name == "model_openvino_model":
            written = model.export(format="openvino", imgsz=SIDE, device="cpu")
        else:
            free = name == "dynamic.onnx"
            written = model.export(format="onnx", imgsz=SIDE, device="cpu", dynamic=free)
        Path(written).rename(folder / name)


def ours_in_8_bits(folder: Path, checkpoint: Path, data: Path) -> None:
    """Write our own OpenVINO export with its layers in 8 bits, calibrated on the train pictures."""
    # The export comes first: it switches off the telemetry that NNCF would start.
    from openkeypoints.images import read_image  # noqa: PLC0415
    from openkeypoints.models import InferOptions, ModelSpec  # noqa: PLC0415
    from openkeypoints.models.export import export  # noqa: PLC0415
    from openkeypoints.models.yolo.exports import read_export  # noqa: PLC0415
    from openkeypoints.models.yolo.process import fit, prepare  # noqa: PLC0415
    from openkeypoints.settings import Settings  # noqa: PLC0415

    import nncf  # isort: skip  # noqa: PLC0415
    import openvino as ov  # isort: skip  # noqa: PLC0415

    settings = Settings(cache_dir=folder.parent / "cache", threads=1)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        asked, out = ModelSpec(str(checkpoint)), Path(place, "f32")
        exact = export(asked, out, format="openvino", settings=settings).path
        spec = read_export(exact, {})[0].input

        def entering(path: Path) -> Any:
            image = read_image(path, settings=settings)
            options = InferOptions(input_size=(SIDE, SIDE))
            return prepare([image], [fit((image.shape[1], image.shape[0]), spec, options)], spec)

        pictures = sorted((data / "train").glob("*.jpg"))
        graph = ov.Core().read_model(exact / "model.xml")
        join_swish(graph)
        graph = nncf.quantize(
            graph,
            nncf.Dataset(pictures, entering),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(pictures),
        )
        ov.save_model(graph, Path(place, "int8", "model.xml"), compress_to_fp16=False)
        shutil.copy(exact / "metadata.yaml", Path(place, "int8"))
        Path(place, "int8").rename(folder)


def join_swish(graph: Any) -> None:
    """Make one node of every x * sigmoid(x), so that no rounding to 8 bits comes in between."""
    from openvino import opset4  # noqa: PLC0415

    for product in graph.get_ordered_ops():
        if product.get_type_name() != "Multiply":
            continue
        first, second = (port.get_source_output() for port in product.inputs())
        gate = second.get_node()
        if gate.get_type_name() == "Sigmoid" and gate.input_value(0) == first:
            joined = opset4.swish(first).output(0)
            for port in product.output(0).get_target_inputs():
                port.replace_source_output(joined)
    graph.validate_nodes_and_infer_types()


def main() -> None:
    """Write what the command line names."""
    name, folder, checkpoint, data = sys.argv[1], *map(Path, sys.argv[2:5])
    if name == "int8":
        ours_in_8_bits(folder / name, checkpoint, data)
    else:
        vendor(name, folder, checkpoint)


if __name__ == "__main__":
    main()
