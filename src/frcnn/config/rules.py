"""The two values of `detector.rules`, paper and torchvision, as data: what the paper leaves open."""

from typing import NamedTuple


class Rules(NamedTuple):
    """The choices that the paper leaves open, or that implementations make differently."""

    antialias: bool
    """Resizing averages all pixels when it shrinks an image. False: bilinear without antialiasing, from four pixels and
    not rounded; sizes are truncated instead of rounded."""
    divisor: int
    """Frames are padded to multiples of so many pixels."""
    batch_norm_eps: float | None
    """Of the base model's batch norm; None: as the base model has it."""
    offset: float | None
    """Where in its cell a feature is centered, and an anchor with it: 0 upper left corner, 0.5 center; None: where the
    layers' kernels and padding put it."""
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
    min_detection_size: float
    """Least width and height of a detection, input pixels."""


PAPER = Rules(
    antialias=True,
    divisor=1,
    batch_norm_eps=None,
    offset=None,
    rounded_anchors=False,
    anchor_spacing="stride",
    drop_small="first",
    sampling_ratio=None,
    roi_min_cells=0.0,
    min_detection_size=0.0,
)
TORCHVISION = Rules(
    antialias=False,
    divisor=32,
    batch_norm_eps=1e-5,
    offset=0.0,
    rounded_anchors=True,
    anchor_spacing="frame",
    drop_small="after_top_n",
    sampling_ratio=2,
    roi_min_cells=1.0,
    min_detection_size=0.01,
)

RULES = {"paper": PAPER, "torchvision": TORCHVISION}
