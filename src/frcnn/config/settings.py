"""Every setting, with its default, its range and one line on what it does.

The descriptions are the comments that `frcnn config` prints; `docs/parameters.md` maps the names of CNTK's
tutorial to these.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Rgb = tuple[float, float, float]


GROUPS = 32
"""Of group norm: Wu & He 2018, arXiv:1803.08494."""


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, int | float | str) and not isinstance(value, bool) else value


PositiveList = Annotated[tuple[Positive, ...], BeforeValidator(_listed), Field(min_length=1)]
"""A single number is a list of one."""
NodeList = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
"""A single name is a list of one."""


def _set(default: Any, description: str) -> Any:
    return Field(default=default, description=description)


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class BaseModelSettings(Settings):
    """The classifier that the detector is made of, and where it is cut."""

    name: str = _set("efficientnet_lite0", "name of the preset, or of your own base model")
    architecture: str = _set("timm:efficientnet_lite0", "torchvision:NAME or timm:NAME; built there, not written again")
    input_node: str | None = _set(None, "node whose output is the input; empty: the model's own input")
    last_conv_node: NodeList = _set(
        ("blocks.4",), "node whose output is the feature map; several, finest first: a feature pyramid of their outputs"
    )
    train_from_node: str | None = _set(
        None, "first node whose conv layers are trained, those before it are fixed; empty: all are trained"
    )
    pool_node: str | None = _set(
        None, "pooling node that RoI pooling replaces; empty: RoI pooling comes after last_conv_node"
    )
    last_hidden_node: str | None = _set(
        None, "last node of the base model that the RoI head keeps; empty: none of its layers after pooling"
    )
    conv_channels: tuple[Count, ...] = _set((), "channels of new 3x3 convolutions in the RoI head")
    fc_channels: tuple[Count, ...] = _set(
        (1024, 1024), "widths of new fully connected layers at the end of the RoI head"
    )
    stride: Count | None = _set(None, "input pixels per cell of the (finest) feature map; empty: measured")
    offset: Fraction | None = _set(
        None, "where in its cell of stride pixels a feature looks: 0 corner, 0.5 centre; empty: measured"
    )
    pyramid_channels: Count = _set(256, "channels of every level of a feature pyramid")
    rpn_channels: Count = _set(256, "channels of the RPN's 3x3 convolutions")
    rpn_convs: Count = _set(1, "3x3 convolutions of the RPN")
    roi_pooling: Literal["align", "max"] = _set("align", "RoIAlign, or the RoI max pooling of the tutorial")
    roi_size: Count = _set(7, "cells per side of a pooled RoI")
    roi_samples: Count | None = _set(
        None, "RoIAlign: samples per bin and direction; empty: as dense as the feature map (torchvision's detectors: 2)"
    )
    roi_min_side: NotNegative = _set(
        0.0, "cells; RoIs smaller than this are pooled as if they were so large (torchvision's detectors: 1)"
    )
    dropout: Fraction | None = _set(
        None, "probability of dropout in the RoI head; empty: as the base model has it, none after new layers"
    )
    norm: Literal["none", "batch", "group"] = _set(
        "none", "normalisation after the new conv layers (those of a pyramid, and conv_channels)"
    )
    freeze_batch_norm: bool = _set(True, "keep statistics, scale and shift of pretrained batch norm as they are")
    batch_norm_eps: NotNegative | None = _set(
        None, "added to batch norm's variance; empty: the base model's own (torchvision's detectors differ from it)"
    )
    mean: Rgb = _set((123.675, 116.28, 103.53), "RGB, 0..255: subtracted from the image, and the colour of padding")
    std: Rgb = _set((58.395, 57.12, 57.375), "RGB, 0..255: the image is divided by it")
    weights: str | None = _set(
        None, "file with weights of the base model or a detector; 'none': random; empty: the first source that has them"
    )
    weights_package: str | None = _set(None, "installed Python package that carries the weights")
    weights_url: str | None = _set(None, "where the weights can be downloaded")
    weights_keys: Literal["names", "order"] = _set(
        "names", "how tensors in the package find their places: by name, or by order and shape"
    )
    coco_url: str | None = _set(None, "where weights of the whole detector, trained on COCO, can be downloaded")


class ImageSettings(Settings):
    """How an image becomes the detector's input."""

    resize: Literal["fit", "shorter_side"] = _set(
        "fit", "fit: scale to fit width x height, and pad; shorter_side: the paper's rule"
    )
    width: Count = _set(850, "pixels (fit)")
    height: Count = _set(850, "pixels (fit)")
    shorter_side: Count = _set(600, "pixels (shorter_side)")
    longer_side: Count = _set(1000, "at most so many pixels (shorter_side)")
    divisor: Count = _set(1, "frames are padded to a multiple of so many pixels (shorter_side)")
    interpolation: Literal["antialias", "point"] = _set(
        "antialias",
        "antialias: whole pixels averaged when shrinking; point: bilinear at points, as torchvision's detectors do",
    )


class AnchorSettings(Settings):
    """The boxes that the RPN starts from."""

    base_size: Positive | None = _set(16.0, "pixels; empty: the stride of the feature map, so each level has its own")
    scales: PositiveList = _set(
        (8.0, 16.0, 32.0), "sides of the square anchors, times base_size; fit them to your objects"
    )
    aspect_ratios: PositiveList = _set((0.5, 1.0, 2.0), "height / width")
    rounded: bool = _set(False, "sides rounded to whole pixels, as torchvision's detectors do")
    spacing: Literal["stride", "frame"] = _set(
        "stride", "pixels between anchors: the stride, or frame size // map size, as torchvision's detectors do"
    )


class ProposalSettings(Settings):
    """From the RPN's output to proposals."""

    nms_iou: Fraction = _set(0.7, "NMS threshold")
    pre_nms_top_n: Count = _set(6000, "boxes kept before NMS, on each level of a pyramid")
    post_nms_top_n: Count = _set(300, "boxes kept after NMS")
    min_size: NotNegative = _set(16.0, "least width and height, pixels of the original image")
    drop_small: Literal["first", "after_top_n"] = _set(
        "first", "when boxes under min_size are dropped: first, or after pre_nms_top_n (as torchvision's detectors do)"
    )
    min_score: Fraction = _set(0.0, "boxes with less objectness are dropped")


class TrainProposalSettings(ProposalSettings):
    """From the RPN's output to proposals, in training."""

    pre_nms_top_n: Count = _set(12000, "boxes kept before NMS, on each level of a pyramid")
    post_nms_top_n: Count = _set(2000, "boxes kept after NMS")


class BoxDeltaSettings(Settings):
    """How the RoI head's box targets are normalised."""

    normalize: bool = _set(True, "use the means and standard deviations below")
    means: tuple[float, float, float, float] = _set((0.0, 0.0, 0.0, 0.0), "of dx, dy, dw, dh")
    stds: tuple[Positive, Positive, Positive, Positive] = _set((0.1, 0.1, 0.2, 0.2), "of dx, dy, dw, dh")


class ResultSettings(Settings):
    """From the RoI head's output to detections, and how they are measured."""

    nms_iou: Fraction = _set(0.5, "NMS threshold within a class")
    min_score: Fraction = _set(0.0, "detections under this score are background")
    min_size: NotNegative = _set(0.0, "least width and height of a detection, input pixels")
    max_detections: Count = _set(100, "at most so many per image")
    ap_iou: Annotated[float, Field(gt=0, le=1)] = _set(
        0.5, "a detection is right if its IoU with an object is at least this"
    )
    ap_11_point: bool = _set(False, "Pascal VOC 2007's 11-point AP instead of the area under the curve")


class DrawSettings(Settings):
    """Pictures of detections; they change nothing else."""

    save: bool = _set(True, "save the images with the boxes drawn")
    min_score: Fraction = _set(0.5, "boxes under this score are background")
    background: bool = _set(False, "also draw background boxes")
    unregressed: bool = _set(False, "also draw the RoIs before regression")


class DetectorSettings(Settings):
    """The detector itself: everything that is needed to run it, apart from its weights."""

    image: ImageSettings = ImageSettings()
    anchors: AnchorSettings = AnchorSettings()
    train_proposals: TrainProposalSettings = TrainProposalSettings()
    test_proposals: ProposalSettings = ProposalSettings()
    box_deltas: BoxDeltaSettings = BoxDeltaSettings()
    results: ResultSettings = ResultSettings()
    draw: DrawSettings = DrawSettings()


class DataSettings(Settings):
    """Which images, and which of them."""

    name: str | None = _set(None, "of the data set; empty: the folder's name")
    path: str | None = _set(None, "its folder, where the command line names none")
    format: str | None = _set(None, "of the folder, e.g. coco; empty: found by looking")
    split: tuple[Fraction, Fraction, Fraction] | None = _set(
        None,
        "shares for training, validation and test, e.g. [0.8, 0.1, 0.1], drawn by class, images that are alike "
        "together; empty: the folder's own sets",
    )
    split_seed: int = _set(0, "another number draws another split")
    class_map_file: str = _set("class_map.txt", "map files: class names and numbers")
    train_map_file: str = _set("train_img_file.txt", "map files: training images")
    train_roi_file: str = _set("train_roi_file.txt", "map files: their boxes")
    test_map_file: str = _set("test_img_file.txt", "map files: test images")
    test_roi_file: str = _set("test_roi_file.txt", "map files: their boxes")
    train_set: str | None = _set(
        None,
        "the set to train on, e.g. train2017; empty: trainval where there is a test set, else train, or the only set",
    )
    val_set: str | None = _set(None, "the set to validate on while training; empty: see val_fraction")
    test_set: str | None = _set(None, "the set to measure on, e.g. val2017; empty: test, or val where there is none")
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = _set(
        0.0, "share of the training images to validate on instead of training on it, drawn as in split"
    )
    num_train_images: Count | None = _set(None, "use the first so many training images; empty: all")
    num_test_images: Count | None = _set(None, "use the first so many test images; empty: all")
    use_negative: bool = _set(True, "train also on the images of the folder negative/, which hold no objects")
    max_boxes: Count | None = _set(None, "more boxes in one image are an error; empty: no limit")

    @model_validator(mode="after")
    def _whole(self) -> "DataSettings":
        if self.split is not None and (abs(sum(self.split) - 1) > 1e-6 or self.split[0] == 0):
            raise ValueError(
                f"data.split {list(self.split)}: the shares for training, validation and test must sum to 1, and that "
                f"for training must not be 0"
            )
        return self

    workers: Annotated[int, Field(ge=0)] = _set(1, "threads that read images ahead; 0: none")


class RpnTrainSettings(Settings):
    """Which anchors train the RPN, and its losses."""

    fg_iou: Fraction = _set(0.7, "an anchor with this IoU or more is positive")
    bg_iou: Fraction = _set(0.3, "an anchor with less is negative")
    inside_only: bool = _set(True, "anchors that cross the image's border do not train")
    clobber_positives: bool = _set(False, "an anchor that is both becomes negative")
    fg_fraction: Fraction = _set(0.5, "largest share of positive anchors in the sample")
    sample_size: Count = _set(256, "anchors sampled per image")
    sigma: Positive = _set(3.0, "of the smooth L1 loss")


class RoiTrainSettings(Settings):
    """Which RoIs train the RoI head, and its losses."""

    sample_size: Count = _set(128, "RoIs sampled per image")
    fg_fraction: Fraction = _set(0.25, "largest share of foreground RoIs in the sample")
    fg_iou: Fraction = _set(0.5, "a RoI with this IoU or more is foreground")
    bg_iou_high: Fraction = _set(0.5, "background: IoU in [bg_iou_low, bg_iou_high)")
    bg_iou_low: Fraction = _set(0.0, "background: IoU in [bg_iou_low, bg_iou_high)")
    sigma: Positive = _set(1.0, "of the smooth L1 loss")


class TrainSettings(Settings):
    """How the detector is trained."""

    scheme: Literal["end_to_end", "alternating"] = _set("end_to_end", "train all parts at once, or in 4 steps")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = _set(3, "of everything random")
    device: Literal["auto", "cpu", "cuda"] = _set("auto", "auto: cuda where there is one")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = _set(
        "auto", "of the layers in training; auto: bf16 where the processor has it natively, else fp32"
    )
    deterministic: bool = _set(False, "use deterministic algorithms only")
    skip_if_trained: bool = _set(False, "do not train if the RUN holds a trained model already")
    fast: bool = _set(False, "one epoch (of each step) on a few images only, to check the set-up")
    checkpoint_seconds: NotNegative = _set(120.0, "at least so long between checkpoints; 0: one after every step")
    validate_every: Count | None = _set(
        None, "epochs between measurements on the validation images; the best weights are kept; empty: none"
    )
    patience: Count | None = _set(None, "stop after so many measurements without a better one; empty: never")
    logger: Literal["none", "tensorboard"] = _set("none", "where metrics go besides metrics.jsonl")
    epochs: Count = _set(20, "passes over the training images")
    batch_size: Count = _set(1, "images that go through the detector at once, in each process")
    accumulate: Count = _set(1, "batches in a step: their gradients are averaged")
    lr: PositiveList = _set(
        (0.001,) * 10 + (0.0001,) * 10 + (0.00001,),
        "learning rate of each epoch, times the images in a step; the last one goes on",
    )
    lr_decay: Literal["none", "cosine"] = _set(
        "none", "cosine: the rates above also fall along a half cosine to 0 at the end of training"
    )
    warmup_steps: Annotated[int, Field(ge=0)] | None = _set(
        None, "steps in which the rate rises to its value; empty: 50 where a step has several images, else none"
    )
    new_layers_lr_mult: Positive = _set(1.0, "learning-rate multiplier of layers without pretrained weights")
    momentum: Annotated[float, Field(ge=0, lt=1)] = _set(0.9, "of SGD")
    weight_decay: NotNegative = _set(0.0005, "L2 regularisation of weights and biases")
    bias_lr_mult: Positive = _set(2.0, "learning-rate multiplier of every bias")
    clip_norm: Positive | None = _set(None, "largest norm of the whole gradient; empty: no limit")
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = _set(
        None, "decay of an exponential moving average of the weights, which takes their place, e.g. 0.999; empty: none"
    )
    conv_layers: bool = _set(True, "train the base model's conv layers too, or keep them fixed")
    flip: bool = _set(True, "mirror all images every other epoch")
    rpn: RpnTrainSettings = RpnTrainSettings()
    roi: RoiTrainSettings = RoiTrainSettings()
    rpn_epochs: Count = _set(16, "alternating: epochs of an RPN step")
    rpn_lr: PositiveList = _set((0.001,) * 12 + (0.0001,) * 4, "alternating: rate of each such epoch")
    roi_epochs: Count = _set(8, "alternating: epochs of a detector step")
    roi_lr: PositiveList = _set((0.001,) * 6 + (0.0001,) * 2, "alternating: rate of each such epoch")
    restart_rpn: bool = _set(
        False,
        "alternating: step 3's RPN begins again (the authors' code) instead of going on from step 1 (the tutorial)",
    )
    draw_graph: bool = _set(False, "pictures of the training model's and the evaluation model's graph in the RUN")
    graph_type: Literal["png", "pdf"] = _set("png", "of those pictures")
    export_native: bool = _set(False, "also store model.onnx in the RUN, which runs without Python")

    @model_validator(mode="after")
    def _possible(self) -> "TrainSettings":
        if self.patience is not None and self.validate_every is None:
            raise ValueError("train.patience counts measurements, and there are none; set train.validate_every too")
        return self


class Config(Settings):
    """All settings."""

    base_model: BaseModelSettings = BaseModelSettings()
    detector: DetectorSettings = DetectorSettings()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        rpn, roi = self.train.rpn, self.train.roi
        if rpn.bg_iou > rpn.fg_iou:
            raise ValueError(
                f"train.rpn.bg_iou ({rpn.bg_iou}) must not be greater than train.rpn.fg_iou ({rpn.fg_iou})"
            )
        if roi.bg_iou_low > roi.bg_iou_high:
            raise ValueError(
                f"train.roi.bg_iou_low ({roi.bg_iou_low}) must not be greater than "
                f"train.roi.bg_iou_high ({roi.bg_iou_high})"
            )
        base = self.base_model
        if any(part <= 0 for part in base.std):
            raise ValueError(f"base_model.std ({base.std}) must be positive")
        if base.norm != "none" and len(base.last_conv_node) == 1 and not base.conv_channels:
            raise ValueError(
                f"base_model.norm {base.norm}: there is no new conv layer that it could follow; take a feature pyramid "
                f"(NAME-fpn), or give the head some in base_model.conv_channels"
            )
        if base.norm == "group":
            for key, channels in (
                ("pyramid_channels", (base.pyramid_channels,)),
                ("conv_channels", base.conv_channels),
            ):
                if any(count % GROUPS for count in channels):
                    raise ValueError(f"base_model.{key} {list(channels)}: group norm needs multiples of {GROUPS}")
        return self
