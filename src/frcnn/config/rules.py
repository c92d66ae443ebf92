"""What each value of `detector.rules` stands for: the details that the paper leaves open, as frcnn (`paper`) and three
libraries choose them."""

from typing import NamedTuple


class Rules(NamedTuple):
    """The choices that the paper leaves open, or that implementations make differently."""

    antialias: bool
    """Resizing averages all pixels when it shrinks an image. False: bilinear without antialiasing, from four pixels and
    not rounded."""
    fixed_point: bool
    """Without antialiasing: resizing in whole numbers, as OpenCV."""
    rounding: str
    """How the sides of a resized image become whole numbers, see `frcnn.resizing.Resizing`."""
    reduced_decoding: bool
    """With antialiasing, a large JPEG may be decoded at a fraction of its size."""
    divisor: int
    """Frames are padded to multiples of this number of pixels."""
    batch_norm_eps: float | None
    """Of the base model's batch norm; None: as the base model has it."""
    offset: float | None
    """Where in its cell a feature is centered, and an anchor with it: 0 upper left corner, 0.5 center; None: where the
    layers' kernels and padding put it."""
    roi_offset: float | None
    """Where in its cell RoI pooling takes a feature to be centered; None: at `offset`."""
    rounded_anchors: bool
    """Sides of anchors are whole pixels."""
    anchor_spacing: str
    """Pixels between anchors: "stride", or "frame": frame size // map size."""
    drop_small: str
    """When boxes under min_size are dropped: "first", or "after_top_n": after pre_nms_top_n."""
    sampling_ratio: int | None
    """RoIAlign: samples per bin and direction; None: as dense as the feature map."""
    roi_min_cells: float
    """Cells; smaller RoIs are pooled as if they were so large."""
    limits_shrinking: bool
    """No side of a box shrinks more than 62.5-fold. (With all rules, none grows more than that.)"""
    min_detection_size: float
    """Least width and height of a detection, input pixels."""


PAPER = Rules(
    antialias=True,
    fixed_point=False,
    rounding="even",
    reduced_decoding=True,
    divisor=1,
    batch_norm_eps=None,
    offset=None,
    roi_offset=None,
    rounded_anchors=False,
    anchor_spacing="stride",
    drop_small="first",
    sampling_ratio=None,
    roi_min_cells=0.0,
    limits_shrinking=False,
    min_detection_size=0.0,
)
TORCHVISION = Rules(
    antialias=False,
    fixed_point=False,
    rounding="down",
    reduced_decoding=True,
    divisor=32,
    batch_norm_eps=1e-5,
    offset=0.0,
    roi_offset=None,
    rounded_anchors=True,
    anchor_spacing="frame",
    drop_small="after_top_n",
    sampling_ratio=2,
    roi_min_cells=1.0,
    limits_shrinking=False,
    min_detection_size=0.01,
)

# After detectron2's source; not compared with detectron2 itself.
DETECTRON2 = Rules(
    antialias=True,
    fixed_point=False,
    rounding="detectron2",
    reduced_decoding=False,
    divisor=32,
    batch_norm_eps=1e-5,
    offset=0.0,
    roi_offset=0.5,
    rounded_anchors=False,
    anchor_spacing="stride",
    drop_small="after_top_n",
    sampling_ratio=None,
    roi_min_cells=0.0,
    limits_shrinking=False,
    min_detection_size=1e-6,
)

# After mmdetection's source; not compared with mmdetection itself.
MMDETECTION = DETECTRON2._replace(antialias=False, fixed_point=True, rounding="half_up", limits_shrinking=True)

RULES = {"paper": PAPER, "torchvision": TORCHVISION, "detectron2": DETECTRON2, "mmdetection": MMDETECTION}
