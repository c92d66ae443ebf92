"""Anchors of other libraries as our settings."""

from collections.abc import Sequence
from typing import Any

BASE_SIZE = 16.0


def anchor_settings(
    sizes: Sequence[Sequence[float]], ratios: Sequence[Sequence[float]], strides: Sequence[float]
) -> dict[str, Any]:
    """The settings of anchors that are given level by level, by dotted name.

    Args:
        sizes: of each level, finest first: sides of the square anchors, input pixels.
        ratios: of each level: height / width.
        strides: of each level, input pixels per cell.

    Raises:
        ValueError: our settings cannot describe these anchors.
    """
    if not len(sizes) == len(ratios) == len(strides):
        raise ValueError(
            f"anchors: sizes for {len(sizes)} and aspect ratios for {len(ratios)} feature maps, but the model has "
            f"{len(strides)}; each map needs its own"
        )
    if any(list(one) != list(ratios[0]) for one in ratios):
        raise ValueError(f"anchors: aspect ratios {_listed(ratios)}: they must be the same on all feature maps")
    first = [size / strides[0] for size in sizes[0]]
    if all(list(one) == list(sizes[0]) for one in sizes):
        base, scales = BASE_SIZE, [size / BASE_SIZE for size in sizes[0]]
    elif all([size / stride for size in one] == first for one, stride in zip(sizes, strides, strict=True)):
        base, scales = None, first
    else:
        raise ValueError(
            f"anchors: sizes {_listed(sizes)} on maps of stride {list(strides)}: they must be the same on all feature "
            f"maps, or the same multiples of the stride"
        )
    return {
        "detector.anchors.base_size": base,
        "detector.anchors.scales": scales,
        "detector.anchors.aspect_ratios": list(ratios[0]),
    }


def _listed(values: Sequence[Sequence[float]]) -> list[list[float]]:
    return [list(one) for one in values]
