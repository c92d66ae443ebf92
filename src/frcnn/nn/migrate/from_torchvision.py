"""Faster R-CNN of torchvision as ours."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from frcnn.config import Config, Named, base_model_names, make_config, parse_overrides, with_settings
from frcnn.nn.build import build_model
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.migrate.anchors import anchor_settings
from frcnn.nn.torchvision_keys import DETECTOR_KEY, class_names, from_torchvision_keys
from frcnn.nn.weights import DetectorWeights
from frcnn.ops.box_coder import MAX_LOG_SCALE

RESNET50, MOBILENET = "fasterrcnn_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_fpn"
_NAME = re.compile(r"fasterrcnn_((?:resnet|resnext|wide_resnet)\w+?)_fpn(_v2)?")
_BODY = "backbone.body."
_RESNETS: dict[tuple[tuple[int, ...], bool, int, int], str] = {
    # blocks of each layer, whether they are bottlenecks, width of the first one, channels of each of its groups
    ((2, 2, 2, 2), False, 64, 64): "resnet18",
    ((3, 4, 6, 3), False, 64, 64): "resnet34",
    ((3, 4, 6, 3), True, 64, 64): "resnet50",
    ((3, 4, 23, 3), True, 64, 64): "resnet101",
    ((3, 8, 36, 3), True, 64, 64): "resnet152",
    ((3, 4, 6, 3), True, 128, 4): "resnext50_32x4d",
    ((3, 4, 23, 3), True, 256, 8): "resnext101_32x8d",
    ((3, 4, 23, 3), True, 256, 4): "resnext101_64x4d",
    ((3, 4, 6, 3), True, 128, 128): "wide_resnet50_2",
    ((3, 4, 23, 3), True, 128, 128): "wide_resnet101_2",
}
_LEAST_SIDE = 0.01  # pixels; proposals under it may be dropped in pixels of the original image, as ours are


def from_torchvision(
    model: nn.Module | Mapping[str, Tensor],
    name: str | None = None,
    classes: Sequence[str] | None = None,
    settings: Named = (),
) -> FasterRCNN:
    """Convert a detector of torchvision: the same weights, the same detections. `frcnn.Detector(model)` predicts with
    it.

    A state dict lacks the numbers that were given to torchvision's constructor, e.g. min_size and thresholds. frcnn
    then uses torchvision's defaults. The state dict also lacks the epsilon of batch norm. For fasterrcnn_resnet50_fpn
    frcnn assumes 0 if batch norm is frozen, which is right for models that were made with weights=COCO_V1 (also if they
    were trained afterwards); for a model that was made with weights_backbone alone, pass
    settings={"base_model.batch_norm_eps": 1e-5}. In all other cases it is 1e-5.

    Args:
        model: torchvision's Faster R-CNN, or its state dict. All numbers are read from a model.
        name: of torchvision's model: fasterrcnn_resnet50_fpn, fasterrcnn_resnet50_fpn_v2,
            fasterrcnn_mobilenet_v3_large_fpn or fasterrcnn_mobilenet_v3_large_320_fpn; or, of a pyramid on another
            ResNet, e.g. fasterrcnn_resnet101_fpn. None: found from the layers. Of the two with MobileNet, whose layers
            are equal, the first one is then assumed, whose input is larger.
        classes: names of labels 1, 2, ...; None: the classes of COCO, as in torchvision's own weights.
        settings: other settings by name, e.g. {"detector.image.shorter_side": 600}.

    Raises:
        ValueError: the weights are of another model, the number of classes differs, or the model does something that
            frcnn cannot.
        TypeError: the model is no Faster R-CNN of torchvision.
    """
    is_module = isinstance(model, nn.Module)
    if is_module:
        _require_faster_rcnn(model)
    tensors: dict[str, Tensor] = dict(model.state_dict() if isinstance(model, nn.Module) else model)
    known = None if name is None else _config(name)
    if DETECTOR_KEY not in tensors:
        raise ValueError(f"the state dict is not one of a torchvision Faster R-CNN: it lacks {DETECTOR_KEY}")
    name = detector_name(tensors) if name is None else name
    config = known or _config(name)
    given = _numbers(model, config) if isinstance(model, nn.Module) else _assumed(tensors)
    named = settings if isinstance(settings, Mapping) else parse_overrides(settings)
    config = with_settings(config, {**given, **named})
    count = len(tensors[DETECTOR_KEY]) - 1
    names = class_names(classes, count, unused=True)
    return build_model(
        config.model, names, DetectorWeights(from_torchvision_keys(tensors), names, f"weights of {name}")
    )


def detector_name(tensors: Mapping[str, Tensor]) -> str:
    """The name of the detector that a state dict of torchvision belongs to, from its layers.

    Raises:
        ValueError: it is none that frcnn knows.
    """
    if f"{_BODY}0.0.weight" in tensors:
        return MOBILENET
    stages = [{key.split(".")[3] for key in tensors if key.startswith(f"{_BODY}layer{k}.")} for k in range(1, 5)]
    first = tensors.get(f"{_BODY}layer1.0.conv2.weight")
    if first is None:
        raise ValueError(
            "the layers are those of no detector that frcnn knows: a Faster R-CNN of torchvision with a feature "
            "pyramid on a ResNet or on MobileNetV3-Large"
        )
    is_bottleneck = f"{_BODY}layer1.0.conv3.weight" in tensors
    blocks = tuple(len(stage) for stage in stages)
    classifier = _RESNETS.get((blocks, is_bottleneck, first.shape[0], first.shape[1]))
    if classifier is None:
        raise ValueError(f"the backbone is a ResNet of {blocks} blocks that frcnn does not know")
    return f"fasterrcnn_{classifier}_fpn" + ("_v2" if "backbone.fpn.inner_blocks.0.1.weight" in tensors else "")


def _config(name: str) -> Config:
    """The settings of a detector of torchvision, with torchvision's defaults.

    Raises:
        ValueError: it is another base model, or none.
    """
    match = _NAME.fullmatch(name)
    if name in base_model_names() or match is None or match[1] not in _RESNETS.values():
        config = make_config(base_model=name)
        if config.detector.rules != "torchvision":
            raise ValueError(
                f"base model '{name}': is no detector of torchvision; leave it out, or name one, e.g. {RESNET50}"
            )
        return config
    other = {"name": name, "architecture": f"torchvision:{match[1]}", "coco_detector": None, "weights": None}
    return with_settings(
        make_config(base_model=RESNET50 + (match[2] or "")),
        {f"base_model.{key}": value for key, value in other.items()},
    )


def _assumed(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a state dict says besides its weights: only batch norm that was never frozen counts batches, and its epsilon
    is always 1e-5."""
    is_frozen = not any(key.startswith(_BODY) and key.endswith("num_batches_tracked") for key in tensors)
    return {} if is_frozen else {"base_model.batch_norm_eps": 1e-5}


def _require_faster_rcnn(model: object) -> None:
    kind = f"{type(model).__module__}.{type(model).__name__}"
    if not isinstance(model, TorchvisionFasterRCNN):
        raise TypeError(
            f"from_torchvision: {kind} is no Faster R-CNN of torchvision; pass one (of a wrapper, its `module`), or "
            f"pass the weights of the model, `model.state_dict()`"
        )
    if model.roi_heads.has_mask() or model.roi_heads.has_keypoint():
        raise ValueError(f"from_torchvision: {kind} also has a head for masks or keypoints, which frcnn lacks")


def _numbers(model: Any, config: Config) -> dict[str, Any]:
    """The settings that the model was made with, by dotted name.

    Raises:
        ValueError: it was made in a way that our settings cannot describe.
    """
    transform, rpn, roi, backbone = model.transform, model.rpn, model.roi_heads, model.backbone
    _require(isinstance(backbone, BackboneWithFPN), "backbone", type(backbone).__name__, "BackboneWithFPN")
    extra = backbone.fpn.extra_blocks
    _require(
        isinstance(extra, LastLevelMaxPool), "the pyramid's extra_blocks", type(extra).__name__, "LastLevelMaxPool"
    )
    ends = list(backbone.body.return_layers)
    if not ends[0].startswith("layer"):
        ends = [f"features.{end}" for end in ends]
        _require(ends == list(config.base_model.last_conv_node), "returned layers", ends, "torchvision's defaults")
        strides = [32, 32, 64]
    else:
        strides = [2 ** (int(end.removeprefix("layer")) + 1) for end in ends]
        strides.append(2 * strides[-1])
    pool = roi.box_roi_pool
    maps = [str(number) for number in range(len(ends))]
    pooled = [one for one in (*maps, "pool") if one in pool.featmap_names]  # names that no map has do not count
    _require(pooled == maps, "featmap_names of box_roi_pool", pool.featmap_names, str(maps))
    _require(pool.sampling_ratio == 2, "sampling_ratio of box_roi_pool", pool.sampling_ratio, "2")
    canonical = (pool.canonical_scale, pool.canonical_level)
    _require(canonical == (224, 4), "canonical_scale and canonical_level", canonical, "(224, 4)")
    _require(pool.output_size[0] == pool.output_size[1], "output_size of box_roi_pool", pool.output_size, "square")
    _require(transform.fixed_size is None, "fixed_size", transform.fixed_size, "None")
    _require(rpn.box_coder.weights == (1, 1, 1, 1), "box_coder.weights of the RPN", rpn.box_coder.weights, "1, 1, 1, 1")
    _require(rpn.min_size <= _LEAST_SIDE, "min_size of the RPN", rpn.min_size, f"at most {_LEAST_SIDE}")
    for coder in (rpn.box_coder, roi.box_coder):
        clip = coder.bbox_xform_clip
        _require(abs(clip - MAX_LOG_SCALE) < 1e-9, "bbox_xform_clip", clip, "log(1000 / 16)")
    inside = _epsilons(backbone.body)
    _require(len(inside) <= 1, "epsilons of batch norm in the backbone", inside, "one number")
    outside = _epsilons(backbone.fpn) | _epsilons(roi) | _epsilons(rpn)
    _require(outside <= {1e-5}, "epsilons of batch norm outside the backbone", outside, "1e-5")
    proposals = {
        f"detector.{ours}_proposals.{setting}": value
        for ours, theirs in (("train", "training"), ("test", "testing"))
        for setting, value in (
            ("pre_nms_top_n", rpn._pre_nms_top_n[theirs]),
            ("post_nms_top_n", rpn._post_nms_top_n[theirs]),
            ("nms_threshold", rpn.nms_thresh),
            ("score_threshold", rpn.score_thresh),
            ("min_size", rpn.min_size),
        )
    }
    generator = rpn.anchor_generator
    return {
        "base_model.last_conv_node": ends,
        "base_model.batch_norm_eps": next(iter(inside), None),
        "base_model.mean": [round(255 * value, 6) for value in transform.image_mean],
        "base_model.std": [round(255 * value, 6) for value in transform.image_std],
        "base_model.roi_size": pool.output_size[0],
        "detector.image.resize": "shorter_side",
        "detector.image.shorter_side": transform.min_size[-1],  # in training, one of them is drawn
        "detector.image.longer_side": transform.max_size,
        "detector.image.divisor": transform.size_divisible,
        **anchor_settings(generator.sizes, generator.aspect_ratios, strides),
        **proposals,
        "detector.box_deltas.stds": [1 / weight for weight in roi.box_coder.weights],
        "detector.results.score_threshold": roi.score_thresh,
        "detector.results.nms_threshold": roi.nms_thresh,
        "detector.results.max_detections": roi.detections_per_img,
    }


def _epsilons(module: nn.Module) -> set[float]:
    norms = (FrozenBatchNorm2d, nn.modules.batchnorm._BatchNorm)
    return {float(one.eps) for one in module.modules() if isinstance(one, norms)}


def _require(is_met: bool, what: str, value: object, rule: str) -> None:
    if not is_met:
        raise ValueError(f"from_torchvision: {what} is {value}; frcnn can only have {rule}")
