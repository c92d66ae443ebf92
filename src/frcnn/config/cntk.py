"""The names that CNTK's tutorial gives its parameters, and ours.

`--set` takes either. A value is converted where the meaning differs, so the tutorial's own value can be typed.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Renamed(NamedTuple):
    key: str
    """Our dotted name."""
    convert: Callable[[Any], Any] = lambda value: value
    """From the tutorial's value to ours."""
    implies: Mapping[str, Any] = MappingProxyType({})
    """Other settings of ours that the tutorial's parameter says without words."""


def ours(name: str, value: Any) -> dict[str, Any]:
    """The settings, by our names, that a parameter of the tutorial stands for.

    Raises:
        ValueError: not a value that this parameter takes.
    """
    renamed = NAMES[name]
    try:
        return {**renamed.implies, renamed.key: renamed.convert(value)}
    except (TypeError, AttributeError, KeyError):
        raise ValueError(f"{name}: {value!r} is not a value that this setting takes") from None


def _scheme(end_to_end: bool) -> str:
    return {True: "end_to_end", False: "alternating"}[end_to_end]


def _preset(name: str) -> str:
    return name.lower()


def _bgr_to_rgb(color: list[float]) -> list[float]:
    return list(reversed(color))


def _normalize(normalize: bool) -> dict[str, list[int]]:
    return {True: {}, False: {"means": [0, 0, 0, 0], "stds": [1, 1, 1, 1]}}[normalize]


_FIT = {"detector.image.resize": "fit"}

NAMES: dict[str, Renamed] = {
    "CNTK.MAKE_MODE": Renamed("train.skip_existing"),
    "CNTK.TRAIN_E2E": Renamed("train.scheme", _scheme),
    "CNTK.FORCE_DETERMINISTIC": Renamed("train.deterministic"),
    "CNTK.FAST_MODE": Renamed("train.smoke_test"),
    "CNTK.DEBUG_OUTPUT": Renamed("train.draw_graph"),
    "CNTK.GRAPH_TYPE": Renamed("train.graph_type"),
    "STORE_EVAL_MODEL_WITH_NATIVE_UDF": Renamed("train.export_native"),
    "RND_SEED": Renamed("train.seed"),
    "CNTK.L2_REG_WEIGHT": Renamed("train.weight_decay"),
    "CNTK.MOMENTUM_PER_MB": Renamed("train.momentum"),
    "CNTK.BIAS_LR_MULT": Renamed("train.bias_lr_mult"),
    "CNTK.E2E_MAX_EPOCHS": Renamed("train.epochs"),
    "CNTK.E2E_LR_PER_SAMPLE": Renamed("train.lr"),
    "CNTK.RPN_EPOCHS": Renamed("train.rpn_epochs"),
    "CNTK.RPN_LR_PER_SAMPLE": Renamed("train.rpn_lr"),
    "CNTK.FRCN_EPOCHS": Renamed("train.roi_epochs"),
    "CNTK.FRCN_LR_PER_SAMPLE": Renamed("train.roi_lr"),
    "INPUT_ROIS_PER_IMAGE": Renamed("data.max_boxes"),
    "IMAGE_WIDTH": Renamed("detector.image.width", implies=_FIT),
    "IMAGE_HEIGHT": Renamed("detector.image.height", implies=_FIT),
    "SIGMA_RPN_L1": Renamed("train.rpn.sigma"),
    "SIGMA_DET_L1": Renamed("train.roi.sigma"),
    "RESULTS_NMS_THRESHOLD": Renamed("detector.results.nms_threshold"),
    "RESULTS_NMS_CONF_THRESHOLD": Renamed("detector.results.score_threshold"),
    "VISUALIZE_RESULTS": Renamed("detector.draw.save"),
    "DRAW_NEGATIVE_ROIS": Renamed("detector.draw.background"),
    "DRAW_UNREGRESSED_ROIS": Renamed("detector.draw.unregressed"),
    "RESULTS_BGR_PLOT_THRESHOLD": Renamed("detector.draw.score_threshold"),
    "TRAIN.USE_FLIPPED": Renamed("train.flip"),
    "TRAIN_CONV_LAYERS": Renamed("train.train_backbone"),
    "TRAIN.RPN_POSITIVE_OVERLAP": Renamed("train.rpn.positive_iou"),
    "TRAIN.RPN_NEGATIVE_OVERLAP": Renamed("train.rpn.negative_iou"),
    "TRAIN.RPN_CLOBBER_POSITIVES": Renamed("train.rpn.clobber_positives"),
    "TRAIN.RPN_FG_FRACTION": Renamed("train.rpn.positive_fraction"),
    "TRAIN.RPN_BATCHSIZE": Renamed("train.rpn.sample_size"),
    "TRAIN.RPN_NMS_THRESH": Renamed("detector.train_proposals.nms_threshold"),
    "TRAIN.RPN_PRE_NMS_TOP_N": Renamed("detector.train_proposals.pre_nms_top_n"),
    "TRAIN.RPN_POST_NMS_TOP_N": Renamed("detector.train_proposals.post_nms_top_n"),
    "TRAIN.RPN_MIN_SIZE": Renamed("detector.train_proposals.min_size"),
    "TEST.RPN_NMS_THRESH": Renamed("detector.test_proposals.nms_threshold"),
    "TEST.RPN_PRE_NMS_TOP_N": Renamed("detector.test_proposals.pre_nms_top_n"),
    "TEST.RPN_POST_NMS_TOP_N": Renamed("detector.test_proposals.post_nms_top_n"),
    "TEST.RPN_MIN_SIZE": Renamed("detector.test_proposals.min_size"),
    "NUM_ROI_PROPOSALS": Renamed("train.roi.sample_size"),
    "TRAIN.FG_FRACTION": Renamed("train.roi.positive_fraction"),
    "TRAIN.FG_THRESH": Renamed("train.roi.positive_iou"),
    "TRAIN.BG_THRESH_HI": Renamed("train.roi.negative_iou_high"),
    "TRAIN.BG_THRESH_LO": Renamed("train.roi.negative_iou_low"),
    "BBOX_NORMALIZE_TARGETS": Renamed("detector.box_deltas", _normalize),
    "BBOX_NORMALIZE_MEANS": Renamed("detector.box_deltas.means"),
    "BBOX_NORMALIZE_STDS": Renamed("detector.box_deltas.stds"),
    "DATA.DATASET": Renamed("data.name"),
    "DATA.MAP_FILE_PATH": Renamed("data.path"),
    "DATA.CLASS_MAP_FILE": Renamed("data.class_map_file"),
    "DATA.TRAIN_MAP_FILE": Renamed("data.train_map_file"),
    "DATA.TRAIN_ROI_FILE": Renamed("data.train_roi_file"),
    "DATA.TEST_MAP_FILE": Renamed("data.test_map_file"),
    "DATA.TEST_ROI_FILE": Renamed("data.test_roi_file"),
    "DATA.NUM_TRAIN_IMAGES": Renamed("data.num_train_images"),
    "DATA.NUM_TEST_IMAGES": Renamed("data.num_test_images"),
    "DATA.PROPOSAL_LAYER_SCALES": Renamed("detector.anchors.scales"),
    "MODEL.BASE_MODEL": Renamed("base_model.name", _preset),
    "MODEL.BASE_MODEL_FILE": Renamed("base_model.weights"),
    "MODEL.IMG_PAD_COLOR": Renamed("base_model.mean", _bgr_to_rgb),
    "MODEL.FEATURE_NODE_NAME": Renamed("base_model.input_node"),
    "MODEL.LAST_CONV_NODE_NAME": Renamed("base_model.last_conv_node"),
    "MODEL.START_TRAIN_CONV_NODE_NAME": Renamed("base_model.freeze_before"),
    "MODEL.POOL_NODE_NAME": Renamed("base_model.pool_node"),
    "MODEL.LAST_HIDDEN_NODE_NAME": Renamed("base_model.last_hidden_node"),
    "MODEL.FEATURE_STRIDE": Renamed("base_model.stride"),
    "MODEL.RPN_NUM_CHANNELS": Renamed("base_model.rpn_channels"),
    "MODEL.ROI_DIM": Renamed("base_model.roi_size"),
}
