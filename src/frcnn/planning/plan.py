"""The plan: settings chosen from a fingerprint of the data, each with its reason."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from frcnn.config import (
    LOCAL_SETTINGS,
    Config,
    ModelSettings,
    dump,
    flat,
    make_config,
    set_names,
    with_base_model,
    with_settings,
    yaml_value,
)
from frcnn.cores import usable_cores
from frcnn.data.dataset import Dataset
from frcnn.data.image_cache import disk_limit, memory_limit
from frcnn.data.images import decoded_bytes
from frcnn.data.records import Records
from frcnn.data.tiles import count_hidden_objects, in_tiles, size_of
from frcnn.files import as_path
from frcnn.json_text import to_json
from frcnn.messages import plural
from frcnn.nn.model_file import detector_settings
from frcnn.planning import choices
from frcnn.planning.anchors import anchor_recall_of, fitted_anchors
from frcnn.planning.choices import Choice, Machine, quantile
from frcnn.planning.fingerprint import Fingerprint, Quantiles, fingerprint
from frcnn.planning.mirror import mirrored_by_looks
from frcnn.planning.sizes import Sizes, sizes_of

_TILE = "detector.image.tile"
_IMAGE_SIZE = {f"detector.image.{name}" for name in ("resize", "width", "height", "shorter_side", "longer_side")}
_ROI_HEAD = {"base_model.cascade", "base_model.box_per_class"}
"""Settings that only fit together: if one is named, none is chosen."""


class Plan(NamedTuple):
    """What `frcnn.plan` chose. `print(plan)` shows a table; `plan.to_yaml()` is a file for `frcnn train --config`."""

    data: str
    """Name of the data set."""
    fingerprint: Fingerprint
    choices: tuple[Choice, ...]
    config: Config
    """All settings, with the choices."""
    named: tuple[str, ...] = ()
    """The settings that the user chose."""
    warnings: tuple[str, ...] = ()
    """Problems of the data that no setting solves."""

    @property
    def settings(self) -> dict[str, Any]:
        """All choices, by dotted name."""
        return {name: value for choice in self.choices for name, value in choice.settings.items()}

    def within_budget(self, choice: Choice) -> Plan:
        """The plan with the epochs that fit into `train.budget`. They take the place of the budget and of the choice of
        epochs, so that the stored plan trains as many epochs again."""
        others = (each for each in self.choices if not choice.settings.keys() & each.settings.keys())
        named = tuple(name for name in self.named if name != "train.budget")
        config = with_settings(self.config, {**choice.settings, "train.budget": None})
        return self._replace(choices=(*others, choice), config=config, named=named)

    def __str__(self) -> str:
        defaults = flat(dump(make_config()))
        order = list(defaults)
        rows = [
            (name, yaml_value(value), yaml_value(defaults[name]), choice.reason if index == 0 else "")
            for choice in sorted(self.choices, key=lambda choice: order.index(next(iter(choice.settings))))
            for index, (name, value) in enumerate(choice.settings.items())
        ]
        lines = ["nothing to choose: all of these settings are named"]
        if rows:
            rows = [("setting", "value", "default", "because"), *rows]
            widths = [max(len(row[column]) for row in rows) for column in range(3)]
            lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d}".rstrip() for a, b, c, d in rows]
        lines += [f"warning: {each}" for each in self.warnings]
        return "\n".join([f"plan for {self.data}: {_summary(self.fingerprint)}", *(f"  {line}" for line in lines)])

    def to_yaml(self) -> str:
        """The chosen settings as YAML, each with its reason as a comment, and those that the user named."""
        lines = (f"Plan for {self.data}: {_summary(self.fingerprint)}.", *_figures(self.fingerprint))
        head = "".join(f"# {line}\n" for line in (*lines, "Use it: frcnn train DATA --config THIS_FILE"))
        values = flat(dump(self.config))
        settings = {name: values[name] for name in self.named if name in values and name not in LOCAL_SETTINGS}
        reasons = dict.fromkeys(settings, "named, not chosen")
        settings |= self.settings
        reasons |= {name: choice.reason for choice in self.choices for name in choice.settings}
        return head + ("\n".join(_yaml_lines(settings, reasons)) if settings else "{}") + "\n"

    def to_json(self) -> str:
        """The fingerprint, and each choice with its reason, as JSON text."""
        fingerprint = self.fingerprint._asdict()
        fingerprint["classes"] = {name: each._asdict() for name, each in self.fingerprint.classes.items()}
        content = {"data": self.data, "fingerprint": fingerprint, "choices": [each._asdict() for each in self.choices]}
        content["warnings"] = self.warnings
        return to_json(content)


def plan(
    data: str | Path,
    *,
    base_model: str | None = None,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Plan:
    """Choose settings that fit the training images of a folder.

    `frcnn.train` makes the same plan, unless it starts from a trained detector or has a budget.

    The same data gives the same plan, except for `data.cache` and `data.workers`, which depend on the computer.

    Args:
        data: folder of images and boxes.
        base_model, config, settings: as for `frcnn.train`. Settings named there are kept.

    Raises:
        FileNotFoundError, ValueError: something is wrong with the arguments or the data.
    """
    file = None if config is None else Path(config)
    merged = make_config(base_model=base_model, file=file, overrides=settings or {})
    return plan_for(Dataset(as_path(data, "data"), merged.data), merged, set_names(file, settings or {}, base_model))


def plan_for(dataset: Dataset, config: Config, named: Collection[str] = (), *, weights: str | None = None) -> Plan:
    """Choose settings for the training images of a data set.

    Args:
        config: all settings so far.
        named: the settings that the user chose, by dotted name; they do not change.
        weights: what training starts from, as for `frcnn.train`. The layers and anchors of a detector stay.

    Raises:
        ValueError: there is no object.
    """
    detector = detector_settings(config.model, config.base_model.weights if weights in (None, "auto") else weights)
    of_images = fingerprint(dataset.train, mirrored_by_looks(dataset.train))
    result = make_plan(dataset.name, of_images, dataset.train, config, named, detector=detector)
    return _for_machine(result, dataset.train, named)


def make_plan(
    data: str,
    fingerprint: Fingerprint,
    records: Records,
    config: Config,
    named: Collection[str] = (),
    *,
    detector: ModelSettings | None = None,
) -> Plan:
    """The part of a plan that depends on the data alone.

    Args:
        data: name of the data set.
        fingerprint: of the images.
        records: the images, after their boxes were repaired.
        config, named: see `plan_for`.
        detector: the settings of the detector that training starts from; None: it starts from a base model.
    """
    made = _Choices(config, named)
    if detector is not None and ("base_model.name" not in named or detector.base_model.name == config.base_model.name):
        made.add(choices.initial_detector(detector, config))
    made.add(choices.mirror(fingerprint), always=True)
    made.add(choices.augmentation())
    images = _Images(records, fingerprint)
    if detector is None:
        made = _with_layout(made, images)
    view = images.view(made.config)
    for choose in (choices.min_proposal_size, choices.max_detections, choices.proposals, choices.roi_samples):
        made.add(choose(view.fingerprint, made.config))
    made.add(choices.schedule(view.fingerprint, made.config))
    hidden = count_hidden_objects(records, made.config.detector.resizing)
    size = view.sizes.at_input(made.config.detector.image.shorter_side, made.config.detector.image.longer_side)
    warnings = tuple(choices.warnings(fingerprint, size, made.config, hidden))
    return Plan(data, fingerprint, tuple(made.choices), made.config, tuple(sorted(named)), warnings)


def _with_layout(made: _Choices, images: _Images) -> _Choices:
    """Tiles, input size, layers and anchors.

    The single feature map is tried first: if its anchors cannot reach the objects, even after they were fitted, a
    pyramid takes its place.
    """
    if _ROI_HEAD.isdisjoint(made.named):
        made.add(choices.roi_head(made.config))
    single = _fitted(made.copy(), images)
    if any(name.startswith(("base_model.", "detector.anchors.")) for name in made.named):
        return single
    anchor_recall = anchor_recall_of(images.view(single.config).records, single.config)
    made.add(choices.pyramid(made.config, anchor_recall), with_preset=True)
    return single if made.config.base_model == single.config.base_model else _fitted(made, images)


def _fitted(made: _Choices, images: _Images) -> _Choices:
    """With the size of the input, and with anchors, that fit the objects."""
    if _IMAGE_SIZE.isdisjoint(made.named):
        whole = images.whole
        if _TILE in made.named:
            made.add(choices.input_of_tile(whole.fingerprint, made.config))
        else:
            at_largest_input = whole.sizes.at_largest_input(made.config.detector.image)
            tile = choices.tile(whole.of_small(made.config), at_largest_input, made.config)
            if tile is not None and images.most_are_shown(with_settings(made.config, tile.settings)):
                made.add(tile)
        view = images.view(made.config)
        made.add(choices.input_size(view.of_small(made.config), view.sizes, made.config))
    made.add(fitted_anchors(images.view(made.config).records, made.config, made.named))
    return made


class _View(NamedTuple):
    """Images as training sees them: whole, or in tiles."""

    records: Records
    fingerprint: Fingerprint
    sizes: Sizes

    def of_small(self, config: Config) -> Fingerprint:
        """The fingerprint of the images that are about as large as those with the small objects."""
        chosen = self.sizes.images_of_small(config.detector.image)
        return self.fingerprint if len(chosen) == len(self.records) else fingerprint(self.records.take(chosen))


class _Images:
    """The training images, whole and in tiles.

    Args:
        whole: the fingerprint of the whole images.
    """

    def __init__(self, records: Records, whole: Fingerprint) -> None:
        self.whole = _View(records, whole, sizes_of(records))
        self._views = {0: self.whole}

    def most_are_shown(self, config: Config) -> bool:
        """Whether tiles show at least half of the objects, each by at least half. Thin ones may be too long."""
        hidden = count_hidden_objects(self.whole.records, config.detector.resizing)
        return 2 * hidden <= self.whole.fingerprint.objects

    def view(self, config: Config) -> _View:
        """What training sees with these settings."""
        tile = config.detector.resizing.tile
        if tile not in self._views:
            tiles = as_trained(self.whole.records, config)
            mirrored = self.whole.fingerprint.mirrored_classes
            self._views[tile] = _View(tiles, fingerprint(tiles, mirrored), sizes_of(tiles))
        return self._views[tile]


def as_trained(records: Records, config: Config) -> Records:
    """The training images, in tiles if the settings say so.

    Raises:
        ValueError: the tiles show no object.
    """
    tiles = in_tiles(records, config.detector.resizing)
    if config.detector.image.tile is not None and not tiles.learned_counts:
        raise ValueError(
            f"detector.image.tile: no tile of {config.detector.image.tile} pixels shows half of an object; choose a "
            f"larger one"
        )
    return tiles


def _for_machine(plan: Plan, records: Records, named: Collection[str]) -> Plan:
    """Add the choices that depend on this computer."""
    resizing = plan.config.detector.resizing
    size = sum(decoded_bytes(record.image, size_of(record), resizing) for record in in_tiles(records, resizing))
    machine = Machine(usable_cores(), memory_limit(), disk_limit(Path()))
    made = _Choices(plan.config, named)
    made.add(choices.cache(size, choices.total_epochs(plan.config.train), machine))
    made.add(choices.workers(machine))
    return plan._replace(choices=(*plan.choices, *made.choices), config=made.config)


class _Choices:
    """The choices made so far, and the settings that result."""

    def __init__(self, config: Config, named: Collection[str]) -> None:
        self.config = config
        self.choices: list[Choice] = []
        self.named = frozenset(named)

    def copy(self) -> _Choices:
        """Further choices of the copy do not change this one."""
        other = _Choices(self.config, self.named)
        other.choices = list(self.choices)
        return other

    def add(self, choice: Choice | None, *, always: bool = False, with_preset: bool = False) -> None:
        """Add a choice, less the settings that the user named.

        Args:
            always: keep the choice even if it changes nothing.
            with_preset: it names a base model, whose preset is added too.
        """
        settings = {} if choice is None else {n: v for n, v in choice.settings.items() if n not in self.named}
        changed = self.config
        if with_preset and settings:
            changed = with_base_model(changed, settings["base_model.name"], self.named)
        changed = with_settings(changed, settings)
        if choice is not None and settings and (always or changed != self.config):
            self.config = changed
            self._remove(settings)
            self.choices.append(choice._replace(settings=settings))

    def _remove(self, settings: Collection[str]) -> None:
        """Settings that an earlier choice made, and that are chosen anew."""
        rest = (
            each._replace(settings={n: v for n, v in each.settings.items() if n not in settings})
            for each in self.choices
        )
        self.choices = [each for each in rest if each.settings]


def _summary(fingerprint: Fingerprint) -> str:
    objects, classes = plural(fingerprint.objects, "object"), plural(len(fingerprint.classes), "class", "classes")
    return f"{plural(fingerprint.images, 'training image')}, {objects}, {classes}"


def _figures(fingerprint: Fingerprint) -> Iterator[str]:
    """The fingerprint in words."""

    def spread(quantiles: Quantiles) -> str:
        low, middle, high = (f"{quantile(quantiles, fraction):g}" for fraction in (0.05, 0.5, 0.95))
        return f"{low}, {middle}, {high}"

    yield "Three numbers are the 5th, 50th and 95th percentile."
    yield f"images without objects: {fingerprint.empty_images}"
    yield f"longer side of the images: {spread(fingerprint.longer_side)} pixels"
    yield f"size of the objects (square root of the area): {spread(fingerprint.size)} pixels"
    yield f"size / longer side of the image: {spread(fingerprint.relative_size)}"
    yield f"height / width of the objects: {spread(fingerprint.aspect_ratio)}"
    yield f"objects in an image that has some: {spread(fingerprint.objects_per_image)}"
    yield f"objects that overlap another one of their class: {fingerprint.overlapping:.0%}"
    yield "classes: " + ", ".join(f"{name} ({each.objects})" for name, each in fingerprint.classes.items())


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
        yield f"{pad}{last}: {yaml_value(settings[name])}"
