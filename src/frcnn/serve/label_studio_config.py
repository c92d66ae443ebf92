"""The labeling interface of a Label Studio project: which labels its boxes may have. It is XML that a client sends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from xml.etree import ElementTree

from frcnn.messages import short

_MAX_CHARACTERS = 200_000
_MAX_DEPTH = 60


class Label(NamedTuple):
    """A label of a box."""

    value: str
    """As results have it."""
    control: str
    """Name of the tag that has the label."""
    rectangle: str | None
    """Name of the tag Rectangle, which draws boxes for tags Labels; None: the control is RectangleLabels."""


@dataclass(frozen=True)
class Interface:
    """What of a labeling interface concerns boxes in one image."""

    image: str
    """Name of the tag Image."""
    key: str
    """Of the data of a task: it has the image's address."""
    labels: dict[str, Label]
    """By value and by alias."""
    lower: dict[str, Label]
    """The same, all in lower case."""

    def label_of(self, name: str) -> Label | None:
        """The label of a class: of the same name, else of the same name without regard to case; None: there is none."""
        return self.labels.get(name) or self.lower.get(name.casefold())

    def without_label(self, names: Iterable[str]) -> list[str]:
        """The classes that have no label."""
        return [name for name in names if self.label_of(name) is None]


def read_interface(config: object) -> Interface:
    """Read a labeling interface.

    Raises:
        ValueError: it is not XML, or has no labels for boxes in an image.
    """
    root = _parse(config)
    elements = [each for each in root.iter() if isinstance(each.tag, str)]
    images = {each.get("name", ""): each.get("value", "") for each in elements if each.tag.lower() == "image"}
    rectangles = {each.get("toName"): each.get("name") for each in elements if each.tag.lower() == "rectangle"}
    controls: dict[str | None, list[ElementTree.Element]] = {}
    for element in elements:
        controls.setdefault(element.get("toName"), []).append(element)
    for image, address in images.items():
        labels: dict[str, Label] = {}
        for control in controls.get(image, ()):
            tag, name = control.tag.lower(), control.get("name")
            if not name:
                continue
            if tag == "rectanglelabels":
                _add(labels, control, name, None)
            elif tag == "labels" and rectangles.get(image):
                _add(labels, control, name, rectangles[image])
        if labels:
            if not address.startswith("$") or len(address) < 2:
                raise ValueError(f'The labeling interface has <Image value={short(address)}>; it needs value="$NAME".')
            lower = {name.casefold(): label for name, label in reversed(labels.items())}  # the first one counts
            return Interface(image, address[1:], labels, lower)
    raise ValueError(
        "The labeling interface has no labels for boxes in an image: it needs <Image> with <RectangleLabels>, or with "
        "<Rectangle> and <Labels>, and in them a <Label> for each class."
    )


def _parse(config: object) -> ElementTree.Element:
    if not isinstance(config, str) or not config:
        raise ValueError("The request has no labeling interface.")
    if len(config) > _MAX_CHARACTERS:
        raise ValueError(f"The labeling interface has more than {_MAX_CHARACTERS} characters.")
    if "<!DOCTYPE" in config or "<!ENTITY" in config:
        raise ValueError("The labeling interface has <!DOCTYPE> or <!ENTITY>, which are not read; remove them.")
    try:
        root = ElementTree.XML(config)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"The labeling interface is not valid XML ({error}).") from None
    level, depth = [root], 0
    while level:
        level, depth = [child for element in level for child in element], depth + 1
        if depth > _MAX_DEPTH:
            raise ValueError(f"The labeling interface nests more than {_MAX_DEPTH} levels deep.")
    return root


def _add(labels: dict[str, Label], control: ElementTree.Element, name: str, rectangle: str | None) -> None:
    for child in control.iter():
        if isinstance(child.tag, str) and child.tag.lower() == "label":
            value, alias = child.get("value"), child.get("alias")
            for known in (value, alias):
                if known:
                    labels.setdefault(known, Label(alias or known, name, rectangle))
