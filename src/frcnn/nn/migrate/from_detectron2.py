"""Faster R-CNN of detectron2 as ours. Written after detectron2's source; not compared with detectron2 itself."""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from frcnn.config import Named, flat, make_config, parse_overrides, with_settings
from frcnn.messages import plural, short
from frcnn.nn.build import build_model
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.migrate.anchors import anchor_settings
from frcnn.nn.migrate.foreign import as_lists, background_first, for_rgb, foreign_values
from frcnn.nn.torchvision_keys import class_names, translated
from frcnn.nn.weights import DetectorWeights
from frcnn.yaml_text import load_yaml

RPN_KEY = "proposal_generator.rpn_head.anchor_deltas.weight"
"""A key that every detector of detectron2 with an RPN has, and no other model."""
_LOGITS, _DELTAS = "roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"
_TINY = 1e-6  # pixels: detectron2 drops boxes whose width or height is 0
_MAX_BASES = 8

_DEFAULTS: dict[str, Any] = {
    "VERSION": 2,
    "INPUT.FORMAT": "BGR",
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
    "MODEL.MASK_ON": False,
    "MODEL.KEYPOINT_ON": False,
    "MODEL.LOAD_PROPOSALS": False,
    "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
    "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 2,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.OUT_FEATURES": ["res4"],
    "MODEL.RESNETS.NUM_GROUPS": 1,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 64,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.RESNETS.STRIDE_IN_1X1": True,
    "MODEL.RESNETS.RES5_DILATION": 1,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, False, False, False],
    "MODEL.FPN.IN_FEATURES": [],
    "MODEL.FPN.OUT_CHANNELS": 256,
    "MODEL.FPN.NORM": "",
    "MODEL.FPN.FUSE_TYPE": "sum",
    "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": 0,
    "MODEL.ANCHOR_GENERATOR.NAME": "DefaultAnchorGenerator",
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32, 64, 128, 256, 512]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.ANCHOR_GENERATOR.OFFSET": 0.0,
    "MODEL.RPN.HEAD_NAME": "StandardRPNHead",
    "MODEL.RPN.IN_FEATURES": ["res4"],
    "MODEL.RPN.BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
    "MODEL.RPN.CONV_DIMS": [-1],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 12000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.NMS_THRESH": 0.7,
    "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",
    "MODEL.ROI_HEADS.NUM_CLASSES": 80,
    "MODEL.ROI_HEADS.IN_FEATURES": ["res4"],
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.5,
    "MODEL.ROI_BOX_HEAD.NAME": "",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 0,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignV2",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 0,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 1024,
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 0,
    "MODEL.ROI_BOX_HEAD.CONV_DIM": 256,
    "MODEL.ROI_BOX_HEAD.NORM": "",
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": False,
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": False,
    "TEST.DETECTIONS_PER_IMAGE": 100,
}
"""The values of detectron2's config that detections depend on: its defaults (detectron2/config/defaults.py)."""

_POSSIBLE: dict[str, tuple[Any, ...]] = {
    "VERSION": (2,),
    "INPUT.FORMAT": ("BGR", "RGB"),
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN",),
    "MODEL.MASK_ON": (False,),
    "MODEL.KEYPOINT_ON": (False,),
    "MODEL.LOAD_PROPOSALS": (False,),
    "MODEL.BACKBONE.NAME": ("build_resnet_fpn_backbone", "build_resnet_backbone"),
    "MODEL.RESNETS.NORM": ("FrozenBN", "BN", "SyncBN"),
    "MODEL.RESNETS.RES5_DILATION": (1,),
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": ([False, False, False, False],),
    "MODEL.FPN.NORM": ("", "GN", "BN", "SyncBN"),
    "MODEL.FPN.FUSE_TYPE": ("sum",),
    "MODEL.PROPOSAL_GENERATOR.NAME": ("RPN",),
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": (0,),
    "MODEL.ANCHOR_GENERATOR.NAME": ("DefaultAnchorGenerator",),
    "MODEL.ANCHOR_GENERATOR.OFFSET": (0.0,),
    "MODEL.RPN.HEAD_NAME": ("StandardRPNHead",),
    "MODEL.RPN.BBOX_REG_WEIGHTS": ([1.0, 1.0, 1.0, 1.0],),
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": (0,),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": ("ROIAlignV2",),
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": (False,),
}
_PYRAMID: dict[str, tuple[Any, ...]] = {
    "MODEL.RESNETS.OUT_FEATURES": (["res2", "res3", "res4", "res5"],),
    "MODEL.FPN.IN_FEATURES": (["res2", "res3", "res4", "res5"],),
    "MODEL.RPN.IN_FEATURES": (["p2", "p3", "p4", "p5", "p6"],),
    "MODEL.ROI_HEADS.NAME": ("StandardROIHeads",),
    "MODEL.ROI_HEADS.IN_FEATURES": (["p2", "p3", "p4", "p5"],),
    "MODEL.ROI_BOX_HEAD.NAME": ("FastRCNNConvFCHead",),
}
_C4: dict[str, tuple[Any, ...]] = {
    "MODEL.RESNETS.OUT_FEATURES": (["res4"],),
    "MODEL.RPN.IN_FEATURES": (["res4"],),
    "MODEL.ROI_HEADS.NAME": ("Res5ROIHeads",),
    "MODEL.ROI_HEADS.IN_FEATURES": (["res4"],),
}
"""Key -> the values that frcnn can have: of all detectors, with a pyramid, and without."""

_CLASSIFIERS = {
    # depth, groups, width of a group
    (18, 1, 64): "resnet18",
    (34, 1, 64): "resnet34",
    (50, 1, 64): "resnet50",
    (101, 1, 64): "resnet101",
    (152, 1, 64): "resnet152",
    (50, 32, 4): "resnext50_32x4d",
    (101, 32, 8): "resnext101_32x8d",
    (101, 64, 4): "resnext101_64x4d",
}
_NORMS = {"": "none", "GN": "group", "BN": "batch", "SyncBN": "batch"}
_FREEZE = {0: None, 1: "layer1", 2: "layer2", 3: "layer3"}


@foreign_values("detectron2")
def from_detectron2(
    state_dict: Mapping[str, Tensor],
    config: Mapping[str, Any] | str | Path,
    classes: Sequence[str] | None = None,
    settings: Named = (),
) -> FasterRCNN:
    """Convert a Faster R-CNN of detectron2, with a feature pyramid (FPN) or without (C4): the same weights, the same
    rules. `frcnn.Detector(model)` predicts with it.

    frcnn follows detectron2's source here; the detections were not compared with those of detectron2 itself.

    Args:
        state_dict: of detectron2's model.
        config: detectron2's config (`cfg`), or the path of its YAML file, e.g. config.yaml in OUTPUT_DIR. The weights
            lack what it says, e.g. the pixels' mean and where the ResNet has its strides.
        classes: names, in the order of `thing_classes`; None: the 80 classes of COCO.
        settings: other settings by name, e.g. {"detector.results.score_threshold": 0.1}.

    Raises:
        FileNotFoundError: there is no such config file, or none that it is based on.
        ValueError: the config describes a detector that frcnn cannot have, the weights are of another model, or the
            number of classes differs.
    """
    given = read_config(Path(config)) if isinstance(config, str | Path) else config
    values = _values(given)
    if RPN_KEY not in state_dict or f"{_LOGITS}.weight" not in state_dict:
        raise ValueError(f"the state dict is not one of a detectron2 Faster R-CNN: it lacks {RPN_KEY} or {_LOGITS}")
    count = len(state_dict[f"{_LOGITS}.weight"]) - 1
    if count != values["MODEL.ROI_HEADS.NUM_CLASSES"]:
        raise ValueError(
            f"the weights have {plural(count, 'class', 'classes')}, but MODEL.ROI_HEADS.NUM_CLASSES of the config is "
            f"{values['MODEL.ROI_HEADS.NUM_CLASSES']}; give the config that the weights were trained with"
        )
    names = class_names(classes, count, unused=False)
    is_pyramid = values["MODEL.BACKBONE.NAME"] == "build_resnet_fpn_backbone"
    named = settings if isinstance(settings, Mapping) else parse_overrides(settings)
    base = make_config(base_model="resnet50-fpn" if is_pyramid else "resnet50")
    made = with_settings(base, {**_settings(values, is_pyramid=is_pyramid), **named})
    tensors = {translated(key, _RULES): tensor for key, tensor in state_dict.items() if not _is_dropped(key)}
    if values["INPUT.FORMAT"] == "BGR":
        tensors = for_rgb(tensors)
    if not is_pyramid:
        anchors = made.detector.anchors
        tensors = _ratio_major(tensors, len(anchors.scales), len(anchors.aspect_ratios))
    source = f"weights of {made.base_model.name}"
    tensors = background_first(tensors, box_per_class=made.base_model.box_per_class)
    return build_model(made.model, names, DetectorWeights(tensors, names, source))


def _ratio_major(tensors: Mapping[str, Tensor], sizes: int, ratios: int) -> dict[str, Tensor]:
    """The channels of the RPN's last layers in our order of anchors, by ratio and then size. detectron2's is by size
    and then ratio."""
    moved = dict(tensors)
    for part in ("weight", "bias"):
        for layer, numbers in (("objectness", 1), ("deltas", 4)):
            channels = moved[f"rpn.{layer}.{part}"]
            if len(channels) == sizes * ratios * numbers:  # else the error is raised where it is loaded
                by_anchor = channels.unflatten(0, (sizes, ratios, numbers)).transpose(0, 1)
                moved[f"rpn.{layer}.{part}"] = by_anchor.flatten(0, 2)
    return moved


# ------------------------------------------------------------------------------------------------------------- config


class _Loader(yaml.SafeLoader):
    """Also reads tuples, which older versions of detectron2 write with a tag of Python."""


def _construct_tuple(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return list(loader.construct_sequence(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _construct_tuple)


def read_config(path: Path, depth: int = 0) -> dict[str, Any]:
    """The values of a YAML file of detectron2 and of the files that it is based on, by dotted name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, or holds Python code.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(
            f"{path}: a config of detectron2 that frcnn reads ends in .yaml, e.g. config.yaml in OUTPUT_DIR; a config "
            f"in Python would have to be run"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such config of detectron2; the config.yaml that training writes in OUTPUT_DIR needs no other "
            f"file"
        )
    try:
        values = load_yaml(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a YAML file, or it holds Python code ({short(str(error))})") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: not a config of detectron2: it must hold keys such as MODEL")
    base = values.pop("_BASE_", None)
    below: dict[str, Any] = {}
    if base is not None:
        if not isinstance(base, str) or "://" in base or depth >= _MAX_BASES:
            raise ValueError(f"{path}: _BASE_ {short(base)}: must be the path of one file")
        below = read_config(path.parent / Path(base).expanduser(), depth + 1)
    return {**below, **flat(values)}


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
    """What detections depend on, by dotted name; all values are such as frcnn can have.

    Raises:
        ValueError: one is not.
    """
    given = {key: _parsed(key, value) for key, value in flat(_plain(config)).items() if key in _DEFAULTS}
    values = {**_DEFAULTS, **given}
    is_pyramid = values["MODEL.BACKBONE.NAME"] == "build_resnet_fpn_backbone"
    for key, possible in {**_POSSIBLE, **(_PYRAMID if is_pyramid else _C4)}.items():
        if values[key] not in possible:
            raise ValueError(
                f"config: {key} is {short(values[key])}; frcnn can only have {' or '.join(map(repr, possible))}"
            )
    return values


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Also detectron2's CfgNode as plain dictionaries."""
    return {str(key): _plain(value) if isinstance(value, Mapping) else value for key, value in config.items()}


def _parsed(key: str, value: Any) -> Any:
    """A value of the type of the default. detectron2 also reads a text such as "(1.0, 2.0)" as what it says."""
    default = _DEFAULTS[key]
    if isinstance(value, str) and not isinstance(default, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise ValueError(f"config: {key} is {short(value)}; it must be like {default!r}") from None
    if isinstance(default, list):
        value = as_lists(value)
    number = isinstance(default, float | int) and not isinstance(default, bool)
    is_right = (
        isinstance(value, int | float) and not isinstance(value, bool) if number else type(value) is type(default)
    )
    if not is_right:
        raise ValueError(f"config: {key} is {short(value)}; it must be like {default!r}")
    return value


def _settings(values: Mapping[str, Any], *, is_pyramid: bool) -> dict[str, Any]:
    """Our settings, by dotted name."""
    model = {key.removeprefix("MODEL."): value for key, value in values.items() if key.startswith("MODEL.")}
    kind = tuple(model[f"RESNETS.{key}"] for key in ("DEPTH", "NUM_GROUPS", "WIDTH_PER_GROUP"))
    if kind not in _CLASSIFIERS:
        raise ValueError(
            f"config: MODEL.RESNETS.DEPTH, NUM_GROUPS, WIDTH_PER_GROUP are {kind}; frcnn can only have "
            f"{', '.join(map(str, _CLASSIFIERS))}"
        )
    classifier = _CLASSIFIERS[kind]
    is_basic = classifier in ("resnet18", "resnet34")
    rgb = slice(None, None, -1) if values["INPUT.FORMAT"] == "BGR" else slice(None)
    strides = [4, 8, 16, 32, 64] if is_pyramid else [16]
    sizes, ratios = (_of_each_map(model[f"ANCHOR_GENERATOR.{key}"], len(strides)) for key in ("SIZES", "ASPECT_RATIOS"))
    channels = model["FPN.OUT_CHANNELS"] if is_pyramid else 256 if is_basic else 1024
    widths = {channels if width == -1 else width for width in model["RPN.CONV_DIMS"]}
    if len(widths) != 1:
        raise ValueError(f"config: MODEL.RPN.CONV_DIMS is {model['RPN.CONV_DIMS']}; frcnn has equal widths only")
    convs = model["ROI_BOX_HEAD.NUM_CONV"] if is_pyramid else 0
    if convs and _NORMS.get(model["ROI_BOX_HEAD.NORM"]) != _NORMS[model["FPN.NORM"]]:
        raise ValueError(
            f"config: MODEL.FPN.NORM is {model['FPN.NORM']!r}, MODEL.ROI_BOX_HEAD.NORM is "
            f"{model['ROI_BOX_HEAD.NORM']!r}; frcnn has one norm for both"
        )
    if values["INPUT.MIN_SIZE_TEST"] <= 0:
        raise ValueError("config: INPUT.MIN_SIZE_TEST is 0: images are not resized; frcnn resizes all images")
    proposals = {
        f"detector.{part.lower()}_proposals.{setting}": value
        for part in ("TRAIN", "TEST")
        for setting, value in (
            ("pre_nms_top_n", model[f"RPN.PRE_NMS_TOPK_{part}"]),
            ("post_nms_top_n", model[f"RPN.POST_NMS_TOPK_{part}"]),
            ("nms_threshold", model["RPN.NMS_THRESH"]),
            ("min_size", _TINY),
            ("score_threshold", 0.0),
        )
    }
    return {
        "base_model.name": f"detectron2_{classifier}_{'fpn' if is_pyramid else 'c4'}",
        "base_model.architecture": f"torchvision:{classifier}",
        "base_model.weights": None,
        "base_model.coco_detector": None,
        "base_model.stride_in_1x1": model["RESNETS.STRIDE_IN_1X1"] and not is_basic,
        "base_model.freeze_before": _FREEZE.get(model["BACKBONE.FREEZE_AT"], "layer3"),
        "base_model.mean": model["PIXEL_MEAN"][rgb],
        "base_model.std": model["PIXEL_STD"][rgb],
        "base_model.fpn_channels": model["FPN.OUT_CHANNELS"],
        "base_model.rpn_channels": widths.pop(),
        "base_model.rpn_convs": len(model["RPN.CONV_DIMS"]),
        "base_model.roi_size": model["ROI_BOX_HEAD.POOLER_RESOLUTION"],
        "base_model.norm": _NORMS[model["FPN.NORM"]] if is_pyramid else "none",
        "base_model.conv_channels": [model["ROI_BOX_HEAD.CONV_DIM"]] * convs,
        "base_model.fc_channels": [model["ROI_BOX_HEAD.FC_DIM"]] * (model["ROI_BOX_HEAD.NUM_FC"] if is_pyramid else 0),
        "base_model.box_per_class": not model["ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"],
        "detector.rules": "detectron2",
        "detector.image.resize": "shorter_side",
        "detector.image.shorter_side": values["INPUT.MIN_SIZE_TEST"],
        "detector.image.longer_side": values["INPUT.MAX_SIZE_TEST"],
        "detector.image.divisor": 32 if is_pyramid else 1,
        **anchor_settings(sizes, ratios, strides),
        **proposals,
        "detector.box_deltas.stds": [1 / weight for weight in model["ROI_BOX_HEAD.BBOX_REG_WEIGHTS"]],
        "detector.results.score_threshold": model["ROI_HEADS.SCORE_THRESH_TEST"],
        "detector.results.nms_threshold": model["ROI_HEADS.NMS_THRESH_TEST"],
        "detector.results.max_detections": values["TEST.DETECTIONS_PER_IMAGE"],
    }


def _of_each_map(values: list[Any], maps: int) -> list[list[float]]:
    """A list, or a list of one list, stands for all feature maps."""
    lists = values if values and isinstance(values[0], list) else [values]
    return lists * maps if len(lists) == 1 else lists


# --------------------------------------------------------------------------------------------------------------- keys


def _layer(match: re.Match[str]) -> str:
    """conv1.weight, conv1.norm.X, shortcut.weight or shortcut.norm.X of a residual block."""
    where = "backbone.conv_layers" if match["where"].startswith("backbone") else "roi_head.head"
    layer, is_norm = match["layer"], match["norm"] is not None
    if layer == "shortcut":
        name = f"downsample.{int(is_norm)}"
    else:
        name = f"{'bn' if is_norm else 'conv'}{layer.removeprefix('conv')}"
    return f"{where}.layer{int(match['stage']) - 1}.{match['block']}.{name}.{match['part']}"


_PART = r"(?P<part>\w+)"
_RULES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (
        rf"(?P<where>backbone(\.bottom_up)?|roi_heads)\.res(?P<stage>[2-5])\.(?P<block>\d+)\.(?P<layer>shortcut|conv\d)"
        rf"\.(?P<norm>norm\.)?{_PART}",
        _layer,
    ),
    (rf"backbone\.(bottom_up\.)?stem\.conv1\.norm\.{_PART}", r"backbone.conv_layers.bn1.\g<part>"),
    (rf"backbone\.(bottom_up\.)?stem\.conv1\.{_PART}", r"backbone.conv_layers.conv1.\g<part>"),
    (
        rf"backbone\.fpn_(?P<kind>lateral|output)(?P<stage>[2-5])\.(?P<norm>norm\.)?{_PART}",
        lambda match: (
            f"backbone.pyramid.{'lateral' if match['kind'] == 'lateral' else 'smooth'}.{int(match['stage']) - 2}."
            f"{int(match['norm'] is not None)}.{match['part']}"
        ),
    ),
    (rf"proposal_generator\.rpn_head\.conv\.{_PART}", r"rpn.convs.0.\g<part>"),
    (rf"proposal_generator\.rpn_head\.conv\.conv(?P<number>\d+)\.{_PART}", r"rpn.convs.\g<number>.\g<part>"),
    (rf"proposal_generator\.rpn_head\.objectness_logits\.{_PART}", r"rpn.objectness.\g<part>"),
    (rf"proposal_generator\.rpn_head\.anchor_deltas\.{_PART}", r"rpn.deltas.\g<part>"),
    (
        rf"roi_heads\.box_head\.conv(?P<number>\d+)\.(?P<norm>norm\.)?{_PART}",
        lambda match: f"roi_head.convs.{int(match['number']) - 1}.{int(match['norm'] is not None)}.{match['part']}",
    ),
    (
        rf"roi_heads\.box_head\.fc(?P<number>\d+)\.{_PART}",
        lambda match: f"roi_head.fc.{int(match['number']) - 1}.{match['part']}",
    ),
    (rf"{re.escape(_LOGITS)}\.{_PART}", r"roi_head.logits.\g<part>"),
    (rf"{re.escape(_DELTAS)}\.{_PART}", r"roi_head.deltas.\g<part>"),
)


def _is_dropped(key: str) -> bool:
    """Constants that older versions of detectron2 save too."""
    return key in ("pixel_mean", "pixel_std") or key.startswith("proposal_generator.anchor_generator.")
