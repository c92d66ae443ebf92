"""Faster R-CNN of mmdetection as ours. Written after mmdetection's source; not compared with mmdetection itself."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from frcnn.config import Named, make_config, parse_overrides, with_settings
from frcnn.messages import plural, short
from frcnn.nn.build import build_model
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.migrate.anchors import anchor_settings
from frcnn.nn.migrate.foreign import as_lists, background_first, for_rgb, foreign_values
from frcnn.nn.torchvision_keys import class_names, translated
from frcnn.nn.weights import DetectorWeights

HEAD_KEY = "roi_head.bbox_head.fc_cls.weight"
"""A key that every two-stage detector of mmdetection has, and no other model."""
_TINY = 1e-6  # pixels: mmdetection drops boxes whose width or height is 0
_MAX_TEXT = 10_000_000  # characters of a config
_STRIDES = [4, 8, 16, 32, 64]

_CLASSIFIERS = {
    # type, depth, groups, width of a group
    ("ResNet", 18, 1, 4): "resnet18",
    ("ResNet", 34, 1, 4): "resnet34",
    ("ResNet", 50, 1, 4): "resnet50",
    ("ResNet", 101, 1, 4): "resnet101",
    ("ResNet", 152, 1, 4): "resnet152",
    ("ResNeXt", 50, 32, 4): "resnext50_32x4d",
    ("ResNeXt", 101, 32, 8): "resnext101_32x8d",
    ("ResNeXt", 101, 64, 4): "resnext101_64x4d",
}
_ANY = object()
_POSSIBLE: dict[str, tuple[Any, ...]] = {
    # key in `model`: mmdetection's default if the key may be missing (else _ANY), then the values that frcnn can have
    "type": (_ANY, "FasterRCNN"),
    "backbone.type": (_ANY, "ResNet", "ResNeXt"),
    "backbone.num_stages": (4, 4),
    "backbone.out_indices": ([0, 1, 2, 3], [0, 1, 2, 3]),
    "backbone.strides": ([1, 2, 2, 2], [1, 2, 2, 2]),
    "backbone.dilations": ([1, 1, 1, 1], [1, 1, 1, 1]),
    "backbone.style": ("pytorch", "pytorch", "caffe"),
    "backbone.deep_stem": (False, False),
    "backbone.avg_down": (False, False),
    "backbone.norm_cfg.type": ("BN", "BN", "SyncBN"),
    "backbone.dcn": (None, None),
    "backbone.plugins": (None, None),
    "neck.type": (_ANY, "FPN"),
    "neck.num_outs": (_ANY, 5),
    "neck.start_level": (0, 0),
    "neck.end_level": (-1, -1, 3),
    "neck.add_extra_convs": (False, False),
    "neck.norm_cfg": (None, None),
    "neck.act_cfg": (None, None),
    "neck.upsample_cfg.mode": ("nearest", "nearest"),
    "rpn_head.type": (_ANY, "RPNHead"),
    "rpn_head.num_convs": (1, 1),
    "rpn_head.anchor_generator.type": (_ANY, "AnchorGenerator"),
    "rpn_head.anchor_generator.strides": (_ANY, _STRIDES),
    "rpn_head.anchor_generator.base_sizes": (None, None),
    "rpn_head.anchor_generator.scale_major": (True, True),
    "rpn_head.anchor_generator.octave_base_scale": (None, None),
    "rpn_head.anchor_generator.center_offset": (0, 0),
    "rpn_head.bbox_coder.type": ("DeltaXYWHBBoxCoder", "DeltaXYWHBBoxCoder"),
    "rpn_head.bbox_coder.target_means": ([0, 0, 0, 0], [0, 0, 0, 0]),
    "rpn_head.bbox_coder.target_stds": ([1, 1, 1, 1], [1, 1, 1, 1]),
    "rpn_head.bbox_coder.clip_border": (True, True),
    "rpn_head.bbox_coder.add_ctr_clamp": (False, False),
    "rpn_head.loss_cls.use_sigmoid": (_ANY, True),
    "roi_head.type": (_ANY, "StandardRoIHead"),
    "roi_head.shared_head": (None, None),
    "roi_head.mask_head": (None, None),
    "roi_head.bbox_roi_extractor.type": (_ANY, "SingleRoIExtractor"),
    "roi_head.bbox_roi_extractor.featmap_strides": (_ANY, _STRIDES[:4]),
    "roi_head.bbox_roi_extractor.finest_scale": (56, 56),
    "roi_head.bbox_roi_extractor.roi_layer.type": (_ANY, "RoIAlign"),
    "roi_head.bbox_roi_extractor.roi_layer.sampling_ratio": (0, 0),
    "roi_head.bbox_roi_extractor.roi_layer.aligned": (True, True),
    "roi_head.bbox_roi_extractor.roi_layer.pool_mode": ("avg", "avg"),
    "roi_head.bbox_head.type": (_ANY, "Shared2FCBBoxHead"),
    "roi_head.bbox_head.bbox_coder.type": (_ANY, "DeltaXYWHBBoxCoder"),
    "roi_head.bbox_head.bbox_coder.clip_border": (True, True),
    "roi_head.bbox_head.bbox_coder.add_ctr_clamp": (False, False),
    "roi_head.bbox_head.reg_decoded_bbox": (False, False),
    "roi_head.bbox_head.loss_cls.use_sigmoid": (False, False),
    "test_cfg.rpn.nms.type": ("nms", "nms"),
    "test_cfg.rpn.min_bbox_size": (0, 0),
    "test_cfg.rcnn.nms.type": ("nms", "nms"),
}


@foreign_values("mmdetection")
def from_mmdetection(
    state_dict: Mapping[str, Tensor],
    config: Mapping[str, Any] | str | Path,
    classes: Sequence[str] | None = None,
    settings: Named = (),
) -> FasterRCNN:
    """Convert a Faster R-CNN of mmdetection 2 or 3 with a feature pyramid: the same weights, the same rules.
    `frcnn.Detector(model)` predicts with it.

    frcnn follows mmdetection's source here; the detections were not compared with those of mmdetection itself.

    Args:
        state_dict: "state_dict" of mmdetection's checkpoint.
        config: mmdetection's config: a mapping, or the path of the complete file that training writes in `work_dirs`,
            or its text, which checkpoints have in `meta["cfg"]`. It is read, and never run.
        classes: names, in the order of `metainfo["classes"]`; None: the 80 classes of COCO.
        settings: other settings by name, e.g. {"detector.results.score_threshold": 0.1}.

    Raises:
        FileNotFoundError: there is no such config file.
        ValueError: the config describes a detector that frcnn cannot have, the weights are of another model, or the
            number of classes differs.
    """
    given = config if isinstance(config, Mapping) else read_config(config)
    if HEAD_KEY not in state_dict:
        raise ValueError(f"the state dict is not one of an mmdetection Faster R-CNN: it lacks {HEAD_KEY}")
    count = len(state_dict[HEAD_KEY]) - 1
    values, is_bgr = _settings(as_lists(given), count)  # mmengine's Config is a mapping, but not a dict
    names = class_names(classes, count, unused=False)
    named = settings if isinstance(settings, Mapping) else parse_overrides(settings)
    made = with_settings(make_config(base_model="resnet50-fpn"), {**values, **named})
    tensors = {
        translated(key, _RULES): tensor
        for key, tensor in state_dict.items()
        if not key.startswith("data_preprocessor.")
    }
    if is_bgr:
        tensors = for_rgb(tensors)
    source = f"weights of {made.base_model.name}"
    tensors = background_first(tensors, box_per_class=made.base_model.box_per_class)
    return build_model(made.model, names, DetectorWeights(tensors, names, source))


# ------------------------------------------------------------------------------------------------------------- config


def read_config(source: str | Path) -> dict[str, Any]:
    """The values of a config, see `parse_config`.

    Args:
        source: the path of the file, or its text (of several lines).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: see `parse_config`.
    """
    if "\n" in str(source):
        return parse_config(str(source), "config")
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such config of mmdetection")
    try:
        return parse_config(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a config of mmdetection ({error})") from None


def parse_config(text: str, where: str) -> dict[str, Any]:
    """The values of a config in Python, by name. Only literals and `dict(...)` are read. Other values are left out, and
    those that another statement may change.

    Args:
        where: the text is from, for messages.

    Raises:
        ValueError: it is no Python text, or is based on other files.
    """
    if len(text) > _MAX_TEXT:
        raise ValueError(f"{where}: has {len(text):,} characters; frcnn reads at most {_MAX_TEXT:,}")
    values: dict[str, Any] = {}
    try:
        for statement in ast.parse(text).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    values.pop(name, None)
                    try:
                        values[name] = _literal(value, values)
                    except ValueError:
                        continue
                case _:  # it may change what the names in it stand for
                    for node in ast.walk(statement):
                        if isinstance(node, ast.Name) and node.id != "_base_":
                            values.pop(node.id, None)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{where}: not a config of mmdetection in Python ({short(str(error))})") from None
    if "_base_" in values:
        raise ValueError(
            f"{where}: is based on other files (_base_); give the complete config that training writes in work_dirs"
        )
    return values


def _literal(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value of an expression of a config file.

    Raises:
        ValueError: not a literal, nor `dict(...)`, nor an earlier name.
    """
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item, names) for item in items]
        case ast.Dict(keys=keys, values=items) if all(keys):  # none is `**other`
            return {
                str(_literal(key, names)): _literal(item, names) for key, item in zip(keys, items, strict=True) if key
            }
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords) if all(each.arg for each in keywords):
            return {str(each.arg): _literal(each.value, names) for each in keywords}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Name(id=name) if name in names:
            return names[name]
    raise ValueError("not a literal")


def _get(values: Any, key: str, default: Any = _ANY) -> Any:
    """A value by dotted name.

    Raises:
        ValueError: it is missing and has no default.
    """
    part = values
    for name in key.split("."):
        if not isinstance(part, dict) or name not in part:
            if default is _ANY:
                raise ValueError(f"config: model.{key} is missing")
            return default
        part = part[name]
    return part


def _settings(config: Mapping[str, Any], count: int) -> tuple[dict[str, Any], bool]:
    """Our settings by dotted name, and whether the layers expect BGR.

    Raises:
        ValueError: the config describes a detector that frcnn cannot have.
    """
    model = config.get("model")
    if not isinstance(model, dict):
        raise ValueError("config: has no `model` that can be read without running it; give the one in work_dirs")
    model.setdefault("test_cfg", config.get("test_cfg"))  # of early versions of mmdetection 2
    for key, (default, *possible) in _POSSIBLE.items():
        value = _get(model, key, default)
        if value not in possible:
            raise ValueError(
                f"config: model.{key} is {short(value)}; frcnn can only have {' or '.join(map(repr, possible))}"
            )
    kind = tuple(
        _get(model, f"backbone.{key}", default)
        for key, default in (("type", _ANY), ("depth", _ANY), ("groups", 1), ("base_width", 4))
    )
    if kind not in _CLASSIFIERS:
        raise ValueError(
            f"config: type, depth, groups, base_width of model.backbone are {kind}; frcnn can only have "
            f"{', '.join(map(str, _CLASSIFIERS))}"
        )
    classes = _get(model, "roi_head.bbox_head.num_classes")
    if classes != count:
        raise ValueError(
            f"the weights have {plural(count, 'class', 'classes')}, but model.roi_head.bbox_head.num_classes of the "
            f"config is {classes}; give the config that the weights were trained with"
        )
    classifier = _CLASSIFIERS[kind]
    image, is_bgr = _image(config, model)
    generator = _get(model, "rpn_head.anchor_generator")
    sizes = [[stride * scale for scale in _get(generator, "scales")] for stride in _STRIDES]
    test, train = "test_cfg.rpn", "train_cfg.rpn_proposal"
    proposals = {
        f"detector.{ours}_proposals.{setting}": value
        for ours, theirs in (("train", train if _get(model, train, None) else test), ("test", test))
        for setting, value in (
            ("pre_nms_top_n", _get(model, f"{theirs}.nms_pre")),
            ("post_nms_top_n", _get(model, f"{theirs}.max_per_img")),
            ("nms_threshold", _get(model, f"{theirs}.nms.iou_threshold")),
            ("min_size", _TINY),
            ("score_threshold", 0.0),
        )
    }
    settings = {
        "base_model.name": f"mmdetection_{classifier}_fpn",
        "base_model.architecture": f"torchvision:{classifier}",
        "base_model.weights": None,
        "base_model.coco_detector": None,
        "base_model.stride_in_1x1": _get(model, "backbone.style", "pytorch") == "caffe" and kind[1] >= 50,
        "base_model.freeze_before": {-1: None, 0: "layer1", 1: "layer2", 2: "layer3"}.get(
            _get(model, "backbone.frozen_stages", -1), "layer4"
        ),
        "base_model.fpn_channels": _get(model, "neck.out_channels"),
        "base_model.rpn_channels": _get(model, "rpn_head.feat_channels", 256),
        "base_model.roi_size": _get(model, "roi_head.bbox_roi_extractor.roi_layer.output_size"),
        "base_model.fc_channels": [_get(model, "roi_head.bbox_head.fc_out_channels", 1024)] * 2,
        "base_model.box_per_class": not _get(model, "roi_head.bbox_head.reg_class_agnostic", False),
        "detector.rules": "mmdetection",
        **image,
        **anchor_settings(sizes, [_get(generator, "ratios")] * len(sizes), _STRIDES),
        **proposals,
        "detector.box_deltas.means": _get(model, "roi_head.bbox_head.bbox_coder.target_means", [0.0] * 4),
        "detector.box_deltas.stds": _get(model, "roi_head.bbox_head.bbox_coder.target_stds", [0.1, 0.1, 0.2, 0.2]),
        "detector.results.score_threshold": _get(model, "test_cfg.rcnn.score_thr"),
        "detector.results.nms_threshold": _get(model, "test_cfg.rcnn.nms.iou_threshold"),
        "detector.results.max_detections": _get(model, "test_cfg.rcnn.max_per_img"),
    }
    return settings, is_bgr


def _image(config: Mapping[str, Any], model: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """How images are resized and normalized: in the preprocessor (mmdetection 3) or in the test pipeline (2)."""
    pipeline = next(
        (
            found
            for key in ("test_pipeline", "test_dataloader.dataset.pipeline", "data.test.pipeline")
            if (found := _get(config, key, None)) is not None
        ),
        None,
    )
    steps = list(_steps(pipeline))
    resize = next((step for step in steps if step["type"] == "Resize"), None)
    scales = [step[key] for step in steps for key in ("scale", "img_scale") if step.get(key) is not None]
    if resize is None or not scales:
        raise ValueError("config: has no test_pipeline with a Resize that can be read; give the config in work_dirs")
    scale = scales[0]
    if not resize.get("keep_ratio") or not isinstance(scale, list) or len(scale) != 2:
        raise ValueError(
            f"config: Resize of the test pipeline is {short(resize)} with the scale {scale}; frcnn can only have one "
            f"scale (width, height) with keep_ratio=True"
        )
    for key, only in (("interpolation", "bilinear"), ("backend", "cv2")):
        if resize.get(key, only) != only:
            raise ValueError(f"config: {key} of Resize is {resize[key]!r}; frcnn can only have {only!r}")
    normal = model.get("data_preprocessor")
    if isinstance(normal, dict):
        to_rgb, divisor = normal.get("bgr_to_rgb", False), normal.get("pad_size_divisor", 1)
    else:
        normal = next((step for step in steps if step["type"] == "Normalize"), {})
        to_rgb = normal.get("to_rgb", True)
        divisor = next((step.get("size_divisor") for step in steps if step["type"] == "Pad"), 1)
    mean, std = normal.get("mean"), normal.get("std")
    if not isinstance(mean, list) or not isinstance(std, list) or not isinstance(divisor, int):
        raise ValueError("config: says no mean and std of images, or no divisor of the padding, that frcnn can read")
    rgb = slice(None) if to_rgb else slice(None, None, -1)
    return {
        "base_model.mean": mean[rgb],
        "base_model.std": std[rgb],
        "detector.image.resize": "shorter_side",
        "detector.image.shorter_side": min(scale),
        "detector.image.longer_side": max(scale),
        "detector.image.divisor": divisor,
    }, not to_rgb


def _steps(pipeline: Any) -> Iterator[dict[str, Any]]:
    """The steps of a pipeline, also of those inside a step (MultiScaleFlipAug)."""
    for step in pipeline if isinstance(pipeline, list) else []:
        if isinstance(step, dict) and isinstance(step.get("type"), str):
            yield step
            yield from _steps(step.get("transforms"))


# --------------------------------------------------------------------------------------------------------------- keys

_RULES = (
    (r"backbone\.(.*)", r"backbone.conv_layers.\1"),
    (r"neck\.lateral_convs\.(\d+)\.conv\.(.*)", r"backbone.pyramid.lateral.\1.0.\2"),
    (r"neck\.fpn_convs\.(\d+)\.conv\.(.*)", r"backbone.pyramid.smooth.\1.0.\2"),
    (r"rpn_head\.rpn_conv\.(weight|bias)", r"rpn.convs.0.\1"),
    (r"rpn_head\.rpn_cls\.(.*)", r"rpn.objectness.\1"),
    (r"rpn_head\.rpn_reg\.(.*)", r"rpn.deltas.\1"),
    (r"roi_head\.bbox_head\.shared_fcs\.(\d+)\.(.*)", r"roi_head.fc.\1.\2"),
    (r"roi_head\.bbox_head\.fc_cls\.(.*)", r"roi_head.logits.\1"),
    (r"roi_head\.bbox_head\.fc_reg\.(.*)", r"roi_head.deltas.\1"),
)
