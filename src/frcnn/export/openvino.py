"""Export to OpenVINO: FILE.xml, the graph, and FILE.bin, its weights."""

from pathlib import Path

import openvino

from frcnn.inference.runtimes import openvino_core


def write_openvino(onnx_file: Path, path: Path, *, halves: bool) -> None:
    """Convert an ONNX file; its metadata is kept.

    Args:
        path: of the .xml file; the .bin file is beside it.
        halves: store the weights in 16 bits.

    Raises:
        ValueError: OpenVINO cannot convert it.
    """
    try:
        openvino.save_model(openvino_core().read_model(onnx_file), path, compress_to_fp16=halves)
    except RuntimeError as error:
        raise ValueError(f"the model cannot be converted to OpenVINO: {error}") from None
