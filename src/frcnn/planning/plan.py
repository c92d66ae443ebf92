"""The plan: settings chosen from a fingerprint of the data, each with its reason."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from frcnn.config import Config, make_config, set_names, with_settings
from frcnn.data.dataset import Dataset
from frcnn.data.images import image_size
from frcnn.data.records import Record
from frcnn.messages import plural
from frcnn.planning import choices
from frcnn.planning.anchors import fitted_anchors
from frcnn.planning.choices import Choice
from frcnn.planning.fingerprint import Fingerprint, fingerprint


class Plan(NamedTuple):
    """What `make_plan` chose. `print(plan)` shows a table; `plan.to_yaml()` is a file for `frcnn train --config`."""

    data: str
    """Name of the data set."""
    fingerprint: Fingerprint
    choices: tuple[Choice, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """All choices, by dotted name."""
        return {name: value for choice in self.choices for name, value in choice.settings.items()}

    def __str__(self) -> str:
        rows = [
            (name, _value(value), choice.because if index == 0 else "")
            for choice in self.choices
            for index, (name, value) in enumerate(choice.settings.items())
        ]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)] if rows else []
        lines = [f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows]
        return "\n".join([f"plan for {self.data}: {_summary(self.fingerprint)}", *(f"  {line}" for line in lines)])

    def to_yaml(self) -> str:
        """The chosen settings as YAML, each with its reason as a comment."""
        head = f"# Plan for {self.data}: {_summary(self.fingerprint)}.\n# Use it: frcnn train DATA --config THIS_FILE\n"
        reasons = {name: choice.because for choice in self.choices for name in choice.settings}
        return head + "\n".join(_yaml_lines(self.settings, reasons)) + "\n"

    def to_json(self) -> str:
        """The fingerprint, and each choice with its reason, as JSON text."""
        found = self.fingerprint._asdict()
        found["classes"] = {name: each._asdict() for name, each in self.fingerprint.classes.items()}
        content = {"data": self.data, "fingerprint": found, "choices": [each._asdict() for each in self.choices]}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def plan(
    data: str | Path,
    *,
    base_model: str | None = None,
    recipe: str | None = None,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Plan:
    """Choose settings that fit the training images of a folder. The same data gives the same plan.

    Args:
        data: folder of images and boxes.
        base_model, recipe, config, settings: as for `frcnn.train`. Settings in `config` and `settings` do not change.

    Raises:
        FileNotFoundError, ValueError: something is wrong with the arguments or the data.
    """
    file = None if config is None else Path(config)
    merged = make_config(base_model=base_model, recipe=recipe, file=file, overrides=settings or {})
    dataset = Dataset(Path(data), merged.data)
    sizes = [image_size(Path(path)) for path in dataset.train.paths]
    return make_plan(dataset.name, dataset.train, sizes, merged, set_names(file, settings or {}))


def make_plan(
    data: str,
    records: Sequence[Record],
    sizes: Sequence[tuple[int, int]],
    config: Config,
    named: Collection[str] = (),
) -> Plan:
    """Choose settings for training images.

    Args:
        data: name of the data set.
        records: the training images, after their boxes were repaired.
        sizes: (height, width) of each image.
        config: all settings so far.
        named: the settings that the user chose, by dotted name; they do not change.

    Raises:
        ValueError: there is no object.
    """
    found = fingerprint(records, sizes)
    made: list[Choice] = []

    def add(choice: Choice | None) -> None:
        nonlocal config
        if choice is None:
            return
        settings = {name: value for name, value in choice.settings.items() if name not in named}
        if settings:
            config = with_settings(config, settings)
            made.append(choice._replace(settings=settings))

    add(choices.input_size(found, config))
    add(fitted_anchors(records, sizes, config))
    for choose in (choices.min_proposal_size, choices.max_detections, choices.proposals, choices.roi_samples):
        add(choose(found, config))
    add(choices.mirror(found))
    return Plan(data, found, tuple(made))


def _summary(found: Fingerprint) -> str:
    objects, classes = plural(found.objects, "object"), plural(len(found.classes), "class", "classes")
    return f"{plural(found.images, 'training image')}, {objects}, {classes}"


def _value(value: Any) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True)).removesuffix("...\n").strip()


def _yaml_lines(settings: dict[str, Any], reasons: dict[str, str]) -> Iterator[str]:
    """Nested, a reason above the first of the settings that share it."""
    groups: tuple[str, ...] = ()
    said = ""
    for name in sorted(settings):
        *parents, last = name.split(".")
        for depth, parent in enumerate(parents):
            if groups[: depth + 1] != tuple(parents[: depth + 1]):
                yield f"{'  ' * depth}{parent}:"
                groups = tuple(parents[: depth + 1])
        groups = tuple(parents)
        pad = "  " * len(parents)
        if reasons[name] != said:
            said = reasons[name]
            yield f"{pad}# {said}"
        yield f"{pad}{last}: {_value(settings[name])}"
