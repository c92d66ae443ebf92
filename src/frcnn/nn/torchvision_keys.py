"""Convert the keys of torchvision's state dicts to ours (`translated` also others); the names of COCO's classes.

In torchvision's files, `backbone.body` is the classifier (of MobileNets its `features` alone), `backbone.fpn` the
pyramid, and `rpn.head` and `roi_heads` are the two heads. Files from before 2022 lack the number of some layers in
their block ("rpn.head.conv.weight").
"""

import re
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from frcnn.messages import plural

DETECTOR_KEY = "roi_heads.box_predictor.cls_score.weight"
"""A key that every Faster R-CNN of torchvision has, and no other model."""

_COCO_LABELS = 90
_UNUSED = "unused "

_RULES = (
    (r"backbone\.body\.(\d.*)", r"backbone.conv_layers.features.\1"),
    (r"backbone\.body\.(.*)", r"backbone.conv_layers.\1"),
    (r"backbone\.fpn\.inner_blocks\.(\d+)\.(weight|bias)", r"backbone.pyramid.lateral.\1.0.\2"),
    (r"backbone\.fpn\.inner_blocks\.(.*)", r"backbone.pyramid.lateral.\1"),
    (r"backbone\.fpn\.layer_blocks\.(\d+)\.(weight|bias)", r"backbone.pyramid.smooth.\1.0.\2"),
    (r"backbone\.fpn\.layer_blocks\.(.*)", r"backbone.pyramid.smooth.\1"),
    (r"rpn\.head\.conv\.(weight|bias)", r"rpn.convs.0.\1"),
    (r"rpn\.head\.conv\.(\d+)\.0\.(.*)", r"rpn.convs.\1.\2"),
    (r"rpn\.head\.cls_logits\.(.*)", r"rpn.objectness.\1"),
    (r"rpn\.head\.bbox_pred\.(.*)", r"rpn.deltas.\1"),
    (r"roi_heads\.box_head\.fc6\.(.*)", r"roi_head.fc.0.\1"),
    (r"roi_heads\.box_head\.fc7\.(.*)", r"roi_head.fc.1.\1"),
    (r"roi_heads\.box_head\.(\d)\.([01]\..*)", r"roi_head.convs.\1.\2"),
    (r"roi_heads\.box_head\.\d\.(weight|bias)", r"roi_head.fc.0.\1"),
    (r"roi_heads\.box_predictor\.cls_score\.(.*)", r"roi_head.logits.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(.*)", r"roi_head.deltas.\1"),
)


def from_torchvision_keys(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our keys; unknown keys stay."""
    return {translated(key, _RULES): tensor for key, tensor in state_dict.items()}


def translated(key: str, rules: Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]) -> str:
    """Our key for one of another library. An unknown key stays, and is reported where the weights are loaded.

    Args:
        rules: pairs of a pattern, which must match the whole key, and our key (a template, or a function of the match).
            The first pattern that matches counts.
    """
    for pattern, replacement in rules:
        if match := re.fullmatch(pattern, key):
            return match.expand(replacement) if isinstance(replacement, str) else replacement(match)
    return key


def label_names(count: int) -> tuple[str, ...]:
    """COCO's names for 90 labels; for another number of labels the names are not known: "label 1", "label 2", ..."""
    return coco_classes() if count == _COCO_LABELS else tuple(f"label {label}" for label in range(1, count + 1))


def class_names(classes: Sequence[str] | None, count: int, *, unused: bool) -> tuple[str, ...]:
    """The names of the classes of foreign weights.

    Args:
        classes: names, in order; None: those of COCO.
        count: classes of the weights.
        unused: COCO's 90 labels, as torchvision counts them; False: its 80 classes.

    Raises:
        ValueError: there are not as many names as classes, or a name is empty or there twice.
    """
    if classes is None:
        coco = coco_classes()
        names = tuple(name for name in coco if unused or not name.startswith(_UNUSED))
        if count != len(names):
            have = plural(count, "class", "classes")
            raise ValueError(f"the weights have {have}, COCO has {len(names)}; name the classes, in order")
        return names
    names = tuple(classes)
    if len(names) != count:
        counts = f"{plural(len(names), 'name')}, but the weights have {plural(count, 'class', 'classes')}"
        raise ValueError(f"classes: {counts}; name them all, in order")
    wrong = next((name for name in names if not name or names.count(name) > 1), None)
    if wrong is not None:
        raise ValueError(f"classes: the name '{wrong}' is empty or there twice; each class needs a name of its own")
    return names


def coco_classes() -> tuple[str, ...]:
    """The names of COCO's classes by torchvision's labels, from 1.

    Ten of the 90 labels were never used; their names are "unused 12" and so on.
    """
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]
    return tuple(f"{_UNUSED}{label}" if name == "N/A" else name for label, name in enumerate(names, start=1))
