"""What configs and weights of detectron2 and mmdetection have in common."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def foreign_values(library: str) -> Iterator[None]:
    """Errors about the types and names of values become one that says what is wrong.

    Raises:
        ValueError: the block met a value of another type, or a tensor or setting is missing.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError) as error:
        raise ValueError(
            f"the config or the weights are damaged, or not those of {library} ({type(error).__name__}: {error}); give "
            f"the files that {library} wrote"
        ) from None


def as_lists(value: Any) -> Any:
    """Tuples as lists, and mappings of any kind as dictionaries with text as keys; at every depth."""
    if isinstance(value, Mapping):
        return {str(key): as_lists(each) for key, each in value.items()}
    return [as_lists(each) for each in value] if isinstance(value, list | tuple) else value


def for_rgb(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reverse the input channels of a ResNet's first convolution: weights trained on BGR images take RGB images."""
    stem = "backbone.conv_layers.conv1.weight"
    return {**tensors, stem: tensors[stem].flip(1)}


def background_first(tensors: Mapping[str, Tensor], *, box_per_class: bool) -> dict[str, Tensor]:
    """The rows of the last layers in our order: background is the first class, not the last. Class-specific boxes have
    rows for the background too, which are never used.

    Args:
        box_per_class: whether boxes are class-specific; the rows do not tell where there is one class.
    """
    moved = dict(tensors)
    for part in ("weight", "bias"):
        logits, deltas = moved[f"roi_head.logits.{part}"], moved[f"roi_head.deltas.{part}"]
        moved[f"roi_head.logits.{part}"] = logits.roll(1, 0)
        if box_per_class and len(deltas) == 4 * (len(logits) - 1):
            moved[f"roi_head.deltas.{part}"] = torch.cat((torch.zeros_like(deltas[:4]), deltas))
    return moved
