"""Export to ONNX, with standard operators only, so that any runtime of the opset runs the file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
import torchvision  # noqa: F401  # defines the operators that are translated
from onnxscript import FLOAT, INT64
from onnxscript import opset18 as op
from torch.export import ExportedProgram

from frcnn.export.quiet import quiet
from frcnn.inference.description import INPUTS

OPSET = 18
_LOWEST = -3.0e38
"""Below all scores, but above -inf, the score of boxes that are not to be kept."""


def write_onnx(
    program: ExportedProgram,
    outputs: tuple[str, ...],
    metadata: Mapping[str, str],
    path: Path,
    *,
    inputs: tuple[str, ...] = INPUTS,
) -> None:
    """Write a graph to one file with its weights.

    Args:
        outputs, inputs: names, in order.
        metadata: the file's description of itself.

    Raises:
        ValueError: an operator has no translation.
    """
    try:
        with quiet():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=inputs,
                output_names=outputs,
                custom_translation_table=_TRANSLATIONS,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ValueError(f"the model cannot be exported to ONNX: {reason}") from error
    assert exported is not None
    model = exported.model_proto
    _clean(model)
    onnx.helper.set_model_props(model, dict(metadata))
    model.producer_name, model.doc_string = "frcnn", ""
    try:
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
    except ValueError as error:  # protobuf's limit of 2 GB
        raise ValueError(f"{path}: the model does not fit into one ONNX file ({error})") from None


def _clean(model: onnx.ModelProto) -> None:
    """Name the sizes that are not fixed. Drop the exporter's notes, which hold paths of this machine."""
    names: dict[str, str] = {}
    for value in model.graph.input:
        if value.name == "images":
            images = value.type.tensor_type
            channels_last = images.elem_type == onnx.TensorProto.UINT8
            axes = ("batch", "height", "width", "") if channels_last else ("batch", "", "height", "width")
            names = {dim.dim_param: name for dim, name in zip(images.shape.dim, axes, strict=True)}
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = names.get(dim.dim_param, dim.dim_param)
    del model.graph.value_info[:], model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]


def _nms(boxes: FLOAT, scores: FLOAT, iou_threshold: float, max_keep: int) -> INT64:
    """`frcnn.ops.nms.nms` (also in fast/nms.py and inference/tiling.py). ONNX's operator returns the kept boxes
    in any order and number. Top-k of their scores, padded with -inf, gives a fixed number, best first."""
    count = op.Constant(value_ints=[max_keep])
    selected = op.NonMaxSuppression(  # (kept, 3): problem, 0, box
        boxes,
        op.Unsqueeze(scores, op.Constant(value_ints=[1])),
        count,
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[_LOWEST]),
    )
    index = op.Gather(selected, op.Constant(value_ints=[0, 2]), axis=1)
    none = op.Constant(value_float=-torch.inf)
    kept = op.ScatterND(op.Expand(none, op.Shape(scores)), index, op.GatherND(scores, index))
    fillers = op.Expand(none, op.Concat(op.Shape(scores, start=0, end=1), count, axis=0))
    best, order = op.TopK(op.Concat(kept, fillers, axis=1), count, axis=1)
    return op.Where(op.Greater(best, op.Constant(value_float=_LOWEST)), order, op.Constant(value_int=-1))


def _roi_align(
    features: FLOAT,
    rois: FLOAT,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> FLOAT:
    """torchvision's roi_align. PyTorch's own translation drops `sampling_ratio`."""
    return op.RoiAlign(
        features,
        _columns(rois, 1, 5),
        op.Cast(op.Reshape(_columns(rois, 0, 1), op.Constant(value_ints=[-1])), to=onnx.TensorProto.INT64),
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
        mode="avg",
        output_height=pooled_height,
        output_width=pooled_width,
        sampling_ratio=max(sampling_ratio, 0),
        spatial_scale=spatial_scale,
    )


def _roi_pool(
    features: FLOAT, rois: FLOAT, spatial_scale: float, pooled_height: int, pooled_width: int
) -> tuple[FLOAT, FLOAT]:
    """torchvision's roi_pool. Its second output, the indices of the maxima, is unused."""
    pooled = op.MaxRoiPool(features, rois, pooled_shape=[pooled_height, pooled_width], spatial_scale=spatial_scale)
    return pooled, pooled


def _columns(rois: FLOAT, start: int, end: int) -> FLOAT:
    return op.Slice(rois, op.Constant(value_ints=[start]), op.Constant(value_ints=[end]), op.Constant(value_ints=[1]))


_TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.frcnn.nms.default: _nms,
    torch.ops.torchvision.roi_align.default: _roi_align,
    torch.ops.torchvision.roi_pool.default: _roi_pool,
}
